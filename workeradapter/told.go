package workeradapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/radixbus/radixbus/internal/wire"
)

// told is what an engine has said of a request so far, in whichever of its shapes.
type told struct {
	prompt, completion int64
	cached             int64
	cachedKnown        bool
	finish             string
	finished           int // documents of /generate with a finish reason: a streamed batch has one for each prompt
	weights            string
	usages             int  // documents with usage
	details            int  // documents with details of cached tokens, where usage does not tell them
	bare               bool // the last document had an empty list of choices
}

// A fault is an error that an engine reported.
type fault struct {
	status int
	text   string
	doc    []byte // the engine's own document, when it can be passed on
	one    bool   // it is about one prompt, or one completion, of those that there may be
}

// code sorts a fault: what the client did wrong is final, a full engine is a reason to try another.
func (f *fault) code() wire.Code {
	switch {
	case f.status == http.StatusTooManyRequests, f.status == http.StatusServiceUnavailable:
		return wire.CodeEngineBusy
	case f.status == http.StatusUnauthorized, f.status == http.StatusForbidden:
		return wire.CodeEngineFault // it is our key that it does not take
	case f.status >= 400 && f.status < 500 && f.status != http.StatusRequestTimeout:
		return wire.CodeEngineRefused
	}
	return wire.CodeEngineFault
}

// document is the union of what engines answer, as far as it is read.
type document struct {
	Type    string          `json:"type"`
	Object  string          `json:"object"`
	Message json.RawMessage `json:"message"` // words, or Anthropic's message
	Code    any             `json:"code"`
	Error   json.RawMessage `json:"error"`
	Choices *[]struct {
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage `json:"usage"`
	Ext   *struct {
		Details *cacheDetails `json:"cached_tokens_details"`
	} `json:"sglext"`
	Metadata *struct {
		Weights string `json:"weight_version"`
	} `json:"metadata"`
	Meta       *metaInfo `json:"meta_info"`
	StopReason string    `json:"stop_reason"`
	Delta      *struct {
		StopReason string `json:"stop_reason"`
	} `json:"delta"`
	Status   string    `json:"status"`
	Response *response `json:"response"`
	Timings  *struct {
		Cached *int64 `json:"cache_n"`
	} `json:"timings"` // llama.cpp's
}

// usage is OpenAI's, in both of its spellings, and Anthropic's.
type usage struct {
	Prompt        *int64      `json:"prompt_tokens"`
	Completion    *int64      `json:"completion_tokens"`
	PromptDetails *cachedPart `json:"prompt_tokens_details"`
	Input         *int64      `json:"input_tokens"`
	Output        *int64      `json:"output_tokens"`
	InputDetails  *cachedPart `json:"input_tokens_details"`
	CacheRead     *int64      `json:"cache_read_input_tokens"` // beside input_tokens
	CacheMade     *int64      `json:"cache_creation_input_tokens"`
}

type cachedPart struct {
	Cached *int64 `json:"cached_tokens"`
}

type cacheDetails struct {
	Device  int64 `json:"device"`
	Host    int64 `json:"host"`
	Storage int64 `json:"storage"`
}

// response is the object of the responses API.
type response struct {
	Status string          `json:"status"`
	Error  json.RawMessage `json:"error"`
	Usage  *usage          `json:"usage"`
}

// metaInfo is SGLang's own account of a request.
type metaInfo struct {
	Prompt     int64  `json:"prompt_tokens"`
	Completion int64  `json:"completion_tokens"`
	Cached     *int64 `json:"cached_tokens"`
	Weights    string `json:"weight_version"`
	Finish     *struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Status  int    `json:"status_code"`
	} `json:"finish_reason"`
}

// read takes in a document: a whole answer, or an event of a stream. It returns the error that the document reports,
// if it does.
func (t *told) read(doc []byte) *fault {
	if t.readPlain(doc) {
		return nil
	}
	return t.readAny(doc)
}

