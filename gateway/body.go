package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/radixbus/radixbus/internal/buffer"
	"github.com/radixbus/radixbus/internal/wire"
)

// lingering is how long the rest of a body that is not wanted is read, by the HTTP server, in front of the answer: a client
// in the middle of sending would not see an answer on a connection that is closed on it. It has to be little, since one that
// announces a body and sends none has its answer after it.
const lingering = 500 * time.Millisecond

// A sender is a client that sends a body. Reading from it waits for as long as bytes come.
type sender struct {
	body  io.Reader
	rc    *http.ResponseController
	stall time.Duration   // how long it may send nothing
	end   time.Time       // by when all has to be here; zero: no bound
	until time.Time       // the read deadline that is set
	ended <-chan struct{} // closed when nobody wants the body any more; nil: never
}

// Read reads what has come. Whoever closes ended moves the read deadline into the past afterwards: whichever of the two is
// seen, the reading is over.
func (s *sender) Read(b []byte) (int, error) {
	if now := time.Now(); s.until.Before(now.Add(s.stall)) { // set a little further, so that it is seldom set
		s.until = now.Add(s.stall + s.stall/8)
		if !s.end.IsZero() && s.end.Before(s.until) {
			s.until = s.end
		}
		s.rc.SetReadDeadline(s.until) //nolint:errcheck // a connection without deadlines has none to miss
	}
	if s.over() {
		return 0, errAborted
	}
	n, err := s.body.Read(b)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	switch {
	case s.over():
		return n, errAborted
	case s.until.Equal(s.end):
		return n, failureOf(wire.CodeDeadline, "The request's body did not arrive in time.", 0)
	}
	return n, &Failure{
		Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "body_timeout",
		Message: fmt.Sprintf("The request's body broke off: no byte of it came for %g seconds.", s.stall.Seconds()),
	}
}

func (s *sender) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// broke ends what could not be read whole. A client that was waited for in vain is not waited for again: it has its answer at
// once, on a connection that is closed.
func (s *sender) broke(w http.ResponseWriter, err error) *Failure {
	s.rc.SetReadDeadline(time.Now().Add(lingering)) //nolint:errcheck // see above
	if big, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(big.Limit)
	}
	f, late := errors.AsType[*Failure](err)
	switch {
	case errors.Is(err, errAborted):
		f = failureOf(wire.CodeAborted, "", 0)
	case !late:
		return badRequest("", "The request body could not be read: %v.", err)
	}
	w.Header().Set("Connection", "close")
	return f
}

// Room for a body is made as its bytes come, so that it costs nothing to announce many: this much at first, then a few times
// what has come. Where the length is known that is more, so that bodies are moved once or twice, and long ones, whose room counts,
// a little more often.
const (
	firstRoom = 16 << 10
	shortRoom = 1 << 20
)

// readBody reads the whole body within the bounds of one request and of all of them. What it takes from the budget is
// the room that it makes. The body is good until its release.
func (g *Gateway) readBody(ctx context.Context, a *answer, r *http.Request) (body []byte, release func(), err error) {
	var taken int64
	var held *buffer.Buffer // body lies in it
	release = func() {
		g.inFlight.Add(-taken)
		held.Release()
	}
	if r.ContentLength > g.cfg.MaxBody {
		return nil, release, tooLarge(g.cfg.MaxBody)
	}
	most, fast := g.cfg.MaxBody, int64(2)
	if r.ContentLength >= 0 {
		most, fast = r.ContentLength, 8
	}
	from := &sender{body: http.MaxBytesReader(a.w, r.Body, g.cfg.MaxBody), rc: a.rc, stall: g.cfg.BodyStall, ended: a.c.live.ended}
	from.end, _ = ctx.Deadline()
	a.c.live.waiting(func(error) { a.rc.SetReadDeadline(time.Unix(0, 0)) }) //nolint:errcheck // a connection without deadlines is read to its end
	defer a.c.live.waiting(nil)
	for next := make([]byte, 1); ; {
		into := next // full: is there another byte?
		if len(body) < cap(body) {
			into = body[len(body):cap(body)]
		}
		n, err := from.Read(into)
		if n > 0 && len(body) == cap(body) {
			had := int64(cap(body))
			if had >= shortRoom {
				fast = min(fast, 4)
			}
			need := int(max(min(most, max(firstRoom, fast*had)), had+1))
			room := max(int64(need), min(int64(buffer.Room(need)), g.cfg.MaxBody)) // one body always fits
			if g.inFlight.Add(room-taken) > g.cfg.MaxInFlight {
				g.inFlight.Add(taken - room)
				return nil, release, overBudget()
			}
			taken = room
			more := buffer.Get(need)
			body = append(buffer.Append(more.B, body), next[0])
			held.Release()
			held = more
		} else {
			body = body[:len(body)+n]
		}
		switch err {
		case nil:
		case io.EOF:
			a.rc.SetReadDeadline(time.Time{}) //nolint:errcheck // from here on, reading only tells whether the client is there
			return body, release, nil
		default:
			return nil, release, from.broke(a.w, err)
		}
	}
}
