// Package workeradapter stands beside one engine: it takes the requests that the bus brings for it, gives them to the
// engine over HTTP, and streams the answers back in frames.
//
// # Flow
//
// An [Adapter] watches its engine's health and learns what it serves; while the engine is healthy it listens to the
// worker's subject and beats. A dispatch that is admitted runs on a goroutine of its own: the body is edited by splice
// (a request id of ours, usage asked for), the engine is called, its first event is read before anything is
// committed, and whole events are relayed. At the end the schedulers hear what the engine counted.
//
// # Guarantees
//
// A request is admitted or refused, never queued silently. A cancelled attempt is aborted at the engine before its
// connection is closed. Frames are numbered and kept until the gateway has consumed them; a full window stops the
// reading of that one engine stream. A gateway that is gone has its attempts aborted within [Config.GatewayTimeout].
// An engine that dies is known within one failed request or one probe; one that comes back is a new instance, because
// its cache is empty.
//
// # Concurrency
//
// One goroutine per attempt, one for health, one for beats and pings. The intake runs on the bus connection's goroutine
// and never blocks.
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
	// Name is the worker's name, unique in the fleet. Default: w- and the engine's host and port.
	Name string
	// Region is the datacenter. Default "local".
	Region string
	// Subjects names what it says and hears.
	Subjects wire.Subjects
	// EngineKey is the engine's API key. Default: none.
	EngineKey string
	// MaxRunning bounds the attempts admitted at a time. Default: what the engine says it runs at a time, else 256.
	MaxRunning int
	// MaxBodies bounds the bytes of request bodies held at a time; beyond it requests are refused as busy. Default 2 GiB.
	MaxBodies int64
	// Beat is how often the worker says that it is there. Default 1s.
	Beat time.Duration
	// Probe is how often the engine's health is asked for. Default 1s.
	Probe time.Duration
	// ProbeTimeout is how long it may take to answer; some answer with a one-token generation. Default 5s.
	ProbeTimeout time.Duration
	// Describe is how often a healthy engine is asked what it is: one that was replaced between two probes, or has new
	// weights or adapters, is another one. The answer has 50 KB. Default 15s.
	Describe time.Duration
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

func (c Config) withDefaults() Config {
	c.Region = cmp.Or(c.Region, "local")
	c.MaxBodies = cmp.Or(c.MaxBodies, 2<<30)
	c.Beat = cmp.Or(c.Beat, time.Second)
	c.Probe = cmp.Or(c.Probe, time.Second)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, 5*time.Second)
	c.Describe = cmp.Or(c.Describe, 15*time.Second)
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

// Adapter is one worker on the bus. Make one with [New], then [Adapter.Run] it.
type Adapter struct {
	cfg     Config
	engine  *engine
	out     *outboxes
	metrics *metrics
	seq     atomic.Uint64 // of events
	attempt sync.WaitGroup
	runCtx  context.Context // ends when running attempts must stop
	suspect chan struct{}   // a request broke: look at the engine now
	lost    atomic.Bool     // the engine has refused a connection: what comes back is another life
	called  chan struct{}   // a roll is called: beat soon

	mu       sync.Mutex
	life     *life // nil before the engine was seen
	state    wire.State
	draining bool
	running  map[streamKey]*attempt
	early    map[streamKey]time.Time // cancels that overtook their dispatch
	bodies   int64                   // bytes held
}

// A life is one instance: a time in which the engine's cache was not lost.
type life struct {
	instance wire.Instance
	info     *wire.WorkerInfo
	doc      []byte
	hash     uint64
	start    string // tells starts of the engine apart, where it tells
	stop     func() // ends the work subscription

	described time.Time // when the engine last said the same; owned by watch
}

// streamKey names an attempt as its gateway does.
type streamKey struct {
	gateway string
	stream  uint64
}

