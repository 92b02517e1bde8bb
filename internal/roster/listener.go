package roster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/tick"
	"github.com/radixbus/radixbus/internal/wire"
)

// Config tells a Listener what it may not guess. The zero value of every field means its documented default.
type Config struct {
	// Conn is where beats are heard. Required.
	Conn *nats.Conn
	// Subjects names what it listens to.
	Subjects wire.Subjects
	// Stale is how long a worker may be silent and still get requests. Default 2.5s.
	Stale time.Duration
	// Forget is how long one is remembered. Default 2 minutes.
	Forget time.Duration
	// MaxWorkers bounds the roster. Default 16384.
	MaxWorkers int
	// QueueLen bounds the messages that wait for the roster; beyond it beats are dropped, and the next ones tell the
	// same. Default 8192.
	QueueLen int
	// OnChange is called on the listener's goroutine for each change, before the view that shows it is published. It
	// must not block. Default: nothing.
	OnChange func(Change)
	// Log receives a line when a worker joins, leaves or changes its state. Default: none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Stale = cmp.Or(c.Stale, 2500*time.Millisecond)
	c.Forget = cmp.Or(c.Forget, 2*time.Minute)
	c.MaxWorkers = cmp.Or(c.MaxWorkers, 16384)
	c.QueueLen = cmp.Or(c.QueueLen, 8192)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Listener keeps a Roster from what it hears on the bus.
type Listener struct {
	cfg    Config
	view   atomic.Pointer[View]
	queue  chan *nats.Msg
	absent chan life
	known  chan struct{} // closed once the first roll call has been answered or its time is over
}

// life is one of a worker's.
type life struct {
	worker   string
	instance wire.Instance
}

// NewListener checks the configuration; nothing happens until Run.
func NewListener(cfg Config) (*Listener, error) {
	if cfg.Conn == nil {
		return nil, errors.New("roster: no connection")
	}
	l := &Listener{cfg: cfg.withDefaults(), known: make(chan struct{})}
	l.queue, l.absent = make(chan *nats.Msg, l.cfg.QueueLen), make(chan life, 64)
	l.view.Store(New(0, 0, 0).View())
	return l, nil
}

// View is the newest picture.
func (l *Listener) View() *View { return l.view.Load() }

// Absent tells that the bus knows nobody who listens for a life of a worker: it is shown as silent until its next beat. It may
// be called from any goroutine and does not block.
func (l *Listener) Absent(worker string, n wire.Instance) {
	select {
	case l.absent <- life{worker, n}:
	default: // it will be found out again
	}
}

// Settled is closed when the workers that were there at the start have had time to answer: until then, "nobody
// serves this model" may only mean "not heard yet".
func (l *Listener) Settled() <-chan struct{} { return l.known }

// settleAfter is how long the first roll call may take. Adapters answer within a round trip and a jitter of 50 ms.
const settleAfter = 400 * time.Millisecond

// Run listens until ctx ends. It calls ready once it hears everything that is said from then on.
func (l *Listener) Run(ctx context.Context, ready func()) error {
	inbox := l.cfg.Conn.NewInbox()
	var subs []*nats.Subscription
	for _, subject := range []string{l.cfg.Subjects.EventsOf(wire.EventUp), l.cfg.Subjects.EventsOf(wire.EventDown), inbox} {
		sub, err := l.cfg.Conn.Subscribe(subject, l.enqueue)
		if err != nil {
			return fmt.Errorf("roster: listen to %s: %w", subject, err)
		}
		subs = append(subs, sub)
	}
	defer func() {
		for _, sub := range subs {
			sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
		}
	}()
	bus.Flush(ctx, l.cfg.Conn)
	l.rollCall()
	ready()

	r := New(l.cfg.Stale, l.cfg.Forget, l.cfg.MaxWorkers)
	every := l.cfg.Stale / 12
	every -= every % min(every, 50*time.Millisecond) // to meet others
	sweep := time.NewTimer(tick.Until(every))
	defer sweep.Stop()
	settle := time.After(settleAfter)
	for {
		select {
		case msg := <-l.queue:
			l.apply(r, l.hear(r, time.Now(), msg, inbox))
		case a := <-l.absent:
			l.apply(r, r.Absent(a.worker, a.instance))
		case now := <-sweep.C: // when it was due: the time by which we are late ourselves is not the workers' silence
			sweep.Reset(tick.Until(every))
			if !l.cfg.Conn.IsConnected() {
				r.Deaf(time.Now())
			}
			l.apply(r, r.Expire(now))
		case <-settle:
			close(l.known)
		case <-ctx.Done():
			return nil
		}
	}
}

// rollCall asks every adapter to beat now.
func (l *Listener) rollCall() {
	if err := l.cfg.Conn.Publish(l.cfg.Subjects.Roll(), []byte("{}")); err != nil {
		l.cfg.Log.Debug("roll call", "error", err)
	}
}

// enqueue runs on the client's goroutine and must not block.
func (l *Listener) enqueue(msg *nats.Msg) {
	select {
	case l.queue <- msg:
	default: // the next beat tells the same
	}
}

func (l *Listener) hear(r *Roster, now time.Time, msg *nats.Msg, inbox string) []Change {
	if wire.IsJSON(msg.Data) {
		info, err := wire.ParseWorkerInfo(msg.Data)
		if err != nil {
			l.cfg.Log.Warn("worker info refused", "error", err)
			return nil
		}
		return r.Info(info, wire.InfoHash(msg.Data))
	}
	kind, err := wire.KindOf(msg.Data)
	if err != nil {
		return nil // a 503 for a worker that left between beat and question, or another version
	}
	switch kind {
	case wire.KindUp:
		up, err := wire.ParseUp(msg.Data)
		if err != nil {
			l.cfg.Log.Warn("beat refused", "error", err)
			return nil
		}
		ask, changes := r.Up(now, up)
		if ask {
			l.ask(up.Worker, inbox)
		}
		return changes
	case wire.KindDown:
		if g, err := wire.ParseGone(msg.Data); err == nil {
			return r.Down(g)
		}
	}
	return nil
}

func (l *Listener) ask(worker, inbox string) {
	doc, err := json.Marshal(wire.Ask{Op: wire.OpInfo})
	if err == nil {
		err = l.cfg.Conn.PublishRequest(l.cfg.Subjects.Ctl(worker), inbox, doc)
	}
	if err != nil {
		l.cfg.Log.Debug("ask for worker info", "worker", worker, "error", err)
	}
}

func (l *Listener) apply(r *Roster, changes []Change) {
	for _, c := range changes {
		info := c.Worker.Info
		switch {
		case c.Gone:
			l.cfg.Log.Info("worker left", "worker", info.Worker, "pool", info.Pool, "why", c.Code.String())
		default:
			l.cfg.Log.Info("worker", "worker", info.Worker, "pool", info.Pool, "state", c.Worker.State.String(), "capacity_tokens", info.CapacityTokens)
		}
		if l.cfg.OnChange != nil {
			l.cfg.OnChange(c)
		}
	}
	if len(changes) > 0 {
		l.view.Store(r.View())
	}
}
