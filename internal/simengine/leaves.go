package simengine

// leaves is a binary heap of evictable nodes, the next to evict at the top. Every node knows its place, so
// a touch moves one node in logarithmic time; SGLang builds its heap anew for every eviction, with the
// same order. Equal keys go by age of the node, so that runs repeat exactly.
type leaves struct {
	byPriority bool
	heap       []*node
}

func (l *leaves) before(a, b *node) bool {
	if l.byPriority && a.priority != b.priority {
		return a.priority < b.priority
	}
	if a.last != b.last {
		return a.last < b.last
	}
	return a.seq < b.seq
}

func (l *leaves) add(n *node) {
	n.pos = int32(len(l.heap))
	l.heap = append(l.heap, n)
	l.up(n)
}

// remove takes n out; a node that is not in is left alone.
func (l *leaves) remove(n *node) {
	i := int(n.pos)
	if i < 0 {
		return
	}
	last := len(l.heap) - 1
	moved := l.heap[last]
	l.heap[last] = nil
	l.heap = l.heap[:last]
	n.pos = -1
	if moved != n {
		l.heap[i], moved.pos = moved, int32(i)
		l.fix(moved)
	}
}

// fix restores the order after n's key changed; a node that is not in is left alone.
func (l *leaves) fix(n *node) {
	if n.pos >= 0 {
		l.up(n)
		l.down(n)
	}
}

func (l *leaves) up(n *node) {
	for n.pos > 0 {
		parent := l.heap[(n.pos-1)/2]
		if !l.before(n, parent) {
			return
		}
		l.swap(n, parent)
	}
}

func (l *leaves) down(n *node) {
	for {
		i := 2*int(n.pos) + 1
		if i >= len(l.heap) {
			return
		}
		child := l.heap[i]
		if i+1 < len(l.heap) && l.before(l.heap[i+1], child) {
			child = l.heap[i+1]
		}
		if !l.before(child, n) {
			return
		}
		l.swap(n, child)
	}
}

func (l *leaves) swap(a, b *node) {
	a.pos, b.pos = b.pos, a.pos
	l.heap[a.pos], l.heap[b.pos] = a, b
}
