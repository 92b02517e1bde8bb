package simengine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// check compares the cache's own sums with a walk over all it holds.
func (c *cache) check() error {
	var nodes, size, locked, idle int
	kids := map[*node]int32{}
	for e, head := range c.edges {
		for n := head; n != nil; n = n.next {
			nodes++
			size += len(n.tokens)
			kids[n.parent]++
			if n.locks > 0 {
				locked += len(n.tokens)
			}
			if n.parent != e.parent || len(n.tokens) == 0 || len(n.tokens)%c.page != 0 || n.dead {
				return fmt.Errorf("node %d is out of place", n.seq)
			}
			if n.parent.locks < n.locks {
				return fmt.Errorf("node %d has more locks than its parent", n.seq)
			}
			if (n.pos >= 0) != (n.locks == 0 && n.kids == 0) {
				return fmt.Errorf("node %d: pos %d, locks %d, kids %d", n.seq, n.pos, n.locks, n.kids)
			}
			if n.pos >= 0 {
				idle++
				if c.idle.heap[n.pos] != n {
					return fmt.Errorf("node %d is not where it says", n.seq)
				}
			}
		}
	}
	for n, k := range kids {
		if n.kids != k {
			return fmt.Errorf("node %d has %d kids, says %d", n.seq, k, n.kids)
		}
	}
	if size != c.size || locked != c.locked || idle != len(c.idle.heap) {
		return fmt.Errorf("sums: size %d of %d, locked %d of %d, idle %d of %d", c.size, size, c.locked, locked,
			len(c.idle.heap), idle)
	}
	return nil
}

// prefill does what a job alone in the engine does to the cache, and returns what was cached.
func (c *cache) prefill(tokens []int32, now, priority int64) int {
	n, k := c.match(c.root(""), 0, tokens[:c.usable(len(tokens))], now)
	c.lock(n)
	end, _ := c.insert(n, tokens[k:c.floor(len(tokens))], now, priority)
	c.lock(end)
	c.unlock(n)
	c.unlock(end)
	return k
}

func TestRepeatOfAPromptIsCachedButForItsLastTokenAndPage(t *testing.T) {
	for _, tt := range []struct{ page, length, want int }{
		{1, 42, 41}, {1, 1, 0}, {1, 2, 1}, {16, 40, 32}, {16, 32, 16}, {16, 33, 32}, {16, 16, 0}, {16, 15, 0},
	} {
		c := newCache(tt.page, false)
		prompt := series(0, tt.length)
		if got := c.prefill(prompt, 1, 0); got != 0 {
			t.Errorf("page %d: first run of %d cached %d", tt.page, tt.length, got)
		}
		if got := c.prefill(prompt, 2, 0); got != tt.want {
			t.Errorf("page %d: repeat of %d cached %d, want %d", tt.page, tt.length, got, tt.want)
		}
	}
}

func TestEvictionByPriorityKeepsWhatTheStampSays(t *testing.T) {
	// Seen on SGLang 0.5.23 with a pool of 8,192: a prompt of 2,000, then six others of 1,900.
	for _, tt := range []struct {
		byPriority bool
		credit     int64
		want       int
	}{{true, 0, 0}, {true, 200, 1999}, {false, 200, 0}} {
		c := newCache(1, tt.byPriority)
		stamp := int64(1_000_000)
		c.prefill(series(0, 2000), stamp, stamp+tt.credit)
		for i := range 6 {
			stamp++
			if short := c.size + 1900 - 8192; short > 0 {
				c.evict(short)
			}
			c.prefill(series(int32(1+i)*10_000, 1900), stamp, stamp)
		}
		if got := c.peek("", series(0, 2000)[:c.usable(2000)]); got != tt.want {
			t.Errorf("by priority %v, credit %d: %d cached remain, want %d", tt.byPriority, tt.credit, got, tt.want)
		}
	}
}

func TestLockedPathSurvivesEviction(t *testing.T) {
	c := newCache(1, false)
	c.prefill(series(0, 100), 1, 0)
	c.prefill(append(series(0, 60), series(500, 40)...), 2, 0)
	n, k := c.match(c.root(""), 0, series(0, 80), 3)
	if k != 80 {
		t.Fatalf("matched %d, want 80", k)
	}
	c.lock(n)
	if freed := c.evict(1 << 20); freed != 20+40 {
		t.Errorf("evicted %d, want the 60 tokens that are not on the locked path", freed)
	}
	if got := c.peek("", series(0, 100)); got != 80 {
		t.Errorf("%d tokens remain, want 80", got)
	}
	c.unlock(n)
	if freed := c.evict(1 << 20); freed != 80 || c.size != 0 || len(c.roots) != 0 {
		t.Errorf("evicted %d, %d tokens and %d roots remain; want 80, 0, 0", freed, c.size, len(c.roots))
	}
}

