package assignload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/procstat"
)

// Bounds of waiting for the schedulers.
const (
	joinWithin  = 30 * time.Second // until every worker has been asked what it is
	settle      = 500 * time.Millisecond
	drainWithin = 10 * time.Second // until the last questions have their answers
)

// Run makes the load until all rounds are over or ctx ends, and reports.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	var variants []Variant
	for _, workers := range cfg.Workers {
		for _, bytes := range cfg.PromptBytes {
			variants = append(variants, Variant{workers, bytes})
		}
	}
	turns := make([][]turn, len(variants))
	for round := range cfg.Rounds {
		for i := range variants {
			at := (i + round) % len(variants) // none is always first
			t, err := takeTurn(ctx, &cfg, variants[at], cfg.Seed+uint64(round))
			if err != nil {
				return nil, fmt.Errorf("round %d, %d workers, prompts of %d bytes: %w", round+1, variants[at].Workers, variants[at].PromptBytes, err)
			}
			turns[at] = append(turns[at], t)
			fmt.Fprintf(cfg.Progress, "round %d of %d: %d workers, %d bytes: %.0f/s, p99 %v\n",
				round+1, cfg.Rounds, variants[at].Workers, variants[at].PromptBytes, t.rate, t.p99.Round(time.Microsecond))
		}
	}
	return newReport(&cfg, variants, turns), nil
}

// A turn is what one turn of a variant showed.
type turn struct {
	answers  int
	refused  int
	rate     float64 // answers a second
	p50, p99 time.Duration
	cpu      map[string]time.Duration // of each process, for one answer
	idle     map[string]float64       // share of a core of each process, with workers that only beat
}

// takeTurn brings a variant's workers up, puts the load on, and takes them down again.
func takeTurn(ctx context.Context, cfg *Config, v Variant, seed uint64) (t turn, err error) {
	conns := make([]*nats.Conn, cfg.Connections+1) // the last one is the fleet's
	for i := range conns {
		if conns[i], err = nats.Connect(cfg.URL, append([]nats.Option{nats.Name("radixbus bench assign")}, cfg.Options...)...); err != nil {
			return t, fmt.Errorf("connect to the bus: %w", err)
		}
		defer conns[i].Close()
	}
	f, err := newFleet(conns[cfg.Connections], cfg.Subjects, fmt.Sprintf("bench-%d", v.Workers), v.Workers)
	if err != nil {
		return t, err
	}
	var beats sync.WaitGroup
	fctx, leave := context.WithCancelCause(ctx)
	beats.Go(func() { leave(f.run(fctx)) })
	defer beats.Wait()
	defer leave(nil)

	if err := f.joined(fctx); err != nil {
		return t, err
	}
	idle := newMeter(cfg.PIDs)
	if err := sleep(fctx, cfg.Idle); err != nil {
		return t, err
	}
	elapsed, used, err := idle.read()
	if err != nil {
		return t, err
	}
	t.idle = make(map[string]float64)
	for name, d := range used {
		t.idle[name] = d.Seconds() / elapsed.Seconds()
	}
	err = t.load(fctx, cfg, v, f, conns[:cfg.Connections], seed)
	return t, err
}

// joined waits until the schedulers know the workers.
func (f *fleet) joined(ctx context.Context) error {
	bound := time.Now().Add(joinWithin)
	for f.known.Load() < int64(len(f.workers)) {
		if time.Now().After(bound) {
			return fmt.Errorf("%w: %d of %d workers were asked what they are", errNoScheduler, f.known.Load(), len(f.workers))
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return sleep(ctx, settle)
}

// load asks, and measures once it has warmed up.
func (t *turn) load(ctx context.Context, cfg *Config, v Variant, f *fleet, conns []*nats.Conn, seed uint64) error {
	var clients []*client
	for i, conn := range conns {
		lanes := (i+1)*cfg.InFlight/len(conns) - i*cfg.InFlight/len(conns)
		c := newClient(conn, f, newPrompts(v.PromptBytes, cfg.Groups, seed<<8+uint64(i)), lanes, cfg.Running)
		sub, err := c.start()
		if err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		defer sub.Unsubscribe() //nolint:errcheck // the connection is closed next
		clients = append(clients, c)
	}
	if err := sleep(ctx, cfg.Duration/4); err != nil {
		return err
	}
	m := newMeter(cfg.PIDs)
	for _, c := range clients {
		c.measure()
	}
	if err := sleep(ctx, cfg.Duration); err != nil {
		return err
	}
	elapsed, used, err := m.read()
	var took []time.Duration
	for _, c := range clients {
		d, refused, broke := c.stop()
		err = errors.Join(err, broke)
		took, t.refused = append(took, d...), t.refused+refused
	}
	for bound := time.Now().Add(drainWithin); err == nil; {
		if waiting := unanswered(clients); !waiting {
			break
		} else if time.Now().After(bound) {
			err = errors.New("assignload: a question was never answered")
		}
		err = errors.Join(err, sleep(ctx, time.Millisecond))
	}
	if err == nil && len(took) == 0 {
		err = errNoScheduler
	}
	if err != nil {
		return err
	}
	t.summarize(took, elapsed, used)
	return nil
}

func unanswered(clients []*client) bool {
	for _, c := range clients {
		if !c.idle() {
			return true
		}
	}
	return false
}

// A meter reads the CPU time of processes from a moment on.
type meter struct {
	pids  map[string]int
	since time.Time
	used  map[string]time.Duration
	err   error
}

func newMeter(pids map[string]int) *meter {
	m := &meter{pids: pids, since: time.Now()}
	m.used, m.err = cpuOf(pids)
	return m
}

// read gives the time since the meter was made, and what each process has used of it.
func (m *meter) read() (elapsed time.Duration, used map[string]time.Duration, err error) {
	elapsed = time.Since(m.since)
	used, err = cpuOf(m.pids)
	for name := range used {
		used[name] -= m.used[name]
	}
	return elapsed, used, errors.Join(m.err, err)
}

func cpuOf(pids map[string]int) (map[string]time.Duration, error) {
	used := make(map[string]time.Duration, len(pids))
	for name, pid := range pids {
		d, err := procstat.CPU(pid)
		if err != nil {
			return nil, err
		}
		used[name] = d
	}
	return used, nil
}

// sleep waits, or returns why it did not.
func sleep(ctx context.Context, d time.Duration) error {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
