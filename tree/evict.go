package tree

import (
	"slices"
	"sort"
)

// Why blocks were evicted: indices of Tree.evicted.
const (
	forCapacity = iota
	forBytes
)

// SetCapacity bounds the cost of what w holds; zero or less means no bound. Lowering it evicts at once.
func (t *Tree) SetCapacity(w Worker, cost int64) {
	ws := t.worker(w)
	if ws == nil {
		return
	}
	ws.capacity = max(cost, 0)
	t.shrink(ws, root, 0)
	t.settle(ws)
}

// shrink evicts ws's oldest blocks until it is within its capacity, except those on the path to a depth in the node spare.
func (t *Tree) shrink(ws *worker, spare nodeID, depth int) {
	if ws.capacity == 0 || ws.cost <= ws.capacity {
		return
	}
	before := ws.blocks
	t.cutOldest(ws, spare, depth, func(n *node, h *holder, floor int) (keep int, more bool) {
		over := ws.cost - ws.capacity
		if over <= 0 {
			return 0, false
		}
		start, end := int(n.start), int(n.start+h.blocks)
		limit := t.cfg.Cost(end) - over // the cost up to which this branch may stay
		fits := sort.Search(int(h.blocks)-floor-1, func(i int) bool { return t.cfg.Cost(start+floor+i+1) > limit })
		return floor + fits, true
	})
	t.evicted[forCapacity] += uint64(before - ws.blocks)
}

// EvictThrough corrects w after it turned out to hold less than believed: it drops every block with a stamp of at most
// limit, except those on the path spare, and returns their cost.
func (t *Tree) EvictThrough(w Worker, limit Stamp, spare Path) (cost int64) {
	ws := t.known(w)
	if ws == nil {
		return 0
	}
	before := ws.cost
	last, _, depth := t.follow(w, spare)
	t.cutOldest(ws, last, depth, func(_ *node, h *holder, floor int) (keep int, more bool) {
		return floor, h.stamp <= limit
	})
	t.settle(ws)
	return before - ws.cost
}

// cutOldest offers ws's leaves, oldest first, to keep, which says how many of a leaf's blocks stay (at least floor, less than
// all), or that enough has gone. Blocks on the path to a depth in the node spare are never offered. No node moves before
// the operation settles, so spare keeps its meaning.
func (t *Tree) cutOldest(ws *worker, spare nodeID, depth int, keep func(n *node, h *holder, floor int) (int, bool)) {
	aside := false // the spared leaf, taken out of the order until the end
	for len(ws.leaves) > 0 {
		id := ws.leaves[0].node
		n := t.nodes.at(id)
		h := n.holder(ws.id)
		floor := 0
		if id == spare {
			floor = depth - int(n.start)
		}
		if floor == int(h.blocks) {
			t.dequeue(ws, h)
			aside = true
			continue
		}
		stay, more := keep(n, h, floor)
		if !more {
			break
		}
		t.cut(ws, id, stay)
	}
	if aside {
		t.enqueue(ws, spare, t.nodes.at(spare).holder(ws.id))
	}
}

// cut leaves ws the first keep blocks of its leaf id, fewer than it has, and returns the cost of the rest.
func (t *Tree) cut(ws *worker, id nodeID, keep int) (cost int64) {
	n := t.nodes.at(id)
	i, _ := n.find(ws.id)
	h := &n.holders[i]
	reachedEnd := int(h.blocks) == len(n.hashes)
	cost = -t.resize(ws, n, h, keep)
	if keep == 0 {
		t.dequeue(ws, h)
		t.setHolders(n, roomy(slices.Delete(n.holders, i, i+1)))
		if n.parent != root {
			up := t.nodes.at(n.parent).holder(ws.id)
			if up.kids--; up.kids == 0 {
				t.enqueue(ws, n.parent, up)
			}
		}
	}
	switch {
	case len(n.holders) == 0:
		t.remove(id)
	case reachedEnd && n.children == 0:
		t.trim(n)
	}
	return cost
}

// Truncate corrects w: it holds no more than the first keep blocks of path, and so nothing on any branch through the
// block after them. It returns the cost of what it dropped. The work is that of a match plus what is dropped; if w
// holds branches below the cut, also a climb from each of its leaves.
func (t *Tree) Truncate(w Worker, path Path, keep int) (cost int64) {
	ws := t.known(w)
	keep = max(keep, 0)
	if ws == nil || keep >= len(path) {
		return 0
	}
	id, h, held := t.follow(w, path[:keep+1])
	if held <= keep {
		return 0
	}
	n := t.nodes.at(id)
	before := ws.cost
	if h.kids > 0 {
		t.scratch = t.scratch[:0]
		for _, l := range ws.leaves {
			if t.below(l.node, id) {
				t.scratch = append(t.scratch, l.node)
			}
		}
		for _, at := range t.scratch {
			t.cutUpTo(ws, at, id)
		}
		t.scratch = roomy(t.scratch)
	}
	t.cut(ws, id, keep-int(n.start))
	t.settle(ws)
	return before - ws.cost
}

// below reports whether id lies under the node top.
func (t *Tree) below(id, top nodeID) bool {
	start := t.nodes.at(top).start
	for n := t.nodes.at(id); n.start > start; n = t.nodes.at(id) {
		if id = n.parent; id == top {
			return true
		}
	}
	return false
}

// cutUpTo drops ws's leaf id, and those of its ancestors below top that become leaves by it.
func (t *Tree) cutUpTo(ws *worker, id, top nodeID) {
	for id != top && t.nodes.at(id).holder(ws.id).kids == 0 {
		up := t.nodes.at(id).parent
		t.cut(ws, id, 0)
		id = up
	}
}

// Clear forgets what w holds, as after a flush of its engine's cache, in time proportional to that. Its capacity stays.
func (t *Tree) Clear(w Worker) {
	if ws := t.known(w); ws != nil {
		t.clear(ws)
	}
}

// Drop forgets everything about w, in time proportional to what it held, so that its index can be given to another.
func (t *Tree) Drop(w Worker) {
	if ws := t.known(w); ws != nil {
		t.clear(ws)
		t.workers[w] = nil
		t.bytes -= workerBytes
	}
}

func (t *Tree) clear(ws *worker) {
	for last := len(ws.leaves) - 1; last >= 0; last = len(ws.leaves) - 1 {
		t.cutUpTo(ws, ws.leaves[last].node, root)
	}
	t.settle(ws)
}

// settle ends an operation that may have changed what ws holds: it merges what has become mergeable, puts ws in its place
// among the workers, and keeps the tree within its memory budget.
func (t *Tree) settle(ws *worker) {
	t.mergeDirty()
	t.rank(ws)
	for t.bytes > t.cfg.MaxBytes && len(t.oldest) > 0 {
		ws := t.oldest[0]
		before := ws.blocks
		t.cut(ws, ws.leaves[0].node, 0)
		t.evicted[forBytes] += uint64(before - ws.blocks)
		t.mergeDirty()
		t.rank(ws)
	}
}

func (t *Tree) mergeDirty() {
	for _, id := range t.dirty {
		t.merge(id)
	}
	t.dirty = roomy(t.dirty)[:0]
}
