package simengine

import (
	"context"
	"errors"
	"net/http"
)

// A dialect is how a family of routes answers.
type dialect interface {
	// refuse answers an error when nothing was written yet.
	refuse(w http.ResponseWriter, r *http.Request, err error)
	// whole is the body of an answer that does not stream. All sequences have ended.
	whole(q *request) any
	// events writes the answer's stream.
	events(q *request) eventWriter
}

// An eventWriter renders the events of one request's stream.
type eventWriter interface {
	// early says whether the stream is opened before the request is looked at; errors that are found then
	// can only be told in the stream. Otherwise it opens with the first event.
	early() bool
	// begin appends what an early stream opens with.
	begin(b []byte) []byte
	// chunk appends what is new of a sequence that now has n tokens, how being its end, if it has ended.
	chunk(b []byte, s *sequence, n int, how Ending) []byte
	// reject appends what is said of a sequence that the scheduler did not take, and says whether the
	// stream is complete thereby.
	reject(b []byte, s *sequence) (_ []byte, complete bool)
	// tail appends what follows when all have ended.
	tail(b []byte) []byte
	// fail appends an error that ends an open stream.
	fail(b []byte, err error) []byte
}

// serve runs a request and answers it.
func (e *Engine) serve(w http.ResponseWriter, r *http.Request, d dialect, q *request) {
	if q.stream {
		e.serveStream(w, r, d, q)
		return
	}
	if err := e.start(r.Context(), q); err != nil {
		e.refuse(w, r, d, err)
		return
	}
	switch {
	case !e.wait(r.Context(), q, q.seqs) || e.dies(q.completion()) > 0:
		breakOff(w)
	case q.refusal() != nil:
		e.abort(q.seqs...)
		d.refuse(w, r, q.refusal())
	default:
		answer := d.whole(q)
		if text, ok := answer.(plainText); ok {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte(text)) // a client that is gone reads nothing
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// refuse answers an error of a request that nothing was written for.
func (e *Engine) refuse(w http.ResponseWriter, r *http.Request, d dialect, err error) {
	switch {
	case errors.Is(err, errGone):
		breakOff(w)
	case r.Context().Err() != nil: // nobody is left to hear
	default:
		d.refuse(w, r, err)
	}
}

func (e *Engine) serveStream(w http.ResponseWriter, r *http.Request, d dialect, q *request) {
	events := d.events(q)
	opened := events.early()
	if opened {
		startStream(w)
		_, _ = w.Write(events.begin(nil)) // a client that is gone reads nothing
		flush(w)
	}
	err := e.start(r.Context(), q)
	if err == nil {
		e.stream(w, r, q, events, opened)
		return
	}
	var bug *bugError
	switch {
	case !opened:
		e.refuse(w, r, d, err)
	case errors.Is(err, context.Canceled):
	case errors.Is(err, errGone) || errors.As(err, &bug):
		breakOff(w)
	default:
		_, _ = w.Write(events.fail(nil, err)) // a client that is gone reads nothing
		flush(w)
	}
}
