package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

// TestFramesBeforeAMalformedOne are good frames: who has them need not ask for them again.
func TestFramesBeforeAMalformedOne(t *testing.T) {
	msg := fullFrames().AppendTo(nil)
	msg = append(msg, 0x1a, 0x02, 0x08, 0x09) // a frame of type 9
	msg = wire.AppendFrame(msg, &wire.Frame{Type: wire.FrameAccept})
	var types []wire.FrameType
	err := wire.ParseFrames(msg, func(_ []byte, _ wire.Instance, f *wire.Frame) bool {
		types = append(types, f.Type)
		return true
	})
	if len(types) != 3 || !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("got frames %v and %v, want 3 and ErrMalformed", types, err)
	}
}

// TestBodiesHaveNoRoom: appending to bytes of a message must not write into what follows them.
func TestBodiesHaveNoRoom(t *testing.T) {
	later := []byte{0xa0, 0x38, 0x01} // an unknown field
	d, err := wire.ParseDispatch(append(fullDispatch().AppendTo(nil), later...))
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.ParsePart(append(fullPart().AppendTo(nil), later...))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{d.Body, p.Body} {
		if len(body) == 0 || cap(body) != len(body) {
			t.Errorf("body %q of %d bytes has room for %d", body, len(body), cap(body))
		}
	}
}

// TestOnlyBodiesAreSlices: everything else outlives the buffer that a message came in.
func TestOnlyBodiesAreSlices(t *testing.T) {
	for _, k := range kindCases() {
		msg := k.full.AppendTo(nil)
		got, err := k.parse(msg)
		if err != nil {
			t.Fatal(err)
		}
		clear(msg)
		var body []byte
		switch m := got.(type) {
		case *wire.Dispatch:
			body, m.Body = m.Body, fullDispatch().Body
		case *wire.Part:
			body, m.Body = m.Body, fullPart().Body
		}
		if !bytes.Equal(body, make([]byte, len(body))) {
			t.Errorf("%s: the body is a copy: %q", k.name, body)
		}
		if diff := cmp.Diff(k.full, got); diff != "" {
			t.Errorf("%s after its buffer was reused (-want +got):\n%s", k.name, diff)
		}
	}
}

func TestCachedTokens(t *testing.T) {
	for _, tt := range []struct {
		plus1, want uint32
		told        bool
	}{{0, 0, false}, {1, 0, true}, {8, 7, true}, {1<<32 - 1, 1<<32 - 2, true}} {
		e := wire.End{CachedPlus1: tt.plus1}
		if got, told := e.Cached(); got != tt.want || told != tt.told {
			t.Errorf("CachedPlus1 %d: Cached = %d, %t, want %d, %t", tt.plus1, got, told, tt.want, tt.told)
		}
	}
}

func TestAttemptKeys(t *testing.T) {
	d, f := fullDispatch(), fullFinished()
	want := wire.AttemptKey{Request: requestID(0xa0), Attempt: 3, Instance: 0x0101010101010101}
	if d.Key() != want || f.Key() != want {
		t.Errorf("got %v and %v, want %v", d.Key(), f.Key(), want)
	}
}
