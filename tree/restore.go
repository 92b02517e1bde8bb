package tree

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

var (
	// ErrCorrupt reports a snapshot that is damaged, cut short, or describes no possible tree.
	ErrCorrupt = errors.New("tree: corrupt snapshot")
	// ErrVersion reports a snapshot of another version, or no snapshot at all.
	ErrVersion = errors.New("tree: unknown snapshot version")
	// ErrTooBig reports a snapshot that would exceed Config.MaxBytes.
	ErrTooBig = errors.New("tree: snapshot exceeds the memory budget")
)

// Restore reads what Snapshot wrote and behaves from then on like the original, except that its counters of evictions
// start at zero and that cfg applies: a worker above its capacity under cfg.Cost is evicted from at once. It reads r to
// the end of the snapshot and perhaps beyond. Whatever r holds, memory stays within cfg.MaxBytes and what was read.
// Errors are ErrCorrupt, ErrVersion, ErrTooBig, or the reader's.
func Restore(r io.Reader, cfg Config) (*Tree, error) {
	in := &snapshotReader{r: bufio.NewReaderSize(r, 64<<10)}
	head := in.raw(len(snapshotMagic) + 1)
	if in.err != nil {
		return nil, fmt.Errorf("read snapshot: %w", in.err)
	}
	if string(head[:4]) != snapshotMagic || head[4] != snapshotVersion {
		return nil, ErrVersion
	}
	t := New(cfg)
	if err := t.readNodes(in); err != nil {
		return nil, err
	}
	if err := t.readWorkers(in); err != nil {
		return nil, err
	}
	sum := in.sum
	if got := in.raw(4); in.err == nil && binary.LittleEndian.Uint32(got) != sum {
		in.fail("checksum differs")
	}
	if in.err != nil {
		return nil, fmt.Errorf("read snapshot: %w", in.err)
	}
	for _, ws := range t.workers {
		if ws != nil {
			t.shrink(ws, root, 0)
			t.settle(ws)
		}
	}
	return t, nil
}

// readNodes adds the nodes, whose ids become their indices, with their holders, none of them in the eviction order yet.
func (t *Tree) readNodes(in *snapshotReader) error {
	for in.err == nil {
		parent := in.uint(uint64(t.nodes.live))
		if parent == 0 {
			break
		}
		t.readNode(in, nodeID(parent-1))
		if in.err == nil && t.bytes > t.cfg.MaxBytes {
			in.err = ErrTooBig
		}
	}
	if in.err != nil {
		return fmt.Errorf("read snapshot: node %d: %w", t.nodes.live, in.err)
	}
	return nil
}

func (t *Tree) readNode(in *snapshotReader, parent nodeID) {
	up := t.nodes.at(parent)
	start := int(up.start) + len(up.hashes)
	blocks := int(in.uint(uint64(MaxDepth - start)))
	in.hashes = in.hashes[:0] // a count is believed only as what it counts arrives
	for range blocks {
		if in.hashes = append(in.hashes, in.fixed()); in.err != nil {
			return
		}
	}
	count := int(in.uint(MaxWorkers))
	in.holders = in.holders[:0]
	longest := uint32(0)
	for i := range count {
		h := in.holder(i, blocks)
		if in.err != nil {
			return
		}
		if above := up.holder(h.worker); parent != root {
			if above == nil || int(above.blocks) < len(up.hashes) || above.stamp < h.stamp {
				in.fail("a holder that cannot be one by what it holds of the parent")
				return
			}
			above.kids++
		}
		in.holders = append(in.holders, h)
		longest = max(longest, h.blocks)
	}
	if blocks == 0 || int(longest) < blocks {
		in.fail("blocks that nobody holds, or none")
		return
	}
	if _, taken := t.edges[edge{uint64(parent), in.hashes[0]}]; taken {
		in.fail("a second branch with the same hash")
		return
	}
	t.adopt(parent, start, in.hashes, in.holders)
}