// readAny is read of whatever there may be.
func (t *told) readAny(doc []byte) *fault {
	t.bare = false
	if batch := bytes.TrimLeft(doc, " \n"); len(batch) > 0 && batch[0] == '[' {
		return t.readBatch(batch)
	}
	var d document
	err := json.Unmarshal(doc, &d)
	if _, odd := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !odd {
		return nil // not ours to judge: it is passed on as it is
	}
	switch {
	case says(d.Error):
		return &fault{status: statusOf(d.Error), text: errorText(doc), doc: bytes.Clone(doc)}
	case d.Object == "error":
		return &fault{status: statusOf(doc), text: errorText(doc), doc: bytes.Clone(doc)}
	case d.Response != nil && says(d.Response.Error):
		return &fault{status: statusOf(d.Response.Error), text: errorText(d.Response.Error)}
	case d.Meta != nil:
		return t.readMeta(d.Meta)
	}
	t.readOpenAI(&d)
	t.readOthers(&d)
	return nil
}

// says tells whether a member is there and not null.
func says(member json.RawMessage) bool { return len(member) > 0 && string(member) != "null" }

func (t *told) readOpenAI(d *document) {
	if d.Choices != nil {
		t.bare = len(*d.Choices) == 0
		for _, c := range *d.Choices {
			if c.FinishReason != nil {
				t.finish = *c.FinishReason
			}
		}
	}
	if d.Metadata != nil && d.Metadata.Weights != "" {
		t.weights = d.Metadata.Weights
	}
	if d.Usage != nil {
		t.usages++
		t.readUsage(d.Usage)
	}
	if d.Ext != nil && d.Ext.Details != nil {
		t.details++
		t.cached, t.cachedKnown = d.Ext.Details.Device+d.Ext.Details.Host+d.Ext.Details.Storage, true
	}
	if d.Timings != nil && d.Timings.Cached != nil {
		t.cached, t.cachedKnown = *d.Timings.Cached, true
	}
}

// readOthers reads where Anthropic's messages and OpenAI's responses say the same.
func (t *told) readOthers(d *document) {
	if d.Type == "message_start" {
		var m struct {
			Usage *usage `json:"usage"`
		}
		if json.Unmarshal(d.Message, &m) == nil && m.Usage != nil {
			t.readUsage(m.Usage)
		}
	}
	if d.Response != nil && d.Response.Usage != nil {
		t.readUsage(d.Response.Usage)
	}
	switch {
	case d.StopReason != "":
		t.finish = d.StopReason
	case d.Delta != nil && d.Delta.StopReason != "":
		t.finish = d.Delta.StopReason
	case d.Response != nil && d.Response.Status != "":
		t.finish = d.Response.Status
	case d.Object == "response" && d.Status != "":
		t.finish = d.Status
	}
}

func (t *told) readUsage(u *usage) {
	set := func(to *int64, from *int64) {
		if from != nil {
			*to = *from
		}
	}
	set(&t.prompt, u.Prompt)
	set(&t.completion, u.Completion)
	set(&t.completion, u.Output)
	if u.Input != nil {
		t.prompt = *u.Input + value(u.CacheRead) + value(u.CacheMade)
	}
	for _, cached := range []*int64{u.CacheRead, cachedOf(u.PromptDetails), cachedOf(u.InputDetails)} {
		if cached != nil {
			t.cached, t.cachedKnown = *cached, true
		}
	}
}

