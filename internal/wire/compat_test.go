package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

// TestZeroRoundTrips sees that a message of zeros is sent as nothing but its kind.
func TestZeroRoundTrips(t *testing.T) {
	for _, k := range kindCases() {
		msg := k.zero.AppendTo(nil)
		if want := []byte{wire.Version, byte(k.kind)}; !bytes.Equal(msg, want) {
			t.Errorf("%s: zero encodes to % x, want % x", k.name, msg, want)
		}
		got, err := k.parse(msg)
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
			continue
		}
		if diff := cmp.Diff(k.zero, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", k.name, diff)
		}
	}
}

// TestOlderEncoder cuts messages, nested ones too, after each complete field: an older encoder does not know the rest.
// What is left must be decoded and nothing else with it, so encoding it again gives the same bytes.
func TestOlderEncoder(t *testing.T) {
	s := readSchema(t)
	for _, k := range kindCases() {
		t.Run(k.name, func(t *testing.T) {
			cut := func(message string, siblings []node) (out [][]node) {
				for n := range len(siblings) {
					if n == 0 && message == "End" {
						continue // of an event, it would not be sent
					}
					if message == "Frame" && (n == 0 || siblings[0].num == uint64(wire.FrameEnd)) {
						continue // a frame without its type or its end is no frame
					}
					if message == "Frames" && n < 3 {
						continue // tells nothing
					}
					out = append(out, siblings[:n])
				}
				return out
			}
			edits(k.name, k.nodes(t, s, k.full.AppendTo(nil)), cut, func(nodes []node) {
				msg := k.message(nodes)
				got, err := k.parse(msg)
				if err != nil {
					t.Fatalf("% x: %v", msg, err)
				}
				if again := got.AppendTo(nil); !bytes.Equal(again, msg) {
					t.Errorf("% x became % x", msg, again)
				}
			})
		})
	}
}

// TestNewerEncoder puts fields that this version does not know between all others, in nested messages too.
func TestNewerEncoder(t *testing.T) {
	s := readSchema(t)
	unknown := []node{
		{field: schemaField{number: 900}, wire: wireVarint, num: 1<<64 - 1},
		{field: schemaField{number: 901}, wire: wireFix64, num: 1<<64 - 1},
		{field: schemaField{number: 902}, wire: wireBytes, data: []byte("later")},
		{field: schemaField{number: 903}, wire: wireFix32, num: 1<<32 - 1},
		{field: schemaField{number: 1<<29 - 1}, wire: wireBytes}, // the largest there is
	}
	for _, k := range kindCases() {
		t.Run(k.name, func(t *testing.T) {
			insert := func(_ string, siblings []node) (out [][]node) {
				for at := range len(siblings) + 1 {
					out = append(out, slices.Insert(slices.Clone(siblings), at, unknown...))
				}
				return out
			}
			edits(k.name, k.nodes(t, s, k.full.AppendTo(nil)), insert, func(nodes []node) {
				msg := k.message(nodes)
				got, err := k.parse(msg)
				if err != nil {
					t.Fatalf("% x: %v", msg, err)
				}
				if diff := cmp.Diff(k.full, got); diff != "" {
					t.Errorf("% x (-want +got):\n%s", msg, diff)
				}
			})
		})
	}
}

