// Package gateway is where clients come in: HTTP on one side, the bus on the other.
//
// A [Gateway] reads a request, works out its digest, asks a [Scheduler] for a worker, publishes the request to that
// worker's own subject and writes the frames that come back to the client as they come. Answers do not pass through
// the scheduler, and prompts never reach it.
//
// # Guarantees
//
// Until the first byte of an answer has gone to the client, a worker, an engine or a scheduler may die without the
// client noticing more than the time it took: the request is given to another worker. Afterwards a failure is an
// error event in the stream, never a silent end. A client that leaves has its attempt cancelled. Whatever goes wrong
// reaches the client in the OpenAI error envelope with the status that fits.
//
// # Bounds
//
// Bodies, bytes in flight, attempts, waits and the frames of each stream are bounded; see [Config]. A slow client slows
// its own engine stream, by the window, and nobody else's.
//
// # Concurrency
//
// One goroutine per HTTP request. Frames arrive on the token connection's goroutine, which never blocks: it puts them
// into the stream they belong to and wakes its owner.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/netconn"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// A Scheduler answers where a request is to run. A replica in the gateway's own process is one; [BusScheduler] asks
// whichever replica the bus picks.
type Scheduler interface {
	// Assign returns a placement or a refusal. Its error is a *[wire.Code]-carrying *AssignError when no scheduler
	// answered, or the context's.
	Assign(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error)
	// Serves tells whether a scheduler is there that knows a live worker of the pool.
	Serves(ctx context.Context, pool string) bool
}

// Parts are what a Gateway stands on.
type Parts struct {
	// Bus is the gateway's own connections. Whoever made them closes them after Run.
	Bus *bus.Bus
	// Scheduler answers where requests run.
	Scheduler Scheduler
	// Key makes the digests; every gateway of a deployment has the same.
	Key prefix.Key
}

// Join returns parts that are there already, for [Config.Join].
func (p Parts) Join(context.Context) (Parts, error) { return p, nil }

// Config tells a Gateway what it may not guess. The zero value of every field but Join means its documented default.
type Config struct {
	// ID names this gateway on the bus. Default: g- and a random number.
	ID string
	// Join brings what the gateway stands on. It may wait for it, until ctx ends: meanwhile the gateway says that it is
	// not ready, and requests wait with it. Required.
	Join func(ctx context.Context) (Parts, error)
	// Subjects names what it says and hears.
	Subjects wire.Subjects
	// Host and Port of the public listener. Defaults 127.0.0.1 and a free port.
	Host string
	Port int
	// MaxBody bounds a request's body. Default 512 MiB.
	MaxBody int64
	// MaxInFlight bounds the bytes of all bodies held at a time; beyond it requests get 429. Default 2 GiB.
	MaxInFlight int64
	// RequestTimeout bounds a request that names no deadline. Default 30 minutes.
	RequestTimeout time.Duration
	// MaxAttempts bounds how often a request is given to a worker. Default 6.
	MaxAttempts int
	// AcceptTimeout is how long an adapter may take to say that it has a request. Default 2.5s.
	AcceptTimeout time.Duration
	// SilenceTimeout is how long a worker may be silent in the middle of an answer. Default 5s.
	SilenceTimeout time.Duration
	// BusPatience is how long a request waits for a bus that is away, before and in the middle of its answer. Default 15s.
	BusPatience time.Duration
	// BodyStall is how long a client may send no byte of a body that it has announced. Default 30s: longer than networks take
	// to send a lost packet again for the fourth time, and than a phone changes its cell.
	BodyStall time.Duration
	// ClientStall is how long a client may take no byte of a waiting answer. Default 2 minutes.
	ClientStall time.Duration
	// DrainTimeout bounds how long Run waits for answers under way once it was asked to stop. Default 30s.
	DrainTimeout time.Duration
	// Registry takes the metrics. Default: none.
	Registry prometheus.Registerer
	// Log receives a line per request that failed on our side, and debug lines. Default: none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.ID = cmp.Or(c.ID, wire.NewName("g-"))
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.MaxBody = cmp.Or(c.MaxBody, 512<<20)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 2<<30)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 30*time.Minute)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 6)
	c.AcceptTimeout = cmp.Or(c.AcceptTimeout, 2500*time.Millisecond)
	c.SilenceTimeout = cmp.Or(c.SilenceTimeout, 5*time.Second)
	c.BusPatience = cmp.Or(c.BusPatience, 15*time.Second)
	c.BodyStall = cmp.Or(c.BodyStall, 30*time.Second)
	c.ClientStall = cmp.Or(c.ClientStall, 2*time.Minute)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 30*time.Second)
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Gateway serves clients. Make one with [New], then [Gateway.Run] it.
type Gateway struct {
	cfg      Config
	ln       net.Listener
	metrics  *metrics
	inFlight atomic.Int64 // bytes of bodies
	doors    *doors
	live     lives
	loadBook loadBook
	conns    sync.WaitGroup // of clients
	started  time.Time

	joined    chan struct{} // closed once what follows is there
	bus       *bus.Bus
	scheduler Scheduler
	key       prefix.Key
	roster    *roster.Listener
	demux     *demux
}

