package simengine

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// A writer renders the events of one request's stream.
type eventWriter interface {
	// chunk appends what is new of a sequence that now has n tokens, how being its end, if it has ended.
	chunk(b []byte, s *sequence, n int, how Ending) []byte
	// tail appends what follows when all have ended.
	tail(b []byte) []byte
}

// startStream commits the answer to 200 and server-sent events, before anything is known of it, as the
// engine does.
func startStream(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	flush(w)
}

func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush() // a client that is gone reads nothing
}

const done = "data: [DONE]\n\n"

// stream relays the request's tokens as they are produced, everything that is ready in one write. When the
// client leaves, the request is aborted.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, req *request, events eventWriter) {
	var b []byte
	open, total := len(req.seqs), 0
	for dead := false; ; {
		b = b[:0]
		for _, s := range req.seqs {
			n, how := s.progress()
			if how == lost {
				breakOff(w)
				return
			}
			if s.closed || dead || n == s.sent && how == Unended {
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
			s.sent = n
			if how != Unended {
				s.closed = true
				open--
			}
		}
		if open == 0 {
			b = append(events.tail(b), done...)
		}
		if len(b) > 0 {
			if _, err := w.Write(b); err != nil {
				e.abort(req.seqs...)
				return
			}
			flush(w)
		}
		switch {
		case dead:
			e.abort(req.seqs...)
			breakOff(w)
			return
		case open == 0:
			return
		}
		select {
		case <-req.wake:
		case <-r.Context().Done():
			e.abort(req.seqs...)
			return
		}
	}
}

// inStream answers a stream, already committed to 200, with an error event.
func inStream(w http.ResponseWriter, v any) {
	startStream(w)
	_, _ = w.Write(append(appendEvent(nil, v), done...)) // a client that is gone reads nothing
	flush(w)
}

func appendEvent(b []byte, v any) []byte {
	b = append(b, "data: "...)
	b = appendJSON(b, v)
	return append(b, "\n\n"...)
}

// appendJSON appends v, one of this package's own plain values, which always encode.
func appendJSON(b []byte, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, raw...)
}

// appendText appends text as a JSON string. The model's words are plain ASCII letters and spaces.
func appendText(b []byte, text string) []byte { return strconv.AppendQuote(b, text) }
