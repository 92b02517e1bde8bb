package tree_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/radixbus/radixbus/tree"
)

// dear is a cost that grows with depth, as the blocks of a digest do.
func dear(depth int) int64 { return int64(depth) * int64(depth+5) / 2 }

// A program drives a tree and the model through the same calls, five bytes each.
type program struct {
	tr  *tree.Tree
	m   *model
	buf []tree.Holder
}

func newProgram() *program {
	tr := tree.New(tree.Config{Cost: dear})
	return &program{tr: tr, m: newModel(tr, dear)}
}

// path spells a path with few distinct prefixes and with branches inside what others hold.
func (p *program) path(length, shape byte) tree.Path {
	symbols := make([]byte, length%24)
	for i := range symbols {
		symbols[i] = shape >> (i / 3) & 1
	}
	return chain(symbols...)
}

func (p *program) step(tb testing.TB, op [5]byte) {
	tb.Helper()
	w := tree.Worker(op[1] % 4)
	at := tree.Stamp(int8(op[4]))
	path := p.path(op[2], op[3])
	keep := int(op[4] % 26)
	switch op[0] % 16 {
	case 0, 1, 2, 3, 4, 5:
		got := p.tr.Insert(w, path, at)
		want, err := p.m.insert(w, path, at)
		if err != nil {
			tb.Fatalf("Insert(%d, %x, %d): %v", w, path, at, err)
		}
		if got != want {
			tb.Fatalf("Insert(%d, %x, %d) = %d, want %d", w, path, at, got, want)
		}
	case 6, 7, 8:
		got := p.tr.Touch(w, path, at)
		if want := p.m.touch(w, path, at); got != want {
			tb.Fatalf("Touch(%d, %x, %d) = %d, want %d", w, path, at, got, want)
		}
	case 9, 10:
		got := p.tr.Truncate(w, path, keep)
		if want := p.m.truncate(w, path, keep); got != want {
			tb.Fatalf("Truncate(%d, %x, %d) = %d, want %d", w, path, keep, got, want)
		}
	case 11:
		got := p.tr.EvictThrough(w, at, path)
		if want := p.m.evictThrough(w, at, path); got != want {
			tb.Fatalf("EvictThrough(%d, %d, %x) = %d, want %d", w, at, path, got, want)
		}
	case 12:
		capacity := max(0, int64(int8(op[2]))*int64(op[3])/8)
		p.tr.SetCapacity(w, capacity)
		p.m.capacity[w] = capacity
		if err := p.m.evict(w, nil); err != nil {
			tb.Fatalf("SetCapacity(%d, %d): %v", w, capacity, err)
		}
	case 13:
		p.tr.Drop(w)
		delete(p.m.held, w)
		delete(p.m.capacity, w)
	case 14:
		p.tr.Clear(w)
		delete(p.m.held, w)
		p.m.of(w)
	case 15:
		p.restore(tb)
	}
	p.buf = p.tr.Match(path, p.buf[:0])
	if want := p.m.match(path); !slices.Equal(p.buf, want) {
		tb.Fatalf("after %v: Match(%x) = %v, want %v", op, path, p.buf, want)
	}
	if got, want := p.tr.Held(w, path), p.m.depth(w, path); got != want {
		tb.Fatalf("after %v: Held(%d, %x) = %d, want %d", op, w, path, got, want)
	}
	p.m.compare(tb, p.tr)
}

// restore goes on with a copy that has been through a snapshot.
func (p *program) restore(tb testing.TB) {
	tb.Helper()
	first := snapshot(tb, p.tr)
	tr, err := tree.Restore(bytes.NewReader(first), tree.Config{Cost: dear})
	if err != nil {
		tb.Fatalf("Restore: %v", err)
	}
	if !bytes.Equal(snapshot(tb, tr), first) {
		tb.Fatal("a restored tree has another snapshot")
	}
	p.tr, p.m.tree = tr, tr
}

func snapshot(tb testing.TB, tr *tree.Tree) []byte {
	tb.Helper()
	var buf bytes.Buffer
	if err := tr.Snapshot(&buf); err != nil {
		tb.Fatalf("Snapshot: %v", err)
	}
	return buf.Bytes()
}

func FuzzTree(f *testing.F) {
	f.Add([]byte{0, 0, 9, 0, 1, 0, 1, 12, 4, 2, 9, 0, 12, 0, 5, 15, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 20, 0, 1, 6, 0, 7, 0, 2, 0, 0, 20, 0, 0, 11, 0, 5, 0, 1, 13, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 9, 0, 1, 12, 0, 20, 20, 0, 0, 0, 20, 1, 2, 0, 0, 20, 2, 2, 14, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := newProgram()
		for op := range slices.Chunk(ops[:min(len(ops), 5*80)], 5) {
			if len(op) == 5 {
				p.step(t, [5]byte(op))
			}
		}
	})
}

func TestRandomProgramsAgreeWithTheModel(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		if !t.Run("", func(t *testing.T) {
			p := newProgram()
			for range 150 {
				p.step(t, [5]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
			}
		}) {
			t.Fatalf("seed %d", seed)
		}
	}
}
