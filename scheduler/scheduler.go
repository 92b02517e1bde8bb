// Package scheduler chooses a worker for every request.
//
// A [Scheduler] hears which workers live, what they report and what they finished, keeps one [core.Pool] for each base
// model, and answers the question "where shall this run?" for gateways in its own process and on the bus. It sees
// digests, never prompts, and no answer passes through it.
//
// # Guarantees
//
// Every question is answered: with a placement, with a refusal that the caller can act on, or with "held" and one of
// these within the hold; when the scheduler stops, with no_scheduler, so that another replica is asked. A worker that
// has been silent for [Config.StaleAfter] receives nothing. Load is counted by leases, which cannot leak; see package
// core. A placement that nobody took because its asker had gone is taken back, here and by the other replicas.
//
// # Concurrency
//
// Each pool is behind a lock of its own, held for the microseconds of a decision by whoever brings it. A question that finds
// too many waiting is refused, not left waiting too.
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

// Config tells a Scheduler what it may not guess. The zero value of every field but Bus and Cost means its documented
// default; a negative one is refused.
type Config struct {
	// ID names this replica. Default: s- and a random number.
	ID string
	// Bus is the scheduler's own connections. Required; the caller closes it after Run.
	Bus *bus.Bus
	// Subjects names what it says and hears.
	Subjects wire.Subjects
	// Region of the replica, told to who looks for services. Default "local".
	Region string
	// Version of the program, told likewise when it is a semantic version. Default "0.0.0".
	Version string
	// Policy chooses workers; see core.Policies. Default "radix".
	Policy string
	// Cost gives the bytes of a digest's first n blocks. Required.
	Cost func(blocks int) int64
	// Seed of the coins that break ties. Default: from the ID.
	Seed uint64
	// StaleAfter is how long a worker may stay silent before it receives nothing. Default 2.5s.
	StaleAfter time.Duration
	// ForgetAfter is how long its cache is remembered. Default 2 minutes.
	ForgetAfter time.Duration
	// HoldFor is how long a request is held when every worker is full. Default 5s.
	HoldFor time.Duration
	// LeaseFor is how long a lease lives after the adapter last confirmed it. Default 30s.
	LeaseFor time.Duration
	// QueueLen bounds the questions that wait for a pool's lock: of this process, and of each of its subscriptions on the bus.
	// Default 16384.
	QueueLen int
	// MaxPools bounds the pools. Default 1024.
	MaxPools int
	// Registry takes the metrics. Default: none.
	Registry prometheus.Registerer
	// Log receives a line per worker that joins or leaves. Default: none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.ID = cmp.Or(c.ID, wire.NewName("s-"))
	c.Region = cmp.Or(c.Region, "local")
	c.Version = cmp.Or(c.Version, noVersion)
	c.Policy = cmp.Or(c.Policy, "radix")
	c.StaleAfter = cmp.Or(c.StaleAfter, 2500*time.Millisecond)
	c.ForgetAfter = cmp.Or(c.ForgetAfter, 2*time.Minute)
	c.HoldFor = cmp.Or(c.HoldFor, 5*time.Second)
	c.LeaseFor = cmp.Or(c.LeaseFor, 30*time.Second)
	c.QueueLen = cmp.Or(c.QueueLen, 16384)
	c.MaxPools = cmp.Or(c.MaxPools, 1024)
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Scheduler is one replica. Make one with [New], then [Scheduler.Run] it.
type Scheduler struct {
	cfg     Config
	roster  *roster.Listener
	metrics *metrics
	running sync.WaitGroup
	ctx     context.Context  // ends when the pools must stop
	home    map[string]*pool // of each worker; the roster's goroutine owns it

	mu    sync.RWMutex // read by every question, written when a pool appears
	pools map[string]*pool

	eventMu sync.Mutex // events leave in the order of their numbers
	seq     uint64
	events  *bus.Batch
}

// New checks the configuration; nothing happens until Run.
func New(cfg Config) (*Scheduler, error) {
	cfg = cfg.withDefaults()
	var errs []error
	if cfg.Bus == nil {
		errs = append(errs, errors.New("scheduler: no bus"))
	}
	if cfg.Cost == nil {
		errs = append(errs, errors.New("scheduler: no cost function"))
	}
	if _, err := core.NewPolicy(cfg.Policy); err != nil {
		errs = append(errs, fmt.Errorf("scheduler: %w", err))
	}
	if min(cfg.StaleAfter, cfg.ForgetAfter, cfg.HoldFor, cfg.LeaseFor) < time.Millisecond || min(cfg.QueueLen, cfg.MaxPools) < 1 {
		errs = append(errs, errors.New("scheduler: a duration below 1ms or a bound below 1"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &Scheduler{cfg: cfg, pools: make(map[string]*pool), home: make(map[string]*pool)}
	s.events = bus.NewBatch(cfg.Bus.Control, eventGap, s.unsent)
	var err error
	if s.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	s.roster, err = roster.NewListener(roster.Config{
		Conn: cfg.Bus.Control, Subjects: cfg.Subjects, Stale: cfg.StaleAfter, Forget: cfg.ForgetAfter, OnChange: s.changed, Log: cfg.Log,
	})
	return s, err
}

// Run decides until ctx ends. It calls ready once it hears the workers, and returns nil when it stopped because ctx
// ended. It may be called once.
func (s *Scheduler) Run(ctx context.Context, ready func()) error {
	var stopPools context.CancelFunc
	s.ctx, stopPools = context.WithCancel(context.WithoutCancel(ctx))
	defer func() { stopPools(); s.running.Wait(); s.events.Close() }()
	for kind, on := range map[string]func(*pool, []byte){
		wire.EventFinished: (*pool).finished,
		wire.EventLoad:     (*pool).report,
		wire.EventAssigned: (*pool).peer,
	} {
		sub, err := s.cfg.Bus.Control.Subscribe(s.cfg.Subjects.EventsOf(kind), func(msg *nats.Msg) { s.event(msg, on) })
		if err != nil {
			return fmt.Errorf("scheduler: %w", err)
		}
		defer sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	}
	defer s.discoverable()()
	return s.roster.Run(ctx, ready)
}

// Ready tells why no question would be answered with a placement, or nil.
func (s *Scheduler) Ready() error {
	if !s.cfg.Bus.Connected() {
		return errors.New("the bus is not connected")
	}
	return nil
}

// eventGap is how long events wait for company when there are many: other replicas hear of a decision that much later.
const eventGap = 5 * time.Millisecond

// changed runs on the roster's goroutine.
func (s *Scheduler) changed(c roster.Change) {
	info := c.Worker.Info
	before, p := s.home[info.Worker], s.pool(info.Pool)
	if p == nil && !c.Gone {
		p = s.openPool(info.Pool)
	}
	if before != nil && (c.Gone || before != p) { // a worker that serves another base model now has left its pool
		before.leave(info.Worker, info.Instance)
		delete(s.home, info.Worker)
	}
	if p != nil && !c.Gone {
		s.home[info.Worker] = p
		p.join(info, c.Worker.State)
	}
}

func (s *Scheduler) pool(name string) *pool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pools[name]
}

// openPool begins to serve a base model. A pool stays for the life of the process: its learnt figures are worth more than
// its memory.
func (s *Scheduler) openPool(name string) *pool {
	p, err := newPool(s, name)
	if err != nil {
		s.cfg.Log.Error("pool not served", "pool", name, "error", err)
		return nil
	}
	s.mu.Lock()
	full := len(s.pools) >= s.cfg.MaxPools
	if !full {
		s.pools[name] = p
	}
	s.mu.Unlock()
	if full {
		s.cfg.Log.Error("pool not served: too many", "pool", name, "bound", s.cfg.MaxPools)
		return nil
	}
	s.running.Go(p.run)
	return p
}

// event runs on the client's goroutine and must not block. The pool is the fourth token after the version, the
// publisher the last: that is what permissions pin, so it tells our own decisions from those of others.
func (s *Scheduler) event(msg *nats.Msg, on func(*pool, []byte)) {
	tokens := strings.Split(msg.Subject, ".")
	if len(tokens) < 6 {
		return
	}
	publisher, kind, poolToken := tokens[len(tokens)-1], tokens[len(tokens)-2], tokens[len(tokens)-3]
	if kind == wire.EventAssigned && publisher == wire.Token(s.cfg.ID) {
		return // applied when it was decided
	}
	name, err := wire.Untoken(poolToken)
	if err != nil {
		s.metrics.malformed.Inc()
		return
	}
	if p := s.pool(name); p != nil {
		on(p, msg.Data)
	}
}

// Assign answers a gateway in this process. An error says that ctx ended first.
func (s *Scheduler) Assign(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error) {
	p := s.pool(req.Pool)
	if p == nil {
		return s.refusal(req.Request, req.Attempt, wire.CodeNoWorker, ""), nil
	}
	return p.ask(ctx, req)
}

// Serves tells whether a live worker of the pool is known.
func (s *Scheduler) Serves(_ context.Context, name string) bool {
	p := s.pool(name)
	return p != nil && p.ready.Load() > 0
}

// refusal is a no of the service itself; those for want of room or workers are the core's.
func (s *Scheduler) refusal(id wire.RequestID, attempt uint32, code wire.Code, text string) *wire.AssignReply {
	return &wire.AssignReply{
		Request: id, Attempt: attempt, Scheduler: s.cfg.ID, Verdict: wire.Refused, Code: code, Message: text, RetryAfterMillis: 1000,
	}
}

// publishEvent gives the event its number and sends it.
func (s *Scheduler) publishEvent(subject string, stamp *wire.Stamp, event interface{ AppendTo([]byte) []byte }) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	s.seq++
	*stamp = wire.Stamp{Publisher: s.cfg.ID, Seq: s.seq, AtMicros: uint64(time.Now().UnixMicro())}
	s.events.Publish(subject, event.AppendTo(nil))
}

func (s *Scheduler) publish(subject string, doc []byte) {
	if err := s.cfg.Bus.Control.Publish(subject, doc); err != nil {
		s.unsent(subject, err)
	}
}

func (s *Scheduler) unsent(subject string, err error) {
	s.cfg.Log.Debug("publish", "subject", subject, "error", err)
}
