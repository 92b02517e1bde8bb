package tree

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A snapshot is, with all integers as varints unless said otherwise:
//
//	magic        4 bytes, then a version byte
//	nodes        by depth, so that parents come first; each:
//	    1 + index of its parent among the nodes, 1 for the root: 0 ends the list
//	    hashes   a count, then 8 bytes each, little endian
//	    holders  a count, then each: worker minus the one before, blocks, stamp minus the one before (signed)
//	workers      each:
//	    1 + worker: 0 ends the list
//	    capacity
//	    leaves   a count, then the node of each, in the order of the heap, so that equal stamps stay in their order
//	checksum     CRC-32C of all before it, 4 bytes, little endian
//
// Counters of evictions are not part of it.
const (
	snapshotMagic   = "RBxt"
	snapshotVersion = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot writes everything that the tree believes. Equal trees write equal bytes. It needs 8 bytes of memory a node.
func (t *Tree) Snapshot(to io.Writer) error {
	out := &snapshotWriter{w: bufio.NewWriterSize(to, 64<<10)}
	out.raw([]byte(snapshotMagic))
	out.raw([]byte{snapshotVersion})
	ids := t.byDepth()
	index := make([]uint32, t.nodes.end()) // of every node in the snapshot, the root's being 0
	for i, id := range ids {
		index[id] = uint32(i + 1)
		t.writeNode(out, index, t.nodes.at(id))
	}
	out.uint(0)
	for _, ws := range t.workers {
		if ws == nil {
			continue
		}
		out.uint(uint64(ws.id) + 1)
		out.uint(uint64(ws.capacity))
		out.uint(uint64(len(ws.leaves)))
		for _, l := range ws.leaves {
			out.uint(uint64(index[l.node]))
		}
	}
	out.uint(0)
	out.raw(binary.LittleEndian.AppendUint32(nil, out.sum))
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return fmt.Errorf("write snapshot: %w", out.err)
	}
	return nil
}

// byDepth returns every node but the root, parents first, in an order that depends on contents only.
func (t *Tree) byDepth() []nodeID {
	ids := make([]nodeID, 0, t.nodes.live-1)
	for id := range t.nodes.end() {
		if n := t.nodes.at(nodeID(id)); len(n.hashes) > 0 {
			ids = append(ids, nodeID(id))
		}
	}
	slices.SortFunc(ids, func(a, b nodeID) int {
		x, y := t.nodes.at(a), t.nodes.at(b)
		return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.hashes[0], y.hashes[0]), cmp.Compare(a, b))
	})
	return ids
}

func (t *Tree) writeNode(out *snapshotWriter, index []uint32, n *node) {
	out.uint(uint64(index[n.parent]) + 1)
	out.uint(uint64(len(n.hashes)))
	for _, h := range n.hashes {
		out.fixed(h)
	}
	out.uint(uint64(len(n.holders)))
	var before holder
	for _, h := range n.holders {
		out.uint(uint64(h.worker - before.worker))
		out.uint(uint64(h.blocks))
		out.int(int64(h.stamp - before.stamp)) // may wrap around; so does the addition that undoes it
		before = h
	}
}

// A snapshotWriter keeps the first error and the checksum of what it has written.
type snapshotWriter struct {
	w   *bufio.Writer
	sum uint32
	err error
	buf [binary.MaxVarintLen64]byte
}

func (out *snapshotWriter) raw(b []byte) {
	if out.err != nil {
		return
	}
	out.sum = crc32.Update(out.sum, castagnoli, b)
	_, out.err = out.w.Write(b)
}

func (out *snapshotWriter) uint(v uint64) { out.raw(out.buf[:binary.PutUvarint(out.buf[:], v)]) }
func (out *snapshotWriter) int(v int64)   { out.raw(out.buf[:binary.PutVarint(out.buf[:], v)]) }

func (out *snapshotWriter) fixed(v uint64) {
	binary.LittleEndian.PutUint64(out.buf[:], v)
	out.raw(out.buf[:8])
}