func TestNamespacesNeverMatch(t *testing.T) {
	c := newCache(1, false)
	c.prefill(series(0, 50), 1, 0)
	if got := c.peek("salt", series(0, 50)); got != 0 {
		t.Errorf("another namespace matched %d", got)
	}
}

func TestPagesWithOneHashAreToldApart(t *testing.T) {
	// No two pages with one hash are known, so they are made to share a list by hand.
	c := newCache(1, false)
	c.prefill([]int32{1, 1, 1}, 1, 0)
	c.prefill([]int32{2, 2, 2}, 2, 0)
	root := c.roots[""]
	a, b := c.edges[edge{root, 1}], c.edges[edge{root, 2}]
	delete(c.edges, edge{root, 2})
	a.next = b
	if c.child(root, []int32{2}) != nil {
		t.Fatal("found a node under a hash that it does not have")
	}
	if got := c.edges[edge{root, 1}].next; got != b || c.child(root, []int32{1}) != a {
		t.Error("the first of a list is not found")
	}
}

// slowCache is the same cache in the plainest form: child lists, eviction by looking at every node.
type slowCache struct {
	page       int
	byPriority bool
	roots      map[string]*slowNode
	nodes      []*slowNode
	seq        uint64
}

type slowNode struct {
	tokens         []int32
	parent         *slowNode
	last, priority int64
	seq            uint64
	locks          int
}

func (s *slowCache) kids(n *slowNode) (kids []*slowNode) {
	for _, k := range s.nodes {
		if k.parent == n {
			kids = append(kids, k)
		}
	}
	return kids
}

func (s *slowCache) root(space string) *slowNode {
	if s.roots[space] == nil {
		s.roots[space] = &slowNode{}
	}
	return s.roots[space]
}

// walk follows tokens from n, splitting where they end inside a run, and calls touch on every node.
func (s *slowCache) walk(n *slowNode, tokens []int32, touch func(*slowNode)) (*slowNode, int) {
	at := 0
walk:
	for {
		for _, k := range s.kids(n) {
			same := 0
			for same < min(len(k.tokens), len(tokens)-at) && k.tokens[same] == tokens[at+same] {
				same++
			}
			same -= same % s.page
			if same == 0 {
				continue
			}
			if same < len(k.tokens) {
				s.seq++
				up := &slowNode{tokens: k.tokens[:same], parent: n, last: k.last, priority: k.priority, seq: s.seq, locks: k.locks}
				k.tokens, k.parent = k.tokens[same:], up
				s.nodes = append(s.nodes, up)
				k = up
			}
			touch(k)
			n, at = k, at+same
			continue walk
		}
		return n, at
	}
}

func (s *slowCache) match(space string, tokens []int32, now int64) (*slowNode, int) {
	return s.walk(s.root(space), tokens[:len(tokens)-len(tokens)%s.page], func(n *slowNode) { n.last = now })
}

func (s *slowCache) insert(n *slowNode, tokens []int32, now, priority int64) *slowNode {
	touch := func(n *slowNode) { n.last, n.priority = now, max(n.priority, priority) }
	for up := n; up != nil; up = up.parent {
		touch(up)
	}
	end, at := s.walk(n, tokens, touch)
	if at < len(tokens) {
		s.seq++
		end = &slowNode{tokens: slices.Clone(tokens[at:]), parent: end, last: now, priority: priority, seq: s.seq}
		s.nodes = append(s.nodes, end)
	}
	return end
}

func (s *slowCache) lock(n *slowNode, by int) {
	for ; n != nil; n = n.parent {
		n.locks += by
	}
}

func (s *slowCache) evict(want int) (freed int) {
	for freed < want {
		var best *slowNode
		for _, n := range s.nodes {
			if n.locks > 0 || len(s.kids(n)) > 0 {
				continue
			}
			a, b := []int64{0, n.last, int64(n.seq)}, []int64{0, 0, 0}
			if best != nil {
				b[1], b[2] = best.last, int64(best.seq)
				if s.byPriority {
					a[0], b[0] = n.priority, best.priority
				}
			}
			if best == nil || slices.Compare(a, b) < 0 {
				best = n
			}
		}
		if best == nil {
			break
		}
		freed += len(best.tokens)
		s.nodes = slices.DeleteFunc(s.nodes, func(n *slowNode) bool { return n == best })
	}
	return freed
}