// New checks the configuration; nothing happens until Run.
func New(cfg Config) (*Adapter, error) {
	cfg = cfg.withDefaults()
	var errs []error
	if cfg.Bus == nil {
		errs = append(errs, errors.New("worker: no bus"))
	}
	if err := CheckEngine(cfg.Engine); err != nil {
		errs = append(errs, err)
	} else if u, err := url.Parse(cfg.Engine); err == nil {
		cfg.Name = cmp.Or(cfg.Name, "w-"+strings.NewReplacer(".", "-", ":", "-", "[", "", "]", "").Replace(u.Host))
	}
	if len(cfg.Name) > wire.MaxName || len(cfg.Region) > wire.MaxName {
		errs = append(errs, fmt.Errorf("worker: name or region of more than %d bytes", wire.MaxName))
	}
	if cfg.MaxRunning < 0 || cfg.MaxRunning > wire.MaxLeases {
		errs = append(errs, fmt.Errorf("worker: %d attempts at a time, want at most %d", cfg.MaxRunning, wire.MaxLeases))
	}
	if cfg.MaxBodies < 0 || min(cfg.Beat, cfg.Probe, cfg.ProbeTimeout, cfg.GatewayTimeout, cfg.PartTimeout, cfg.DrainTimeout) < 0 {
		errs = append(errs, errors.New("worker: negative bound"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	a := &Adapter{
		cfg: cfg, metrics: newMetrics(cfg.Registry, cfg.Name), state: wire.Down,
		running: make(map[streamKey]*attempt), early: make(map[streamKey]time.Time),
		suspect: make(chan struct{}, 1), called: make(chan struct{}, 1),
	}
	a.engine = newEngine(strings.TrimRight(cfg.Engine, "/"), cfg.EngineKey)
	a.out = newOutboxes(a)
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

// Name is the worker's name.
func (a *Adapter) Name() string { return a.cfg.Name }

// Engine is the engine's URL, without credentials.
func (a *Adapter) Engine() string { return a.engine.shown }

// Ready tells why the worker takes no requests now, or nil.
func (a *Adapter) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.draining:
		return errors.New("draining")
	case a.life == nil:
		return fmt.Errorf("the engine at %s has not answered yet", a.engine.shown)
	case a.state != wire.Ready:
		return fmt.Errorf("the engine at %s is %s", a.engine.shown, a.state)
	}
	return nil
}

// Run serves until ctx ends, then takes nothing new and lets running attempts finish within the drain timeout. It
// calls ready once it listens for control messages; the worker itself is ready when its engine is. It returns nil when
// it stopped because ctx ended. It may be called once.
func (a *Adapter) Run(ctx context.Context, ready func()) error {
	var cancelAttempts context.CancelCauseFunc
	a.runCtx, cancelAttempts = context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelAttempts(nil)
	defer a.engine.close()

	unsubscribe, err := a.listen()
	if err != nil {
		return err
	}
	defer unsubscribe()
	a.cfg.Bus.Flush(ctx)
	ready()

	bctx, stopBeats := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { a.watch(ctx) })
	parts.Go(func() { a.beats(bctx) })
	parts.Go(func() { a.out.pings(bctx) })
	<-ctx.Done()

	a.drain(cancelAttempts)
	stopBeats()
	parts.Wait()
	a.endLife(wire.CodeDraining)
	return nil
}

// errDrained is the cause that ends attempts which outlast the drain.
var errDrained = errors.New("the worker is shutting down")

// drain says that nothing new is taken and waits for what runs.
func (a *Adapter) drain(cancelAttempts context.CancelCauseFunc) {
	a.mu.Lock()
	a.draining = true
	a.mu.Unlock()
	a.beat()
	done := make(chan struct{})
	go func() { a.attempt.Wait(); close(done) }()
	bound := time.NewTimer(a.cfg.DrainTimeout)
	defer bound.Stop()
	select {
	case <-done:
	case <-bound.C:
		cancelAttempts(errDrained)
		<-done // each has its own bound after a cancel
	}
	a.out.settle(time.Second)
}
