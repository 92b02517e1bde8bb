package tree_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/radixbus/radixbus/tree"
)

// Over the memory budget the oldest leaves of all workers go: what is left is never older than what went, and neither
// capacities nor their counter are involved.
func TestMemoryBudgetEvictsTheOldestOfAll(t *testing.T) {
	const budget = 40_000
	tr := tree.New(tree.Config{MaxBytes: budget})
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	m := newModel(tr, func(depth int) int64 { return int64(depth) })
	for i := range 600 {
		w := tree.Worker(r.IntN(5))
		symbols := make([]byte, 1+r.IntN(40))
		for j := range symbols {
			symbols[j] = byte(r.IntN(4) / 3)
		}
		path := chain(symbols...)
		before := tr.Stats()
		tr.Insert(w, path, tree.Stamp(i))
		m.insert(w, path, tree.Stamp(i)) //nolint:errcheck // no capacity, so no choice to check
		tree.Check(t, tr)
		newest := tree.Stamp(-1)
		gone := 0
		for w := range m.held {
			for _, b := range m.adopt(w) {
				newest = max(newest, b.stamp)
				gone++
			}
		}
		for w := range m.held {
			for _, b := range m.leaves(w) {
				if b.stamp < newest {
					t.Fatalf("seed %d: worker %d keeps a leaf of stamp %d; one of %d went", seed, w, b.stamp, newest)
				}
			}
		}
		after := tr.Stats()
		if got := after.EvictedForBytes - before.EvictedForBytes; got != uint64(gone) || after.EvictedForCapacity != 0 {
			t.Fatalf("seed %d: %d evicted, counted %d", seed, gone, got)
		}
		if gone > 0 && after.Bytes < budget*8/10 {
			t.Fatalf("seed %d: evicted down to %d of %d bytes", seed, after.Bytes, budget)
		}
		m.compare(t, tr)
	}
	if tr.Stats().EvictedForBytes == 0 {
		t.Fatal("the budget was never reached")
	}
}

func TestMemoryBudgetTakesEqualStampsByWorker(t *testing.T) {
	tr := tree.New(tree.Config{})
	for _, w := range []tree.Worker{2, 0, 3, 1} {
		tr.Insert(w, chain(byte(w), 1, 1), 5)
	}
	small, err := tree.Restore(bytes.NewReader(snapshot(t, tr)), tree.Config{MaxBytes: tr.Stats().Bytes})
	if err != nil {
		t.Fatal(err)
	}
	for gone := range tree.Worker(3) {
		small.Insert(3, chain(9, byte(gone))[1:], 6) // no larger than what must go
		for w := range tree.Worker(3) {
			if got, want := small.HeldCost(w) == 0, w <= gone; got != want {
				t.Fatalf("after %d: worker %d lost its leaf: %v, want %v", gone+1, w, got, want)
			}
		}
	}
}

// The estimate behind the budget must be near the truth, for long runs and for short ones.
func TestMemoryEstimateIsNearTheHeap(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		paths, length, sharers int
		lowest, highest        float64 // heap over estimate
	}{
		{"long runs", 3_000, 200, 1, 0.9, 1.25},
		{"short runs", 60_000, 4, 1, 0.7, 1.4},
		{"shared by many", 300, 100, 200, 0.8, 1.3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			path := make(tree.Path, tt.length)
			before := heapInUse()
			tr := tree.New(tree.Config{})
			for i := range tt.paths {
				for j := range path {
					path[j] = r.Uint64()
				}
				for s := range tt.sharers {
					tr.Insert(tree.Worker((i+s)%256), path, tree.Stamp(i))
				}
			}
			got := float64(heapInUse()-before) / float64(tr.Stats().Bytes)
			if got < tt.lowest || got > tt.highest {
				t.Errorf("the heap grew by %.2f times the estimate, want %.2f to %.2f", got, tt.lowest, tt.highest)
			}
			runtime.KeepAlive(tr)
		})
	}
}

// Equal calls give equal trees, byte for byte, also where equal stamps leave the order of eviction open.
func TestEqualCallsGiveEqualTrees(t *testing.T) {
	seed := rand.Uint64()
	run := func() []byte {
		r := rand.New(rand.NewPCG(seed, 0))
		tr := tree.New(tree.Config{MaxBytes: 60_000})
		for range 3_000 {
			w := tree.Worker(r.IntN(6))
			symbols := make([]byte, 1+r.IntN(30))
			for j := range symbols {
				symbols[j] = byte(r.IntN(5) / 4)
			}
			tr.SetCapacity(w, 500)
			tr.Insert(w, chain(symbols...), tree.Stamp(r.IntN(3)))
		}
		return snapshot(t, tr)
	}
	if !bytes.Equal(run(), run()) {
		t.Fatalf("seed %d: two trees from the same calls differ", seed)
	}
}
