package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/wire"
)

// textBounds are the bounds of text fields that are not MaxName; 0 = other rules, tested apart.
var textBounds = map[string]int{
	"AssignRequest.trace_state": 2 * wire.MaxName,
	"AssignReply.message":       wire.MaxText,
	"End.message":               wire.MaxText,
	"Edit.value":                wire.MaxText,
	"Dispatch.path":             wire.MaxPath,
	"Part.body":                 wire.MaxPart,
	"Dispatch.body":             0,
	"Frame.data":                0,
	"Header.name":               0,
	"Header.value":              0,
}

// repeatBounds are the bounds of repeated fields; 0 = tested apart.
var repeatBounds = map[string]int{
	"AssignRequest.regions":  wire.MaxRegions,
	"AssignRequest.digests":  wire.MaxDigests,
	"AssignRequest.history":  wire.MaxHistory,
	"Assigned.digests":       wire.MaxDigests,
	"Digest.hashes":          0,
	"AssignReply.placements": wire.MaxPlacements,
	"Placement.edits":        wire.MaxEdits,
	"Dispatch.edits":         wire.MaxEdits,
	"Dispatch.headers":       wire.MaxHeaders,
	"Dispatch.points":        wire.MaxPoints,
	"Frames.frames":          wire.MaxFrames,
	"Frame.headers":          wire.MaxHeaders,
	"Ping.sent":              wire.MaxStreams,
	"Pong.through":           wire.MaxStreams,
	"Pong.unknown":           wire.MaxStreams,
	"Ack.through":            wire.MaxStreams,
	"Load.leases":            wire.MaxLeases,
}

// TestTextBounds sets every text, wherever it stands, to its bound and to one byte more.
func TestTextBounds(t *testing.T) {
	for _, over := range []int{0, 1} {
		testEdits(t, over > 0, func(x node) (node, bool) {
			bound, listed := textBounds[x.parent+"."+x.field.name]
			if !listed {
				bound = wire.MaxName
			}
			if x.field.typ != "string" && x.field.typ != "bytes" || x.field.name == "request" || bound == 0 {
				return x, false
			}
			x.data = bytes.Repeat([]byte("x"), bound+over)
			return x, true
		})
	}
}

// TestNumberBounds does the same with numbers that have fewer than 64 bits.
func TestNumberBounds(t *testing.T) {
	bits := map[string]int{"Code": 16, "Priority": 8, "Verdict": 8, "Role": 8, "State": 8, "uint32": 32, "sint32": 32, "uint64": 64}
	for _, over := range []uint64{0, 1} {
		testEdits(t, over > 0, func(x node) (node, bool) {
			n, ok := bits[x.field.typ]
			where := x.parent + "." + x.field.name
			if where == "Digest.ladder" {
				n = 8
			}
			if !ok || n == 64 && over > 0 || where == "Dispatch.size" || where == "Part.offset" {
				return x, false
			}
			x.num = 1<<n - 1 + over
			return x, true
		})
	}
}

func TestRequestIDBounds(t *testing.T) {
	for _, size := range []int{0, 1, 15, 16, 17, 32} {
		testEdits(t, size != 16, func(x node) (node, bool) {
			if x.field.name != "request" {
				return x, false
			}
			x.data = bytes.Repeat([]byte{1}, size)
			return x, true
		})
	}
}

// testEdits changes one field at a time in messages of all kinds and expects each of them to be accepted, or refused.
func testEdits(t *testing.T, refuse bool, change func(node) (node, bool)) {
	t.Helper()
	s, tried := readSchema(t), 0
	for _, k := range kindCases() {
		each := func(_ string, siblings []node) (out [][]node) {
			for i, x := range siblings {
				if y, ok := change(x); ok {
					changed := slices.Clone(siblings)
					changed[i] = y
					out = append(out, changed)
				}
			}
			return out
		}
		edits(k.name, k.nodes(t, s, k.full.AppendTo(nil)), each, func(nodes []node) {
			tried++
			if msg := k.message(nodes); refuse {
				refused(t, k, msg, wire.ErrMalformed)
			} else if _, err := k.parse(msg); err != nil {
				t.Errorf("%s: at the bound: %v", k.name, err)
			}
		})
	}
	if tried < 5 {
		t.Errorf("only %d fields were tried", tried)
	}
}

