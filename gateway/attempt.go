package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/buffer"
	"github.com/radixbus/radixbus/internal/wire"
)

// try runs one attempt: sends the request to its worker and hands what comes back to the client.
func (g *Gateway) try(ctx context.Context, a *answer, p *wire.Placement) ending {
	a.reset(p.Worker)
	s := g.demux.open(p.Worker, p.Instance, a.c.assign.Attempt)
	defer s.close()
	t := &attempt{g: g, a: a, s: s, p: p}
	if a.c.live.waiting(func(error) { s.signal() }) {
		s.signal()
	}
	defer a.c.live.waiting(nil)
	defer context.AfterFunc(ctx, s.signal)() // one channel to wait for takes less of a stack, of which there are many
	t.turn.Lock()                            // for good, but for when it waits: whoever comes late must not touch what is over
	end := t.send(ctx)
	if end.code == wire.CodeOK {
		end = t.receive(ctx)
	}
	if !t.over { // the adapter may still be at it
		g.demux.cancel(s, end.code)
	}
	return end
}

// attempt is one try in progress. It belongs to its request's goroutine, and to whoever brings frames while that one waits.
type attempt struct {
	turn     sync.Mutex // held by whom it belongs to
	g        *Gateway
	a        *answer
	s        *stream
	p        *wire.Placement
	sent     time.Time // when the last byte of the request had gone
	accepted bool
	aborted  bool // as the client wanted: the adapter has been told
	over     bool // the adapter said its last word, or is not there
	probed   time.Time
	away     time.Time // since when the bus is; zero: it is there
	frames   []wire.Frame
	unacked  int
	owed     uint64 // the number of a frame of which the client has a part only; 0: of none
}

// send publishes the request: at once when it fits, else in parts within the window.
func (t *attempt) send(ctx context.Context) ending {
	d, body := t.dispatch(ctx), t.a.c.body
	first := min(len(body), t.partSize())
	d.Body = body[:first]
	msg := buffer.Get(first + 1024)
	defer msg.Release() // the bus has copied it
	if end := t.publish(ctx, d.AppendTo(msg.B)); end.code != wire.CodeOK {
		return end
	}
	for at := first; at < len(body); {
		h := t.s.health(time.Now())
		switch {
		case h.ended: // refused, or broken off: the rest is of no use
			return ending{}
		case uint64(at) > h.parts+wire.PartWindow-wire.MaxPart:
			if end := t.wait(ctx); end.code != wire.CodeOK {
				return end
			}
			if end := t.check(time.Now()); end.code != wire.CodeOK {
				return end
			}
			continue
		case ctx.Err() != nil:
			return ending{code: causeCode(ctx)}
		}
		n := min(len(body)-at, t.partSize())
		part := wire.Part{Gateway: t.g.cfg.ID, Stream: t.s.id, Instance: t.p.Instance, Offset: uint64(at), Body: body[at : at+n]}
		if end := t.publish(ctx, part.AppendTo(msg.B[:0])); end.code != wire.CodeOK {
			return end
		}
		at += n
	}
	t.sent = time.Now()
	return ending{}
}

// publish sends a message to the worker. A bus that is away is waited for: giving up would only use up the attempts on a
// bus that is away for all workers.
func (t *attempt) publish(ctx context.Context, msg []byte) ending {
	bulk, subject, reply := t.g.bus.Bulk, t.g.cfg.Subjects.Work(t.p.Worker, t.p.Instance), t.g.demux.replyTo(t.s)
	const pause = 20 * time.Millisecond
	for began := time.Now(); ; {
		err := bulk.PublishRequest(subject, reply, msg)
		switch {
		case err == nil:
			return ending{}
		case errors.Is(err, nats.ErrMaxPayload):
			t.g.cfg.Log.Error("dispatch larger than the bus takes", "request", t.a.c.id.String(), "bytes", len(msg))
			return ending{code: wire.CodeInternal}
		case bulk.IsClosed() || time.Since(began) > t.g.cfg.BusPatience:
			t.g.cfg.Log.Debug("dispatch", "request", t.a.c.id.String(), "error", err)
			return ending{code: wire.CodeNoBus}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ending{code: causeCode(ctx)}
		}
	}
}

