package simengine

import "slices"

// cache is a token-level radix tree of KV cache contents with SGLang's rules (srt/mem_cache/radix_cache.py):
// runs of whole pages on the edges, a split where a match ends inside a run, a lock count along the path of
// every running request, and eviction of whole unlocked leaves, only on demand.
//
// Every namespace (LoRA, salt) has a root of its own. Times are the caller's, in any unit, and need not rise.
type cache struct {
	page       int
	byPriority bool // evict by (priority, last use) instead of last use alone

	roots map[string]*node
	edges map[edge]*node // head of a list of siblings whose first pages hash alike
	idle  leaves         // unlocked leaves, the next to evict first
	seq   uint64         // nodes made so far

	size   int // tokens held
	locked int // tokens held on the path of some running request
}

// A node holds a run of tokens in memory of its own, so that what is evicted is really freed.
type node struct {
	tokens []int32
	parent *node // nil for a namespace's root
	next   *node // the next sibling in the edge's list
	space  string

	last     int64 // last use
	priority int64 // the largest seen
	seq      uint64
	locks    int32
	kids     int32
	pos      int32 // in idle, -1 outside
	dead     bool  // no longer in the tree
}

type edge struct {
	parent *node
	first  uint64 // hash of the first page; the token itself when pages hold one
}

func newCache(page int, byPriority bool) *cache {
	return &cache{page: page, byPriority: byPriority, roots: map[string]*node{}, edges: map[edge]*node{},
		idle: leaves{byPriority: byPriority}}
}

// floor and ceil round a length to whole pages.
func (c *cache) floor(n int) int { return n - n%c.page }
func (c *cache) ceil(n int) int  { return c.floor(n + c.page - 1) }

// usable is how much of a prompt of n tokens may come from the cache: whole pages, and never its last
// token, which must be computed for the first output.
func (c *cache) usable(n int) int { return c.floor(max(n-1, 0)) }

func (c *cache) evictable() int { return c.size - c.locked }

// match walks on from n, which holds the first at tokens, along the longest held prefix of tokens, marks the
// whole path used and returns where it ends. It splits a run that the match ends in. Start from a root and
// 0, or from the end of an earlier match that is still alive: what was compared once is not compared again.
func (c *cache) match(n *node, at int, tokens []int32, now int64) (*node, int) {
	for up := n; up != nil; up = up.parent {
		c.touch(up, now)
	}
	tokens = tokens[:c.floor(len(tokens))]
	for at < len(tokens) {
		child := c.child(n, tokens[at:])
		if child == nil {
			break
		}
		k := c.floor(commonPrefix(child.tokens, tokens[at:]))
		if k < len(child.tokens) {
			child = c.split(child, k)
		}
		c.touch(child, now)
		n, at = child, at+k
	}
	return n, at
}

// peek is how much of tokens is held. It changes nothing.
func (c *cache) peek(space string, tokens []int32) int {
	n, matched := c.roots[space], 0
	for n != nil && matched < c.floor(len(tokens)) {
		child := c.child(n, tokens[matched:])
		if child == nil {
			break
		}
		k := c.floor(commonPrefix(child.tokens, tokens[matched:]))
		matched += k
		if k < len(child.tokens) {
			break
		}
		n = child
	}
	return matched
}

// insert adds tokens (whole pages) below n, which must be locked, marks the whole path used, raises its
// priority, and returns the path's new end and how many tokens the tree did not hold before.
func (c *cache) insert(n *node, tokens []int32, now, priority int64) (end *node, added int) {
	for up := n; up != nil; up = up.parent {
		up.last, up.priority = now, max(up.priority, priority)
	}
	for len(tokens) > 0 {
		child := c.child(n, tokens)
		if child == nil {
			child = c.grow(n, tokens, now, priority)
			return child, added + len(tokens)
		}
		k := c.floor(commonPrefix(child.tokens, tokens))
		if k < len(child.tokens) {
			child = c.split(child, k)
		}
		child.priority = max(child.priority, priority)
		c.touch(child, now)
		n, tokens = child, tokens[k:]
	}
	return n, added
}

// lock protects the path from n to its root; unlock undoes one lock.
func (c *cache) lock(n *node) {
	for ; n != nil; n = n.parent {
		if n.locks++; n.locks == 1 {
			c.locked += len(n.tokens)
			c.idle.remove(n)
		}
	}
}

