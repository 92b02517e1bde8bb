package tree_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/radixbus/radixbus/tree"
)

// The benchmarks' traffic: prompts of 512 blocks (32k tokens at 64 a block). All begin with one block; 16 applications
// have system prompts of 8 to 68 blocks, known to every worker; each conversation lives on one worker and has 384 blocks that
// stay, and then one of four continuations of 128 blocks, of which the latest three are held.
const (
	promptBlocks = 512
	heldBlocks   = 384
	tailBlocks   = promptBlocks - heldBlocks
	tails        = 4
	apps         = 16

	pinned tree.Stamp = 1 << 62 // of the system prompts: in the future, so they outlive all else
)

type conversation struct {
	worker tree.Worker
	paths  [tails]tree.Path
	next   int // the continuation that is not held
}

// A fleet is a tree in a steady state: every insert of a conversation's next path adds 128 blocks and evicts 128.
type fleet struct {
	tr    *tree.Tree
	talks []*conversation
	clock tree.Stamp
}

// newFleet builds a tree that holds about so many (block, worker) pairs, always the same one for the same arguments. It has the
// conversations only if keep is set: their paths are several times as large as the tree.
func newFleet(blocks, workers int, keep bool) *fleet {
	r := rand.New(rand.NewPCG(uint64(blocks), uint64(workers)))
	f := &fleet{tr: tree.New(tree.Config{MaxBytes: 4 << 30})}
	systems := make([]tree.Path, apps)
	for i := range systems {
		systems[i] = extend(r, nil, chain(0), 7+4*i)
	}
	perWorker := max(1, min(apps, blocks/workers/100)) // small shares have room for one application only
	for w := range workers {
		for i := range perWorker {
			f.tr.Insert(tree.Worker(w), systems[(w+i)%apps], pinned)
		}
	}
	base := make(tree.Path, 0, heldBlocks)
	c := &conversation{}
	for n := 0; f.tr.Stats().Held < blocks; n++ {
		if keep {
			c = &conversation{}
			f.talks = append(f.talks, c)
		}
		w := n % workers
		c.worker = tree.Worker(w)
		system := systems[(w+r.IntN(perWorker))%apps]
		base = extend(r, base, system, heldBlocks-len(system))
		for i := range c.paths {
			c.paths[i] = extend(r, c.paths[i], base, tailBlocks)
		}
		c.next = tails - 1
		for _, path := range c.paths[:c.next] {
			f.clock++
			f.tr.Insert(c.worker, path, f.clock)
		}
	}
	return f
}

// steady gives the tails their stamps, oldest round first, and sets every capacity to what is held.
func (f *fleet) steady(workers int) {
	for i := range tails - 1 {
		for _, c := range f.talks {
			f.clock++
			f.tr.Touch(c.worker, c.paths[i], f.clock)
		}
	}
	for w := range workers {
		f.tr.SetCapacity(tree.Worker(w), f.tr.HeldCost(tree.Worker(w)))
	}
}

// extend returns path with so many random blocks after it, in the memory of into.
func extend(r *rand.Rand, into, path tree.Path, blocks int) tree.Path {
	path = append(slices.Grow(into[:0], len(path)+blocks), path...)
	for range blocks {
		path = append(path, mix(path[len(path)-1]^r.Uint64()))
	}
	return path
}

func eachSize(b *testing.B, run func(b *testing.B, blocks, workers int)) {
	for _, size := range []struct {
		name   string
		blocks int
	}{{"100k", 100_000}, {"1M", 1_000_000}, {"10M", 10_000_000}} {
		for _, workers := range []int{8, 64, 1000} {
			b.Run(fmt.Sprintf("blocks=%s/workers=%d", size.name, workers), func(b *testing.B) {
				run(b, size.blocks, workers)
			})
		}
	}
}

// BenchmarkMatch asks for a prompt of 512 blocks of which one worker holds the first 384.
func BenchmarkMatch(b *testing.B) {
	eachSize(b, func(b *testing.B, blocks, workers int) {
		f := newFleet(blocks, workers, true)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(f.talks), func(i, j int) { f.talks[i], f.talks[j] = f.talks[j], f.talks[i] })
		buf := make([]tree.Holder, 0, workers)
		for _, c := range f.talks {
			buf = f.tr.Match(c.paths[c.next], buf[:0])
			if len(buf) != workers || buf[0] != (tree.Holder{Worker: c.worker, Depth: heldBlocks}) {
				b.Fatalf("benchmark would measure a miss: %d holders, first %v", len(buf), buf[0])
			}
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			c := f.talks[i]
			buf = f.tr.Match(c.paths[c.next], buf[:0])
			if i++; i == len(f.talks) {
				i = 0
			}
		}
		b.ReportMetric(float64(len(buf)), "holders")
	})
}

// BenchmarkMatchInsert also inserts the prompt for the worker that holds its beginning: 128 blocks stored, 128 evicted.
func BenchmarkMatchInsert(b *testing.B) {
	eachSize(b, func(b *testing.B, blocks, workers int) {
		f := newFleet(blocks, workers, true)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(f.talks), func(i, j int) { f.talks[i], f.talks[j] = f.talks[j], f.talks[i] })
		f.steady(workers)
		before := f.tr.Stats()
		buf := make([]tree.Holder, 0, workers)
		b.ReportAllocs()
		i, ops := 0, 0
		for b.Loop() {
			c := f.talks[i]
			path := c.paths[c.next]
			buf = f.tr.Match(path, buf[:0])
			f.clock++
			added := f.tr.Insert(c.worker, path, f.clock)
			if buf[0] != (tree.Holder{Worker: c.worker, Depth: heldBlocks}) || added != tailBlocks {
				b.Fatalf("benchmark would measure something else: best %v, %d added", buf[0], added)
			}
			c.next = (c.next + 1) % tails
			if i++; i == len(f.talks) {
				i = 0
			}
			ops++
		}
		after := f.tr.Stats()
		if got := after.EvictedForCapacity - before.EvictedForCapacity; after.Held != before.Held || got != uint64(ops*tailBlocks) {
			b.Fatalf("the tree is not steady: held %d, then %d; %d evicted in %d inserts", before.Held, after.Held, got, ops)
		}
	})
}

// BenchmarkHeld measures what a held (block, worker) pair costs in heap: the metric B/block. The time is that of asking
// for one worker.
func BenchmarkHeld(b *testing.B) {
	eachSize(b, func(b *testing.B, blocks, workers int) {
		before := heapInUse()
		f := newFleet(blocks, workers, false)
		grown := heapInUse() - before
		s := f.tr.Stats()
		if s.Held < blocks || s.Held > blocks+blocks/10 {
			b.Fatalf("benchmark would measure another size: %d held", s.Held)
		}
		var path tree.Path
		for path = range f.tr.Leaves(0) {
			break
		}
		b.ReportAllocs()
		for b.Loop() {
			if f.tr.Held(0, path) != len(path) {
				b.Fatal("benchmark would measure a miss")
			}
		}
		b.ReportMetric(float64(grown)/float64(s.Held), "B/block")
		b.ReportMetric(float64(s.Bytes)/float64(s.Held), "est-B/block")
		runtime.KeepAlive(f)
	})
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