// partSize is what one message may carry of a body on this bus.
func (t *attempt) partSize() int {
	const slack = wire.MaxHeaderBytes + wire.MaxPath + 16<<10 // the other fields of a dispatch
	return max(4<<10, min(wire.MaxPart, int(t.g.bus.Bulk.MaxPayload())-slack))
}

func (t *attempt) dispatch(ctx context.Context) *wire.Dispatch {
	c, a := t.a.c, &t.a.c.assign
	d := &wire.Dispatch{
		Request: c.id, Attempt: a.Attempt, Instance: t.p.Instance, Stream: t.s.id, Gateway: t.g.cfg.ID,
		Lease: t.p.Lease, Pool: a.Pool, Model: a.Model, Tenant: a.Tenant, Label: c.label,
		Method: c.method, Path: c.path, Headers: c.headers, Window: wire.StreamWindow, Flags: a.Flags,
		Prompt: t.p.Prompt, Predicted: t.p.Predicted, Edits: t.p.Edits, N: a.N, Prompts: 1, Size: uint64(len(c.body)),
	}
	if end, ok := ctx.Deadline(); ok {
		d.RemainingMillis = uint32(max(1, min(time.Until(end).Milliseconds(), 1<<32-1)))
	}
	if c.req == nil {
		return d
	}
	d.Open, d.Empty, d.Prompts = uint64(c.req.Points.Open), c.req.Points.Empty, uint32(min(max(c.req.Prompts, 1), 1<<16))
	for _, m := range c.req.Points.Members {
		d.Points = append(d.Points, wire.Point{Key: m.Key, KeyStart: uint64(m.KeyStart), Start: uint64(m.Start), End: uint64(m.End)})
	}
	return d
}

// receive hands frames to the client until the last one.
func (t *attempt) receive(ctx context.Context) ending {
	defer t.s.setExpress(nil)
	for woken := false; ; {
		t.frames = t.s.take(t.frames)
		switch {
		case len(t.frames) > 0:
			if end, done := t.deliver(); done {
				return end
			}
			woken = false
		case t.owed > 0:
			if end := t.flush(t.owed, 0, false); end.code != wire.CodeOK {
				return end
			}
			woken = false
		case woken: // for something else
			if end := t.check(time.Now()); end.code != wire.CodeOK {
				return end
			}
			woken = false
		default:
			if end := t.wait(ctx); end.code != wire.CodeOK {
				return end
			}
			woken = true
		}
	}
}

// deliver takes a batch of frames: all that was ready goes to the client in one write. Frames that make no sense end
// the attempt.
func (t *attempt) deliver() (end ending, done bool) {
	taken := 0
	for i := range t.frames {
		f := &t.frames[i]
		taken += costOf(f)
		switch f.Type {
		case wire.FrameAccept:
			t.accepted = true
			t.g.metrics.accept.Observe(time.Since(t.sent).Seconds())
		case wire.FrameHead:
			t.accepted = true
			if !t.a.head(int(f.Status), f.Headers) {
				return ending{code: wire.CodeMalformed}, true
			}
		case wire.FrameData:
			if !t.a.data(f.Data) {
				return ending{code: wire.CodeMalformed}, true
			}
		case wire.FrameEnd:
			t.over = true
			end, done = ending{code: f.End.Code, detail: f.End.Message, retryAfter: time.Duration(f.End.RetryAfterMillis) * time.Millisecond}, true
		}
	}
	switch {
	case end.code == wire.CodeCancelled: // not by us: the adapter thought that we were gone
		end.code = wire.CodeWorkerGone
	case done && end.complete() && t.a.upSt == 0:
		return ending{code: wire.CodeMalformed}, true // an answer without a beginning
	}
	last := t.frames[len(t.frames)-1].Seq
	clear(t.frames)
	if end := t.flush(last, taken, done); end.code != wire.CodeOK {
		return end, true
	}
	if !done && t.a.hasLine() {
		t.s.setExpress(t.express)
	}
	return end, done
}

