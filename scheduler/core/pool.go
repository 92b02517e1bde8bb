// Package core is the scheduler's judgement: values and `now` in, decisions out.
//
// A [Pool] is everything that is known of the workers that serve one base model: who lives, what each is believed to
// hold in its KV cache (a [tree.Tree]), what each has been given to do (leases), and how fast each is. The service,
// the simulator and the replay of a decision log run this same code.
//
// # Flow
//
// [Pool.Assign] matches the request's digests against the tree, lets a [Policy] choose among the workers that have
// room, reserves a lease and inserts the path, all in one step, so that a burst of siblings follows its first. When
// nobody has room the request is held for a short, bounded time. [Pool.Finished] releases the lease and corrects the
// tree by what the engine said it had cached. What has to be told to others is queued as [Output] values.
//
// # Guarantees
//
// The same calls with the same arguments give the same outputs, provided `now` never goes back. Nothing here starts a
// goroutine, reads a clock or does I/O. A lease ends by its finished event, by the next attempt's history, by the
// adapter's report, by its worker's leaving or by expiry: it cannot leak. Events may come twice, and those of different
// publishers in any order.
//
// # Concurrency
//
// A Pool belongs to one goroutine.
package core

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// Config tells a Pool what it may not guess. The zero value of every field but Cost means its documented default; a
// negative one is refused.
type Config struct {
	// Scheduler is the replica's id, told in replies and events.
	Scheduler string
	// Pool is the base model's name.
	Pool string
	// Policy chooses workers; see [Policies]. Default "radix".
	Policy string
	// Seed of the coin that breaks ties. Default 0.
	Seed uint64
	// LeaseFor is how long a lease lives after the adapter last confirmed it. Default 30s.
	LeaseFor time.Duration
	// HoldFor is how long a request is held when every worker is full. Default 5s.
	HoldFor time.Duration
	// MaxHeld bounds the requests held at a time. Default 4096.
	MaxHeld int
	// Capacity is taken for a worker whose engine does not tell, in tokens. Default 262,144.
	Capacity int64
	// Cost gives the bytes of the first n blocks of a path: the digest's ladder. Required.
	Cost func(blocks int) int64
	// TreeBytes bounds the tree's memory. Default: the tree's.
	TreeBytes int64
}

func (c Config) withDefaults() Config {
	c.Policy = cmp.Or(c.Policy, "radix")
	c.LeaseFor = cmp.Or(c.LeaseFor, 30*time.Second)
	c.HoldFor = cmp.Or(c.HoldFor, 5*time.Second)
	c.MaxHeld = cmp.Or(c.MaxHeld, 4096)
	c.Capacity = cmp.Or(c.Capacity, 1<<18)
	return c
}

// An Output is something to tell others. Exactly one field is set.
type Output struct {
	Reply  *wire.AssignReply // to whoever asked
	Event  *wire.Assigned    // to the other schedulers and the log
	Belief *Belief           // to the metrics
}

// A Belief compares what was predicted of one finished request with what the engine reported, in prompt tokens.
type Belief struct {
	Worker    string
	Prompt    int64
	Predicted int64
	Actual    int64
}

// Pool is the state of one pool. See the package comment.
type Pool struct {
	cfg      Config
	policy   Policy
	rng      *rand.Rand
	tree     *tree.Tree
	workers  map[string]*worker
	order    []*worker     // by name: what policies see
	byIndex  []*worker     // by index; nil where it is free
	indices  []tree.Worker // free ones
	leases   map[wire.AttemptKey]*lease
	over     endings
	poisons  poisons
	sessions sessions
	opened   sessions              // those that engines hold, by the names that clients gave them
	held     []*waiting            // oldest first
	asked    map[question]struct{} // of held
	numbers  uint64                // of the newest lease
	outputs  []Output
	told     []Output // what Outputs returned last

	bytesPerToken float64 // of prompts, learnt
	fitted        float64 // of it, what the workers' capacities were computed with
	texts         int     // samples behind it
	completion    float64 // tokens of an answer, learnt
	rate          float64 // prefill tokens per second of the mean worker, learnt
	samples       int     // behind it

	// The workers by what they cost, for the policy that prices; see Pool.cheapest.
	priced    bool
	shelves   shelves
	search    search    // kept between calls for its memory
	started   time.Time // when the first worker joined: the clock of seconds begins
	prefilled float64   // the clock of tokens at rated
	rated     time.Time // when the rate changed last

	// Kept between calls for their memory.
	candidates []Candidate
	holders    []tree.Holder
	shunned    []*worker
	fullFor    map[string]bool
}

// Starting values of what is learnt: 4 bytes of English to a token; an H100 with an 8B model prefills about 44k
// tokens a second alone, and about half of that beside decoding.
const (
	initialBytesPerToken = 4.0
	initialCompletion    = 256.0
	initialRate          = 20_000.0
)

// New makes a pool without workers. It fails when the policy is unknown or the cost function is missing.
func New(cfg Config) (*Pool, error) {
	cfg = cfg.withDefaults()
	policy, err := NewPolicy(cfg.Policy)
	if cfg.Cost == nil {
		err = errors.Join(err, errors.New("no cost function"))
	}
	if min(int64(cfg.LeaseFor), int64(cfg.HoldFor), int64(cfg.MaxHeld), cfg.Capacity, cfg.TreeBytes) < 0 {
		err = errors.Join(err, errors.New("a negative bound"))
	}
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", cfg.Pool, err)
	}
	return &Pool{
		cfg:           cfg,
		policy:        policy,
		priced:        policy == radix{},
		numbers:       firstNumber(cfg.Scheduler),
		rng:           rand.New(rand.NewPCG(cfg.Seed, 0x7261646978)),
		tree:          tree.New(tree.Config{Cost: cfg.Cost, MaxBytes: cfg.TreeBytes}),
		workers:       make(map[string]*worker),
		leases:        make(map[wire.AttemptKey]*lease),
		over:          endings{of: make(map[wire.AttemptKey]*wire.Finished)},
		asked:         make(map[question]struct{}),
		fullFor:       make(map[string]bool),
		bytesPerToken: initialBytesPerToken,
		fitted:        initialBytesPerToken,
		completion:    initialCompletion,
		rate:          initialRate,
	}, nil
}

