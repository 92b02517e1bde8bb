package workeradapter

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// beats says that the worker is there, and what it runs, until ctx ends. The first beat comes at a random moment of the
// interval, and a roll call is answered after a jitter, so that a fleet does not beat as one.
func (a *Adapter) beats(ctx context.Context) {
	wait := time.NewTimer(rand.N(a.cfg.Beat))
	defer wait.Stop()
	const jitter = 50 * time.Millisecond
	answer := time.NewTimer(time.Hour)
	defer answer.Stop()
	for {
		select {
		case <-a.called:
			answer.Reset(rand.N(jitter))
		case <-answer.C:
			a.beat()
		case <-wait.C:
			a.beat()
			a.report()
			a.forgetEarly(time.Now())
			wait.Reset(a.cfg.Beat)
		case <-ctx.Done():
			return
		}
	}
}

// beat says once that the worker is there and what it takes.
func (a *Adapter) beat() {
	a.mu.Lock()
	l, state := a.life, a.state
	if a.draining && state == wire.Ready {
		state = wire.Draining
	}
	a.mu.Unlock()
	if l == nil {
		return
	}
	up := wire.Up{Stamp: a.stamp(), Worker: a.cfg.Name, Instance: l.instance, InfoHash: l.hash, State: state, BeatMillis: uint32(a.cfg.Beat.Milliseconds())}
	a.publish(a.event(l, wire.EventUp), up.AppendTo(nil))
}

// report names every attempt that is admitted and not over.
func (a *Adapter) report() {
	a.mu.Lock()
	l := a.life
	if l == nil {
		a.mu.Unlock()
		return
	}
	load := wire.Load{Stamp: a.stamp(), Worker: a.cfg.Name, Instance: l.instance}
	for _, t := range a.running {
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
	a.mu.Unlock()
	a.publish(a.event(l, wire.EventLoad), load.AppendTo(make([]byte, 0, 64+32*len(load.Leases))))
}

// finished tells the schedulers how an attempt ended. What the engine said in words stays between adapter and gateway.
func (a *Adapter) finished(t *attempt, end *wire.End) {
	f := wire.Finished{
		Stamp: a.stamp(), Worker: a.cfg.Name, Instance: t.d.Instance, Request: t.d.Request, Attempt: t.d.Attempt,
		Lease: t.d.Lease, QueueMicros: uint64(max(0, t.calledAt.Sub(t.admitted).Microseconds())), Predicted: t.d.Predicted, End: *end,
	}
	if !t.called {
		f.QueueMicros = 0
	}
	f.End.Message = ""
	a.publish(a.cfg.Subjects.Event(a.cfg.Region, t.d.Pool, wire.EventFinished, a.cfg.Name), f.AppendTo(make([]byte, 0, 256)))
}

func (a *Adapter) stamp() wire.Stamp {
	return wire.Stamp{Publisher: a.cfg.Name, Seq: a.seq.Add(1), AtMicros: uint64(time.Now().UnixMicro())}
}

func (a *Adapter) event(l *life, kind string) string {
	return a.cfg.Subjects.Event(a.cfg.Region, l.info.Pool, kind, a.cfg.Name)
}

// publish sends what is repeated, or made good by a later report: an error is not worth more than a debug line.
func (a *Adapter) publish(subject string, doc []byte) {
	if err := a.cfg.Bus.Control.Publish(subject, doc); err != nil {
		a.cfg.Log.Debug("publish", "subject", subject, "error", err)
	}
}