// New checks the configuration and takes the public address, so that it is known before Run.
func New(cfg Config) (*Gateway, error) {
	cfg = cfg.withDefaults()
	var errs []error
	if cfg.Join == nil {
		errs = append(errs, errors.New("gateway: nothing to stand on"))
	}
	if cfg.MaxBody < 0 || cfg.MaxInFlight < cfg.MaxBody {
		errs = append(errs, fmt.Errorf("gateway: bodies of %d bytes do not fit %d bytes in flight", cfg.MaxBody, cfg.MaxInFlight))
	}
	if len(cfg.ID) > wire.MaxName {
		errs = append(errs, fmt.Errorf("gateway: ID of more than %d bytes", wire.MaxName))
	}
	if cfg.MaxAttempts < 1 || cfg.MaxAttempts > wire.MaxHistory {
		errs = append(errs, fmt.Errorf("gateway: %d attempts, want 1 to %d", cfg.MaxAttempts, wire.MaxHistory))
	}
	if min(cfg.RequestTimeout, cfg.AcceptTimeout, cfg.SilenceTimeout, cfg.BusPatience, cfg.BodyStall, cfg.ClientStall, cfg.DrainTimeout) < 0 {
		errs = append(errs, errors.New("gateway: negative timeout"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	g := &Gateway{cfg: cfg, metrics: newMetrics(cfg.Registry), doors: newDoors(), started: time.Now(), joined: make(chan struct{})}
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)))
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.ln = netconn.Listener{Listener: ln}
	return g, nil
}

// URL is where clients find it.
func (g *Gateway) URL() string { return "http://" + g.ln.Addr().String() }

// Run serves until ctx ends, then lets the answers under way finish within the drain timeout. Clients are heard from the
// start; ready is called once the gateway has joined. It returns nil when it stopped because ctx ended. It may be called
// once.
func (g *Gateway) Run(ctx context.Context, ready func()) error {
	defer g.ln.Close()
	requests, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	srv := g.server(requests)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(g.ln) }()

	leave, err := g.join(ctx)
	if leave != nil {
		defer leave()
	}
	if err == nil {
		ready()
		select {
		case err = <-served:
			return fmt.Errorf("gateway: %w", err)
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		err = nil // whatever it was waiting for
	}
	err = errors.Join(err, g.drain(srv, abandon))
	if s := <-served; !errors.Is(s, http.ErrServerClosed) {
		err = errors.Join(err, s)
	}
	g.conns.Wait() // their connections are closed and their contexts are over: no request outlives Run
	return err
}

func (g *Gateway) server(requests context.Context) *http.Server {
	return &http.Server{
		Handler:           g.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				g.conns.Add(1)
			case http.StateClosed:
				g.conns.Done()
			}
		},
	}
}

// join waits for what the gateway stands on and begins to listen to it. leave ends that.
func (g *Gateway) join(ctx context.Context) (leave func(), err error) {
	parts, err := g.cfg.Join(ctx)
	if err != nil {
		return nil, err
	}
	if parts.Bus == nil || parts.Scheduler == nil || parts.Key == (prefix.Key{}) {
		return nil, errors.New("gateway: no bus, no scheduler or no digest key")
	}
	g.bus, g.scheduler, g.key = parts.Bus, parts.Scheduler, parts.Key
	g.demux = newDemux(g.cfg, g.bus, g.metrics)
	if err := g.demux.start(ctx, g.aborted); err != nil {
		return nil, err
	}
	if g.roster, err = roster.NewListener(roster.Config{Conn: g.bus.Control, Subjects: g.cfg.Subjects}); err != nil {
		g.demux.stop()
		return nil, err
	}
	rctx, stopRoster := context.WithCancel(context.WithoutCancel(ctx))
	heard, rosterDone := make(chan struct{}), make(chan error, 1)
	go func() { rosterDone <- g.roster.Run(rctx, func() { close(heard) }) }()
	watched := make(chan struct{})
	go func() { g.demux.watch(rctx); close(watched) }()
	leave = func() { stopRoster(); <-watched; <-rosterDone; g.demux.stop() } //nolint:errcheck // it ends because it was stopped
	select {
	case <-heard:
		close(g.joined)
	case err = <-rosterDone:
		rosterDone <- nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return leave, err
}

// drain takes no more requests, waits for those inside, and closes the listener, all within the drain timeout. Until it is
// over, the gateway says that it is not ready.
func (g *Gateway) drain(srv *http.Server, abandon context.CancelCauseFunc) error {
	last := min(time.Second, g.cfg.DrainTimeout/5) // for the words to those that are still here
	empty := g.doors.close()
	bound := time.NewTimer(g.cfg.DrainTimeout - last)
	defer bound.Stop()
	select {
	case <-empty:
	case <-bound.C:
		abandon(errShutdown) // those still here get an error that says why
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(last, 10*time.Millisecond))
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		return srv.Close()
	}
	return nil
}

// errShutdown is the cause that ends the answers which outlast the drain.
var errShutdown = errors.New("the gateway is shutting down")

// Ready tells why a request would not be accepted now, or nil.
func (g *Gateway) Ready(ctx context.Context) error {
	if g.doors.shut() {
		return errShutdown
	}
	select {
	case <-g.joined:
	default:
		return errors.New("waiting for the bus")
	}
	if !g.bus.Connected() {
		return errors.New("the bus is not connected")
	}
	view := g.roster.View()
	if view.Ready == 0 {
		return fmt.Errorf("no worker is ready (%d known)", len(view.Workers))
	}
	var ready []*roster.Worker
	for _, w := range view.Workers {
		if w.State == wire.Ready {
			ready = append(ready, w)
		}
	}
	if !g.present(ctx, ready) { // a beat may be older than the worker's end
		return fmt.Errorf("no worker answers (%d known)", len(view.Workers))
	}
	for _, m := range view.Models {
		if m.Ready > 0 && g.scheduler.Serves(ctx, m.Pool) {
			return nil
		}
	}
	return errors.New("no scheduler answers")
}