// flush gives the client the frames up to last, which cost so much.
func (t *attempt) flush(last uint64, taken int, done bool) ending {
	if err := t.a.flush(); err != nil {
		if errors.Is(err, errStalled) {
			return ending{code: wire.CodeSlowClient}
		}
		return ending{code: wire.CodeCancelled}
	}
	t.owed = 0
	t.passed(last, taken, done)
	return ending{}
}

// passed notes that the client has the frames up to last.
func (t *attempt) passed(last uint64, taken int, done bool) {
	t.s.done(last)
	if t.unacked += taken; t.unacked >= wire.StreamWindow/4 && !done {
		t.unacked = 0
		t.g.demux.ack(t.s, last)
	}
}

// express is the stream's [express]: it gives the client data while the request's goroutine waits, which spares waking it for
// each token.
func (t *attempt) express(room []byte) (grown []byte, ok bool) {
	if !t.turn.TryLock() { // it is awake
		return room, false
	}
	defer t.turn.Unlock()
	if t.owed > 0 {
		return room, false
	}
	h, ok := t.s.takeChunk(room, writePiece)
	if !ok || h.last == 0 {
		return room, ok
	}
	if !t.a.writeNow(time.Now(), &h) {
		t.owed, t.unacked = h.last, t.unacked+h.cost
		return h.chunk, false
	}
	t.passed(h.last, h.cost, false)
	return h.chunk, true
}

// probeAfter is the silence after which a worker is asked whether it is there. Adapters ping four times a second.
const probeAfter = time.Second

// wait blocks until something is new: what has come, or that nothing came for a while.
func (t *attempt) wait(ctx context.Context) ending {
	t.turn.Unlock()
	<-t.s.wake
	t.turn.Lock()
	if ctx.Err() != nil {
		return ending{code: causeCode(ctx)}
	}
	return ending{}
}

// check returns an ending when the attempt cannot go on.
func (t *attempt) check(now time.Time) ending {
	if !t.aborted && t.a.c.isAborted() { // the adapter has the engine end it, in the engine's own words
		t.aborted = true
		t.g.demux.cancel(t.s, wire.CodeAborted)
	}
	if away, end := t.busAway(now); away {
		return end
	}
	h := t.s.health(now)
	switch {
	case h.overrun: // what it sent too early is gone
		return ending{code: wire.CodeLost}
	case h.gone && !t.accepted: // nobody had it: somebody else can
		t.over = true
		return ending{code: wire.CodeWorkerGone, absent: true}
	case !t.accepted && !t.sent.IsZero() && now.Sub(t.sent) > t.g.cfg.AcceptTimeout:
		return ending{code: wire.CodeWorkerGone, detail: "It did not take the request in time."}
	case h.silent > t.g.cfg.SilenceTimeout, h.gone && h.silent > t.patience():
		return ending{code: wire.CodeWorkerGone}
	case h.silent > probeAfter && now.Sub(t.probed) > probeAfter/2:
		t.probed = now
		t.g.demux.resend(t.s, h.expect)
	}
	return ending{}
}

// busAway tells whether nothing can be heard at the moment: the silence is then not the worker's, within a bound.
func (t *attempt) busAway(now time.Time) (away bool, end ending) {
	if t.g.bus.Connected() {
		t.away = time.Time{}
		return false, ending{}
	}
	if t.away.IsZero() {
		t.away = now
	}
	if now.Sub(t.away) > t.g.cfg.BusPatience {
		return true, ending{code: wire.CodeNoBus}
	}
	t.s.excuse(now)
	if !t.sent.IsZero() {
		t.sent = now
	}
	return true, ending{}
}

// patience is how long an absent adapter is waited for: one that only lost its bus comes back. Before the first byte
// there is no reason to wait.
func (t *attempt) patience() time.Duration {
	if t.a.begun {
		return t.g.cfg.SilenceTimeout / 2
	}
	return 0
}