// TestHashesInSeveralRuns: an encoder of another make may flush a long list in pieces.
func TestHashesInSeveralRuns(t *testing.T) {
	digest := node{field: schemaField{number: 20}, wire: wireBytes, nested: true}
	var want []uint64
	for i := range 5 {
		run := wireHashes(uint64(i)*10, i)
		digest.children = append(digest.children, node{field: schemaField{number: 4}, wire: wireBytes, data: run})
		for j := range i {
			want = append(want, uint64(i)*10+uint64(j))
		}
	}
	got, err := wire.ParseAssignRequest(writeNodes([]byte{1, byte(wire.KindAssignRequest)}, []node{digest}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]wire.Digest{{Hashes: want}}, got.Digests); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEmptyRegionIsKept: a confinement to the region without a name must not become no confinement.
func TestEmptyRegionIsKept(t *testing.T) {
	want := &wire.AssignRequest{Regions: []string{"", "eu-west"}}
	got, err := wire.ParseAssignRequest(want.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNestedLengths sends nested messages of all lengths around those where a length takes one more byte.
func TestNestedLengths(t *testing.T) {
	for _, size := range []int{0, 1 << 7, 1 << 14, 1 << 21} {
		for n := max(0, size-32); n < size+32; n++ {
			want := &frames{Worker: "w", Frames: []wire.Frame{
				{Type: wire.FrameData, Data: bytes.Repeat([]byte("d"), n)}, {Type: wire.FrameAccept, Seq: 1},
			}}
			got, err := parseFrames(want.AppendTo(nil))
			if err != nil {
				t.Fatalf("data of %d bytes: %v", n, err)
			}
			if len(got.Frames) != 2 || len(got.Frames[0].Data) != n || got.Frames[1].Seq != 1 {
				t.Fatalf("data of %d bytes became %d bytes in %d frames", n, len(got.Frames[0].Data), len(got.Frames))
			}
		}
	}
}

func TestForeignVersionOrKind(t *testing.T) {
	for _, k := range kindCases() {
		msg := k.full.AppendTo(nil)
		if got, err := wire.KindOf(msg); got != k.kind || err != nil {
			t.Errorf("%s: KindOf = %d, %v", k.name, got, err)
		}
		for version := range 256 {
			if version != wire.Version {
				refused(t, k, append([]byte{byte(version)}, msg[1:]...), wire.ErrVersion)
			}
		}
		for kind := range 256 {
			if kind != int(k.kind) {
				refused(t, k, append([]byte{msg[0], byte(kind)}, msg[2:]...), wire.ErrVersion)
			}
		}
		refused(t, k, nil, wire.ErrMalformed)
		refused(t, k, msg[:1], wire.ErrMalformed)
	}
	for _, kind := range []wire.Kind{0, wire.KindDown + 1, 255} {
		if _, err := wire.KindOf([]byte{wire.Version, byte(kind)}); !errors.Is(err, wire.ErrVersion) {
			t.Errorf("KindOf kind %d: got %v, want ErrVersion", kind, err)
		}
	}
}

// TestTruncated cuts messages anywhere: between fields they are messages, elsewhere they are malformed.
func TestTruncated(t *testing.T) {
	s := readSchema(t)
	for _, k := range kindCases() {
		msg := k.full.AppendTo(nil)
		whole := map[int]bool{2: true}
		nodes := k.nodes(t, s, msg)
		for n := range nodes {
			whole[len(k.message(nodes[:n+1]))] = true
		}
		for n := 2; n <= len(msg); n++ {
			_, err := k.parse(msg[:n])
			if whole[n] && err != nil {
				t.Errorf("%s: %d bytes of %d: %v", k.name, n, len(msg), err)
			}
			if !whole[n] && !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%s: %d bytes of %d: got %v, want ErrMalformed", k.name, n, len(msg), err)
			}
		}
	}
}

// TestWrongWireType gives every known field each other wire type.
func TestWrongWireType(t *testing.T) {
	s := readSchema(t)
	for _, k := range kindCases() {
		retype := func(_ string, siblings []node) (out [][]node) {
			for i, x := range siblings {
				for _, wire := range []int{wireVarint, wireFix64, wireBytes, wireFix32} {
					if wire == x.wire {
						continue
					}
					changed := slices.Clone(siblings)
					changed[i] = node{field: x.field, wire: wire, num: 1, data: []byte("1")}
					out = append(out, changed)
				}
			}
			return out
		}
		edits(k.name, k.nodes(t, s, k.full.AppendTo(nil)), retype, func(nodes []node) {
			refused(t, k, k.message(nodes), wire.ErrMalformed)
		})
	}
}

func TestBrokenFields(t *testing.T) {
	broken := map[string][]byte{
		"field number 0":            {0x00, 0x01},
		"field number beyond":       {0x80, 0x80, 0x80, 0x80, 0x10, 0x01},
		"group":                     {0x0b, 0x0c},
		"end of group":              {0x0c},
		"wire type 6":               {0x0e, 0x01},
		"wire type 7":               {0x0f, 0x01},
		"endless tag":               bytes.Repeat([]byte{0xff}, 11),
		"endless number":            append([]byte{0xa0, 0x38}, bytes.Repeat([]byte{0xff}, 11)...),
		"bytes longer than the end": {0xa2, 0x38, 0x05, 'a'},
		"bytes of 2^64-1":           {0xa2, 0x38, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'a'},
		"bytes of 2^63":             {0xa2, 0x38, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 'a'},
		"short fixed64":             {0xa1, 0x38, 1, 2, 3, 4, 5, 6, 7},
		"short fixed32":             {0xa5, 0x38, 1, 2, 3},
	}
	for what, field := range broken {
		for _, k := range kindCases() {
			t.Run(what+"/"+k.name, func(t *testing.T) {
				refused(t, k, append(k.full.AppendTo(nil), field...), wire.ErrMalformed)
			})
		}
	}
}

// refused expects an error of that kind and of no other.
func refused(t *testing.T, k kindCase, msg []byte, want error) {
	t.Helper()
	_, err := k.parse(msg)
	if !errors.Is(err, want) || errors.Is(err, wire.ErrVersion) == errors.Is(err, wire.ErrMalformed) {
		t.Errorf("%s: %.60x…: got %v, want %v", k.name, msg, err, want)
	}
}
