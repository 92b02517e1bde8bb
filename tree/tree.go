// Package tree remembers which worker holds which prefix.
//
// A prompt arrives as a [Path]: one 64-bit hash a block, each committing to the whole prefix before it. The
// [Tree] answers how many leading blocks of a path every worker holds, and forgets what that worker's engine
// must have evicted. It is a compressed radix tree shared by all workers: a run of hashes is stored once, with
// a list of who holds how much of it and when each last used it. DESIGN.md has the layout and the costs.
//
// # Semantics
//
// What a worker holds is prefix-closed: whoever holds a block holds every block before it. Each held block has a
// [Stamp] per worker, which only rises: using a path at stamp s makes it max(old, s) on every block of the path. So
// along any path a worker's stamps never increase, and its smallest stamp is always on a leaf.
//
// Eviction works on blocks, not on nodes: the next block a worker loses is, of all held blocks below which it holds
// nothing, the one with the smallest stamp. SGLang evicts whole nodes, but its node boundaries (prefill chunks, turns,
// partial matches) are unknown here and a shared run's boundaries would depend on other workers. Cutting only what
// must go differs from the engine by less than one of its nodes, and makes a worker's state independent of all others.
//
// # Guarantees
//
// No result depends on a clock, on map order or on other workers (except under [Config.MaxBytes]): equal calls give equal
// trees. Equal stamps on different branches fall in an unspecified order that equal calls repeat, also after [Restore].
// Nothing recurses. Match allocates nothing when its buffer has room.
//
// Two prefixes with one hash (chance about n²/2^65 among n distinct blocks) make the tree believe that a worker holds
// what it does not. That misroutes a request; it never changes an answer. Paths that are no hash chains at all are also
// harmless: the beliefs are then about the path as its hashes at the branches describe it.
//
// # Concurrency
//
// None: one goroutine owns a Tree. Paths are copied, never kept.
package tree

import (
	"slices"
	"sort"
)

// A Path is a prompt's chained block hashes, first block first.
type Path []uint64

// A Worker is a small dense index that the caller hands out, below [MaxWorkers].
type Worker uint32

// A Stamp orders eviction: the smallest goes first. It is the caller's (time of last use, or a retention stamp), may
// lie in the future and may arrive out of order.
type Stamp int64

const (
	// MaxWorkers bounds Worker: one at or above it can hold nothing, and every call ignores it.
	MaxWorkers = 1 << 16
	// MaxDepth bounds a path in blocks; what lies beyond is neither stored nor matched. A digest has 2,048 at most.
	MaxDepth = 1 << 20
	// DefaultMaxBytes is the memory budget of a zero Config.
	DefaultMaxBytes = 1 << 30
)

// Config tells a Tree what it may not guess. The zero value of every field means its documented default.
type Config struct {
	// Cost is the cumulative cost of the first depth blocks of any path, in the unit of the capacities. It must be a
	// pure, strictly increasing function with Cost(0) = 0. Default: one per block.
	Cost func(depth int) int64
	// MaxBytes bounds [Stats.Bytes]: beyond it the oldest leaves of all workers go first. Default DefaultMaxBytes.
	MaxBytes int64
}