// TestRepeatBounds repeats every list up to its bound, and once more.
func TestRepeatBounds(t *testing.T) {
	s := readSchema(t)
	tried := map[string]bool{"Digest.hashes": true}
	for _, k := range kindCases() {
		for _, over := range []int{0, 1} {
			repeat := func(_ string, siblings []node) (out [][]node) {
				for i, x := range siblings {
					where := x.parent + "." + x.field.name
					if !x.field.repeated || i > 0 && siblings[i-1].field == x.field {
						continue
					}
					bound, ok := repeatBounds[where]
					if !ok {
						t.Fatalf("%s has no bound in this test", where)
					}
					if bound == 0 {
						continue
					}
					tried[where] = true
					same := func(y node) bool { return y.field == x.field }
					rest := slices.DeleteFunc(slices.Clone(siblings), same)
					out = append(out, slices.Insert(rest, i, slices.Repeat([]node{x}, bound+over)...))
				}
				return out
			}
			edits(k.name, k.nodes(t, s, k.full.AppendTo(nil)), repeat, func(nodes []node) {
				if msg := k.message(nodes); over > 0 {
					refused(t, k, msg, wire.ErrMalformed)
				} else if _, err := k.parse(msg); err != nil {
					t.Errorf("%s: at the bound: %v", k.name, err)
				}
			})
		}
	}
	for where := range repeatBounds {
		if !tried[where] {
			t.Errorf("no message has %s", where)
		}
	}
}

