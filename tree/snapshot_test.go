package tree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/radixbus/radixbus/tree"
)

// someTree returns a tree with branches, shared runs, parts of runs, capacities and equal stamps.
func someTree(seed uint64) *tree.Tree {
	r := rand.New(rand.NewPCG(seed, 0))
	tr := tree.New(tree.Config{})
	for range 300 {
		w := tree.Worker(r.IntN(6))
		symbols := make([]byte, 1+r.IntN(30))
		for j := range symbols {
			symbols[j] = byte(r.IntN(5) / 4)
		}
		tr.SetCapacity(w, 400+int64(w))
		tr.Insert(w, chain(symbols...), tree.Stamp(r.IntN(50))-25)
	}
	return tr
}

func TestARestoredTreeGoesOnLikeTheOriginal(t *testing.T) {
	original := someTree(1)
	first := snapshot(t, original)
	restored, err := tree.Restore(iotest.OneByteReader(bytes.NewReader(first)), tree.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tree.Check(t, restored)
	for w := range tree.Worker(7) {
		original.SetCapacity(w, 150) // many leaves have equal stamps: the same ones must go
		restored.SetCapacity(w, 150)
		original.Insert(w, chain(0, 0, 0, 1, byte(w)), 60)
		restored.Insert(w, chain(0, 0, 0, 1, byte(w)), 60)
	}
	tree.Check(t, restored)
	if !bytes.Equal(snapshot(t, original), snapshot(t, restored)) {
		t.Error("the same calls led elsewhere after a restore")
	}
}

func TestRestoreAppliesTheNewConfig(t *testing.T) {
	original := someTree(2)
	data := snapshot(t, original)
	fits := original.Stats().Bytes
	if _, err := tree.Restore(bytes.NewReader(data), tree.Config{MaxBytes: fits}); err != nil {
		t.Errorf("the budget it had: %v", err)
	}
	if _, err := tree.Restore(bytes.NewReader(data), tree.Config{MaxBytes: fits / 2}); !errors.Is(err, tree.ErrTooBig) {
		t.Errorf("half the budget: error %v, want ErrTooBig", err)
	}
	dearer, err := tree.Restore(bytes.NewReader(data), tree.Config{Cost: func(d int) int64 { return 2 * int64(d) }})
	if err != nil {
		t.Fatal(err)
	}
	tree.Check(t, dearer)
	if got := dearer.HeldCost(0); got > 400 || got < 398 || dearer.Stats().EvictedForCapacity == 0 {
		t.Errorf("holds %d at twice the cost, want 400 or just below", got)
	}
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	data := snapshot(t, someTree(3))
	for i := 0; i < len(data); i += 1 + i/16 { // every byte of the head, then fewer
		if _, err := tree.Restore(bytes.NewReader(data[:i]), tree.Config{}); !errors.Is(err, tree.ErrCorrupt) {
			t.Fatalf("cut at %d: error %v, want ErrCorrupt", i, err)
		}
		bad := slices.Clone(data)
		bad[i] ^= 1 << (i % 8)
		_, err := tree.Restore(bytes.NewReader(bad), tree.Config{})
		if !errors.Is(err, tree.ErrCorrupt) && !(i < 5 && errors.Is(err, tree.ErrVersion)) {
			t.Fatalf("bit flipped at %d: error %v", i, err)
		}
	}
	broken := errors.New("disk on fire")
	_, err := tree.Restore(io.MultiReader(bytes.NewReader(data[:100]), iotest.ErrReader(broken)), tree.Config{})
	if !errors.Is(err, broken) || errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("error %v, want the reader's", err)
	}
}

func TestSnapshotReportsTheWritersError(t *testing.T) {
	full := errors.New("disk full")
	r, w := io.Pipe()
	r.CloseWithError(full)
	if err := someTree(4).Snapshot(w); !errors.Is(err, full) {
		t.Errorf("error %v, want the writer's", err)
	}
}

// sealed returns a snapshot with that content and a good checksum.
func sealed(content []byte) []byte {
	sum := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.AppendUint32(slices.Clone(content), sum)
}

func TestRestoreBelievesNoCount(t *testing.T) {
	huge := binary.AppendUvarint([]byte("RBxt\x01\x01"), 1<<20) // a node of 2^20 hashes, and then nothing
	crowd := append([]byte("RBxt\x01\x01\x01"), make([]byte, 8)...)
	crowd = binary.AppendUvarint(crowd, 1<<16) // 2^16 holders, and then nothing
	for name, data := range map[string][]byte{"hashes": huge, "holders": crowd} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := tree.Restore(bytes.NewReader(data), tree.Config{})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tree.ErrCorrupt) {
			t.Errorf("%s: error %v, want ErrCorrupt", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 512<<10 {
			t.Errorf("%s: allocated %d bytes for %d", name, got, len(data))
		}
	}
}

// A rawTree spells a snapshot by hand.
type rawTree struct{ b []byte }

func raw() *rawTree { return &rawTree{[]byte("RBxt\x01")} }

// node adds a node; the root is parent 0, the first node added is 1. Its holders are worker, blocks, stamp; a worker is
// counted from the one before.
func (r *rawTree) node(parent uint64, hashes []uint64, holders ...[3]int64) *rawTree {
	r.b = binary.AppendUvarint(r.b, parent+1)
	r.b = binary.AppendUvarint(r.b, uint64(len(hashes)))
	for _, h := range hashes {
		r.b = binary.LittleEndian.AppendUint64(r.b, h)
	}
	r.b = binary.AppendUvarint(r.b, uint64(len(holders)))
	before := int64(0)
	for _, h := range holders {
		r.b = binary.AppendUvarint(r.b, uint64(h[0]))
		r.b = binary.AppendUvarint(r.b, uint64(h[1]))
		r.b = binary.AppendVarint(r.b, h[2]-before)
		before = h[2]
	}
	return r
}

