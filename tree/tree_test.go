package tree_test

import (
	"bytes"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/radixbus/radixbus/tree"
)

func ExampleTree() {
	tr := tree.New(tree.Config{})
	tr.SetCapacity(7, 5) // worker 7 has room for five blocks
	tr.Insert(7, tree.Path{0xa1, 0xb2, 0xc3}, 10)
	tr.Insert(8, tree.Path{0xa1}, 11)
	fmt.Println(tr.Match(tree.Path{0xa1, 0xb2, 0xff}, nil))

	tr.Insert(7, tree.Path{0xd4, 0xe5, 0xf6}, 12) // one block of the older path must go: its last
	fmt.Println(tr.Held(7, tree.Path{0xa1, 0xb2, 0xc3}), tr.HeldCost(7))
	// Output:
	// [{7 2} {8 1}]
	// 2 5
}

func TestMatchListsEveryHolderOnceDeepestFirst(t *testing.T) {
	tr := tree.New(tree.Config{})
	system := []byte{1, 1, 1, 1}
	tr.Insert(3, chain(append(system, 2, 2)...), 1)
	tr.Insert(1, chain(append(system, 2, 2, 2)...), 1)
	tr.Insert(2, chain(append(system, 3)...), 1) // a sibling
	tr.Insert(0, chain(system[:2]...), 1)        // part of a run
	tr.Insert(4, chain(system...), 1)
	tr.Insert(5, chain(9, 9), 1) // nothing in common
	for _, tt := range []struct {
		name string
		path tree.Path
		want []tree.Holder
	}{
		{"nothing asked", nil, nil},
		{"unknown", chain(7), nil},
		{"whole path", chain(append(system, 2, 2, 2)...), []tree.Holder{{1, 7}, {3, 6}, {2, 4}, {4, 4}, {0, 2}}},
		{"past the end", chain(append(system, 2, 2, 2, 8, 8)...), []tree.Holder{{1, 7}, {3, 6}, {2, 4}, {4, 4}, {0, 2}}},
		{"diverging inside a run", chain(append(system, 2, 8)...), []tree.Holder{{1, 5}, {3, 5}, {2, 4}, {4, 4}, {0, 2}}},
		{"ending inside a run", chain(system[:3]...), []tree.Holder{{1, 3}, {2, 3}, {3, 3}, {4, 3}, {0, 2}}},
		{"first block only", chain(1), []tree.Holder{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prior := []tree.Holder{{99, 99}}
			if got := tr.Match(tt.path, prior); !slices.Equal(got, append(prior, tt.want...)) {
				t.Errorf("Match = %v, want %v after the prior one", got, tt.want)
			}
			for _, h := range tt.want {
				if got := tr.Held(h.Worker, tt.path); got != h.Depth {
					t.Errorf("Held(%d) = %d, want %d", h.Worker, got, h.Depth)
				}
			}
		})
	}
	tree.Check(t, tr)
}

// A call is one change of worker 0 in a table test.
type call func(tr *tree.Tree)

func insert(at tree.Stamp, symbols ...byte) call {
	return func(tr *tree.Tree) { tr.Insert(0, chain(symbols...), at) }
}

func touch(at tree.Stamp, symbols ...byte) call {
	return func(tr *tree.Tree) { tr.Touch(0, chain(symbols...), at) }
}

