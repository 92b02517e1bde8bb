package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/radixbus/radixbus/internal/procstat"
)

// A Target is one of the endpoints that [Compare] measures beside each other.
type Target struct {
	// Name is what the comparison calls it.
	Name string
	// URLs are its base URLs; several are replicas, taken in turn.
	URLs []string
	// PIDs are the processes whose processor time and memory are the target's. Default: not known.
	PIDs []int
	// Model is sent to it. Default: Load.Model, else the first model that it lists.
	Model string
}

// CompareConfig describes a comparison. Targets and Load.Workload are required; the zero value of every other field
// means its documented default.
type CompareConfig struct {
	// Targets are at least one and at most [MaxTargets]. The first is what the others are held against.
	Targets []Target
	// Load is sent to every target in every round. Its URL, Replicas, Progress and Terminal are not used; its Seed
	// is where the seeds of the runs come from.
	Load Config
	// Rounds is how often every target is measured. Default 5.
	Rounds int
	// Warm is how many requests a target gets before each of its runs, unmeasured and over connections of their
	// own. Default 50; negative: none.
	Warm int
	// Bases names further targets that all are held against.
	Bases []string
	// Progress receives a progress bar of runs if Terminal says that it is a terminal. Default: none.
	Progress io.Writer
	Terminal bool
}

// Bounds of a comparison, and with them of its report.
const (
	MaxTargets = 64
	maxRounds  = 1000
)

func (c CompareConfig) withDefaults() CompareConfig {
	c.Rounds = cmp.Or(c.Rounds, 5)
	c.Warm = max(0, cmp.Or(c.Warm, 50))
	c.Load = c.Load.withDefaults()
	c.Load.Progress, c.Load.Replicas = nil, nil
	return c
}

