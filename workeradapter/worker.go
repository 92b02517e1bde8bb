package workeradapter

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/wire"
)

// A worker is one data-parallel rank of the engine: what the rest of the fleet sees.
type worker struct {
	a        *Adapter
	name     string
	rank     int
	out      *outboxes
	metrics  *metrics
	seq      atomic.Uint64 // of events
	stop     func()        // ends its subscriptions and pings
	sessions openSessions

	// guarded by Adapter.mu
	life    *life
	lives   []wire.Instance // the last few that it has had
	paused  bool            // by an operator
	running map[streamKey]*attempt
	light   int                     // of them, those that take no slot
	early   map[streamKey]time.Time // cancels that overtook their dispatch
}

// A life is one instance: a time in which the engine's cache was not lost. It does not change; a worker whose engine has
// another adapter, say, gets another life with the same instance.
type life struct {
	instance wire.Instance
	info     *wire.WorkerInfo
	doc      []byte
	hash     uint64
	stop     func() // ends the work subscription
}

// streamKey names an attempt as its gateway does.
type streamKey struct {
	gateway string
	stream  uint64
}

// newWorker makes a worker that listens for control messages. It is not told of before it has a life.
func (a *Adapter) newWorker(name string, rank int) (*worker, error) {
	w := &worker{
		a: a, name: name, rank: rank, metrics: newMetrics(a.cfg.Registry, name),
		running: make(map[streamKey]*attempt), early: make(map[streamKey]time.Time),
	}
	w.out = newOutboxes(w)
	ctl, err := a.cfg.Bus.Control.Subscribe(a.cfg.Subjects.Ctl(name), w.control)
	if err != nil {
		w.metrics.unregister(a.cfg.Registry)
		return nil, fmt.Errorf("worker %s: listen for control: %w", name, err)
	}
	pongs, err := w.out.listen()
	if err != nil {
		ctl.Unsubscribe() //nolint:errcheck // the connection may be gone already
		w.metrics.unregister(a.cfg.Registry)
		return nil, err
	}
	beats, err := a.cfg.Bus.Control.Subscribe(a.cfg.Subjects.EventsBy(wire.EventUp, name), w.overhear)
	if err != nil {
		ctl.Unsubscribe()   //nolint:errcheck // the connection may be gone already
		pongs.Unsubscribe() //nolint:errcheck // as above
		w.metrics.unregister(a.cfg.Registry)
		return nil, fmt.Errorf("worker %s: listen for its own beats: %w", name, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.runCtx))
	var pings sync.WaitGroup
	pings.Go(func() { w.out.pings(ctx) })
	w.stop = func() {
		cancel()
		pings.Wait()
		for _, sub := range []*nats.Subscription{ctl, pongs, beats} {
			sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
		}
		w.metrics.unregister(a.cfg.Registry)
	}
	return w, nil
}

// begin gives the worker a life. An instance that it has already keeps its subscription.
func (w *worker) begin(info *wire.WorkerInfo) error {
	l := &life{instance: info.Instance, info: info}
	var err error
	if l.doc, l.hash, err = info.Encode(); err != nil {
		return err
	}
	if _, err := wire.ParseWorkerInfo(l.doc); err != nil {
		return err // nobody would take it in
	}
	w.a.mu.Lock()
	old := w.life
	w.a.mu.Unlock()
	if old != nil && old.instance == l.instance {
		l.stop = old.stop
	} else if l.stop, err = w.listen(l); err != nil {
		return err
	}
	w.a.mu.Lock()
	w.life = l
	const few = 8
	w.lives = append(w.lives[max(0, len(w.lives)-few+1):], l.instance)
	w.a.mu.Unlock()
	if old != nil && old.instance != l.instance {
		w.sessions.forget()
		old.stop()
	}
	return nil
}

// bodyPending bounds what the client library keeps of bodies whose callback is behind.
const bodyPending = 256 << 20

// listen hears the requests of one life.
func (w *worker) listen(l *life) (stop func(), err error) {
	sub, err := w.a.cfg.Bus.Bulk.Subscribe(w.a.cfg.Subjects.Work(w.name, l.instance), w.take)
	if err == nil {
		err = sub.SetPendingLimits(-1, bodyPending)
	}
	if err != nil {
		return nil, fmt.Errorf("worker %s: listen for work: %w", w.name, err)
	}
	bus.Flush(w.a.runCtx, w.a.cfg.Bus.Bulk) // the bus knows that we listen before anybody is told that we are here
	return func() { sub.Drain() }, nil      //nolint:errcheck // what has arrived is still answered; the connection may be gone already
}

// retire is the worker's last word.
func (w *worker) retire(code wire.Code) {
	w.a.mu.Lock()
	l := w.life
	w.life = nil
	w.a.mu.Unlock()
	if l != nil {
		l.stop()
		g := wire.Gone{Stamp: w.stamp(), Worker: w.name, Instance: l.instance, Code: code}
		w.a.events.Publish(w.event(l, wire.EventDown), g.AppendTo(nil))
	}
	if w.name != w.a.cfg.Name { // which is the adapter's own
		w.a.hold(false, w.name)
	}
	w.stop()
}

// current is the life that a message for an instance belongs to.
func (w *worker) current(n wire.Instance) (*life, error) {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	if w.life == nil || w.life.instance != n {
		return nil, fmt.Errorf("instance %s is no more", n)
	}
	return w.life, nil
}

// alive is the worker's life; nil before its first and after its last.
func (w *worker) alive() *life {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	return w.life
}

// says is what the worker tells of itself now. The adapter's lock is held.
func (w *worker) says() wire.State {
	if w.a.state == wire.Ready && (w.a.draining || w.paused) {
		return wire.Draining
	}
	return w.a.state
}

func (w *worker) event(l *life, kind string) string {
	return w.a.cfg.Subjects.Event(w.a.cfg.Region, l.info.Pool, kind, w.name)
}
