package tree

import "slices"

// nodeID names a node for its life; the number is used again afterwards.
type nodeID uint32

const root nodeID = 0

// A node is a run of blocks without a branch. Its holders are never empty (the root's always are), and some holder
// reaches its last block. 64 bytes.
type node struct {
	hashes  []uint64
	holders []holder // by worker
	parent  nodeID   // while free: the next free node
	start   uint32   // blocks before the first of hashes
	// children counts the child nodes and childXor is the exclusive or of their ids: the id itself when there is one,
	// which is the only time a child must be found from above.
	children uint32
	childXor nodeID
}

// A holder is one worker's share of a node: the first blocks of it, all with one stamp. Only a worker that holds the
// whole node can hold children of it. 24 bytes.
type holder struct {
	stamp  Stamp
	worker Worker
	blocks uint32
	kids   uint32 // children of the node that the worker holds; with none it is a leaf of that worker
	pos    uint32 // 1 + index in the worker's leaves; 0: not there
}

// An edge leads to the child of a node whose first hash is the second element. The parent is part of the key so that
// a hash collision can mislead but not tie two branches together.
type edge [2]uint64

// Sizes behind Stats.Bytes. The share of the edge table is for Go's map: a 24-byte slot and a control byte at a load
// between 7/16 and 7/8.
const (
	hashBytes   = 8
	holderBytes = 24
	leafBytes   = 16
	nodeBytes   = 64 + 40
	workerBytes = 96
)

// common returns how many leading blocks edge and path share; the first are known to be equal. As a hash commits to its
// prefix, equality at a block means equality before it.
func common(edge, path []uint64) int {
	n := min(len(edge), len(path))
	if edge[n-1] == path[n-1] {
		return n
	}
	same, differs := 1, n
	for same+1 < differs {
		mid := int(uint(same+differs) / 2)
		if edge[mid-1] == path[mid-1] {
			same = mid
		} else {
			differs = mid
		}
	}
	return same
}

