package workeradapter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/radixbus/radixbus/internal/tick"
	"github.com/radixbus/radixbus/internal/wire"
)

// failuresAllowed is how many probes in a row may fail in a way that a busy engine's might, before it counts as down.
const failuresAllowed = 3

// watch follows the engine's health until ctx ends. A refused connection counts at once, and so does a request that
// broke: a probe follows it. An engine that says that it does not serve is leaving: it takes nothing new, and what it has
// it may still finish.
func (a *Adapter) watch(ctx context.Context) {
	v := vigil{a: a}
	defer v.ears.Wait()
	for failures, suspected := 0, false; ; {
		err := a.engine.healthy(ctx, a.cfg.ProbeTimeout)
		if ctx.Err() != nil {
			return
		}
		next := tick.Until(a.cfg.Probe)
		if err != nil {
			next = min(a.cfg.Probe, probeSoon)
		}
		switch {
		case err == nil:
			failures = 0
			if v.renewed(ctx) {
				v.described = time.Time{}
			}
			if err := v.up(ctx, time.Now()); err != nil && ctx.Err() == nil {
				a.cfg.Log.Warn("engine healthy but not understood", "worker", a.cfg.Name, "error", err)
			}
			v.lendEar(ctx)
			if suspected {
				a.report() // schedulers that were told of the failure need not wait for the next beat
			}
		case refused(err):
			a.lost.Store(true)
			v.down(err)
		case isStatus(err):
			failures = 0
			v.leaves(err)
		case failures+1 >= failuresAllowed:
			v.down(err)
		default:
			failures++
		}
		select {
		case <-time.After(next):
			suspected = false
		case <-a.suspect:
			suspected = true
		case <-a.changed:
			v.described = time.Time{}
		case <-ctx.Done():
			return
		}
	}
}

// probeSoon is when an engine that does not answer as it should is asked again.
const probeSoon = 250 * time.Millisecond

// refused tells errors of an engine that is certainly not there.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || isNotFound(err)
}

func isNotFound(err error) bool {
	d, ok := errors.AsType[*net.DNSError](err)
	return ok && d.IsNotFound
}

// suspectEngine asks for a probe now.
func (a *Adapter) suspectEngine() { poke(a.suspect) }

// engineChanged asks for a description now.
func (a *Adapter) engineChanged() { poke(a.changed) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// A vigil is what watch knows from probe to probe.
type vigil struct {
	a         *Adapter
	seen      *description // what the workers' lives are those of; nil before the engine was seen
	described time.Time    // when it last said so
	damper    damper
	ear       atomic.Bool
	ears      sync.WaitGroup
}

// earPause is the least time between two connections of lendEar.
const earPause = time.Second

// lendEar holds a connection on which nothing is said: its end is mostly that of the engine's process, which is so known at
// once. Engines whose server would keep a thread for it are spared.
func (v *vigil) lendEar(ctx context.Context) {
	if v.seen == nil || v.seen.info.EngineKind != kindSGLang && v.seen.info.EngineKind != kindVLLM || !v.ear.CompareAndSwap(false, true) {
		return
	}
	v.ears.Go(func() {
		defer v.ear.Store(false)
		pause := time.After(earPause)
		if v.a.engine.listen(ctx) {
			v.a.suspectEngine()
		}
		select {
		case <-pause:
		case <-ctx.Done():
		}
	})
}

// up begins new lives when there are none, the engine's process has ended since, or it is not what it was. One that was
// only silent for a while has its cache still.
func (v *vigil) up(ctx context.Context, now time.Time) error {
	a := v.a
	alive := v.state() == wire.Ready
	if alive && now.Sub(v.described) < a.cfg.Describe {
		return nil
	}
	if wait := v.damper.wait(now); !alive && v.seen != nil && wait > 0 {
		a.cfg.Log.Debug("engine is back too soon", "worker", a.cfg.Name, "wait", wait)
		return nil
	}
	lost := a.lost.Swap(false)
	d, err := a.engine.describe(ctx)
	if err != nil {
		a.lost.CompareAndSwap(false, lost)
		return err
	}
	if v.seen != nil && !lost {
		d.remember(v.seen)
	}
	d.complete(a)
	if v.seen != nil && !lost && v.seen.sameLife(d) {
		err = v.keep(d)
	} else {
		err = v.begin(ctx, d)
	}
	if err == nil {
		v.described = now
	}
	return err
}

// renewed tells whether an SGLang has other weights than when it last described itself. It is asked at each probe: the answer
// is a small document, and an idle engine says nothing by itself.
func (v *vigil) renewed(ctx context.Context) bool {
	if v.seen == nil || v.seen.info.EngineKind != kindSGLang || v.seen.weights == (weights{}) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, v.a.cfg.ProbeTimeout)
	defer cancel()
	var now weights
	found, err := v.a.engine.firstOf(ctx, &now, "/model_info", "/get_model_info")
	return found && err == nil && now != v.seen.weights
}

