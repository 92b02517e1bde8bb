package workeradapter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// listen hears roll calls, and who else wants our name.
func (a *Adapter) listen() (unsubscribe func(), err error) {
	var subs []*nats.Subscription
	unsubscribe = func() {
		for _, sub := range subs {
			sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
		}
	}
	for _, l := range []struct {
		subject string
		on      nats.MsgHandler
	}{
		{a.cfg.Subjects.Ctl(a.cfg.Name), a.wanted},
		{a.cfg.Subjects.Roll(), func(*nats.Msg) { poke(a.called) }}, // "who is there?"
	} {
		sub, err := a.cfg.Bus.Control.Subscribe(l.subject, l.on)
		if err != nil {
			unsubscribe()
			return nil, fmt.Errorf("worker: listen to %s: %w", l.subject, err)
		}
		subs = append(subs, sub)
	}
	return unsubscribe, nil
}

// wanted hears who claims the adapter's name; all else on its subject is for its worker.
func (a *Adapter) wanted(msg *nats.Msg) {
	var q wire.Ask
	if wire.IsJSON(msg.Data) && json.Unmarshal(msg.Data, &q) == nil && q.Op == wire.OpClaim {
		a.claimed(msg, a.cfg.Name, q.Claim)
	}
}

// take runs on the bulk connection's goroutine and must not block.
func (w *worker) take(msg *nats.Msg) {
	switch kind, err := wire.KindOf(msg.Data); {
	case err == nil && kind == wire.KindDispatch:
		d, err := wire.ParseDispatch(msg.Data)
		if err != nil {
			w.metrics.refused.WithLabelValues(wire.CodeMalformed.String()).Inc()
			w.a.cfg.Log.Warn("dispatch refused", "worker", w.name, "error", err)
			return // its gateway's clock runs out; there is nobody to answer
		}
		w.admit(d, msg.Reply)
	case err == nil && kind == wire.KindPart:
		p, err := wire.ParsePart(msg.Data)
		if err != nil {
			w.metrics.refused.WithLabelValues(wire.CodeMalformed.String()).Inc()
			return
		}
		w.part(p, msg.Reply)
	default:
		w.metrics.refused.WithLabelValues(wire.CodeVersion.String()).Inc()
	}
}

// admit takes a dispatch in, or refuses it with the reason. A second copy of a dispatch is dropped.
func (w *worker) admit(d *wire.Dispatch, reply string) {
	a, key := w.a, streamKey{d.Gateway, d.Stream}
	a.mu.Lock()
	if w.running[key] != nil {
		a.mu.Unlock()
		return
	}
	t := newAttempt(w, d, reply)
	code := w.refusal(d)
	if _, cancelled := w.early[key]; cancelled {
		delete(w.early, key)
		code = wire.CodeCancelled
	}
	if code == wire.CodeOK {
		w.running[key] = t
		w.light += lightOf(d)
		t.held = d.Size
		a.bodies += int64(d.Size)
		a.attempts.Add(1)
	}
	a.mu.Unlock()
	t.open()
	if code != wire.CodeOK {
		w.metrics.refused.WithLabelValues(code.String()).Inc()
		end := &wire.End{Code: code}
		t.stream.end(end)
		if code == wire.CodeCancelled {
			w.finished(t, end)
		}
		t.cancel(nil)
		return
	}
	t.stream.accept()
	if t.full {
		a.crew.run(t.run)
		return
	}
	t.gather()
}

// maxLight bounds the requests of a worker that take no slot.
const maxLight = 256

func lightOf(d *wire.Dispatch) int {
	if d.Flags&wire.FlagLight != 0 {
		return 1
	}
	return 0
}

// refusal tells why a dispatch is not taken. The lock is held.
func (w *worker) refusal(d *wire.Dispatch) wire.Code {
	state := w.says()
	switch {
	case w.a.draining:
		return wire.CodeDraining
	case w.life == nil || w.life.instance != d.Instance:
		return wire.CodeStale
	case state == wire.Draining && d.Flags&wire.FlagKept == 0:
		return wire.CodeDraining
	case state != wire.Ready && state != wire.Draining:
		return wire.CodeEngineDown
	case w.a.bodies+int64(d.Size) > w.a.cfg.MaxBodies:
		return wire.CodeBusy
	case d.Flags&wire.FlagLight != 0 && w.light >= maxLight, d.Flags&wire.FlagLight == 0 && len(w.running)-w.light >= w.life.info.MaxRunning:
		return wire.CodeBusy
	}
	return wire.CodeOK
}

// part adds to a body that comes in pieces.
func (w *worker) part(p *wire.Part, reply string) {
	w.a.mu.Lock()
	t := w.running[streamKey{p.Gateway, p.Stream}]
	w.a.mu.Unlock()
	if t == nil || t.d.Instance != p.Instance {
		return // given up; its gateway hears it by other ways
	}
	t.add(p, reply)
}

// done forgets an attempt.
func (w *worker) done(t *attempt) {
	w.a.mu.Lock()
	delete(w.running, streamKey{t.d.Gateway, t.d.Stream})
	w.light -= lightOf(t.d)
	w.a.mu.Unlock()
	t.letGo()
}

// control hears cancels, acknowledgements, questions and orders.
func (w *worker) control(msg *nats.Msg) {
	if wire.IsJSON(msg.Data) {
		w.ask(msg)
		return
	}
	kind, err := wire.KindOf(msg.Data)
	if err != nil {
		return
	}
	switch kind {
	case wire.KindCancel:
		if c, err := wire.ParseCancel(msg.Data); err == nil {
			w.cancel(c)
		}
	case wire.KindAck:
		if ack, err := wire.ParseAck(msg.Data); err == nil {
			w.out.acked(ack.Gateway, ack.Through)
		}
	case wire.KindResend:
		if r, err := wire.ParseResend(msg.Data); err == nil {
			w.out.resend(r)
		}
	}
}

// earlyBound bounds the cancels remembered for dispatches that have not come yet.
const (
	earlyBound = 64 << 10
	earlyFor   = 10 * time.Second
)

// errCancelled is the cause that ends an attempt whose gateway gave it up.
var errCancelled = errors.New("cancelled by the gateway")

// cancel ends an attempt: at once when its gateway gave it up, as the engine ends it when the client asked for that by
// another request.
func (w *worker) cancel(c wire.Cancel) {
	key := streamKey{c.Gateway, c.Stream}
	w.a.mu.Lock()
	t := w.running[key]
	if t == nil && len(w.early) < earlyBound {
		w.early[key] = time.Now()
	}
	w.a.mu.Unlock()
	if t != nil && c.Code == wire.CodeAborted {
		t.abortSoftly()
		return
	}
	w.out.forget(key) // nobody will ask for its frames again
	if t != nil {
		t.cancel(errCancelled)
	}
}

// forgetEarly drops the cancels whose dispatch never came; most are of attempts that had ended already.
func (a *Adapter) forgetEarly(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		for key, at := range w.early {
			if now.Sub(at) > earlyFor {
				delete(w.early, key)
			}
		}
	}
}
