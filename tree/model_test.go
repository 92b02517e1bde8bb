package tree_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/radixbus/radixbus/tree"
)

// A block is what the model knows about one block that one worker holds. Blocks are found by their hash, as that commits
// to all before it.
type block struct {
	path  tree.Path // to its end
	stamp tree.Stamp
}

func (b *block) hash() uint64 { return b.path[len(b.path)-1] }

// A model is the slowest correct tree: a map of blocks for every worker, and no structure at all. Where the contract leaves a
// choice (which of several branches with equal stamps goes first) it checks the tree's choice and adopts it.
type model struct {
	tree     *tree.Tree
	cost     func(int) int64
	held     map[tree.Worker]map[uint64]*block
	capacity map[tree.Worker]int64
}

func newModel(tr *tree.Tree, cost func(int) int64) *model {
	return &model{tr, cost, map[tree.Worker]map[uint64]*block{}, map[tree.Worker]int64{}}
}

func (m *model) of(w tree.Worker) map[uint64]*block {
	if m.held[w] == nil {
		m.held[w] = map[uint64]*block{}
	}
	return m.held[w]
}

func (m *model) blockCost(b *block) int64 { return m.cost(len(b.path)) - m.cost(len(b.path)-1) }

func (m *model) heldCost(w tree.Worker) (sum int64) {
	for _, b := range m.of(w) {
		sum += m.blockCost(b)
	}
	return sum
}

func (m *model) depth(w tree.Worker, path tree.Path) int {
	for i, h := range path {
		if m.of(w)[h] == nil {
			return i
		}
	}
	return len(path)
}

func (m *model) match(path tree.Path) (out []tree.Holder) {
	for w := range m.held {
		if d := m.depth(w, path); d > 0 {
			out = append(out, tree.Holder{Worker: w, Depth: d})
		}
	}
	slices.SortFunc(out, func(a, b tree.Holder) int {
		return cmp.Or(cmp.Compare(b.Depth, a.Depth), cmp.Compare(a.Worker, b.Worker))
	})
	return out
}

// insert returns what Insert must have returned. It is to be called after the tree's, as are the others.
func (m *model) insert(w tree.Worker, path tree.Path, at tree.Stamp) (added int, err error) {
	for c := m.capacity[w]; c > 0 && m.cost(len(path)) > c; {
		path = path[:len(path)-1]
	}
	held := m.of(w)
	for i, h := range path {
		if b := held[h]; b != nil {
			b.stamp = max(b.stamp, at)
			continue
		}
		held[h] = &block{slices.Clone(path[:i+1]), at}
		added++
	}
	return added, m.evict(w, path)
}

func (m *model) touch(w tree.Worker, path tree.Path, at tree.Stamp) int {
	depth := m.depth(w, path)
	for _, h := range path[:depth] {
		b := m.of(w)[h]
		b.stamp = max(b.stamp, at)
	}
	return depth
}

func (m *model) truncate(w tree.Worker, path tree.Path, keep int) (cost int64) {
	keep = max(keep, 0)
	return m.dropIf(w, func(b *block) bool { return keep < len(path) && len(b.path) > keep && b.path[keep] == path[keep] })
}

func (m *model) evictThrough(w tree.Worker, limit tree.Stamp, spare tree.Path) (cost int64) {
	return m.dropIf(w, func(b *block) bool { return b.stamp <= limit && !slices.Contains(spare, b.hash()) })
}

func (m *model) dropIf(w tree.Worker, gone func(*block) bool) (cost int64) {
	for h, b := range m.of(w) {
		if gone(b) {
			cost += m.blockCost(b)
			delete(m.held[w], h)
		}
	}
	return cost
}

