package tree

import "iter"

// Leaves yields, for every branch that w holds, the whole path to its end and the stamp there, in no particular order. It is
// for tests and tools: every path is built anew. The tree must not change meanwhile.
func (t *Tree) Leaves(w Worker) iter.Seq2[Path, Stamp] {
	return func(yield func(Path, Stamp) bool) {
		ws := t.known(w)
		if ws == nil {
			return
		}
		for _, l := range ws.leaves {
			if !yield(t.pathTo(ws, l.node), l.stamp) {
				return
			}
		}
	}
}

// pathTo returns the path to the end of what ws holds of a node.
func (t *Tree) pathTo(ws *worker, id nodeID) Path {
	n := t.nodes.at(id)
	blocks := n.holder(ws.id).blocks
	path := make(Path, n.start+blocks)
	copy(path[n.start:], n.hashes[:blocks])
	for id = n.parent; id != root; id = n.parent {
		n = t.nodes.at(id)
		copy(path[n.start:], n.hashes)
	}
	return path
}