func cachedOf(p *cachedPart) *int64 {
	if p == nil {
		return nil
	}
	return p.Cached
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// readMeta takes in the account of one prompt. Those of several add up; that of a request that was refused counts for
// nothing.
func (t *told) readMeta(m *metaInfo) *fault {
	if m.Finish != nil && m.Finish.Type == "abort" && m.Finish.Status >= 400 {
		return &fault{status: m.Finish.Status, text: clip(m.Finish.Message, textBound), one: true}
	}
	if t.finished == 0 {
		t.prompt, t.completion, t.cached, t.cachedKnown = 0, 0, 0, true
	} else if m.Finish == nil {
		return nil // an interim word on one prompt of several
	}
	t.prompt, t.completion, t.weights = t.prompt+m.Prompt, t.completion+m.Completion, m.Weights
	if t.cachedKnown = t.cachedKnown && m.Cached != nil; t.cachedKnown {
		t.cached += *m.Cached
	}
	if m.Finish != nil {
		t.finished++
		t.finish = m.Finish.Type
	}
	return nil
}

// readBatch adds up the answers of a batch.
func (t *told) readBatch(doc []byte) *fault {
	var batch []struct {
		Meta *metaInfo `json:"meta_info"`
	}
	err := json.Unmarshal(doc, &batch)
	if _, odd := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !odd {
		return nil
	}
	for _, b := range batch {
		if b.Meta == nil {
			continue
		}
		if f := t.readMeta(b.Meta); f != nil {
			return f
		}
	}
	return nil
}

// statuses are those of errors that tell a type and no number: Anthropic's, and OpenAI's in a response.
var statuses = map[string]int{
	"invalid_request_error": http.StatusBadRequest, "invalid_prompt": http.StatusBadRequest, "authentication_error": http.StatusUnauthorized,
	"permission_error": http.StatusForbidden, "not_found_error": http.StatusNotFound, "request_too_large": http.StatusRequestEntityTooLarge,
	"rate_limit_error": http.StatusTooManyRequests, "rate_limit_exceeded": http.StatusTooManyRequests, "overloaded_error": http.StatusServiceUnavailable,
	"api_error": http.StatusInternalServerError,
}

// tooLong is how SGLang begins the words for a prompt that does not fit, which it calls a server's error in a response.
const tooLong = "Input length ("

// statusOf is the HTTP status that an error document stands for: by its number, by its type, or by its words.
func statusOf(doc []byte) int {
	var e struct {
		Code    any    `json:"code"`
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	json.Unmarshal(doc, &e) //nolint:errcheck // a plain string, say: it tells nothing
	if n := serverStatus(e.Message); n > 0 {
		return n
	}
	if n, ok := e.Code.(float64); ok && n >= 400 && n < 600 {
		return int(n)
	}
	if strings.HasPrefix(e.Message, tooLong) {
		return http.StatusBadRequest
	}
	if name, ok := e.Code.(string); ok && statuses[name] > 0 {
		return statuses[name]
	}
	if statuses[e.Type] > 0 {
		return statuses[e.Type]
	}
	return http.StatusBadGateway
}

// serverStatus is the status that SGLang's words begin with where it calls an error of its own the client's, as a full queue
// in a response: "503: The request queue is full."; 0 when they do not.
func serverStatus(message string) int {
	if number, _, ok := strings.Cut(message, ": "); ok && len(number) == 3 {
		if n, err := strconv.Atoi(number); err == nil && n >= 500 && n < 600 {
			return n
		}
	}
	return 0
}

// end turns it into the last frame's figures. Numbers that cannot be are not passed on.
func (t *told) end(d *wire.Dispatch) wire.End {
	e := wire.End{Finish: clip(t.finish, 64), WeightVersion: clip(t.weights, wire.MaxName/2)}
	prompt := t.prompt
	if d.N > 1 && t.finished > 1 { // the accounts of several completions of a prompt have all counted it
		prompt /= int64(d.N)
	}
	if prompt > 0 && prompt < 1<<31 {
		e.Prompt = uint32(prompt)
	}
	if t.completion > 0 && t.completion < 1<<31 {
		e.Completion = uint32(t.completion)
	}
	if t.cachedTold(d) && t.cached >= 0 && t.cached <= prompt && e.Prompt > 0 {
		e.CachedPlus1 = uint32(t.cached) + 1
	}
	return e
}

// cachedTold tells whether the cached tokens are those of the cache as the request found it. For several completions an
// engine computes the prompt first, and then finds it cached; the details of a batch are those of one of its prompts.
func (t *told) cachedTold(d *wire.Dispatch) bool {
	return t.cachedKnown && d.N <= 1 && (t.details == 0 || d.Prompts <= 1)
}
