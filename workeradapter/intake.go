package workeradapter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/wire"
)

// listen hears control messages and roll calls.
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
		{a.cfg.Subjects.Ctl(a.cfg.Name), a.control},
		{a.cfg.Subjects.Roll(), a.roll},
	} {
		sub, err := a.cfg.Bus.Control.Subscribe(l.subject, l.on)
		if err != nil {
			unsubscribe()
			return nil, fmt.Errorf("worker: listen to %s: %w", l.subject, err)
		}
		subs = append(subs, sub)
	}
	inbox, err := a.out.listen()
	if err != nil {
		unsubscribe()
		return nil, err
	}
	subs = append(subs, inbox)
	return unsubscribe, nil
}

// bodyPending bounds what the client library keeps of bodies whose callback is behind.
const bodyPending = 256 << 20

// work hears the requests of one life.
func (a *Adapter) work(l *life) (stop func(), err error) {
	sub, err := a.cfg.Bus.Bulk.Subscribe(a.cfg.Subjects.Work(a.cfg.Name, l.instance), a.take)
	if err == nil {
		err = sub.SetPendingLimits(-1, bodyPending)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for work: %w", err)
	}
	bus.Flush(a.runCtx, a.cfg.Bus.Bulk) // the bus knows that we listen before anybody is told that we are here
	return func() { sub.Drain() }, nil  //nolint:errcheck // what has arrived is still answered; the connection may be gone already
}

// take runs on the bulk connection's goroutine and must not block.
func (a *Adapter) take(msg *nats.Msg) {
	switch kind, err := wire.KindOf(msg.Data); {
	case err == nil && kind == wire.KindDispatch:
		d, err := wire.ParseDispatch(msg.Data)
		if err != nil {
			a.metrics.refused.WithLabelValues(wire.CodeMalformed.String()).Inc()
			a.cfg.Log.Warn("dispatch refused", "worker", a.cfg.Name, "error", err)
			return // its gateway's clock runs out; there is nobody to answer
		}
		a.admit(d, msg.Reply)
	case err == nil && kind == wire.KindPart:
		p, err := wire.ParsePart(msg.Data)
		if err != nil {
			a.metrics.refused.WithLabelValues(wire.CodeMalformed.String()).Inc()
			return
		}
		a.part(p, msg.Reply)
	default:
		a.metrics.refused.WithLabelValues(wire.CodeVersion.String()).Inc()
	}
}

// admit takes a dispatch in, or refuses it with the reason. A second copy of a dispatch is dropped.
func (a *Adapter) admit(d *wire.Dispatch, reply string) {
	key := streamKey{d.Gateway, d.Stream}
	a.mu.Lock()
	if a.running[key] != nil {
		a.mu.Unlock()
		return
	}
	t := newAttempt(a, d, reply)
	code := a.refusal(d)
	if _, cancelled := a.early[key]; cancelled {
		delete(a.early, key)
		code = wire.CodeCancelled
	}
	if code == wire.CodeOK {
		a.running[key] = t
		a.bodies += int64(d.Size)
		a.attempt.Add(1)
	}
	a.mu.Unlock()
	t.open()
	if code != wire.CodeOK {
		a.metrics.refused.WithLabelValues(code.String()).Inc()
		end := &wire.End{Code: code}
		t.stream.end(end)
		if code == wire.CodeCancelled {
			a.finished(t, end)
		}
		t.cancel(nil)
		return
	}
	t.stream.accept()
	if len(d.Body) == int(d.Size) {
		go t.run(d.Body)
		return
	}
	t.gather()
}

// refusal tells why a dispatch is not taken. The lock is held.
func (a *Adapter) refusal(d *wire.Dispatch) wire.Code {
	switch {
	case a.draining:
		return wire.CodeDraining
	case a.life == nil || a.life.instance != d.Instance:
		return wire.CodeStale
	case a.state == wire.Draining:
		return wire.CodeDraining
	case a.state != wire.Ready:
		return wire.CodeEngineDown
	case len(a.running) >= a.life.info.MaxRunning, a.bodies+int64(d.Size) > a.cfg.MaxBodies:
		return wire.CodeBusy
	}
	return wire.CodeOK
}

// part adds to a body that comes in pieces.
func (a *Adapter) part(p *wire.Part, reply string) {
	a.mu.Lock()
	t := a.running[streamKey{p.Gateway, p.Stream}]
	a.mu.Unlock()
	if t == nil || t.d.Instance != p.Instance {
		return // given up; its gateway hears it by other ways
	}
	t.add(p, reply)
}

// done forgets an attempt.
func (a *Adapter) done(t *attempt) {
	a.mu.Lock()
	delete(a.running, streamKey{t.d.Gateway, t.d.Stream})
	a.bodies -= int64(t.d.Size)
	a.mu.Unlock()
	a.attempt.Done()
}

// control hears cancels, acknowledgements and questions.
func (a *Adapter) control(msg *nats.Msg) {
	if wire.IsJSON(msg.Data) {
		a.ask(msg)
		return
	}
	kind, err := wire.KindOf(msg.Data)
	if err != nil {
		return
	}
	switch kind {
	case wire.KindCancel:
		if c, err := wire.ParseCancel(msg.Data); err == nil {
			a.cancel(c)
		}
	case wire.KindAck:
		if ack, err := wire.ParseAck(msg.Data); err == nil {
			a.out.acked(ack.Gateway, ack.Through)
		}
	case wire.KindResend:
		if r, err := wire.ParseResend(msg.Data); err == nil {
			a.out.resend(r)
		}
	}
}

// earlyBound bounds the cancels remembered for dispatches that have not come yet.
const (
	earlyBound = 64 << 10
	earlyFor   = 10 * time.Second
)

func (a *Adapter) cancel(c wire.Cancel) {
	key := streamKey{c.Gateway, c.Stream}
	a.mu.Lock()
	t := a.running[key]
	if t == nil && len(a.early) < earlyBound {
		a.early[key] = time.Now()
	}
	a.mu.Unlock()
	a.out.forget(key) // nobody will ask for its frames again
	if t != nil {
		t.cancel(errCancelled)
	}
}

// forgetEarly drops the cancels whose dispatch never came; most are of attempts that had ended already.
func (a *Adapter) forgetEarly(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, at := range a.early {
		if now.Sub(at) > earlyFor {
			delete(a.early, key)
		}
	}
}

// errCancelled is the cause that ends an attempt whose gateway gave it up.
var errCancelled = errors.New("cancelled by the gateway")

func (a *Adapter) ask(msg *nats.Msg) {
	var q wire.Ask
	if json.Unmarshal(msg.Data, &q) != nil || q.Op != wire.OpInfo || msg.Reply == "" {
		return
	}
	a.mu.Lock()
	l := a.life
	a.mu.Unlock()
	if l != nil {
		a.publish(msg.Reply, l.doc)
	}
}

// roll hears "who is there?".
func (a *Adapter) roll(*nats.Msg) {
	select {
	case a.called <- struct{}{}:
	default:
	}
}