// find returns where w is, or belongs, among the holders.
func (n *node) find(w Worker) (int, bool) {
	lo, hi := 0, len(n.holders)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if n.holders[mid].worker < w {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(n.holders) && n.holders[lo].worker == w
}

// holder returns w's share of n or nil. It is valid until the holders of n change.
func (n *node) holder(w Worker) *holder {
	if i, ok := n.find(w); ok {
		return &n.holders[i]
	}
	return nil
}

// add makes a node below parent. It takes ownership of hashes and holders.
func (t *Tree) add(parent nodeID, start int, hashes []uint64, holders []holder) nodeID {
	id, n := t.nodes.alloc()
	n.parent, n.start = parent, uint32(start)
	t.bytes += nodeBytes
	t.setHashes(n, hashes)
	t.setHolders(n, holders)
	p := t.nodes.at(parent)
	p.children++
	p.childXor ^= id
	t.edges[edge{uint64(parent), hashes[0]}] = id
	return id
}

// remove frees a node that has no holders left, and so no children. Its parent may have become mergeable.
func (t *Tree) remove(id nodeID) {
	n := t.nodes.at(id)
	delete(t.edges, edge{uint64(n.parent), n.hashes[0]})
	p := t.nodes.at(n.parent)
	p.children--
	p.childXor ^= id
	if p.children == 1 && n.parent != root {
		t.dirty = append(t.dirty, n.parent)
	}
	t.release(id, n)
}

func (t *Tree) release(id nodeID, n *node) {
	t.setHashes(n, nil)
	t.setHolders(n, nil)
	t.bytes -= nodeBytes
	t.nodes.free(id)
}

// split cuts a node after its first k blocks, 0 < k < len, and returns the new upper part. The lower part keeps the id,
// so that nothing below changes.
func (t *Tree) split(id nodeID, k int) nodeID {
	n := t.nodes.at(id)
	up, u := t.nodes.alloc()
	t.bytes += nodeBytes
	u.parent, u.start, u.children, u.childXor = n.parent, n.start, 1, id

	upper := make([]holder, len(n.holders))
	lower := make([]holder, 0, len(n.holders))
	for i, h := range n.holders {
		if int(h.blocks) <= k {
			upper[i] = h
			t.moveLeaf(h, up)
			continue
		}
		upper[i] = holder{stamp: h.stamp, worker: h.worker, blocks: uint32(k), kids: 1}
		h.blocks -= uint32(k)
		lower = append(lower, h)
	}
	hashes := n.hashes
	t.setHashes(u, slices.Clone(hashes[:k]))
	t.setHashes(n, slices.Clone(hashes[k:]))
	t.setHolders(u, upper)
	t.setHolders(n, roomy(lower))

	t.nodes.at(u.parent).childXor ^= id ^ up
	t.edges[edge{uint64(u.parent), hashes[0]}] = up
	t.edges[edge{uint64(up), hashes[k]}] = id
	n.parent = up
	n.start += uint32(k)
	return up
}

// merge joins a node with its only child if every holder of the child used both last together. The child's id survives,
// so that nothing below changes. Anything else is left alone.
func (t *Tree) merge(id nodeID) {
	n := t.nodes.at(id)
	if id == root || n.children != 1 || len(n.holders) == 0 {
		return
	}
	below := n.childXor
	c := t.nodes.at(below)
	for i := range c.holders {
		if n.holder(c.holders[i].worker).stamp != c.holders[i].stamp {
			return
		}
	}
	holders := slices.Clone(n.holders)
	rest := c.holders
	for i := range holders {
		h := &holders[i]
		if len(rest) > 0 && rest[0].worker == h.worker {
			h.blocks += rest[0].blocks
			h.kids, h.pos = rest[0].kids, rest[0].pos
			rest = rest[1:]
		} else {
			t.moveLeaf(*h, below)
		}
	}
	delete(t.edges, edge{uint64(id), c.hashes[0]})
	t.edges[edge{uint64(n.parent), n.hashes[0]}] = below
	t.nodes.at(n.parent).childXor ^= id ^ below
	c.parent, c.start = n.parent, n.start
	t.setHashes(c, slices.Concat(n.hashes, c.hashes))
	t.setHolders(c, holders)
	t.release(id, n)
}

// trim forgets the blocks at the end of a childless node that nobody holds.
func (t *Tree) trim(n *node) {
	longest := uint32(0)
	for i := range n.holders {
		longest = max(longest, n.holders[i].blocks)
		if int(longest) == len(n.hashes) {
			return
		}
	}
	t.setHashes(n, roomy(n.hashes[:longest]))
}

// roomy returns s, copied if it fills less than half of its memory.
func roomy[E any](s []E) []E {
	if len(s) < cap(s)/2 {
		return slices.Clone(s)
	}
	return s
}

func (t *Tree) setHashes(n *node, hashes []uint64) {
	t.hashes += len(hashes) - len(n.hashes)
	t.bytes += int64(cap(hashes)-cap(n.hashes)) * hashBytes
	n.hashes = hashes
}

func (t *Tree) setHolders(n *node, holders []holder) {
	t.bytes += int64(cap(holders)-cap(n.holders)) * holderBytes
	n.holders = holders
}

// An arena gives out nodes in pages that never move, and uses freed ones first.
type arena struct {
	pages [][]node
	spare nodeID // head of the list of free nodes; root means none
	live  int
}

const pageNodes = 256

func (a *arena) at(id nodeID) *node { return &a.pages[id/pageNodes][id%pageNodes] }

func (a *arena) alloc() (nodeID, *node) {
	if id := a.spare; id != root {
		n := a.at(id)
		a.spare = n.parent
		*n = node{}
		a.live++
		return id, n
	}
	last := len(a.pages) - 1
	if last < 0 || len(a.pages[last]) == pageNodes {
		a.pages = append(a.pages, make([]node, 0, pageNodes))
		last++
	}
	a.pages[last] = append(a.pages[last], node{})
	id := nodeID(last*pageNodes + len(a.pages[last]) - 1)
	a.live++
	return id, a.at(id)
}

// end returns a bound above every id given out so far.
func (a *arena) end() int {
	last := len(a.pages) - 1
	return last*pageNodes + len(a.pages[last])
}

func (a *arena) free(id nodeID) {
	*a.at(id) = node{parent: a.spare}
	a.spare = id
	a.live--
}