func (c Config) withDefaults() Config {
	if c.Cost == nil {
		c.Cost = func(depth int) int64 { return int64(depth) }
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	return c
}

// A Tree holds what every worker of one pool is believed to have cached. Make one with [New] or [Restore].
type Tree struct {
	cfg     Config
	nodes   arena
	edges   map[edge]nodeID
	workers []*worker // by Worker; nil until first needed
	oldest  []*worker // min-heap of the workers that hold something, by their oldest leaf
	dirty   []nodeID  // nodes left with a single child by the operation under way
	scratch []nodeID  // Truncate's

	hashes  int   // stored in all nodes
	held    int   // (block, worker) pairs
	bytes   int64 // memory estimate
	evicted [2]uint64
}

// New returns an empty tree.
func New(cfg Config) *Tree {
	t := &Tree{cfg: cfg.withDefaults(), edges: make(map[edge]nodeID)}
	t.nodes.alloc() // the root: no hashes, no holders
	return t
}

// A Holder says that Worker holds the first Depth blocks of the path asked about.
type Holder struct {
	Worker Worker
	Depth  int
}

// Match appends to into every worker that holds at least one block of path, deepest first, equal depths by worker, and
// returns the extended slice. It changes nothing: tell the tree of a use with Touch or Insert.
func (t *Tree) Match(path Path, into []Holder) []Holder {
	at, depth := t.deepest(path)
	var below []holder // who has been listed already, deeper
	for at != root {
		n := t.nodes.at(at)
		into = n.appendHolders(into, below, depth)
		below, at = n.holders, n.parent
	}
	return into
}

// deepest is the deepest node on path, and how many blocks of path are on the way through it.
func (t *Tree) deepest(path Path) (at nodeID, depth int) {
	for depth < len(path) {
		id, ok := t.edges[edge{uint64(at), path[depth]}]
		if !ok {
			break
		}
		n := t.nodes.at(id)
		m := common(n.hashes, path[depth:])
		at = id
		depth += m
		if m < len(n.hashes) {
			break
		}
	}
	return at, depth
}

// appendHolders appends those holders of n that are not among below, the holders of n's child on the path, which are some of
// n's. No depth exceeds limit.
func (n *node) appendHolders(into []Holder, below []holder, limit int) []Holder {
	missing := len(n.holders) - len(below)
	if missing == 0 {
		return into
	}
	first := len(into)
	into = slices.Grow(into, missing)[:first+missing]
	out := into[first:]
	filled, ordered, before := 0, true, limit
	for i := range n.holders {
		h := &n.holders[i]
		if len(below) > 0 && below[0].worker == h.worker {
			below = below[1:]
			continue
		}
		depth := min(int(n.start)+int(h.blocks), limit)
		ordered = ordered && depth <= before
		before = depth
		out[filled] = Holder{h.worker, depth}
		filled++
	}
	if !ordered {
		slices.SortFunc(out, deepestFirst)
	}
	return into
}

func deepestFirst(a, b Holder) int {
	if a.Depth != b.Depth {
		return b.Depth - a.Depth
	}
	return int(a.Worker) - int(b.Worker)
}

// Held returns how many leading blocks of path w holds.
func (t *Tree) Held(w Worker, path Path) int {
	_, _, depth := t.follow(w, path)
	return depth
}

// StampAt returns w's stamp on the block at the given depth of path (1 is the first block), if w holds it.
func (t *Tree) StampAt(w Worker, path Path, depth int) (Stamp, bool) {
	if depth < 1 || depth > len(path) {
		return 0, false
	}
	_, h, held := t.follow(w, path[:depth])
	if held < depth {
		return 0, false
	}
	return h.stamp, true
}

// follow walks path as far as w holds it and returns the last node with something of it held, w's holder there, and the
// blocks held; root, nil, 0 for none.
func (t *Tree) follow(w Worker, path Path) (at nodeID, last *holder, depth int) {
	for depth < len(path) {
		id, ok := t.edges[edge{uint64(at), path[depth]}]
		if !ok {
			break
		}
		n := t.nodes.at(id)
		h := n.holder(w)
		if h == nil {
			break
		}
		m := min(common(n.hashes, path[depth:]), int(h.blocks))
		at, last = id, h
		depth += m
		if m < len(n.hashes) {
			break
		}
	}
	return at, last, depth
}

// HeldCost returns the cost of all that w holds, in the unit of [Config.Cost].
func (t *Tree) HeldCost(w Worker) int64 {
	if ws := t.known(w); ws != nil {
		return ws.cost
	}
	return 0
}

// Capacity returns the bound set for w, 0 for none.
func (t *Tree) Capacity(w Worker) int64 {
	if ws := t.known(w); ws != nil {
		return ws.capacity
	}
	return 0
}

// Stats are counted as the tree changes, never by a walk.
type Stats struct {
	Nodes   int   // runs of blocks
	Blocks  int   // hashes stored, each once however many workers hold it
	Held    int   // (block, worker) pairs
	Bytes   int64 // estimated memory of all that; freed nodes kept for reuse are not in it
	Workers int   // that hold at least one block

	EvictedForCapacity uint64 // (block, worker) pairs since New or Restore
	EvictedForBytes    uint64 // likewise, for Config.MaxBytes
}

// Stats costs nothing.
func (t *Tree) Stats() Stats {
	return Stats{
		Nodes: t.nodes.live - 1, Blocks: t.hashes, Held: t.held, Bytes: t.bytes, Workers: len(t.oldest),
		EvictedForCapacity: t.evicted[forCapacity], EvictedForBytes: t.evicted[forBytes],
	}
}

// known returns the state of w, nil if nothing was ever said about it.
func (t *Tree) known(w Worker) *worker {
	if int(w) >= len(t.workers) {
		return nil
	}
	return t.workers[w]
}

// worker returns the state of w, making it if needed; nil for an index out of bounds.
func (t *Tree) worker(w Worker) *worker {
	if w >= MaxWorkers {
		return nil
	}
	if int(w) >= len(t.workers) {
		t.workers = append(t.workers, make([]*worker, int(w)+1-len(t.workers))...)
	}
	if t.workers[w] == nil {
		t.workers[w] = &worker{id: w}
		t.bytes += workerBytes
	}
	return t.workers[w]
}

// fits returns how many leading blocks of path ws could hold if it held nothing else.
func (t *Tree) fits(ws *worker, path Path) int {
	n := min(len(path), MaxDepth)
	if ws.capacity == 0 || t.cfg.Cost(n) <= ws.capacity {
		return n
	}
	return sort.Search(n, func(i int) bool { return t.cfg.Cost(i+1) > ws.capacity })
}