// TestSumBounds tests the bounds that several fields share.
func TestSumBounds(t *testing.T) {
	digests := func(runs ...int) []wire.Digest {
		var ds []wire.Digest
		for _, n := range runs {
			ds = append(ds, wire.Digest{Hashes: make([]uint64, n)})
		}
		return ds
	}
	// A header of 9 bytes' name has 2+9 bytes for it, and 4 before a value of 2^14 bytes or more.
	header := func(encoded int) wire.Header {
		return wire.Header{Name: "X-Trailer", Value: strings.Repeat("v", encoded-15)}
	}
	data := func(m wire.Frame) message { return &frames{Frames: []wire.Frame{m}} }
	end := new(fullEnd())
	tests := []struct {
		name    string
		kind    wire.Kind
		m       message
		refused bool
	}{
		{"hashes in one digest", wire.KindAssignRequest, &wire.AssignRequest{Digests: digests(wire.MaxHashes)}, false},
		{"too many hashes in one digest", wire.KindAssignRequest, &wire.AssignRequest{Digests: digests(wire.MaxHashes + 1)}, true},
		{"hashes in all digests", wire.KindAssignRequest, &wire.AssignRequest{Digests: digests(1, wire.MaxHashes-2, 1, 0)}, false},
		{"too many hashes in all digests", wire.KindAssignRequest, &wire.AssignRequest{Digests: digests(1, wire.MaxHashes-1, 1)}, true},
		{"hashes of an event", wire.KindAssigned, &wire.Assigned{Digests: digests(7, wire.MaxHashes-7)}, false},
		{"too many hashes of an event", wire.KindAssigned, &wire.Assigned{Digests: digests(7, wire.MaxHashes-6)}, true},
		{"one long header", wire.KindDispatch, &wire.Dispatch{Headers: []wire.Header{header(wire.MaxHeaderBytes)}}, false},
		{"one too long header", wire.KindDispatch, &wire.Dispatch{Headers: []wire.Header{header(wire.MaxHeaderBytes + 1)}}, true},
		{"long headers", wire.KindDispatch, &wire.Dispatch{Headers: []wire.Header{header(wire.MaxHeaderBytes - 2), {Name: ""}, {Name: ""}}}, false},
		{"too long headers", wire.KindDispatch, &wire.Dispatch{Headers: []wire.Header{header(wire.MaxHeaderBytes - 2), {Name: "n"}}}, true},
		{"long answer header", wire.KindFrames, data(wire.Frame{Type: wire.FrameHead, Headers: []wire.Header{header(wire.MaxHeaderBytes)}}), false},
		{"too long answer header", wire.KindFrames, data(wire.Frame{Type: wire.FrameHead, Headers: []wire.Header{header(wire.MaxHeaderBytes + 1)}}), true},
		{"body", wire.KindDispatch, &wire.Dispatch{Size: wire.MaxBody}, false},
		{"too long body", wire.KindDispatch, &wire.Dispatch{Size: wire.MaxBody + 1}, true},
		{"whole body", wire.KindDispatch, &wire.Dispatch{Size: 3, Body: []byte("abc")}, false},
		{"more body than it says", wire.KindDispatch, &wire.Dispatch{Size: 2, Body: []byte("abc")}, true},
		{"last part", wire.KindPart, &wire.Part{Offset: wire.MaxBody - 3, Body: []byte("abc")}, false},
		{"part beyond", wire.KindPart, &wire.Part{Offset: wire.MaxBody - 2, Body: []byte("abc")}, true},
		{"part that wraps around", wire.KindPart, &wire.Part{Offset: 1<<64 - 2, Body: []byte("abc")}, true},
		{"empty part beyond", wire.KindPart, &wire.Part{Offset: wire.MaxBody + 1}, true},
		{"frame without a type", wire.KindFrames, data(wire.Frame{Stream: 1}), true},
		{"frame of another type", wire.KindFrames, data(wire.Frame{Type: 5}), true},
		{"accept", wire.KindFrames, data(wire.Frame{Type: wire.FrameAccept}), false},
		{"end", wire.KindFrames, data(wire.Frame{Type: wire.FrameEnd, End: new(wire.End)}), false},
		{"end without its end", wire.KindFrames, data(wire.Frame{Type: wire.FrameEnd}), true},
		{"data with an end", wire.KindFrames, data(wire.Frame{Type: wire.FrameData, End: end}), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := kindCases()[tt.kind-1]
			if msg := tt.m.AppendTo(nil); tt.refused {
				refused(t, k, msg, wire.ErrMalformed)
			} else if _, err := k.parse(msg); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnevenHashes: seven bytes are no hash, and a run that stops in one is no run.
func TestUnevenHashes(t *testing.T) {
	for _, size := range []int{1, 7, 9, 15} {
		run := node{field: schemaField{number: 4}, wire: wireBytes, data: make([]byte, size)}
		digest := node{field: schemaField{number: 20}, wire: wireBytes, nested: true, children: []node{run}}
		k := kindCases()[wire.KindAssignRequest-1]
		refused(t, k, k.message([]node{digest}), wire.ErrMalformed)
	}
}

// TestFrameOverhead sends the frame whose numbers are as long as they can be.
func TestFrameOverhead(t *testing.T) {
	f := wire.Frame{
		Type: wire.FrameData, Stream: 1<<64 - 1, Attempt: 1<<32 - 1, Seq: 1<<64 - 1, Status: 1<<32 - 1,
		Data: make([]byte, wire.MaxPart),
	}
	if got := len(wire.AppendFrame(nil, &f)) - len(f.Data); got > wire.FrameOverhead {
		t.Errorf("a frame adds %d bytes to its data, want at most %d", got, wire.FrameOverhead)
	}
}

// TestAllocationIsBounded: a decoder must not be made to allocate out of proportion, neither by what a message says of
// its lengths nor by nested messages that cost a byte or two each.
func TestAllocationIsBounded(t *testing.T) {
	const size = 1 << 20
	s := readSchema(t)
	for _, k := range kindCases() {
		for _, f := range s.messages[k.name] {
			if s.wireType(f) != wireBytes {
				continue
			}
			tag := binary.AppendUvarint(nil, uint64(f.number)<<3|wireBytes)
			claim := append(k.message(nil), binary.AppendUvarint(tag, 1<<62)...)
			empty := append(k.message(nil), bytes.Repeat(append(tag, 0), size/(len(tag)+1))...)
			for what, msg := range map[string][]byte{"claim": claim, "empty": empty} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := k.parse(msg)
				runtime.ReadMemStats(&after)
				if what == "claim" && !errors.Is(err, wire.ErrMalformed) {
					t.Errorf("%s.%s: got %v, want ErrMalformed", k.name, f.name, err)
				}
				if got := after.TotalAlloc - before.TotalAlloc; got > 8*size {
					t.Errorf("%s.%s: %s message of %d bytes allocated %d", k.name, f.name, what, len(msg), got)
				}
			}
		}
	}
}

// wireHashes encodes a packed run of n hashes that count up from first.
func wireHashes(first uint64, n int) []byte {
	var run []byte
	for i := range n {
		run = binary.LittleEndian.AppendUint64(run, first+uint64(i))
	}
	return run
}