func (c *cache) unlock(n *node) {
	for n != nil {
		up := n.parent
		if n.locks--; n.locks == 0 {
			c.locked -= len(n.tokens)
			c.settle(n)
		}
		n = up
	}
}

// evict frees whole unlocked leaves, the next in order first, until at least want tokens are freed or none
// is left, and returns how many were.
func (c *cache) evict(want int) int {
	freed := 0
	for freed < want && len(c.idle.heap) > 0 {
		n := c.idle.heap[0]
		c.idle.remove(n)
		freed += len(n.tokens)
		c.size -= len(n.tokens)
		c.unlink(n)
		n.parent.kids--
		c.settle(n.parent)
		n.tokens, n.dead = nil, true
	}
	return freed
}

// flush forgets everything. Nothing may be locked.
func (c *cache) flush() {
	*c = *newCache(c.page, c.byPriority)
}

// settle files a node that nothing locks: a leaf becomes evictable, an empty root goes.
func (c *cache) settle(n *node) {
	switch {
	case n.locks > 0 || n.kids > 0:
	case n.parent == nil:
		c.dropRoot(n)
	default:
		c.idle.add(n)
	}
}

// dropRoot forgets a namespace's root that holds nothing; any other node is left alone.
func (c *cache) dropRoot(n *node) {
	if n.parent == nil && n.locks == 0 && n.kids == 0 && !n.dead {
		delete(c.roots, n.space)
		n.dead = true
	}
}

func (c *cache) root(space string) *node {
	n := c.roots[space]
	if n == nil {
		n = &node{space: space, pos: -1}
		c.roots[space] = n
	}
	return n
}

func (c *cache) touch(n *node, now int64) {
	n.last = now
	c.idle.fix(n)
}

// grow hangs a new leaf with a copy of tokens below n.
func (c *cache) grow(n *node, tokens []int32, now, priority int64) *node {
	c.idle.remove(n)
	c.seq++
	leaf := &node{tokens: slices.Clone(tokens), parent: n, last: now, priority: priority, seq: c.seq, pos: -1}
	c.link(leaf)
	n.kids++
	c.size += len(tokens)
	c.idle.add(leaf)
	return leaf
}

// split cuts n's run after k tokens and returns the new upper node; n stays the lower one, so that locks
// held on n still cover both.
func (c *cache) split(n *node, k int) *node {
	c.seq++
	up := &node{tokens: slices.Clone(n.tokens[:k]), parent: n.parent, last: n.last, priority: n.priority,
		seq: c.seq, locks: n.locks, kids: 1, pos: -1}
	c.unlink(n)
	c.link(up)
	n.tokens, n.parent = slices.Clone(n.tokens[k:]), up
	c.link(n)
	return up
}

func (c *cache) child(n *node, tokens []int32) *node {
	if len(tokens) < c.page {
		return nil
	}
	kid := c.edges[edge{n, firstPage(tokens[:c.page])}]
	for kid != nil && !slices.Equal(kid.tokens[:c.page], tokens[:c.page]) {
		kid = kid.next
	}
	return kid
}

func (c *cache) link(n *node) {
	e := edge{n.parent, firstPage(n.tokens[:c.page])}
	n.next = c.edges[e]
	c.edges[e] = n
}

func (c *cache) unlink(n *node) {
	e := edge{n.parent, firstPage(n.tokens[:c.page])}
	head := c.edges[e]
	switch {
	case head != n:
		for head.next != n {
			head = head.next
		}
		head.next = n.next
	case n.next == nil:
		delete(c.edges, e)
	default:
		c.edges[e] = n.next
	}
	n.next = nil
}

// firstPage hashes a page. Equal hashes are told apart by comparing tokens.
func firstPage(page []int32) uint64 {
	h := uint64(uint32(page[0]))
	for _, t := range page[1:] {
		h = mix(h ^ uint64(uint32(t)))
	}
	return h
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// commonPrefix is the length of the longest common prefix. Whole blocks are compared as arrays, which the
// compiler turns into a memory comparison: about five times as fast as a loop (BenchmarkCommonPrefix).
func commonPrefix(a, b []int32) int {
	const block = 64
	n := min(len(a), len(b))
	i := 0
	for i+block <= n && *(*[block]int32)(a[i:]) == *(*[block]int32)(b[i:]) {
		i += block
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
