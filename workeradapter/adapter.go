// Package workeradapter stands beside one engine: it takes the requests that the bus brings for it, gives them to the
// engine over HTTP, and streams the answers back in frames.
//
// # Flow
//
// An [Adapter] watches its engine's health and learns what it serves. While the engine is healthy, each of its
// data-parallel ranks is a worker on the bus: it listens to a subject of its own and beats. A dispatch that is admitted
// runs on a goroutine of its own: the body is edited by splice (a name of ours, usage asked for, the engine's name of the
// model), the engine is called, its first event is read before anything is committed, and whole events are relayed. At
// the end the schedulers hear what the engine counted.
//
// # Guarantees
//
// A request is admitted or refused, never queued silently. A cancelled attempt is aborted at the engine before its
// connection is closed. Frames are numbered and kept until the gateway has consumed them; a full window stops the
// reading of that one engine stream. A gateway that is gone has its attempts aborted within [Config.GatewayTimeout].
// An engine that dies is known within one failed request or one probe; one that comes back is a new instance, because
// its cache is empty. Of two adapters that want one name, the one that serves under it keeps it.
//
// # Concurrency
//
// One goroutine per attempt, one for health, one for beats, one for the pings of each worker, and a few for orders that
// take time. The intake runs on the bus connection's goroutine and never blocks.
package workeradapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/wire"
)

// Config tells an Adapter what it may not guess. The zero value of every field but Bus and Engine means its documented
// default.
type Config struct {
	// Bus is the adapter's own connections. Required; the caller closes it after Run.
	Bus *bus.Bus
	// Engine is the base URL of the engine. Required.
	Engine string
	// Name is the worker's name, unique in the fleet; the ranks of an engine with several add -r0, -r1 and so on. Default:
	// w- and the engine's host and port.
	Name string
	// Host is the machine's name, for people. Default: none.
	Host string
	// Region is the datacenter. Default "local".
	Region string
	// Subjects names what it says and hears.
	Subjects wire.Subjects
	// EngineKey is the engine's API key. Default: none.
	EngineKey string
	// Aliases are other names for models that the engine serves.
	Aliases []Alias
	// LoRAs are adapters that the engine loads when they are first asked for.
	LoRAs []LoRA
	// MaxRunning bounds the attempts admitted at a time by each worker. Default: what the engine says it runs at a time,
	// else 256.
	MaxRunning int
	// MaxBodies bounds the bytes of request bodies held at a time; beyond it requests are refused as busy. Default 2 GiB.
	MaxBodies int64
	// Beat is how often a worker says that it is there. Default 750ms.
	Beat time.Duration
	// Probe is how often the engine's health is asked for. Default 1s.
	Probe time.Duration
	// ProbeTimeout is how long it may take to answer; some answer with a one-token generation. Default 5s.
	ProbeTimeout time.Duration
	// Describe is how often a healthy engine is asked what it is: one that was replaced between two probes, or has new
	// weights or adapters, is another one. The answer has 50 KB. Default 15s.
	Describe time.Duration
	// ClaimWait is how long another adapter may take to say that the name is its own. Default 300ms.
	ClaimWait time.Duration
	// GatewayTimeout is how long a gateway may not answer pings before its attempts are aborted. Default 1s.
	GatewayTimeout time.Duration
	// PartTimeout is how long a body may stand still half arrived. Default 10s.
	PartTimeout time.Duration
	// DrainTimeout bounds how long Run waits for running attempts once it was asked to stop. Default 30s.
	DrainTimeout time.Duration
	// Version is told in the registration. Default "dev".
	Version string
	// Registry takes the metrics. Default: none.
	Registry prometheus.Registerer
	// Log receives a line when the engine's state changes. Default: none.
	Log *slog.Logger
}

// An Alias is another name for a model.
type Alias struct{ Name, Model string }

// A LoRA is an adapter of the base model that the engine can load.
type LoRA struct{ Name, Path string }