// adopt adds a node with exactly the memory it needs, so that a snapshot of a tree within its budget fits the same budget.
func (t *Tree) adopt(parent nodeID, start int, hashes []uint64, holders []holder) {
	exact := make([]uint64, len(hashes))
	copy(exact, hashes)
	sharers := make([]holder, len(holders))
	copy(sharers, holders)
	n := t.nodes.at(t.add(parent, start, exact, sharers))
	for i := range n.holders {
		h := &n.holders[i]
		blocks := int(h.blocks)
		h.blocks = 0
		t.resize(t.worker(h.worker), n, h, blocks)
	}
}

// readWorkers restores capacities and the eviction order.
func (t *Tree) readWorkers(in *snapshotReader) error {
	last := uint64(0)
	for in.err == nil {
		w := in.uint(MaxWorkers)
		if w == 0 {
			break
		}
		if w <= last {
			in.fail("workers out of order")
			break
		}
		last = w
		t.readWorker(in, t.worker(Worker(w-1)))
	}
	if in.err == nil && t.bytes > t.cfg.MaxBytes {
		in.err = ErrTooBig
	}
	for id := 1; id < t.nodes.end() && in.err == nil; id++ {
		for _, h := range t.nodes.at(nodeID(id)).holders {
			if h.kids == 0 && h.pos == 0 {
				in.fail("a leaf outside the eviction order")
			}
		}
	}
	if in.err != nil {
		return fmt.Errorf("read snapshot: worker %d: %w", last, in.err)
	}
	return nil
}

func (t *Tree) readWorker(in *snapshotReader, ws *worker) {
	ws.capacity = int64(in.uint(math.MaxInt64))
	leaves := int(in.uint(uint64(t.nodes.live - 1)))
	for i := range leaves {
		id := nodeID(in.uint(uint64(t.nodes.live - 1)))
		if in.err != nil {
			return
		}
		h := t.nodes.at(id).holder(ws.id)
		if h == nil || h.kids > 0 || h.pos > 0 || i > 0 && ws.leaves[(i-1)/2].stamp > h.stamp {
			in.fail("a leaf that is none, or out of order")
			return
		}
		t.enqueue(ws, id, h)
	}
}

// A snapshotReader keeps the first error and the checksum of what it has read. After an error it reads zeros.
type snapshotReader struct {
	r       *bufio.Reader
	sum     uint32
	err     error
	buf     [8]byte
	hashes  []uint64 // of the node being read
	holders []holder // likewise
}

func (in *snapshotReader) fail(what string) {
	if in.err == nil {
		in.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
}

// raw reads n bytes, at most 8. They are valid until the next read.
func (in *snapshotReader) raw(n int) []byte {
	b := in.buf[:n]
	if in.err == nil {
		_, in.err = io.ReadFull(in.r, b)
		if errors.Is(in.err, io.EOF) || errors.Is(in.err, io.ErrUnexpectedEOF) {
			in.err = fmt.Errorf("%w: it ends early", ErrCorrupt)
		}
	}
	if in.err != nil {
		clear(b)
	}
	in.sum = crc32.Update(in.sum, castagnoli, b)
	return b
}

func (in *snapshotReader) fixed() uint64 { return binary.LittleEndian.Uint64(in.raw(8)) }

// uint reads a varint of at most limit.
func (in *snapshotReader) uint(limit uint64) uint64 {
	v := in.varint()
	if v > limit {
		in.fail("a number out of range")
		return 0
	}
	return v
}

func (in *snapshotReader) varint() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := in.raw(1)[0]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	in.fail("a number that does not end")
	return 0
}

// holder reads the i-th holder of a node with so many blocks.
func (in *snapshotReader) holder(i, blocks int) holder {
	var before holder
	if i > 0 {
		before = in.holders[i-1]
	}
	worker := uint64(before.worker) + in.uint(MaxWorkers-1)
	h := holder{worker: Worker(worker), blocks: uint32(in.uint(uint64(blocks)))}
	delta := in.varint()
	h.stamp = before.stamp + Stamp(int64(delta>>1)^-int64(delta&1))
	if worker >= MaxWorkers || i > 0 && h.worker == before.worker || h.blocks == 0 {
		in.fail("holders out of order, or an empty one")
	}
	return h
}