// begin gives every rank of the engine a new life.
func (v *vigil) begin(ctx context.Context, d *description) error {
	a, before := v.a, v.a.roster()
	workers, err := v.staff(ctx, d)
	for _, w := range workers {
		if err == nil {
			err = w.begin(d.of(w, wire.NewInstance()))
		}
	}
	if err != nil {
		for _, w := range workers {
			if !slices.Contains(before, w) { // nobody has heard of it
				w.retire(wire.CodeStale)
			}
		}
		return err
	}
	a.mu.Lock()
	a.workers, a.state = workers, wire.Ready
	a.mu.Unlock()
	for _, w := range before {
		if !slices.Contains(workers, w) {
			w.retire(wire.CodeStale)
		}
	}
	a.loras.forget()
	v.seen = d
	a.cfg.Log.Info("engine ready", "worker", a.cfg.Name, "engine", a.engine.shown, "model", d.info.Pool, "kind", d.info.EngineKind, "ranks", len(workers),
		"capacity_tokens", d.info.CapacityTokens, "page_size", d.info.PageSize, "max_running", d.info.MaxRunning)
	a.beat()
	return nil
}

// keep goes on with the lives there are. What has changed without an end of them, such as the adapters that are loaded, is
// registered anew.
func (v *vigil) keep(d *description) error {
	a := v.a
	changed := !v.seen.same(d)
	was := a.setState(wire.Ready)
	if changed {
		for _, w := range a.roster() {
			if err := w.begin(d.of(w, w.alive().instance)); err != nil {
				return err
			}
		}
		v.seen = d
	}
	if was != wire.Ready {
		a.cfg.Log.Info("engine ready again", "worker", a.cfg.Name, "engine", a.engine.shown)
	}
	if changed || was != wire.Ready {
		a.beat()
	}
	return nil
}

// staff finds the workers for the engine's ranks: those that are there, and new ones. It returns those that it has found
// with an error too. New ones listen before their names are claimed, so that two that claim at the same time hear each other.
func (v *vigil) staff(ctx context.Context, d *description) (workers []*worker, err error) {
	a := v.a
	there := a.roster()
	var claims []string
	for rank := range d.info.DPSize {
		name := a.cfg.Name
		if d.info.DPSize > 1 {
			name = fmt.Sprintf("%s-r%d", a.cfg.Name, rank)
		}
		if at := slices.IndexFunc(there, func(w *worker) bool { return w.name == name }); at >= 0 {
			workers = append(workers, there[at])
			continue
		}
		w, err := a.newWorker(name, rank)
		if err != nil {
			return workers, err
		}
		workers = append(workers, w)
		if name != a.cfg.Name {
			claims = append(claims, name)
		}
	}
	if len(claims) == 0 {
		return workers, nil
	}
	return workers, a.claim(ctx, claims...)
}

func (v *vigil) state() wire.State {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	return v.a.state
}

// setState changes what is said of the engine, and tells what was said before.
func (a *Adapter) setState(s wire.State) (was wire.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, a.state = a.state, s
	return was
}

