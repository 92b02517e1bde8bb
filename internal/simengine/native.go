package simengine

import (
	"net/http"
	"strconv"
	"time"
)

// native is how /generate answers: objects with meta_info, whose text and ids are cumulative in a stream.
type native struct{ e *Engine }

func (d native) refuse(w http.ResponseWriter, r *http.Request, err error) { refuseNative(w, r, err) }

func (d native) whole(q *request) any {
	var b []byte
	for i, s := range q.seqs {
		if i > 0 {
			b = append(b, ',')
		}
		n, how := s.progress()
		b = d.object(b, s, n, how, false)
	}
	if q.batch {
		b = append(append([]byte{'['}, b...), ']')
	}
	return rawJSON(b)
}

// rawJSON is a value that is encoded already.
type rawJSON []byte

// MarshalJSON returns the value.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

func (d native) events(*request) eventWriter { return d }

func (d native) early() bool { return true }

func (d native) begin(b []byte) []byte { return b }

func (d native) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	b = append(b, "data: "...)
	return append(d.object(b, s, n, how, s.request.batch), "\n\n"...)
}

func (d native) reject(b []byte, s *sequence) ([]byte, bool) {
	b = append(b, "data: "...)
	return append(d.object(b, s, 0, refused, s.request.batch), "\n\n"...), false
}

func (d native) tail(b []byte) []byte { return append(b, done...) }

func (d native) fail(b []byte, err error) []byte {
	b = appendEvent(b, map[string]any{"error": struct {
		Message   string `json:"message"`
		Type      string `json:"type"`
		Code      int    `json:"code"`
		Retryable bool   `json:"retryable"`
	}{err.Error(), "invalid_request_error", http.StatusBadRequest, false}})
	return append(b, done...)
}

func (d native) object(b []byte, s *sequence, n int, how Ending, indexed bool) []byte {
	ids := []int32{}
	switch {
	case how == refused && s.refused.kind != "":
		ids = []int32{0} // it is turned away after a step with one token
	case how != refused:
		ids = s.output(n)
	}
	b = appendText(append(b, `{"text":`...), s.text(n))
	b = append(b, `,"output_ids":`...)
	b = appendInts(b, ids)
	b = d.e.appendMeta(append(b, `,"meta_info":`...), s, n, how)
	if s.request.promptIDs {
		b = appendInts(append(b, `,"prompt_token_ids":`...), s.history)
	}
	if indexed {
		b = strconv.AppendInt(append(b, `,"index":`...), int64(s.index), 10)
	}
	return append(b, '}')
}

