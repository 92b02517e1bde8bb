package workeradapter

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/radixbus/radixbus/internal/tick"
	"github.com/radixbus/radixbus/internal/wire"
)

// missedBeats in a row mean that this process stood still, and the fleet took its workers for gone.
const missedBeats = 4

// beats says that the workers are there, and what they run, until ctx ends. Adapters of one process beat together. A roll call is
// answered after a jitter, so that a fleet does not as one.
func (a *Adapter) beats(ctx context.Context) {
	wait := time.NewTimer(tick.Until(a.cfg.Beat))
	defer wait.Stop()
	const jitter = 50 * time.Millisecond
	answer := time.NewTimer(time.Hour)
	defer answer.Stop()
	last, settling := time.Now(), false
	for {
		select {
		case <-a.called:
			answer.Reset(rand.N(jitter))
		case <-answer.C:
			a.beat()
		case <-wait.C:
			now := time.Now()
			away, back := now.Sub(last) > missedBeats*a.cfg.Beat, a.cfg.Bus.Settling()
			if away || back && !settling {
				a.reclaim(ctx, away)
			}
			last, settling = now, back
			a.beat()
			a.report()
			a.forgetEarly(now)
			wait.Reset(tick.Until(a.cfg.Beat))
		case <-ctx.Done():
			return
		}
	}
}

// roster is a copy of the workers there are.
func (a *Adapter) roster() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers // replaced, never changed
}

// beat says once that the workers are there and what they take.
func (a *Adapter) beat() {
	for _, w := range a.roster() {
		w.beat()
	}
}

func (w *worker) beat() {
	w.a.mu.Lock()
	l, state := w.life, w.says()
	w.a.mu.Unlock()
	if l == nil {
		return
	}
	up := wire.Up{
		Stamp: w.stamp(), Worker: w.name, Instance: l.instance, InfoHash: l.hash, State: state,
		BeatMillis: uint32(w.a.cfg.Beat.Milliseconds()),
	}
	w.a.events.Publish(w.event(l, wire.EventUp), up.AppendTo(nil))
}

// report names every attempt that is admitted and not over.
func (a *Adapter) report() {
	for _, w := range a.roster() {
		w.report()
	}
}

func (w *worker) report() {
	w.a.mu.Lock()
	l := w.life
	if l == nil {
		w.a.mu.Unlock()
		return
	}
	load := wire.Load{Stamp: w.stamp(), Worker: w.name, Instance: l.instance}
	for _, t := range w.running {
		if t.d.Instance != l.instance {
			continue
		}
		if t.called {
			load.Running++
		} else {
			load.Waiting++
		}
		if len(load.Leases) == wire.MaxLeases {
			load.Truncated = true
			continue
		}
		load.Leases = append(load.Leases, wire.LeaseRef{Request: t.d.Request, Attempt: t.d.Attempt})
	}
	w.a.mu.Unlock()
	w.a.events.Publish(w.event(l, wire.EventLoad), load.AppendTo(make([]byte, 0, 64+32*len(load.Leases))))
}

// finished tells the schedulers how an attempt ended. What the engine said in words stays between adapter and gateway.
func (w *worker) finished(t *attempt, end *wire.End) {
	f := wire.Finished{
		Stamp: w.stamp(), Worker: w.name, Instance: t.d.Instance, Request: t.d.Request, Attempt: t.d.Attempt,
		Lease: t.d.Lease, QueueMicros: uint64(max(0, t.calledAt.Sub(t.admitted).Microseconds())), Predicted: t.d.Predicted, End: *end,
	}
	if !t.called {
		f.QueueMicros = 0
	}
	f.End.Message = ""
	w.a.events.Publish(w.a.cfg.Subjects.Event(w.a.cfg.Region, t.d.Pool, wire.EventFinished, w.name), f.AppendTo(make([]byte, 0, 256)))
}

func (w *worker) stamp() wire.Stamp {
	return wire.Stamp{Publisher: w.name, Seq: w.seq.Add(1), AtMicros: uint64(time.Now().UnixMicro())}
}

// publish sends what is repeated, or made good by a later report: an error is not worth more than a debug line.
func (a *Adapter) publish(subject string, doc []byte) {
	if err := a.cfg.Bus.Control.Publish(subject, doc); err != nil {
		a.unsent(subject, err)
	}
}

func (a *Adapter) unsent(subject string, err error) {
	a.cfg.Log.Debug("publish", "subject", subject, "error", err)
}

// eventGap is how long events wait for company when there are many: schedulers know of a free slot that much later.
const eventGap = 5 * time.Millisecond