func (r *rawTree) end() *rawTree {
	r.b = append(r.b, 0)
	return r
}

func (r *rawTree) worker(w uint64, leaves ...uint64) *rawTree {
	r.b = binary.AppendUvarint(r.b, w+1)
	r.b = binary.AppendUvarint(r.b, 0)
	r.b = binary.AppendUvarint(r.b, uint64(len(leaves)))
	for _, l := range leaves {
		r.b = binary.AppendUvarint(r.b, l)
	}
	return r
}

func TestRestoreRefusesImpossibleTrees(t *testing.T) {
	one, two := []uint64{1, 2}, []uint64{3}
	for _, tt := range []struct {
		name string
		raw  *rawTree
		ok   bool
	}{
		{"a possible one", raw().node(0, one, [3]int64{0, 2, 5}, [3]int64{1, 1, 9}).node(1, two, [3]int64{0, 1, 5}).end().worker(0, 2).worker(1, 1).end(), true},
		{"an unknown parent", raw().node(1, one, [3]int64{0, 2, 5}).end().worker(0, 1).end(), false},
		{"no hashes", raw().node(0, nil).end().end(), false},
		{"nobody holds it", raw().node(0, one).end().end(), false},
		{"nobody holds its end", raw().node(0, one, [3]int64{0, 1, 5}).end().worker(0, 1).end(), false},
		{"more held than there is", raw().node(0, one, [3]int64{0, 3, 5}).end().worker(0, 1).end(), false},
		{"nothing held", raw().node(0, one, [3]int64{0, 2, 5}, [3]int64{1, 0, 5}).end().worker(0, 1).worker(1).end(), false},
		{"one worker twice", raw().node(0, one, [3]int64{0, 2, 5}, [3]int64{0, 2, 5}).end().worker(0, 1).end(), false},
		{"a worker out of range", raw().node(0, one, [3]int64{tree.MaxWorkers - 1, 2, 5}, [3]int64{1, 2, 5}).end().worker(tree.MaxWorkers-1, 1).end(), false},
		{"a child without its parent", raw().node(0, one, [3]int64{0, 2, 5}).node(1, two, [3]int64{1, 1, 5}).end().worker(0, 1).worker(1, 2).end(), false},
		{"a child below a part", raw().node(0, one, [3]int64{0, 2, 5}, [3]int64{1, 1, 5}).node(1, two, [3]int64{1, 1, 5}).end().worker(0, 1).worker(1, 2).end(), false},
		{"a child younger than its parent", raw().node(0, one, [3]int64{0, 2, 5}).node(1, two, [3]int64{0, 1, 6}).end().worker(0, 2).end(), false},
		{"two branches with one hash", raw().node(0, two, [3]int64{0, 1, 5}).node(0, two, [3]int64{0, 1, 5}).end().worker(0, 1, 2).end(), false},
		{"a leaf in no order", raw().node(0, one, [3]int64{0, 2, 5}).end().worker(0).end(), false},
		{"a leaf in the order twice", raw().node(0, one, [3]int64{0, 2, 5}).node(0, two, [3]int64{0, 1, 5}).node(0, []uint64{4}, [3]int64{1, 1, 5}).end().worker(0, 1, 2, 2).worker(1, 3).end(), false},
		{"an inner node as a leaf", raw().node(0, one, [3]int64{0, 2, 5}).node(1, two, [3]int64{0, 1, 5}).end().worker(0, 1, 2).end(), false},
		{"another's leaf", raw().node(0, one, [3]int64{0, 2, 5}).end().worker(0, 1).worker(1, 1).end(), false},
		{"leaves in the wrong order", raw().node(0, one, [3]int64{0, 2, 5}).node(0, two, [3]int64{0, 1, 4}).end().worker(0, 1, 2).end(), false},
		{"workers in the wrong order", raw().node(0, one, [3]int64{0, 2, 5}).end().worker(1).worker(0, 1).end(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr, err := tree.Restore(bytes.NewReader(sealed(tt.raw.b)), tree.Config{})
			switch {
			case tt.ok && err != nil:
				t.Errorf("error %v", err)
			case tt.ok:
				tree.Check(t, tr)
			case !errors.Is(err, tree.ErrCorrupt):
				t.Errorf("error %v, want ErrCorrupt", err)
			}
		})
	}
}

// FuzzRestore gives the checksum it would need to whatever it reads, so that it cannot hide what lies behind.
func FuzzRestore(f *testing.F) {
	for seed := range uint64(3) {
		data := snapshot(f, someTree(seed))
		f.Add(data[:len(data)-4])
	}
	f.Add(snapshot(f, tree.New(tree.Config{})))
	f.Fuzz(func(t *testing.T, content []byte) {
		cfg := tree.Config{MaxBytes: 1 << 20}
		tr, err := tree.Restore(bytes.NewReader(sealed(content)), cfg)
		if err != nil {
			if !errors.Is(err, tree.ErrCorrupt) && !errors.Is(err, tree.ErrVersion) && !errors.Is(err, tree.ErrTooBig) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		tree.Check(t, tr)
		again, err := tree.Restore(bytes.NewReader(snapshot(t, tr)), cfg)
		if err != nil {
			t.Fatalf("its own snapshot: %v", err)
		}
		tree.Check(t, again)
		for w := range tree.Worker(4) {
			tr.Insert(w, chain(1, 2, byte(w)), 5)
			tr.SetCapacity(w, 10)
			tree.Check(t, tr)
			tr.Drop(w)
			tree.Check(t, tr)
		}
	})
}
