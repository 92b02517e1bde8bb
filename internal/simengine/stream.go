package simengine

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// startStream commits the answer to 200 and server-sent events.
func startStream(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
}

func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush() // a client that is gone reads nothing
}

const done = "data: [DONE]\n\n"

// stream relays the request's tokens as they are produced, everything that is ready in one write. When the
// client leaves, the request is aborted.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, q *request, events eventWriter, opened bool) {
	var b []byte
	open, total := len(q.seqs), 0
	for dead, complete := false, false; ; {
		b = b[:0]
		for _, s := range q.seqs {
			n, how := s.progress()
			if how == lost {
				breakOff(w)
				return
			}
			if s.closed || dead || complete || n == s.sent && how == Unended {
				continue
			}
			if how == refused {
				b, complete = events.reject(b, s)
				s.closed = true
				open--
				continue
			}
			total += n - s.sent
			if over := e.dies(total); over > 0 {
				dead, n, how = true, max(n-over, s.sent), Unended
				if n == s.sent {
					continue
				}
			}
			b = events.chunk(b, s, n, how)
			s.sent, s.opened = n, true
			if how != Unended {
				s.closed = true
				open--
			}
		}
		if open == 0 && !complete {
			b = events.tail(b)
		}
		if len(b) > 0 {
			if !opened {
				startStream(w)
				opened = true
			}
			if _, err := w.Write(b); err != nil {
				e.abort(q.seqs...)
				return
			}
			flush(w)
		}
		switch {
		case dead:
			e.abort(q.seqs...)
			breakOff(w)
			return
		case complete:
			e.abort(q.seqs...)
			return
		case open == 0:
			return
		}
		select {
		case <-q.wake:
		case <-r.Context().Done():
			e.abort(q.seqs...)
			return
		}
	}
}

func appendEvent(b []byte, v any) []byte {
	b = append(b, "data: "...)
	b = appendJSON(b, v)
	return append(b, "\n\n"...)
}

// appendJSON appends v, one of this package's own plain values, which always encode.
func appendJSON(b []byte, v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return append(b, "null"...)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// appendText appends text as a JSON string, without an allocation when it is plain.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if text[i] < ' ' || text[i] >= 0x7f {
			return appendJSON(b, text)
		}
	}
	return strconv.AppendQuote(b, text)
}

func appendInts(b []byte, ids []int32) []byte {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return append(b, ']')
}

func appendFloat(b []byte, v float64) []byte { return append(b, pyFloat(v)...) }