// firstNumber is where a replica begins to number its leases: those of two replicas differ, so that the end of one
// placement is not taken for that of another.
func firstNumber(scheduler string) uint64 {
	h := fnv.New32a()
	h.Write([]byte(scheduler)) //nolint:errcheck // never fails
	return uint64(h.Sum32()>>8) << 32
}

// Outputs returns what has to be told, in order, and forgets it. The slice is valid until the next call of Outputs.
func (p *Pool) Outputs() []Output {
	clear(p.told)
	p.told, p.outputs = p.outputs, p.told[:0]
	return p.told
}

// Join takes a worker in, or what has changed about it. A new instance of a known name is a new worker: what the old
// one held and did is forgotten. The pool keeps info and does not change it.
func (p *Pool) Join(now time.Time, info *wire.WorkerInfo, state wire.State) {
	w := p.workers[info.Worker]
	if w != nil && w.info.Instance != info.Instance {
		p.drop(w)
		w = nil
	}
	if w == nil {
		w = p.newWorker(now, info)
	}
	w.info, w.state, w.suspect = info, state, false
	w.models = w.models[:0]
	for _, m := range info.Models {
		w.models = append(w.models, m.Name)
		if m.Kind == wire.LoRAModel && m.Loaded {
			w.loaded[m.Name] = true
		}
	}
	slices.Sort(w.models)
	p.fitCapacity(w)
	p.show(w)
	p.wake(now)
}

func (p *Pool) newWorker(now time.Time, info *wire.WorkerInfo) *worker {
	if p.started.IsZero() {
		p.started, p.rated = now, now
	}
	w := &worker{info: info, joined: now, loaded: make(map[string]bool), coin: p.rng.Float64()}
	for i, other := range p.order { // as if it had always been here: a newcomer must not win every tie until it has caught up
		if i == 0 || other.work < w.work {
			w.work = other.work
		}
	}
	if n := len(p.indices); n > 0 { // the tree's tables stay dense
		w.index, p.indices = p.indices[n-1], p.indices[:n-1]
		p.byIndex[w.index] = w
	} else {
		w.index, p.byIndex = tree.Worker(len(p.byIndex)), append(p.byIndex, w)
	}
	p.workers[info.Worker] = w
	at, _ := slices.BinarySearchFunc(p.order, info.Worker, func(w *worker, name string) int { return strings.Compare(w.info.Worker, name) })
	p.order = slices.Insert(p.order, at, w)
	return w
}

// Leave drops a worker: its leases end, and nothing is believed of it any more.
func (p *Pool) Leave(now time.Time, name string, n wire.Instance) {
	if w := p.workers[name]; w != nil && w.info.Instance == n {
		p.drop(w)
		p.wake(now)
	}
}

func (p *Pool) drop(w *worker) {
	for l := range w.leases() {
		delete(p.leases, l.key)
	}
	p.hide(w)
	p.tree.Drop(w.index)
	p.byIndex[w.index] = nil
	p.indices = append(p.indices, w.index)
	delete(p.workers, w.info.Worker)
	if at := slices.Index(p.order, w); at >= 0 {
		p.order = slices.Delete(p.order, at, at+1)
	}
}

// fitCapacity tells the tree how many bytes of prompts fit the worker's KV pool.
func (p *Pool) fitCapacity(w *worker) {
	const most = 1 << 50 // tokens: beyond, bytes would overflow
	tokens := min(cmp.Or(w.info.CapacityTokens, p.cfg.Capacity), most)
	if bytes := max(1, int64(float64(tokens)*p.fitted)); bytes != w.capacity {
		w.capacity = bytes
		p.tree.SetCapacity(w.index, bytes)
	}
}

// Workers is how many workers are known, in whatever state.
func (p *Pool) Workers() int { return len(p.order) }

// Ready is how many take requests.
func (p *Pool) Ready() (n int) {
	for _, w := range p.order {
		if w.state == wire.Ready {
			n++
		}
	}
	return n
}

// Leases is how many attempts are counted.
func (p *Pool) Leases() int { return len(p.leases) }

// Held is how many requests wait for room.
func (p *Pool) Held() int { return len(p.held) }

// Tree is what is believed; for reading.
func (p *Pool) Tree() *tree.Tree { return p.tree }

// Status is one worker as the pool sees it.
type Status struct {
	Worker    string
	Instance  wire.Instance
	State     wire.State
	Running   int     // leases
	HeldBytes int64   // of prompts believed cached
	Rate      float64 // prefill tokens per second, learnt
	Work      float64 // prefill tokens given so far
}

// Status lists the workers by name.
func (p *Pool) Status() []Status {
	out := make([]Status, 0, len(p.order))
	for _, w := range p.order {
		out = append(out, Status{
			Worker: w.info.Worker, Instance: w.info.Instance, State: w.state, Running: w.running(),
			HeldBytes: p.tree.HeldCost(w.index), Rate: p.rateOf(w), Work: w.work,
		})
	}
	return out
}
