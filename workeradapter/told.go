package workeradapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

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

// interesting tells whether a stream's document may hold more than text, without parsing it.
func interesting(doc []byte) bool {
	return bytes.Contains(doc[:min(len(doc), errorWithin)], []byte(`"error"`)) ||
		has(doc, `"usage":`, '{') || has(doc, `"finish_reason":`, '{', '"') || bytes.Contains(doc, []byte(`"sglext"`))
}

// errorWithin is how far into a document "error" stands, as a key or as the value of "object", if it reports one.
const errorWithin = 64

// has tells whether key is followed by a value that begins with one of the bytes.
func has(doc []byte, key string, begins ...byte) bool {
	for at := 0; ; {
		i := bytes.Index(doc[at:], []byte(key))
		if i < 0 {
			return false
		}
		at += i + len(key)
		rest := bytes.TrimLeft(doc[at:], " ")
		if len(rest) > 0 && bytes.IndexByte(begins, rest[0]) >= 0 {
			return true
		}
	}
}

// document is the union of what engines answer, as far as it is read.
type document struct {
	Object  string          `json:"object"`
	Message string          `json:"message"`
	Code    any             `json:"code"`
	Error   json.RawMessage `json:"error"`
	Choices *[]struct {
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
		Details    *struct {
			Cached *int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Ext *struct {
		Details *cacheDetails `json:"cached_tokens_details"`
	} `json:"sglext"`
	Metadata *struct {
		Weights string `json:"weight_version"`
	} `json:"metadata"`
	Meta *metaInfo `json:"meta_info"`
}

type cacheDetails struct {
	Device  int64 `json:"device"`
	Host    int64 `json:"host"`
	Storage int64 `json:"storage"`
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
	case len(d.Error) > 0 && string(d.Error) != "null":
		var inner struct {
			Code any `json:"code"`
		}
		json.Unmarshal(d.Error, &inner) //nolint:errcheck // a plain string: no code
		return &fault{status: statusOf(inner.Code), text: errorText(doc), doc: bytes.Clone(doc)}
	case d.Object == "error":
		return &fault{status: statusOf(d.Code), text: clip(d.Message, textBound), doc: bytes.Clone(doc)}
	case d.Meta != nil:
		return t.readMeta(d.Meta)
	}
	if d.Choices != nil {
		t.bare = len(*d.Choices) == 0
		for _, c := range *d.Choices {
			if c.FinishReason != nil {
				t.finish = *c.FinishReason
			}
		}
	}
	if d.Metadata != nil {
		t.weights = d.Metadata.Weights
	}
	if d.Usage != nil {
		t.usages++
		t.prompt, t.completion = d.Usage.Prompt, d.Usage.Completion
		if d.Usage.Details != nil && d.Usage.Details.Cached != nil {
			t.cached, t.cachedKnown = *d.Usage.Details.Cached, true
		}
	}
	if d.Ext != nil && d.Ext.Details != nil {
		t.details++
		t.cached, t.cachedKnown = d.Ext.Details.Device+d.Ext.Details.Host+d.Ext.Details.Storage, true
	}
	return nil
}

// readMeta takes in the account of one prompt. Those of several add up; that of a request that was refused counts for
// nothing.
func (t *told) readMeta(m *metaInfo) *fault {
	if m.Finish != nil && m.Finish.Type == "abort" && m.Finish.Status >= 400 {
		return &fault{status: m.Finish.Status, text: clip(m.Finish.Message, textBound)}
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

// statusOf reads an error code that may be a number, a string, or something else.
func statusOf(code any) int {
	if n, ok := code.(float64); ok && n >= 400 && n < 600 {
		return int(n)
	}
	return http.StatusBadGateway
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