func TestEvictionFollowsTheStamps(t *testing.T) {
	for _, tt := range []struct {
		name     string
		calls    []call
		capacity int64
		want     [][]byte // leaves left
	}{
		{"the oldest leaf goes, its prefix stays",
			[]call{insert(1, 1, 1, 2), insert(2, 1, 1, 3)}, 3, [][]byte{{1, 1, 3}}},
		{"a leaf is cut at its tail, no more than needed",
			[]call{insert(1, 1, 1, 1, 1), insert(2, 2, 2)}, 4, [][]byte{{1, 1}, {2, 2}}},
		{"a touch refreshes a leaf",
			[]call{insert(1, 1, 1), insert(2, 2, 2), touch(3, 1, 1)}, 2, [][]byte{{1, 1}}},
		{"a touch in the past changes nothing",
			[]call{insert(5, 1, 1), insert(6, 2, 2), touch(3, 1, 1)}, 2, [][]byte{{2, 2}}},
		{"a touch of the first part leaves the rest old",
			[]call{insert(1, 1, 1, 1), insert(2, 2, 2), touch(3, 1, 1)}, 4, [][]byte{{1, 1}, {2, 2}}},
		{"a stamp in the future protects",
			[]call{insert(100, 1, 1), insert(2, 2, 2), insert(3, 3, 3)}, 4, [][]byte{{1, 1}, {3, 3}}},
		{"stamps out of order: what is older goes first",
			[]call{insert(9, 1, 1, 1), insert(4, 1, 1, 1, 2, 2), insert(5, 3)}, 4, [][]byte{{1, 1, 1}, {3}}},
		{"a parent goes once it is the oldest leaf",
			[]call{insert(1, 1, 1, 2), insert(2, 3, 3, 3)}, 3, [][]byte{{3, 3, 3}}},
		{"nothing goes below the capacity",
			[]call{insert(1, 1), insert(2, 2)}, 2, [][]byte{{1}, {2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := tree.New(tree.Config{})
			for _, c := range tt.calls {
				c(tr)
			}
			tr.SetCapacity(0, tt.capacity)
			tree.Check(t, tr)
			wantLeaves(t, tr, tt.want)
		})
	}
}

func wantLeaves(t *testing.T, tr *tree.Tree, want [][]byte) {
	t.Helper()
	var got, paths []tree.Path
	for path := range tr.Leaves(0) {
		got = append(got, path)
	}
	for _, w := range want {
		paths = append(paths, chain(w...))
	}
	slices.SortFunc(got, slices.Compare)
	slices.SortFunc(paths, slices.Compare)
	if !slices.EqualFunc(got, paths, slices.Equal) {
		t.Errorf("leaves left: %x, want %x", got, paths)
	}
}

func TestInsertSparesItsOwnPath(t *testing.T) {
	tr := tree.New(tree.Config{})
	tr.SetCapacity(0, 4)
	tr.Insert(0, chain(1, 1, 1), 50)
	if got := tr.Insert(0, chain(2, 2, 2), 1); got != 3 { // the oldest of all, but just computed
		t.Errorf("Insert = %d, want 3", got)
	}
	wantLeaves(t, tr, [][]byte{{1}, {2, 2, 2}})
	if got := tr.Insert(0, chain(3, 3, 3, 3, 3, 3), 2); got != 4 { // more than there is room for
		t.Errorf("Insert = %d, want 4", got)
	}
	wantLeaves(t, tr, [][]byte{{3, 3, 3, 3}})
	if got := tr.Stats().EvictedForCapacity; got != 6 {
		t.Errorf("EvictedForCapacity = %d, want 6", got)
	}
	tree.Check(t, tr)
}

func TestCapacityIsInUnitsOfCost(t *testing.T) {
	ladder := func(depth int) int64 { return 64*int64(min(depth, 4)) + 256*int64(max(depth-4, 0)) }
	tr := tree.New(tree.Config{Cost: ladder})
	tr.Insert(0, chain(1, 1, 1, 1, 1, 1), 1)
	if got := tr.HeldCost(0); got != 4*64+2*256 {
		t.Errorf("HeldCost = %d, want %d", got, 4*64+2*256)
	}
	tr.SetCapacity(0, 4*64+2*256-1) // one unit short: a whole block of 256 goes
	wantLeaves(t, tr, [][]byte{{1, 1, 1, 1, 1}})
}

func TestEvictThroughSparesThePathInFlight(t *testing.T) {
	tr := tree.New(tree.Config{})
	tr.Insert(0, chain(1, 2, 2), 1)
	tr.Insert(0, chain(1, 3, 3), 2)
	tr.Insert(0, chain(4, 4), 3)
	tr.Insert(0, chain(5, 5), 4)
	if got := tr.EvictThrough(0, 3, chain(1, 3, 8)); got != 5 {
		t.Errorf("EvictThrough = %d, want 5: two blocks of 1-2-2, one of 1-3-3 and both of 4-4", got)
	}
	wantLeaves(t, tr, [][]byte{{1, 3}, {5, 5}})
	tree.Check(t, tr)
}

// A neighbour of this tree left the descendants of a removed part reachable. Here they all go, whatever their stamps.
func TestTruncateDropsEveryBranchBelow(t *testing.T) {
	tr := tree.New(tree.Config{})
	for i := range byte(5) {
		tr.Insert(0, chain(1, 1, 1, 1, i, i), tree.Stamp(i))
		tr.Insert(1, chain(1, 1, 1, 1, i, i), tree.Stamp(i))
	}
	tr.Insert(0, chain(1, 1, 9), 9)
	if got := tr.Truncate(0, chain(1, 1, 1, 7, 7), 2); got != 2+5*2 {
		t.Errorf("Truncate = %d, want 12", got)
	}
	wantLeaves(t, tr, [][]byte{{1, 1, 9}})
	if got := tr.HeldCost(1); got != 4+5*2 {
		t.Errorf("the other worker holds %d, want 14", got)
	}
	if got := tr.Truncate(0, chain(1, 1, 9), -4); got != 3 {
		t.Errorf("Truncate to a negative depth = %d, want all 3", got)
	}
	tree.Check(t, tr)
}

func TestDropGivesEverythingBack(t *testing.T) {
	tr := tree.New(tree.Config{})
	empty := tr.Stats()
	for w := range tree.Worker(3) {
		tr.SetCapacity(w, 100)
		for i := range byte(20) {
			tr.Insert(w, chain(1, 2, i, i+byte(w)), tree.Stamp(i))
		}
	}
	tr.Clear(0)
	if got := tr.Capacity(0); got != 100 {
		t.Errorf("after Clear: Capacity = %d, want 100", got)
	}
	for w := range tree.Worker(3) {
		tr.Drop(w)
		tree.Check(t, tr)
	}
	if got := tr.Stats(); got != empty {
		t.Errorf("Stats = %+v, want %+v", got, empty)
	}
	if got := tr.Capacity(1); got != 0 {
		t.Errorf("after Drop: Capacity = %d, want 0", got)
	}
}

func TestAConversationStaysOneNode(t *testing.T) {
	tr := tree.New(tree.Config{})
	prompt := make([]byte, 1000)
	for turn := 1; turn <= 20; turn++ {
		tr.Insert(0, chain(prompt[:50*turn]...), tree.Stamp(turn))
	}
	branch := chain(append(prompt[:300:300], 1, 2, 3)...)
	tr.Insert(0, branch, 20)
	if got := tr.Stats().Nodes; got != 3 {
		t.Errorf("%d nodes with one branch, want 3", got)
	}
	tr.Truncate(0, branch, 300)
	if got := tr.Stats().Nodes; got != 1 {
		t.Errorf("%d nodes without the branch, want 1", got)
	}
}

func TestOutOfRangeIsIgnored(t *testing.T) {
	tr := tree.New(tree.Config{MaxBytes: -1})
	path := chain(1, 2, 3)
	for _, w := range []tree.Worker{tree.MaxWorkers, math.MaxUint32} {
		tr.SetCapacity(w, 1)
		if got := tr.Insert(w, path, 1); got != 0 {
			t.Errorf("Insert = %d", got)
		}
		if got := tr.Touch(w, path, 1) + tr.Held(w, path); got != 0 {
			t.Errorf("it holds %d", got)
		}
		tr.Truncate(w, path, 0)
		tr.EvictThrough(w, math.MaxInt64, nil)
		tr.Clear(w)
		tr.Drop(w)
		for range tr.Leaves(w) {
			t.Error("a leaf")
		}
	}
	tr.Insert(0, path, math.MinInt64)
	tr.Insert(0, nil, 1)
	for _, depth := range []int{-1, 0, 4} {
		if _, ok := tr.StampAt(0, path, depth); ok {
			t.Errorf("StampAt(%d) is known", depth)
		}
	}
	if got := tr.Insert(1, make(tree.Path, tree.MaxDepth+1), 1); got != tree.MaxDepth {
		t.Errorf("Insert of too long a path = %d, want %d", got, tree.MaxDepth)
	}
	tr.SetCapacity(0, -5)
	if got := tr.HeldCost(0); got != 3 || tr.Capacity(0) != 0 {
		t.Errorf("a negative capacity: holds %d of %d, want 3 of 0 (no bound)", got, tr.Capacity(0))
	}
	tree.Check(t, tr)
}

func TestHostilePathsOnlyMislead(t *testing.T) {
	tr := tree.New(tree.Config{})
	paths := []tree.Path{{5, 5, 5, 5}, {5, 5}, {5, 5, 5, 6}, {6, 5, 5}, {5, 6, 5, 5}, {0}, {0, 0, 0}, {5, 0, 5, 0}, {6, 6, 5}}
	for i, path := range paths {
		for w := range tree.Worker(3) {
			tr.Insert(w, path, tree.Stamp(i*int(w)))
			tr.Touch(w, paths[(i+3)%len(paths)][:1], tree.Stamp(i))
			tree.Check(t, tr)
		}
	}
	for i, path := range paths {
		tr.Truncate(tree.Worker(i%3), path, i%3)
		tree.Check(t, tr)
		tr.EvictThrough(tree.Worker(i%3), 3, path)
		tree.Check(t, tr)
	}
}

// A million blocks deep in a chain of thousands of nodes: nothing recurses.
func TestDepthCostsNoStack(t *testing.T) {
	const depth, nodes = tree.MaxDepth, 800
	tr := tree.New(tree.Config{})
	path := make(tree.Path, depth)
	for i := range path {
		path[i] = mix(uint64(i) + 1)
	}
	debug.SetMaxStack(1 << 20)
	defer debug.SetMaxStack(1 << 30)
	tr.Insert(0, path, 0)
	for i := range nodes { // younger towards the front, so every touch splits a node
		tr.Touch(0, path[:depth/2-i], tree.Stamp(i+1))
	}
	if got := tr.Stats().Nodes; got != nodes+1 {
		t.Fatalf("%d nodes, want %d", got, nodes+1)
	}
	if got := tr.Match(path, nil); len(got) != 1 || got[0].Depth != depth {
		t.Errorf("Match = %v, want depth %d", got, depth)
	}
	restored, err := tree.Restore(bytes.NewReader(snapshot(t, tr)), tree.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tree.Check(t, restored)
	tr.Truncate(0, path, depth/2-nodes/2)
	tree.Check(t, tr)
	tr.Drop(0)
	tree.Check(t, tr)
}

func TestMatchDoesNotAllocate(t *testing.T) {
	tr := tree.New(tree.Config{})
	for w := range tree.Worker(64) {
		tr.Insert(w, chain(1, 2, 3, byte(w), 4, 5)[:1+w%6], 1)
	}
	path, buf := chain(1, 2, 3, 40, 4, 5), make([]tree.Holder, 0, 64)
	if got := testing.AllocsPerRun(100, func() { buf = tr.Match(path, buf[:0]) }); got != 0 || len(buf) != 64 {
		t.Errorf("%v allocations for %d holders, want 0 for 64", got, len(buf))
	}
}
