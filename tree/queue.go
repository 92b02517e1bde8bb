package tree

// A worker is what the tree keeps about one worker beside its shares of nodes.
type worker struct {
	id       Worker
	leaves   []leaf // min-heap by stamp of every node that is a leaf of this worker
	blocks   int    // held
	cost     int64  // of the blocks held
	capacity int64  // 0: unlimited
	rank     int    // 1 + index in Tree.oldest; 0: not there
}

// A leaf is a place in a worker's eviction order. Its holder knows its index, so a touch moves it at once and the heap
// has exactly one entry a leaf.
type leaf struct {
	stamp Stamp
	node  nodeID
}

// enqueue makes h, ws's share of the node id, a candidate for eviction.
func (t *Tree) enqueue(ws *worker, id nodeID, h *holder) {
	ws.leaves = append(ws.leaves, leaf{h.stamp, id})
	t.bytes += leafBytes
	t.rise(ws, len(ws.leaves)-1)
}

// dequeue takes h out of ws's eviction order, if it is there.
func (t *Tree) dequeue(ws *worker, h *holder) {
	if h.pos == 0 {
		return
	}
	i, last := int(h.pos)-1, len(ws.leaves)-1
	h.pos = 0
	t.bytes -= leafBytes
	moved := ws.leaves[last]
	ws.leaves = ws.leaves[:last]
	if i < last {
		ws.leaves[i] = moved
		t.restoreOrder(ws, i)
	}
	ws.leaves = roomy(ws.leaves)
}

// restamp tells the eviction order that h's stamp has changed.
func (t *Tree) restamp(ws *worker, h *holder) {
	if h.pos != 0 {
		i := int(h.pos) - 1
		ws.leaves[i].stamp = h.stamp
		t.restoreOrder(ws, i)
	}
}

// moveLeaf tells the eviction order that h is now a share of the node id.
func (t *Tree) moveLeaf(h holder, id nodeID) {
	if h.pos != 0 {
		t.workers[h.worker].leaves[h.pos-1].node = id
	}
}

func (t *Tree) restoreOrder(ws *worker, i int) {
	if i > 0 && ws.leaves[i].stamp < ws.leaves[(i-1)/2].stamp {
		t.rise(ws, i)
	} else {
		t.sink(ws, i)
	}
}

func (t *Tree) rise(ws *worker, i int) {
	l := ws.leaves[i]
	for i > 0 {
		up := (i - 1) / 2
		if ws.leaves[up].stamp <= l.stamp {
			break
		}
		t.place(ws, i, ws.leaves[up])
		i = up
	}
	t.place(ws, i, l)
}

func (t *Tree) sink(ws *worker, i int) {
	l := ws.leaves[i]
	for {
		down := 2*i + 1
		if down >= len(ws.leaves) {
			break
		}
		if down+1 < len(ws.leaves) && ws.leaves[down+1].stamp < ws.leaves[down].stamp {
			down++
		}
		if l.stamp <= ws.leaves[down].stamp {
			break
		}
		t.place(ws, i, ws.leaves[down])
		i = down
	}
	t.place(ws, i, l)
}

func (t *Tree) place(ws *worker, i int, l leaf) {
	ws.leaves[i] = l
	t.nodes.at(l.node).holder(ws.id).pos = uint32(i + 1)
}

// rank restores ws's place among the workers after its oldest leaf may have changed.
func (t *Tree) rank(ws *worker) {
	switch {
	case len(ws.leaves) == 0 && ws.rank == 0:
		return
	case len(ws.leaves) == 0:
		i, last := ws.rank-1, len(t.oldest)-1
		moved := t.oldest[last]
		t.oldest[last] = nil
		t.oldest = t.oldest[:last]
		ws.rank = 0
		if i < last {
			t.rankAt(i, moved)
		}
	case ws.rank == 0:
		t.oldest = append(t.oldest, ws)
		t.rankAt(len(t.oldest)-1, ws)
	default:
		t.rankAt(ws.rank-1, ws)
	}
}

// rankAt puts ws into the heap of workers, whose slot i is vacant.
func (t *Tree) rankAt(i int, ws *worker) {
	for i > 0 && ws.older(t.oldest[(i-1)/2]) {
		t.setRank(i, t.oldest[(i-1)/2])
		i = (i - 1) / 2
	}
	for {
		down := 2*i + 1
		if down >= len(t.oldest) {
			break
		}
		if down+1 < len(t.oldest) && t.oldest[down+1].older(t.oldest[down]) {
			down++
		}
		if !t.oldest[down].older(ws) {
			break
		}
		t.setRank(i, t.oldest[down])
		i = down
	}
	t.setRank(i, ws)
}

func (t *Tree) setRank(i int, ws *worker) {
	t.oldest[i] = ws
	ws.rank = i + 1
}

// older reports whether ws loses a leaf before other does.
func (ws *worker) older(other *worker) bool {
	a, b := ws.leaves[0].stamp, other.leaves[0].stamp
	return a < b || a == b && ws.id < other.id
}