func (c Config) withDefaults() Config {
	c.Region = cmp.Or(c.Region, "local")
	c.MaxBodies = cmp.Or(c.MaxBodies, 2<<30)
	c.Beat = cmp.Or(c.Beat, 750*time.Millisecond)
	c.Probe = cmp.Or(c.Probe, time.Second)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, 5*time.Second)
	c.Describe = cmp.Or(c.Describe, 15*time.Second)
	c.ClaimWait = cmp.Or(c.ClaimWait, 300*time.Millisecond)
	c.GatewayTimeout = cmp.Or(c.GatewayTimeout, time.Second)
	c.PartTimeout = cmp.Or(c.PartTimeout, 10*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 30*time.Second)
	c.Version = cmp.Or(c.Version, "dev")
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

func (c Config) check() error {
	var errs []error
	if c.Bus == nil {
		errs = append(errs, errors.New("worker: no bus"))
	}
	if err := CheckEngine(c.Engine); err != nil {
		errs = append(errs, err)
	}
	if len(c.Name)+len("-r255") > wire.MaxName || len(c.Region) > wire.MaxName {
		errs = append(errs, fmt.Errorf("worker: name or region of more than %d bytes", wire.MaxName))
	}
	if c.MaxRunning < 0 || c.MaxRunning > wire.MaxLeases {
		errs = append(errs, fmt.Errorf("worker: %d attempts at a time, want at most %d", c.MaxRunning, wire.MaxLeases))
	}
	if c.MaxBodies < 0 || min(c.Beat, c.Probe, c.ProbeTimeout, c.Describe, c.ClaimWait, c.GatewayTimeout, c.PartTimeout, c.DrainTimeout) < 0 {
		errs = append(errs, errors.New("worker: negative bound"))
	}
	for _, one := range c.Aliases {
		if one.Name == "" || one.Model == "" || max(len(one.Name), len(one.Model)) > wire.MaxName {
			errs = append(errs, fmt.Errorf("worker: alias %.40q of %.40q", one.Name, one.Model))
		}
	}
	for _, one := range c.LoRAs {
		if one.Name == "" || one.Path == "" || len(one.Name) > wire.MaxName {
			errs = append(errs, fmt.Errorf("worker: LoRA %.40q at %.40q", one.Name, one.Path))
		}
	}
	return errors.Join(errs...)
}

// Adapter makes one engine the workers that it is. Make one with [New], then [Adapter.Run] it.
type Adapter struct {
	cfg       Config
	engine    *engine
	identity  atomic.Pointer[wire.Claim] // of this process's life
	attempts  sync.WaitGroup
	orders    sync.WaitGroup
	busy      chan struct{}   // has a token for each order that is being carried out
	runCtx    context.Context // ends when running attempts must stop
	ordersCtx context.Context // ends when draining begins
	suspect   chan struct{}   // a request broke: look at the engine now
	changed   chan struct{}   // the engine may have changed: ask it what it is
	lost      atomic.Bool     // the engine has refused a connection: what comes back is another life
	called    chan struct{}   // a roll is called: beat soon
	events    *bus.Batch
	crew      *crew
	leave     context.CancelCauseFunc
	loras     loras
	warned    map[string]bool // see warnOnce

	mu         sync.Mutex
	state      wire.State // of the engine
	draining   bool       // Run was asked to stop
	workers    []*worker  // by rank; none before the engine was seen
	bodies     int64      // bytes held
	overheard  time.Time  // when another adapter's beat made us claim our names again
	loadAsks   []loadAsk
	askingLoad bool            // somebody carries out loadAsks
	held       map[string]bool // names that are ours; absent: we are still asking
}