func (s *slowCache) size() (size, locked int) {
	for _, n := range s.nodes {
		size += len(n.tokens)
		if n.locks > 0 {
			locked += len(n.tokens)
		}
	}
	return size, locked
}

// FuzzCache runs a program of operations on the cache and on the slow one.
func FuzzCache(f *testing.F) {
	f.Add([]byte("a quick brown fox jumps over the lazy dog and runs away"))
	f.Add([]byte{0, 1, 2, 0, 1, 2, 0, 9, 1, 7, 8, 255, 254, 3, 3, 3, 77, 91, 13, 200, 100, 50, 25, 12})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) < 2 || len(program) > 2000 {
			return
		}
		page, byPriority := 1+int(program[0]%3), program[0]&128 != 0
		c := newCache(page, byPriority)
		s := &slowCache{page: page, byPriority: byPriority, roots: map[string]*slowNode{}}
		type hold struct {
			n      *node
			s      *slowNode
			space  string
			tokens []int32
			at     int
		}
		var held []hold
		now := int64(0)
		for i := 1; i+1 < len(program); i += 2 {
			op, arg := program[i], program[i+1]
			now++
			tokens := make([]int32, 1+int(arg%13))
			for k := range tokens {
				tokens[k] = int32(arg>>(k%5)) & 1
			}
			space := []string{"", "x"}[op>>7]
			switch op % 5 {
			case 0, 1: // match and lock, as at admission
				n, k := c.match(c.root(space), 0, tokens, now)
				sn, sk := s.match(space, tokens, now)
				if k != sk {
					t.Fatalf("op %d: match %v = %d, want %d", i, tokens, k, sk)
				}
				c.lock(n)
				s.lock(sn, 1)
				held = append(held, hold{n, sn, space, tokens, k})
			case 2: // insert the rest and unlock, as at the end
				if len(held) == 0 {
					continue
				}
				j := int(arg) % len(held)
				h := held[j]
				rest := h.tokens[h.at:c.floor(len(h.tokens))]
				end, _ := c.insert(h.n, rest, now, int64(arg%7))
				send := s.insert(h.s, rest, now, int64(arg%7))
				c.lock(end)
				c.unlock(h.n)
				c.unlock(end)
				s.lock(h.s, -1)
				_ = send
				held = slices.Delete(held, j, j+1)
			case 3: // give up
				if len(held) > 0 {
					h := held[0]
					c.unlock(h.n)
					s.lock(h.s, -1)
					held = held[1:]
				}
			case 4:
				want := int(arg % 20)
				if got, wantFreed := c.evict(want), s.evict(want); got != wantFreed {
					t.Fatalf("op %d: evict(%d) freed %d, want %d", i, want, got, wantFreed)
				}
			}
			if err := c.check(); err != nil {
				t.Fatalf("op %d: %v", i, err)
			}
			if size, locked := s.size(); size != c.size || locked != c.locked {
				t.Fatalf("op %d: size %d locked %d, want %d %d", i, c.size, c.locked, size, locked)
			}
			for _, h := range held {
				if got := c.peek(h.space, h.tokens[:h.at]); got != h.at {
					t.Fatalf("op %d: a locked path of %d shrank to %d", i, h.at, got)
				}
			}
		}
	})
}

// series is n tokens that count up from a first.
func series(first int32, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = first + int32(i)
	}
	return out
}

func BenchmarkCommonPrefix(b *testing.B) {
	x, y := series(0, 12_000), series(0, 12_000)
	b.SetBytes(4 * 12_000)
	for b.Loop() {
		if commonPrefix(x, y) != len(x) {
			b.Fatal("would measure a difference")
		}
	}
}

// BenchmarkCacheMatch: a 12k-token prompt, all of it held, in a tree of 450k tokens.
func BenchmarkCacheMatch(b *testing.B) {
	c := newCache(1, false)
	for i := range int32(37) {
		c.prefill(series(i*20_000, 12_000), int64(i), 0)
	}
	prompt, now := series(0, 12_000), int64(100)
	b.ReportAllocs()
	for b.Loop() {
		now++
		if _, k := c.match(c.root(""), 0, prompt, now); k != len(prompt) {
			b.Fatalf("would measure a miss: matched %d", k)
		}
	}
}

// BenchmarkCacheInsert: a new 12k-token prompt a time into a full cache of 450k tokens.
func BenchmarkCacheInsert(b *testing.B) {
	c := newCache(1, false)
	prompt, now := series(0, 12_000), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now++
		prompt[0] = int32(now)
		if short := c.size + len(prompt) - 450_000; short > 0 {
			c.evict(short)
		}
		if c.prefill(prompt, now, 0) != 0 {
			b.Fatal("would measure a hit")
		}
	}
}
