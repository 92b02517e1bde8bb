package tree

import "slices"

// Insert records that w holds all of path, used at the given stamp: each of its blocks gets max(old stamp, at) for w. Then
// w's oldest leaves go until it is within its capacity, never blocks of path. If path alone exceeds the capacity, only
// the leading part that fits is meant, as if the rest had not been passed. It returns the blocks that w did not hold.
//
// The cost is that of a match, plus the blocks stored, plus the blocks moved by at most two splits.
func (t *Tree) Insert(w Worker, path Path, at Stamp) (added int) {
	ws := t.worker(w)
	if ws == nil {
		return 0
	}
	path = path[:t.fits(ws, path)]
	before := ws.blocks
	last := t.hold(ws, path, at)
	added = ws.blocks - before
	t.shrink(ws, last, len(path))
	t.settle(ws)
	return added
}

// hold makes ws a holder of all of path and returns the node where it ends.
func (t *Tree) hold(ws *worker, path Path, at Stamp) (last nodeID) {
	depth := 0
	for depth < len(path) {
		id, ok := t.edges[edge{uint64(last), path[depth]}]
		if !ok {
			last = t.graft(ws, last, depth, path[depth:], at)
			break
		}
		n := t.nodes.at(id)
		m := common(n.hashes, path[depth:])
		h := n.holder(ws.id)
		switch {
		case h == nil:
			t.join(ws, id, m, at)
		case at < h.stamp: // what is held keeps its stamp; more of this node needs a node of its own
			m = min(m, int(h.blocks))
		case at > h.stamp && m < int(h.blocks): // what lies past the path keeps its stamp
			id = t.split(id, m)
			t.use(ws, id, m, at)
		default:
			t.use(ws, id, max(m, int(h.blocks)), at)
		}
		depth += m
		if depth < len(path) && m < len(t.nodes.at(id).hashes) {
			id = t.split(id, m)
		}
		last = id
	}
	if last == root {
		return root
	}
	if h := t.nodes.at(last).holder(ws.id); h.kids == 0 && h.pos == 0 {
		t.enqueue(ws, last, h)
	}
	return last
}

// graft stores path, of which nothing is known below the node parent, and returns the node where it ends. A childless
// parent that ws has just used at the same stamp grows, so that a conversation stays one node from turn to turn.
func (t *Tree) graft(ws *worker, parent nodeID, depth int, path Path, at Stamp) nodeID {
	p := t.nodes.at(parent)
	if parent != root && p.children == 0 {
		if h := p.holder(ws.id); h.stamp == at {
			t.setHashes(p, append(p.hashes, path...))
			t.use(ws, parent, len(p.hashes), at)
			return parent
		}
	}
	id := t.add(parent, depth, slices.Clone(path), nil)
	t.join(ws, id, len(path), at)
	return id
}

// join makes ws a holder of the first blocks of a node. The caller enqueues the last node that it joins.
func (t *Tree) join(ws *worker, id nodeID, blocks int, at Stamp) {
	n := t.nodes.at(id)
	i, _ := n.find(ws.id)
	t.setHolders(n, slices.Insert(n.holders, i, holder{stamp: at, worker: ws.id}))
	if n.parent != root {
		h := t.nodes.at(n.parent).holder(ws.id)
		h.kids++
		t.dequeue(ws, h)
	}
	t.resize(ws, n, &n.holders[i], blocks)
}

// use records a use of a node by a holder of it that reaches its first blocks from now on.
func (t *Tree) use(ws *worker, id nodeID, blocks int, at Stamp) {
	n := t.nodes.at(id)
	h := n.holder(ws.id)
	t.resize(ws, n, h, blocks)
	h.stamp = at
	t.restamp(ws, h)
}

// resize sets how much of n the worker holds, and keeps the counts.
func (t *Tree) resize(ws *worker, n *node, h *holder, blocks int) (cost int64) {
	change := blocks - int(h.blocks)
	if change == 0 {
		return 0
	}
	start := int(n.start)
	cost = t.cfg.Cost(start+blocks) - t.cfg.Cost(start+int(h.blocks))
	h.blocks = uint32(blocks)
	ws.blocks += change
	ws.cost += cost
	t.held += change
	return cost
}

// Touch records a use, at the given stamp, of as much of path as w holds, without adding to it. It returns how many
// blocks that is.
func (t *Tree) Touch(w Worker, path Path, at Stamp) (held int) {
	ws := t.known(w)
	if ws == nil {
		return 0
	}
	last, depth := root, 0
	for depth < len(path) {
		id, ok := t.edges[edge{uint64(last), path[depth]}]
		if !ok {
			break
		}
		n := t.nodes.at(id)
		h := n.holder(w)
		if h == nil {
			break
		}
		m, whole := min(common(n.hashes, path[depth:]), int(h.blocks)), len(n.hashes)
		depth += m
		if at > h.stamp {
			if m < int(h.blocks) {
				id = t.split(id, m)
			}
			t.use(ws, id, m, at)
		}
		if m < whole {
			break
		}
		last = id
	}
	t.settle(ws)
	return depth
}