// New checks the configuration; nothing happens until Run.
func New(cfg Config) (*Adapter, error) {
	cfg = cfg.withDefaults()
	if u, err := url.Parse(cfg.Engine); err == nil {
		cfg.Name = cmp.Or(cfg.Name, "w-"+strings.NewReplacer(".", "-", ":", "-", "[", "", "]", "").Replace(u.Host))
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	a := &Adapter{
		cfg: cfg, state: wire.Down, busy: make(chan struct{}, maxOrders), held: make(map[string]bool),
		warned: make(map[string]bool), suspect: make(chan struct{}, 1), changed: make(chan struct{}, 1), called: make(chan struct{}, 1),
	}
	var err error
	if a.engine, err = newEngine(strings.TrimRight(cfg.Engine, "/"), cfg.EngineKey); err != nil {
		return nil, err
	}
	a.identity.Store(&wire.Claim{Adapter: wire.NewName("a-"), Started: time.Now().UnixMilli(), Host: cfg.Host, Engine: a.engine.shown})
	a.loras.init(a)
	a.crew = newCrew()
	a.events = bus.NewBatch(cfg.Bus.Control, eventGap, a.unsent)
	return a, nil
}

// CheckEngine tells what is wrong with an engine's URL, or nil.
func CheckEngine(engine string) error {
	u, err := url.Parse(engine)
	if err != nil {
		return errors.New("worker: the engine's address is no URL") // it may hold a password
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("worker: engine %q is no http URL", u.Redacted())
	}
	return nil
}

// Name is the worker's name; that of several ranks begins with it.
func (a *Adapter) Name() string { return a.cfg.Name }

// Engine is the engine's URL, without credentials.
func (a *Adapter) Engine() string { return a.engine.shown }

// Ready tells why no worker takes requests now, or nil.
func (a *Adapter) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.draining:
		return errors.New("draining")
	case len(a.workers) == 0:
		return fmt.Errorf("the engine at %s has not answered yet", a.engine.shown)
	case a.state != wire.Ready:
		return fmt.Errorf("the engine at %s is %s", a.engine.shown, a.state)
	}
	for _, w := range a.workers {
		if !w.paused {
			return nil
		}
	}
	return errors.New("drained by an operator")
}

// ErrRemoved reports that an operator has taken the worker off the bus.
var ErrRemoved = errors.New("worker: removed by an operator")

// Run serves until ctx ends, then takes nothing new and lets running attempts finish within the drain timeout. It
// calls ready once it has its name; the workers themselves are ready when the engine is. It returns nil when it stopped
// because ctx ended, a *[NameTakenError] when another adapter has the name, and [ErrRemoved]. It may be called once.
func (a *Adapter) Run(ctx context.Context, ready func()) error {
	var cancelAttempts context.CancelCauseFunc
	a.runCtx, cancelAttempts = context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelAttempts(nil)
	var cancelOrders context.CancelFunc
	a.ordersCtx, cancelOrders = context.WithCancel(a.runCtx)
	defer cancelOrders()
	defer a.engine.close()
	defer a.events.Close()
	defer a.crew.stop()
	sctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	a.leave = leave

	unsubscribe, err := a.listen()
	if err != nil {
		return err
	}
	defer unsubscribe()
	a.cfg.Bus.Flush(ctx)
	if err := a.claim(sctx, a.cfg.Name); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ready()

	bctx, stopBeats := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { a.watch(sctx) })
	parts.Go(func() { a.beats(bctx) })
	<-sctx.Done()

	a.drain(cancelAttempts, cancelOrders)
	a.orders.Wait()
	stopBeats()
	parts.Wait()
	a.retire(wire.CodeDraining)
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(sctx)
}

// errDrained is the cause that ends attempts which outlast the drain.
var errDrained = errors.New("the worker is shutting down")

// drain says that nothing new is taken and waits for the attempts that run. Orders are given up at once: an engine may be
// asked to wait minutes for a flush.
func (a *Adapter) drain(cancelAttempts context.CancelCauseFunc, cancelOrders context.CancelFunc) {
	a.mu.Lock()
	a.draining = true
	workers := a.workers
	a.mu.Unlock()
	cancelOrders()
	a.beat()
	done := make(chan struct{})
	go func() { a.attempts.Wait(); close(done) }()
	bound := time.NewTimer(a.cfg.DrainTimeout)
	defer bound.Stop()
	select {
	case <-done:
	case <-bound.C:
		cancelAttempts(errDrained)
		<-done // each has its own bound after a cancel
	}
	var settling sync.WaitGroup
	for _, w := range workers { // one bound for all: there may be 256
		settling.Go(func() { w.out.settle(time.Second) })
	}
	settling.Wait()
}
