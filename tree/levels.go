package tree

import "iter"

// A Level is a part of a path that is the same run of blocks to all who hold it. It is valid until the tree changes.
type Level struct {
	// Depth is how many leading blocks of the path its end makes: none of its holders that is not on a deeper level holds more.
	Depth   int
	holders []holder // by worker
}

// Levels appends those parts of path that somebody holds, deepest first. The holders of each are among those of all that
// follow. It takes no time for the holders, however many there are.
func (t *Tree) Levels(path Path, into []Level) []Level {
	at, depth := t.deepest(path)
	for at != root {
		n := t.nodes.at(at)
		into = append(into, Level{min(depth, int(n.start)+len(n.hashes)), n.holders})
		at = n.parent
	}
	return into
}

// Holders is how many hold some of the level.
func (l Level) Holders() int { return len(l.holders) }

// All yields them in order.
func (l Level) All() iter.Seq[Worker] {
	return func(yield func(Worker) bool) {
		for i := range l.holders {
			if !yield(l.holders[i].worker) {
				return
			}
		}
	}
}

// Any tells whether one of the workers from first on, below end, holds some of the level.
func (l Level) Any(first, end Worker) bool {
	n := node{holders: l.holders}
	i, _ := n.find(first)
	return i < len(l.holders) && l.holders[i].worker < end
}
