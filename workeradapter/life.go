package workeradapter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// failuresAllowed is how many probes in a row may fail in a way that a busy engine's might, before it counts as down.
const failuresAllowed = 3

// watch follows the engine's health until ctx ends. A refused connection counts at once, and so does a request that
// broke: a probe follows it. An engine that says that it does not serve is leaving: it takes nothing new, and what it has
// it may still finish.
func (a *Adapter) watch(ctx context.Context) {
	tick := time.NewTicker(a.cfg.Probe)
	defer tick.Stop()
	suspected := false
	for failures := 0; ; {
		err := a.engine.healthy(ctx, a.cfg.ProbeTimeout)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			failures = 0
			if err := a.engineUp(ctx); err != nil && ctx.Err() == nil {
				a.cfg.Log.Warn("engine healthy but not understood", "worker", a.cfg.Name, "error", err)
			}
			if suspected {
				a.report() // schedulers that were told of the failure need not wait for the next beat
			}
		case refused(err):
			a.lost.Store(true)
			a.engineDown(err)
		case isStatus(err):
			failures = 0
			a.engineLeaves(err)
		case failures+1 >= failuresAllowed:
			a.engineDown(err)
		default:
			failures++
		}
		select {
		case <-tick.C:
			suspected = false
		case <-a.suspect:
			suspected = true
		case <-ctx.Done():
			return
		}
	}
}

// refused tells errors of an engine that is certainly not there.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || isNotFound(err)
}

func isNotFound(err error) bool {
	d, ok := errors.AsType[*net.DNSError](err)
	return ok && d.IsNotFound
}

// suspectEngine asks for a probe now.
func (a *Adapter) suspectEngine() {
	select {
	case a.suspect <- struct{}{}:
	default:
	}
}

// engineUp begins a life when there is none, the engine's process has ended since, or it is not what it was. One that was
// only silent for a while has its cache still.
func (a *Adapter) engineUp(ctx context.Context) error {
	a.mu.Lock()
	old := a.life
	alive := old != nil && a.state == wire.Ready
	a.mu.Unlock()
	if alive && time.Since(old.described) < a.cfg.Describe {
		return nil
	}
	lost := a.lost.Swap(false)
	info, start, err := a.engine.describe(ctx)
	if err != nil {
		a.lost.CompareAndSwap(false, lost)
		return err
	}
	info.Worker, info.Instance, info.Region = a.cfg.Name, wire.NewInstance(), a.cfg.Region
	info.AdapterVersion, info.WireVersion = a.cfg.Version, wire.Version
	info.MaxRunning = min(cmp.Or(a.cfg.MaxRunning, info.MaxRunning, 256), wire.MaxLeases)
	info.MaxPayload = a.cfg.Bus.Bulk.MaxPayload()
	if old != nil && !lost && old.start == start && old.same(info) {
		old.described = time.Now()
		if !alive {
			a.setState(wire.Ready)
			a.cfg.Log.Info("engine ready again", "worker", a.cfg.Name, "engine", info.Engine)
		}
		return nil
	}
	l := &life{instance: info.Instance, info: info, start: start, described: time.Now()}
	if l.doc, l.hash, err = info.Encode(); err != nil {
		return err
	}
	if _, err := wire.ParseWorkerInfo(l.doc); err != nil {
		return err // nobody would take it in
	}
	if l.stop, err = a.work(l); err != nil {
		return err
	}
	a.mu.Lock()
	a.life, a.state = l, wire.Ready
	a.mu.Unlock()
	if old != nil {
		old.stop()
	}
	a.cfg.Log.Info("engine ready", "worker", a.cfg.Name, "engine", info.Engine, "model", info.Pool, "kind", info.EngineKind,
		"capacity_tokens", info.CapacityTokens, "page_size", info.PageSize, "max_running", info.MaxRunning)
	a.beat()
	return nil
}

// same tells whether an engine that describes itself so is the one of this life.
func (l *life) same(info *wire.WorkerInfo) bool {
	return bytes.Equal(lasting(l.info), lasting(info))
}

// lasting is what an engine says of itself without what changes from answer to answer: engines date their models anew
// each time.
func lasting(info *wire.WorkerInfo) []byte {
	w := *info
	w.Instance, w.Models = 0, slices.Clone(info.Models)
	for i := range w.Models {
		w.Models[i].Created = 0
	}
	doc, _, err := w.Encode()
	if err != nil {
		return nil
	}
	return doc
}

// setState changes what the worker says of itself, and says it.
func (a *Adapter) setState(s wire.State) {
	a.mu.Lock()
	a.state = s
	a.mu.Unlock()
	a.beat()
}

// engineLeaves says that the worker takes nothing new. What runs goes on: an engine that was asked to stop finishes it.
func (a *Adapter) engineLeaves(err error) {
	a.mu.Lock()
	was := a.state
	a.mu.Unlock()
	if was == wire.Ready {
		a.cfg.Log.Warn("engine takes nothing new", "worker", a.cfg.Name, "error", err)
		a.setState(wire.Draining)
	}
}

// errEngineDown is the cause that ends attempts which an engine that stopped answering has not begun to answer.
var errEngineDown = errors.New("the engine does not answer any more")

// engineDown says that the worker takes nothing. Its subscription stays until the next life, so that what is on its way
// is answered with the truth.
func (a *Adapter) engineDown(err error) {
	a.mu.Lock()
	was := a.state
	a.state = wire.Down
	known := a.life != nil
	var waiting []*attempt
	for _, t := range a.running {
		if t.called && !t.begun.Load() {
			waiting = append(waiting, t)
		}
	}
	a.mu.Unlock()
	for _, t := range waiting { // another worker can serve them; those that have begun may only be paused
		t.cancel(errEngineDown)
	}
	if was != wire.Down {
		a.cfg.Log.Warn("engine down", "worker", a.cfg.Name, "error", err)
		a.beat()
	} else if !known {
		a.cfg.Log.Debug("waiting for the engine", "worker", a.cfg.Name, "error", err)
	}
}

// endLife is the last word.
func (a *Adapter) endLife(code wire.Code) {
	a.mu.Lock()
	l := a.life
	a.life, a.state = nil, wire.Down
	a.mu.Unlock()
	if l == nil {
		return
	}
	l.stop()
	g := wire.Gone{Stamp: a.stamp(), Worker: a.cfg.Name, Instance: l.instance, Code: code}
	a.publish(a.event(l, wire.EventDown), g.AppendTo(nil))
}

// current is the life that a message for an instance belongs to.
func (a *Adapter) current(n wire.Instance) (*life, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life == nil || a.life.instance != n {
		return nil, fmt.Errorf("instance %s is no more", n)
	}
	return a.life, nil
}
