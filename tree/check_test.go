package tree

import (
	"fmt"
	"testing"
)

// Check fails t unless the tree keeps every invariant that the package comment and DESIGN.md promise.
func Check(tb testing.TB, t *Tree) {
	tb.Helper()
	if err := t.check(); err != nil {
		tb.Fatal(err)
	}
}

func (t *Tree) check() error {
	free := map[nodeID]bool{}
	for id := t.nodes.spare; id != root; id = t.nodes.at(id).parent {
		if free[id] {
			return fmt.Errorf("free list has a loop at %d", id)
		}
		free[id] = true
	}
	type sum struct {
		blocks, leaves int
		cost           int64
	}
	var (
		live, hashes, held int
		bytes              int64
		sums               = map[Worker]*sum{}
		children           = map[nodeID]uint32{}
		xor                = map[nodeID]nodeID{}
		kids               = map[nodeID]map[Worker]uint32{}
	)
	for p := range t.nodes.pages {
		for i := range t.nodes.pages[p] {
			id := nodeID(p*pageNodes + i)
			if free[id] {
				continue
			}
			live++
			if id == root {
				continue
			}
			n := t.nodes.at(id)
			if free[n.parent] {
				return fmt.Errorf("node %d: parent %d is free", id, n.parent)
			}
			up := t.nodes.at(n.parent)
			if got, want := int(n.start), int(up.start)+len(up.hashes); got != want {
				return fmt.Errorf("node %d: starts at %d, want %d", id, got, want)
			}
			if len(n.hashes) == 0 || len(n.holders) == 0 {
				return fmt.Errorf("node %d: %d hashes, %d holders", id, len(n.hashes), len(n.holders))
			}
			if got := t.edges[edge{uint64(n.parent), n.hashes[0]}]; got != id {
				return fmt.Errorf("node %d: its edge leads to %d", id, got)
			}
			children[n.parent]++
			xor[n.parent] ^= id
			hashes += len(n.hashes)
			bytes += nodeBytes + hashBytes*int64(cap(n.hashes)) + holderBytes*int64(cap(n.holders))
			longest := 0
			for j, h := range n.holders {
				if j > 0 && n.holders[j-1].worker >= h.worker {
					return fmt.Errorf("node %d: holders out of order", id)
				}
				if h.blocks == 0 || int(h.blocks) > len(n.hashes) {
					return fmt.Errorf("node %d worker %d: holds %d of %d", id, h.worker, h.blocks, len(n.hashes))
				}
				longest = max(longest, int(h.blocks))
				held += int(h.blocks)
				s := sums[h.worker]
				if s == nil {
					s = &sum{}
					sums[h.worker] = s
				}
				s.blocks += int(h.blocks)
				s.cost += t.cfg.Cost(int(n.start+h.blocks)) - t.cfg.Cost(int(n.start))
				if h.kids == 0 {
					s.leaves++
					ws := t.workers[h.worker]
					if h.pos == 0 || int(h.pos) > len(ws.leaves) || ws.leaves[h.pos-1] != (leaf{h.stamp, id}) {
						return fmt.Errorf("node %d worker %d: a leaf that is not in its place", id, h.worker)
					}
				} else if h.pos != 0 || int(h.blocks) != len(n.hashes) {
					return fmt.Errorf("node %d worker %d: has %d children, pos %d, holds %d of %d", id, h.worker, h.kids, h.pos, h.blocks, len(n.hashes))
				}
				if n.parent == root {
					continue
				}
				if kids[n.parent] == nil {
					kids[n.parent] = map[Worker]uint32{}
				}
				kids[n.parent][h.worker]++
				switch above := up.holder(h.worker); {
				case above == nil:
					return fmt.Errorf("node %d worker %d: does not hold the parent", id, h.worker)
				case above.stamp < h.stamp:
					return fmt.Errorf("node %d worker %d: younger than its parent", id, h.worker)
				}
			}
			if longest != len(n.hashes) {
				return fmt.Errorf("node %d: %d blocks, nobody holds more than %d", id, len(n.hashes), longest)
			}
		}
	}
	for p := range t.nodes.pages {
		for i := range t.nodes.pages[p] {
			id := nodeID(p*pageNodes + i)
			if free[id] {
				continue
			}
			n := t.nodes.at(id)
			if n.children != children[id] || n.childXor != xor[id] {
				return fmt.Errorf("node %d: children %d/%x, want %d/%x", id, n.children, n.childXor, children[id], xor[id])
			}
			for _, h := range n.holders {
				if want := kids[id][h.worker]; h.kids != want {
					return fmt.Errorf("node %d worker %d: kids %d, want %d", id, h.worker, h.kids, want)
				}
			}
		}
	}
	holding := 0
	for w, ws := range t.workers {
		if ws == nil {
			continue
		}
		bytes += workerBytes + leafBytes*int64(len(ws.leaves))
		s := sums[Worker(w)]
		if s == nil {
			s = &sum{}
		}
		if ws.blocks != s.blocks || ws.cost != s.cost || len(ws.leaves) != s.leaves {
			return fmt.Errorf("worker %d: counts %d, %d, %d, want %d, %d, %d", w, ws.blocks, ws.cost, len(ws.leaves), s.blocks, s.cost, s.leaves)
		}
		if ws.capacity > 0 && ws.cost > ws.capacity {
			return fmt.Errorf("worker %d: holds %d of %d", w, ws.cost, ws.capacity)
		}
		for i := 1; i < len(ws.leaves); i++ {
			if ws.leaves[(i-1)/2].stamp > ws.leaves[i].stamp {
				return fmt.Errorf("worker %d: leaves out of order at %d", w, i)
			}
		}
		if (ws.rank != 0) != (len(ws.leaves) > 0) || ws.rank != 0 && t.oldest[ws.rank-1] != ws {
			return fmt.Errorf("worker %d: rank %d", w, ws.rank)
		}
		if ws.rank != 0 {
			holding++
		}
	}
	for i := 1; i < len(t.oldest); i++ {
		if t.oldest[i].older(t.oldest[(i-1)/2]) {
			return fmt.Errorf("workers out of order at %d", i)
		}
	}
	want := Stats{
		Nodes: live - 1, Blocks: hashes, Held: held, Bytes: bytes, Workers: holding,
		EvictedForCapacity: t.evicted[forCapacity], EvictedForBytes: t.evicted[forBytes],
	}
	switch {
	case t.Stats() != want:
		return fmt.Errorf("stats %+v, want %+v", t.Stats(), want)
	case len(t.edges) != live-1:
		return fmt.Errorf("%d edges for %d nodes", len(t.edges), live-1)
	case bytes > t.cfg.MaxBytes && held > 0:
		return fmt.Errorf("%d bytes of %d", bytes, t.cfg.MaxBytes)
	case len(t.dirty) != 0:
		return fmt.Errorf("unfinished merges: %v", t.dirty)
	}
	return nil
}
