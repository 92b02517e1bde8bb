package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// An answer is the outgoing side of a request. Nothing is committed to the client before the engine's first event is
// known, and a whole (not streamed) answer is held back until it is complete, within a bound: until then another
// worker may still give it.
type answer struct {
	g      *Gateway
	w      http.ResponseWriter
	rc     *http.ResponseController
	c      *call
	worker string

	status   int // what the client got; 0: nothing yet
	headers  []wire.Header
	upSt     int // the engine's status; 0: its head has not come
	stream   bool
	pending  []byte
	begun    bool // bytes have gone to the client
	open     bool // the last byte that went ended no event
	events   int  // that went, of a dialect that numbers them: numbered
	numbered bool
	until    time.Time // the write deadline that is set
	line     line      // past the HTTP server; nil: there is none
	rest     []byte    // of a chunk that the line took a part of
}

// wholeBound is how much of an answer that is no stream is held back.
const wholeBound = 4 << 20

// errStalled reports a client that took no byte for too long.
var errStalled = errors.New("the client does not read")

// reset forgets what an attempt brought of which the client has seen nothing.
func (a *answer) reset(worker string) {
	a.worker = worker
	a.upSt, a.headers, a.stream, a.pending = 0, nil, false, a.pending[:0]
}

// head takes the engine's status and headers. It tells whether they can be: an answer has one final status.
func (a *answer) head(status int, headers []wire.Header) bool {
	if a.upSt != 0 || status < 200 || status > 599 {
		return false
	}
	a.upSt, a.headers = status, headers
	for _, h := range headers {
		if h.Name == "Content-Type" && strings.HasPrefix(h.Value, "text/event-stream") {
			a.stream = true
		}
	}
	return true
}

// data takes bytes of the answer, which come after its head.
func (a *answer) data(b []byte) bool {
	a.pending = append(a.pending, b...)
	return a.upSt != 0
}

// flush gives the client what has come, if it may have it already.
func (a *answer) flush() error {
	if len(a.rest) == 0 && (len(a.pending) == 0 || !a.stream && !a.begun && len(a.pending) < wholeBound) {
		return nil
	}
	if !a.begun {
		a.commit(-1)
		if a.stream && a.c.route.Dialect == surface.Anthropic {
			a.g.live.shown(a.c, messageID(a.pending))
		}
	}
	return a.write()
}

var idOfMessage = regexp.MustCompile(`"message_start"[^\n]*?"id" ?: ?"([0-9A-Za-z_-]{1,128})"`)

// messageID is the id that the first event of a streamed message shows: no engine takes it from us. "" when there is none.
func messageID(events []byte) string {
	const far = 4 << 10
	if m := idOfMessage.FindSubmatch(events[:min(len(events), far)]); m != nil {
		return string(m[1])
	}
	return ""
}

func (a *answer) commit(length int) {
	h := a.w.Header()
	for _, f := range a.headers {
		switch f.Name {
		case "Content-Type", "Retry-After":
			h.Set(f.Name, f.Value)
		}
	}
	h.Set("X-Radixbus-Worker", a.worker)
	if a.stream {
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no") // proxies in front must not hold tokens back
	} else if length >= 0 {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	a.begun, a.status = true, a.upSt
	a.numbered = a.c.route.Dialect == surface.Responses
	a.c.letGo()
	a.w.WriteHeader(a.upSt)
	a.g.metrics.firstByte.Observe(time.Since(a.c.arrived).Seconds())
}

// writePiece is how much of an answer a client has to take within the stall bound.
const writePiece = 64 << 10

// write sends what is pending, and waits at most the stall bound for the client to take each piece of it.
func (a *answer) write() error {
	for len(a.rest) > 0 {
		a.allowStall(time.Now())
		n, err := a.line.Write(a.rest[:min(len(a.rest), writePiece)])
		if a.rest = a.rest[n:]; err != nil {
			return stalled(err)
		}
	}
	b := a.pending
	a.pending = a.pending[:0]
	a.passing(b)
	for len(b) > 0 {
		a.allowStall(time.Now())
		n, err := a.w.Write(b[:min(len(b), writePiece)])
		if err == nil {
			err = a.rc.Flush()
		}
		a.g.metrics.bytes.Add(float64(n))
		if b = b[n:]; err != nil {
			return stalled(err)
		}
	}
	return nil
}

func stalled(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return err
}

// writeNow writes a chunk as far as the client takes it without waiting, and tells whether that was all of it. Nothing else is
// pending.
func (a *answer) writeNow(now time.Time, h *haul) (all bool) {
	a.allowStall(now)
	rest := h.chunk[a.line.WriteNow(h.chunk):]
	a.passing(h.data())
	a.g.metrics.bytes.Add(float64(h.bytes))
	a.rest = append(a.rest, rest...)
	return len(rest) == 0
}

// hasLine tells whether writeNow can be used: the head has gone.
func (a *answer) hasLine() bool { return a.line != nil && a.stream && a.begun }

// passing notes what goes to the client.
func (a *answer) passing(b []byte) {
	if a.numbered {
		a.events += bytes.Count(b, []byte("\n\n"))
	}
	if len(b) > 0 {
		a.open = !bytes.HasSuffix(b, []byte("\n\n")) && !bytes.HasSuffix(b, []byte("\n\r\n"))
	}
}

// allowStall gives the client the stall bound from now on, or a little more, so that the deadline is seldom set.
func (a *answer) allowStall(now time.Time) {
	stall := a.g.cfg.ClientStall
	if a.until.Before(now.Add(stall)) {
		a.until = now.Add(stall + stall/8)
		a.rc.SetWriteDeadline(a.until) //nolint:errcheck // a writer without deadlines has none to miss
	}
}

// finish ends the answer: with what is pending when all is well, with an error the client can read otherwise. An
// answer that breaks off where the client cannot be told has its connection cut, so that it cannot pass for a whole one.
func (a *answer) finish(end ending) {
	switch {
	case end.complete() && a.upSt != 0:
		if !a.begun {
			a.commit(len(a.pending))
		}
		if err := a.write(); err != nil {
			a.cut(wire.CodeSlowClient) // or gone: nobody to tell
		}
	case end.code == wire.CodeCancelled, end.code == wire.CodeSlowClient:
		a.cut(end.code)
	case !a.begun:
		a.fail(failureOf(end.code, end.detail, end.retryAfter))
	case a.stream:
		a.g.cfg.Log.Warn("stream broke", "request", a.c.id.String(), "worker", a.worker, "code", end.code.String())
		a.pending = a.pending[:0]
		if a.open {
			a.pending = append(a.pending, "\n\n"...)
		}
		a.pending = append(a.pending, failureOf(end.code, end.detail, end.retryAfter).event(a.c.route.Dialect, a.events)...)
		if err := a.write(); err != nil {
			a.cut(wire.CodeSlowClient)
		}
	default:
		a.g.cfg.Log.Warn("answer broke", "request", a.c.id.String(), "worker", a.worker, "code", end.code.String())
		a.cut(end.code)
	}
}

// cut ends the connection and does not return.
func (a *answer) cut(code wire.Code) {
	a.status = code.Status()
	panic(http.ErrAbortHandler)
}

// fail answers with a failure alone.
func (a *answer) fail(f *Failure) {
	a.status = f.Status
	if a.worker != "" {
		a.w.Header().Set("X-Radixbus-Worker", a.worker)
	}
	if f.Status >= 500 {
		a.g.cfg.Log.Warn("request failed", "request", a.c.id.String(), "worker", a.worker, "status", f.Status, "code", f.Code)
	}
	f.write(a.w, a.c.route.Path)
}