// appendMeta appends meta_info. One that the scheduler never ran has next to none.
func (e *Engine) appendMeta(b []byte, s *sequence, n int, how Ending) []byte {
	q, j := s.request, &s.job
	b = appendText(append(b, `{"id":`...), s.rid)
	b = append(b, `,"finish_reason":`...)
	b = s.appendReason(b, how)
	prompt, produced, cached := j.Prompt, n, j.Cached
	if how == refused && s.refused.kind != "" {
		prompt, produced = 1, 1
	} else if how != Unended && !s.admitted(n, how) {
		b = appendText(append(b, `,"weight_version":`...), q.weights)
		b = append(appendFloat(append(b, `,"e2e_latency":`...), (j.Last-j.Submitted).Seconds()), `,"weight_versions":[`...)
		b = append(s.appendVersion(b, 0), `],"completion_tokens":0,"response_sent_to_client_ts":`...)
		return append(e.appendTime(b, j.Last), '}')
	}
	b = strconv.AppendInt(append(b, `,"prompt_tokens":`...), int64(prompt), 10)
	b = appendText(append(b, `,"weight_version":`...), q.weights)
	retractions := 0
	if how != Unended { // until then it is the scheduler's
		retractions = j.Retractions
	}
	b = strconv.AppendInt(append(b, `,"num_retractions":`...), int64(retractions), 10)
	b = append(b, `,"storage_prefetch_wait":0.0,"storage_staging_wait":0.0,"forward_entry_time":`...)
	b = e.appendTime(b, j.Admitted)
	b = e.appendTime(append(b, `,"prefill_finished_time":`...), j.First)
	b = appendFloat(append(b, `,"queue_time":`...), (j.Admitted - j.Submitted).Seconds())
	b = e.appendLogprobs(b, s, n)
	b = strconv.AppendInt(append(b, `,"reasoning_tokens":0,"completion_tokens":`...), int64(produced), 10)
	b = strconv.AppendInt(append(b, `,"cached_tokens":`...), int64(cached), 10)
	if how != Unended {
		b = append(s.appendVersion(append(b, `,"weight_versions":[`...), produced), ']')
	}
	b = append(b, `,"cached_tokens_details":`...)
	if cached > 0 {
		b = append(strconv.AppendInt(append(b, `{"device":`...), int64(cached), 10), `,"host":0}`...)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"dp_rank":`...)
	if len(e.ranks) > 1 {
		b = strconv.AppendInt(b, int64(s.rank.index), 10)
	} else {
		b = append(b, "null"...)
	}
	if how != Unended {
		b = e.appendLatencies(b, j)
	} else if s.sent == 0 {
		b = e.appendTime(append(b, `,"response_sent_to_client_ts":`...), j.First)
	}
	return append(b, '}')
}

// appendLatencies appends what is known at the end alone.
func (e *Engine) appendLatencies(b []byte, j *Job) []byte {
	first := j.First
	if first == 0 {
		first = j.Last
	}
	b = appendFloat(append(b, `,"e2e_latency":`...), (j.Last - j.Submitted).Seconds())
	b = e.appendTime(append(b, `,"request_received_ts":`...), j.Submitted)
	b = appendFloat(append(b, `,"first_token_latency":`...), (first - j.Submitted).Seconds())
	b = e.appendTime(append(b, `,"api_server_dispatch_finish_ts":`...), j.Submitted)
	b = e.appendTime(append(b, `,"request_finished_ts":`...), j.Last)
	if j.Produced > 1 && j.Last > first {
		b = appendFloat(append(b, `,"decode_throughput":`...), float64(j.Produced-1)/(j.Last-first).Seconds())
	}
	return e.appendTime(append(b, `,"response_sent_to_client_ts":`...), j.Last)
}

// appendTime appends a moment of engine time as seconds since 1970.
func (e *Engine) appendTime(b []byte, at time.Duration) []byte {
	return strconv.AppendFloat(b, float64(e.origin.Add(e.real(at)).UnixMicro())/1e6, 'f', 6, 64)
}

func (s *sequence) appendVersion(b []byte, produced int) []byte {
	b = appendText(append(b, `{"version":`...), s.request.weights)
	b = append(b, `,"start":0,"end":`...)
	return append(strconv.AppendInt(b, int64(produced), 10), '}')
}

type abortReason struct {
	Type       string  `json:"type"`
	Message    string  `json:"message"`
	StatusCode *int    `json:"status_code"`
	ErrType    *string `json:"err_type"`
}

func (s *sequence) appendReason(b []byte, how Ending) []byte {
	switch {
	case how == Unended:
		return append(b, "null"...)
	case how == refused && s.refused.kind == "":
		b = strconv.AppendInt(append(b, `{"type":"abort","status_code":`...), int64(s.refused.status), 10)
		return append(appendText(append(b, `,"message":`...), s.refused.text), '}')
	case how == refused:
		return appendJSON(b, abortReason{"abort", s.refused.text, &s.refused.status, &s.refused.kind})
	case how == Starved:
		return appendJSON(b, abortReason{"abort", "Out of memory.", new(http.StatusInternalServerError), new("InternalServerError")})
	case !s.admitted(s.job.Produced, how):
		return append(b, `{"type":"abort","message":"Abort in waiting queue"}`...)
	}
	switch s.reason(how) {
	case "length":
		b = strconv.AppendInt(append(b, `{"type":"length","length":`...), int64(s.job.Produced), 10)
		return append(b, '}')
	case "stop":
		b = appendJSON(append(b, `{"type":"stop","matched":`...), s.matched(how))
		return append(b, '}')
	}
	return appendJSON(b, abortReason{Type: "abort", Message: "Aborted"})
}
