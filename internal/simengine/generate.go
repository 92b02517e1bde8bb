package simengine

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

type generateBody struct {
	common
	Text           json.RawMessage `json:"text"`      // a text or a list of them
	InputIDs       json.RawMessage `json:"input_ids"` // ids or a list of lists; they win over the text
	SamplingParams json.RawMessage `json:"sampling_params"`
}

func (e *Engine) generate(w http.ResponseWriter, r *http.Request, raw []byte) {
	var body generateBody
	batch := false
	req, err := func() (*request, error) {
		if err := decode(raw, &body); err != nil {
			return nil, err
		}
		s, err := parseNative(body.SamplingParams)
		if err != nil {
			return nil, err
		}
		if s.limit == nil {
			s.limit = new(nativeLimit)
		}
		input := body.InputIDs
		if len(input) == 0 || string(input) == "null" {
			input = body.Text
		}
		if len(input) == 0 || string(input) == "null" {
			return nil, badf("Either text, input_ids or input_embeds should be provided.")
		}
		prompts, _, err := e.parsePrompts(input)
		if err != nil {
			return nil, err
		}
		batch = isBatch(input) || s.choices() > 1
		return e.newRequest(&body.common, s, prompts)
	}()
	if err == nil {
		err = e.start(r.Context(), req)
	}
	switch {
	case r.Context().Err() != nil && err != nil:
	case e.gone(w, err):
	case err != nil:
		writeGenerateError(w, err, body.Stream)
	case body.Stream:
		startStream(w)
		e.stream(w, r, req, &nativeEvents{req, batch})
	case !e.wait(r.Context(), req) || e.dies(req.completion()) > 0:
		breakOff(w)
	case batch:
		all := make([]json.RawMessage, len(req.seqs))
		for i, s := range req.seqs {
			n, how := s.progress()
			all[i] = (&nativeEvents{req, false}).object(nil, s, n, how)
		}
		writeJSON(w, http.StatusOK, all)
	default:
		n, how := req.seqs[0].progress()
		writeJSON(w, http.StatusOK, json.RawMessage((&nativeEvents{req, false}).object(nil, req.seqs[0], n, how)))
	}
}

// nativeLimit is SamplingParams' default of max_new_tokens.
const nativeLimit = 128

// isBatch says whether a text or input_ids field holds several prompts.
func isBatch(raw json.RawMessage) bool {
	var texts []string
	var lists [][]int64
	return json.Unmarshal(raw, &texts) == nil || json.Unmarshal(raw, &lists) == nil
}

// writeGenerateError chooses among the shapes that /generate has.
func writeGenerateError(w http.ResponseWriter, err error, stream bool) {
	f := explain(err)
	unknown, isUnknown := errors.AsType[*unknownKey](err)
	switch {
	case isUnknown:
		writeJSON(w, f.status, map[string]string{"error": unknown.Error()})
	case f.status == http.StatusServiceUnavailable:
		writeFlat(w, f)
	case stream && f.context:
		inStream(w, map[string]any{"error": map[string]any{"message": f.message, "type": "invalid_request_error",
			"code": f.status, "retryable": false}})
	case stream && f.pool:
		inStream(w, map[string]any{"text": "", "output_ids": []int32{}, "meta_info": map[string]any{
			"id": newRID(), "finish_reason": abortReason{"abort", f.message, &f.status, &f.kind}}})
	default:
		writeNested(w, f)
	}
}

type abortReason struct {
	Type       string  `json:"type"`
	Message    string  `json:"message"`
	StatusCode *int    `json:"status_code"`
	ErrType    *string `json:"err_type"`
}

// metaInfo describes a sequence so far. Counts are pointers: one aborted while queued has none.
type metaInfo struct {
	ID               string       `json:"id"`
	FinishReason     any          `json:"finish_reason"`
	PromptTokens     *int         `json:"prompt_tokens,omitempty"`
	WeightVersion    string       `json:"weight_version"`
	Retractions      *int         `json:"num_retractions,omitempty"`
	CompletionTokens *int         `json:"completion_tokens,omitempty"`
	CachedTokens     *int         `json:"cached_tokens,omitempty"`
	Details          *tierDetails `json:"cached_tokens_details"`
	DPRank           *int         `json:"dp_rank"`
	E2ELatency       *float64     `json:"e2e_latency,omitempty"`
	QueueTime        *float64     `json:"queue_time,omitempty"`
}

// nativeEvents writes /generate's chunks, whose text and ids are cumulative.
type nativeEvents struct {
	req     *request
	indexed bool
}

func (g *nativeEvents) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	b = append(b, "data: "...)
	return append(g.object(b, s, n, how), "\n\n"...)
}

func (g *nativeEvents) tail(b []byte) []byte { return b }

func (g *nativeEvents) object(b []byte, s *sequence, n int, how Ending) []byte {
	b = appendText(append(b, `{"text":`...), s.text(n))
	b = append(b, `,"output_ids":[`...)
	for i, id := range s.output(n) {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	b = append(b, `],"meta_info":`...)
	b = appendJSON(b, g.meta(s, n, how))
	if g.indexed {
		b = strconv.AppendInt(append(b, `,"index":`...), int64(s.index), 10)
	}
	return append(b, '}')
}

func (g *nativeEvents) meta(s *sequence, n int, how Ending) *metaInfo {
	m := &metaInfo{ID: s.rid, WeightVersion: g.req.weights}
	if how != Unended {
		m.FinishReason = s.nativeReason(how)
		m.E2ELatency = new((s.job.Last - s.job.Submitted).Seconds())
	}
	if n == 0 && how == Aborted && s.job.Admitted == 0 {
		return m
	}
	m.PromptTokens, m.CompletionTokens, m.CachedTokens = new(s.job.Prompt), new(n), new(s.job.Cached)
	m.QueueTime = new((s.job.Admitted - s.job.Submitted).Seconds())
	if how != Unended {
		m.Retractions = new(s.job.Retractions)
	}
	if g.req.details {
		m.Details = &tierDetails{Device: s.job.Cached}
	}
	return m
}

func (s *sequence) nativeReason(how Ending) any {
	switch s.reason(how) {
	case "length":
		return map[string]any{"type": "length", "length": s.job.Produced}
	case "stop":
		return map[string]any{"type": "stop", "matched": s.matched(how)}
	}
	if how == Starved {
		return abortReason{"abort", "Out of memory.", new(http.StatusInternalServerError), new("InternalServerError")}
	}
	return abortReason{Type: "abort", Message: "Aborted by a request."}
}