// evict checks what the tree has evicted of w to respect its capacity, sparing a path, and adopts it.
func (m *model) evict(w tree.Worker, spare tree.Path) error {
	capacity, cost := m.capacity[w], m.heldCost(w)
	if capacity == 0 || cost <= capacity {
		return nil
	}
	gone := m.adopt(w)
	newest := tree.Stamp(-1 << 63)
	for _, b := range gone {
		if slices.Contains(spare, b.hash()) {
			return fmt.Errorf("worker %d: evicted %x, which is on the spared path", w, b.path)
		}
		newest = max(newest, b.stamp)
		cost -= m.blockCost(b)
	}
	if cost > capacity {
		return fmt.Errorf("worker %d: still holds %d of %d", w, cost, capacity)
	}
	for _, b := range m.leaves(w) {
		if b.stamp < newest && !slices.Contains(spare, b.hash()) {
			return fmt.Errorf("worker %d: kept the leaf %x of stamp %d, evicted one of %d", w, b.path, b.stamp, newest)
		}
	}
	for _, b := range gone { // one of them must have been the last to go, and needed to
		last := b.stamp == newest && (len(b.path) == 1 || m.of(w)[b.path[len(b.path)-2]] != nil)
		if last && cost+m.blockCost(b) > capacity {
			return nil
		}
	}
	return fmt.Errorf("worker %d: evicted more than needed: %d of %d left", w, cost, capacity)
}

// adopt removes from the model what w no longer holds in the tree, and returns it.
func (m *model) adopt(w tree.Worker) (gone []*block) {
	for h, b := range m.of(w) {
		if m.tree.Held(w, b.path) < len(b.path) {
			gone = append(gone, b)
			delete(m.held[w], h)
		}
	}
	return gone
}

func (m *model) leaves(w tree.Worker) (out []*block) {
	inner := map[uint64]bool{}
	for _, b := range m.of(w) {
		if len(b.path) > 1 {
			inner[b.path[len(b.path)-2]] = true
		}
	}
	for h, b := range m.of(w) {
		if !inner[h] {
			out = append(out, b)
		}
	}
	return out
}

// compare fails tb unless tree and model agree on everything, and the tree on itself.
func (m *model) compare(tb testing.TB, tr *tree.Tree) {
	tb.Helper()
	tree.Check(tb, tr)
	pairs, distinct, holding := 0, map[uint64]bool{}, 0
	for w, held := range m.held {
		if got, want := tr.HeldCost(w), m.heldCost(w); got != want {
			tb.Fatalf("worker %d: HeldCost = %d, want %d", w, got, want)
		}
		if got, want := tr.Capacity(w), m.capacity[w]; got != want {
			tb.Fatalf("worker %d: Capacity = %d, want %d", w, got, want)
		}
		for h, b := range held {
			if got, ok := tr.StampAt(w, b.path, len(b.path)); !ok || got != b.stamp {
				tb.Fatalf("worker %d: StampAt(%x) = %d, %v, want %d", w, b.path, got, ok, b.stamp)
			}
			pairs++
			distinct[h] = true
		}
		want := map[uint64]tree.Stamp{}
		for _, b := range m.leaves(w) {
			want[b.hash()] = b.stamp
		}
		for path, stamp := range tr.Leaves(w) {
			if got, ok := want[path[len(path)-1]]; !ok || got != stamp {
				tb.Fatalf("worker %d: unexpected leaf %x at %d", w, path, stamp)
			}
			delete(want, path[len(path)-1])
		}
		if len(want) > 0 {
			tb.Fatalf("worker %d: leaves missing: %x", w, want)
		}
		if len(held) > 0 {
			holding++
		}
	}
	s := tr.Stats()
	if s.Held != pairs || s.Blocks != len(distinct) || s.Workers != holding {
		tb.Fatalf("Stats = %+v, want %d held, %d blocks, %d workers", s, pairs, len(distinct), holding)
	}
}

// chain returns the path of a prompt whose blocks are the given symbols: each hash commits to all before it.
func chain(symbols ...byte) tree.Path {
	path := make(tree.Path, len(symbols))
	h := uint64(0x9e3779b97f4a7c15)
	for i, s := range symbols {
		h = mix(h ^ (uint64(s) + 1))
		path[i] = h
	}
	return path
}

// mix is the finaliser of MurmurHash3: a bijection that spreads every bit.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
