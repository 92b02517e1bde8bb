package core

// An index finds the cheapest of many workers without a look at each of them. It is a binary tree in a slice: its leaves are
// the workers' figures, by the workers' indices, and every inner node holds the least of its leaves, figure by figure. So the
// price by a node's figures is at most that of any worker below it. The zero value is empty.
type index struct {
	nodes  []figures // the root is 1, the children of i are 2i and 2i+1
	leaves int       // a power of two, or 0
}

// set puts figures in a leaf's place. It takes as many steps as the tree is deep.
func (x *index) set(leaf int, f figures) {
	if leaf >= x.leaves {
		if f == nobody {
			return
		}
		x.grow(leaf + 1)
	}
	i := x.leaves + leaf
	for ; i >= 1 && x.nodes[i] != f; i /= 2 {
		x.nodes[i] = f
		f = x.nodes[i].least(&x.nodes[i^1])
	}
}

// grow makes room for that many leaves.
func (x *index) grow(leaves int) {
	size := max(2, x.leaves)
	for size < leaves {
		size *= 2
	}
	old := x.nodes[min(len(x.nodes), x.leaves):]
	x.nodes = make([]figures, 2*size)
	for i := range x.nodes {
		x.nodes[i] = nobody
	}
	copy(x.nodes[size:], old)
	for i := size - 1; i >= 1; i-- {
		x.nodes[i] = x.nodes[2*i].least(&x.nodes[2*i+1])
	}
	x.leaves = size
}

// empty tells that nobody has figures.
func (x *index) empty() bool { return x.leaves == 0 || x.nodes[1] == nobody }