func (c CompareConfig) validate() error {
	var errs []error
	if n := len(c.Targets); n == 0 || n > MaxTargets {
		errs = append(errs, fmt.Errorf("%d targets are not in 1..%d", n, MaxTargets))
	}
	if c.Rounds < 0 || c.Rounds > maxRounds {
		errs = append(errs, fmt.Errorf("rounds %d are not in 1..%d", c.Rounds, maxRounds))
	}
	names := make(map[string]bool)
	for _, t := range c.Targets {
		switch {
		case t.Name == "":
			errs = append(errs, errors.New("a target has no name"))
		case names[t.Name]:
			errs = append(errs, fmt.Errorf("two targets are called %q", t.Name))
		}
		names[t.Name] = true
		if len(t.URLs) == 0 {
			errs = append(errs, fmt.Errorf("target %q has no URL", t.Name))
			continue
		}
		if err := t.load(c.Load).validate(); err != nil {
			errs = append(errs, fmt.Errorf("target %q: %w", t.Name, err))
		}
	}
	for _, b := range c.Bases {
		if !names[b] {
			errs = append(errs, fmt.Errorf("no target is called %q", b))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
}

// load is what is sent to a target.
func (t Target) load(cfg Config) Config {
	cfg.URL, cfg.Replicas = t.URLs[0], t.URLs[1:]
	cfg.Model = cmp.Or(t.Model, cfg.Model)
	return cfg
}

// Compare measures targets side by side: every round gives each of them one run of the same load, one target at a time,
// in an order that changes from round to round, so that a machine which gets slower meanwhile favours nobody.
//
// No run's prompts are those of another's, as far as they come from the seed: targets may share engines, and
// one must not find cached what another has sent. A trace always says the same; flush the engines' caches between runs, or
// give each target its own.
//
// It returns an error when it could not begin, as [Run] does, and for a target whose processes cannot be read. Failed requests are part of the
// comparison. When ctx ends, the rounds that are complete are reported, and it is Partial.
func Compare(ctx context.Context, cfg CompareConfig) (Comparison, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Comparison{}, err
	}
	c := &comparer{cfg: cfg, bar: newRunBar(cfg)}
	defer c.bar.end()
	for _, t := range cfg.Targets {
		if err := c.open(ctx, t); err != nil {
			return Comparison{}, err
		}
	}
	result := Comparison{
		Started: time.Now().UTC().Truncate(time.Second), Machine: procstat.ThisMachine(),
		Workload: cfg.Load.Workload.Name(), Parameters: cfg.Load.Workload.Params(), API: cfg.Load.API, Stream: !cfg.Load.NoStream,
		Concurrency: cfg.Load.Concurrency, Requests: cfg.Load.Requests, Conversations: cfg.Load.Conversations,
		OutputTokens: cfg.Load.OutputTokens, ThinkSeconds: cfg.Load.Think.Seconds(), Warm: cfg.Warm, Seed: cfg.Load.Seed,
		Bases: slices.Compact(append([]string{cfg.Targets[0].Name}, cfg.Bases...)),
	}
	for n := range cfg.Rounds {
		round, ok, err := c.round(ctx, n)
		if err != nil {
			return Comparison{}, err
		}
		if !ok {
			result.Partial = true
			break
		}
		c.rounds = append(c.rounds, round)
	}
	result.Rounds = len(c.rounds)
	result.Targets = summarize(c.targets, c.rounds, result.Bases)
	return result, nil
}

// A comparer is a comparison under way.
type comparer struct {
	cfg     CompareConfig
	targets []Target
	rounds  [][]RunResult // by round, then by target
	bar     *runBar
}

// open learns what must be known of a target before the first round.
func (c *comparer) open(ctx context.Context, t Target) error {
	load := t.load(c.cfg.Load)
	probe, err := newClient(load)
	if err != nil {
		return err
	}
	defer probe.close()
	if err := probe.prepare(ctx); err != nil {
		return fmt.Errorf("target %q: %w", t.Name, err)
	}
	t.Model = probe.cfg.Model
	if len(t.PIDs) > 0 {
		if _, err := procstat.CPU(t.PIDs...); err != nil && !errors.Is(err, procstat.ErrUnknown) {
			return fmt.Errorf("%w: target %q: %w", ErrConfig, t.Name, err)
		}
	}
	c.targets = append(c.targets, t)
	return nil
}

// round runs every target once; false when ctx ended meanwhile.
func (c *comparer) round(ctx context.Context, n int) ([]RunResult, bool, error) {
	results := make([]RunResult, len(c.targets))
	for place, i := range order(n, len(c.targets)) {
		c.bar.next(n, c.targets[i].Name)
		load := c.targets[i].load(c.cfg.Load)
		run := uint64(n*len(c.targets) + i)
		if c.cfg.Warm > 0 {
			warm := load
			warm.Requests, warm.Conversations, warm.Seed = c.cfg.Warm, 0, mix(load.Seed^mix(2*run+1))
			if _, err := Run(ctx, warm); err != nil {
				return nil, false, err
			}
		}
		load.Seed = mix(load.Seed ^ mix(2*run))
		result, err := measure(ctx, load, c.targets[i].PIDs)
		if err != nil {
			return nil, false, err
		}
		if ctx.Err() != nil {
			return nil, false, nil //nolint:nilerr // it was cut short, which is no failure
		}
		result.Place = place
		results[i] = result
	}
	return results, true, nil
}

// order is the order of a round's runs. It turns by one place every two rounds and is mirrored in every other: over 2·n
// rounds each target is at each place, and before each other one, equally often.
func order(round, n int) []int {
	places := make([]int, n)
	for i := range places {
		places[i] = (i + round/2) % n
	}
	if round%2 == 1 {
		slices.Reverse(places)
	}
	return places
}

// measure is one run, with what the processes used meanwhile: the target's, and this one.
func measure(ctx context.Context, load Config, pids []int) (RunResult, error) {
	var theirs, own meter
	load.around = func(load func()) {
		theirs.begin(pids)
		own.begin([]int{os.Getpid()})
		load()
		own.end()
		theirs.end()
	}
	report, err := Run(ctx, load)
	if err != nil {
		return RunResult{}, err
	}
	result := newRunResult(report, theirs, own)
	return result, nil
}

// A meter takes what processes use between two moments. Processes that die meanwhile leave it unknown.
type meter struct {
	pids   []int
	before time.Duration
	used   time.Duration
	memory procstat.Memory
	known  bool
}

func (m *meter) begin(pids []int) {
	var err error
	m.pids = pids
	m.before, err = procstat.CPU(pids...)
	m.known = err == nil && len(pids) > 0
}

func (m *meter) end() {
	after, err := procstat.CPU(m.pids...)
	memory, merr := procstat.MemoryOf(m.pids...)
	m.used, m.memory = after-m.before, memory
	m.known = m.known && err == nil && merr == nil
}