// leaves says that the workers take nothing new. What runs goes on: an engine that was asked to stop finishes it.
func (v *vigil) leaves(err error) {
	if v.state() == wire.Ready {
		v.a.cfg.Log.Warn("engine takes nothing new", "worker", v.a.cfg.Name, "error", err)
		v.a.setState(wire.Draining)
		v.damper.fell(time.Now())
		v.a.beat()
	}
}

// Causes that end attempts which an engine has and has not begun to answer.
var (
	errEngineDown  = errors.New("the engine does not answer any more")
	errEngineBroke = errors.New("the engine's process has ended") // it may be the attempt, or its adapter, that it ended of
)

// down says that the workers take nothing. Their subscriptions stay until the next life, so that what is on its way
// is answered with the truth.
func (v *vigil) down(err error) {
	a := v.a
	a.mu.Lock()
	was := a.state
	a.state = wire.Down
	var waiting []*attempt
	for _, w := range a.workers {
		for _, t := range w.running {
			if (t.called || t.loading) && !t.begun.Load() {
				waiting = append(waiting, t)
			}
		}
	}
	a.mu.Unlock()
	cause := errEngineDown
	if refused(err) {
		cause = errEngineBroke
	}
	for _, t := range waiting { // another worker can serve them; those that have begun may only be paused
		t.cancel(cause)
	}
	if was != wire.Down {
		a.cfg.Log.Warn("engine down", "worker", a.cfg.Name, "error", err)
		if was == wire.Ready {
			v.damper.fell(time.Now())
		}
		a.beat()
	} else if v.seen == nil {
		a.cfg.Log.Debug("waiting for the engine", "worker", a.cfg.Name, "error", err)
	}
}

// retire ends all workers.
func (a *Adapter) retire(code wire.Code) {
	a.mu.Lock()
	workers := a.workers
	a.workers, a.state = nil, wire.Down
	a.mu.Unlock()
	for _, w := range workers {
		w.retire(code)
	}
}

// A description is what an engine says of itself.
type description struct {
	info  wire.WorkerInfo // of no worker in particular
	start string          // tells starts of the engine apart, where it tells
	weights
	maxLoaded int // adapters that are in memory at a time; 0: not told
}

// weights are what an SGLang runs.
type weights struct {
	Path    string `json:"model_path"`
	Version string `json:"weight_version"`
}

// complete adds what the operator says.
func (d *description) complete(a *Adapter) {
	d.info.Region, d.info.Adapter = a.cfg.Region, a.identity.Load().Adapter
	d.info.Engine = a.cfg.Name // no address: the same one may mean another engine on every host
	d.info.AdapterVersion, d.info.WireVersion = a.cfg.Version, wire.Version
	d.info.MaxRunning = min(cmp.Or(a.cfg.MaxRunning, d.info.MaxRunning, defaultRunning), wire.MaxLeases)
	d.info.MaxPayload = a.cfg.Bus.Bulk.MaxPayload()
	d.info.DPSize = min(max(1, d.info.DPSize), maxRanks)
	d.info.Models = a.models(d)
}

const (
	defaultRunning = 256 // attempts, where the engine does not tell
	maxRanks       = 256
)

// of is the registration of one worker's life.
func (d *description) of(w *worker, n wire.Instance) *wire.WorkerInfo {
	info := d.info
	info.Worker, info.Instance, info.DPRank = w.name, n, w.rank
	return &info
}

// same tells whether an engine that describes itself so has nothing new.
func (d *description) same(e *description) bool { return bytes.Equal(d.said(false), e.said(false)) }

// sameLife tells whether its cache must be there still.
func (d *description) sameLife(e *description) bool {
	return d.start == e.start && bytes.Equal(d.said(true), e.said(true))
}

// said is the description without what changes from answer to answer: engines date their models anew each time. What
// lasts for a life is all of it but the names of models beside the base's: adapters come and go.
func (d *description) said(life bool) []byte {
	info := d.info
	info.Models = slices.Clone(info.Models)
	if life {
		info.Models = info.Models[:1]
	}
	for i := range info.Models {
		info.Models[i].Created = 0
	}
	info.Worker = "-"
	doc, _, err := info.Encode()
	if err != nil {
		return nil
	}
	return doc
}
