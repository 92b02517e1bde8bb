package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/radixbus/radixbus/internal/wire"
)

func FuzzAssignRequest(f *testing.F) { fuzzMessage(f, wire.KindAssignRequest) }
func FuzzAssignReply(f *testing.F)   { fuzzMessage(f, wire.KindAssignReply) }
func FuzzDispatch(f *testing.F)      { fuzzMessage(f, wire.KindDispatch) }
func FuzzPart(f *testing.F)          { fuzzMessage(f, wire.KindPart) }
func FuzzPartAck(f *testing.F)       { fuzzMessage(f, wire.KindPartAck) }
func FuzzPing(f *testing.F)          { fuzzMessage(f, wire.KindPing) }
func FuzzPong(f *testing.F)          { fuzzMessage(f, wire.KindPong) }
func FuzzCancel(f *testing.F)        { fuzzMessage(f, wire.KindCancel) }
func FuzzAck(f *testing.F)           { fuzzMessage(f, wire.KindAck) }
func FuzzResend(f *testing.F)        { fuzzMessage(f, wire.KindResend) }
func FuzzAssigned(f *testing.F)      { fuzzMessage(f, wire.KindAssigned) }
func FuzzFinished(f *testing.F)      { fuzzMessage(f, wire.KindFinished) }
func FuzzLoad(f *testing.F)          { fuzzMessage(f, wire.KindLoad) }
func FuzzUp(f *testing.F)            { fuzzMessage(f, wire.KindUp) }
func FuzzGone(f *testing.F)          { fuzzMessage(f, wire.KindDown) }

// fuzzMessage sees that a decoder refuses with a typed error, or returns a value that survives being sent on, in no
// more bytes than it came in: nothing is made of nothing.
func fuzzMessage(f *testing.F, kind wire.Kind) {
	k := kindCases()[kind-1]
	f.Add(k.full.AppendTo(nil))
	f.Add(k.zero.AppendTo(nil))
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		m, err := k.parse(msg)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrVersion) {
				t.Fatalf("got %v, want ErrMalformed or ErrVersion", err)
			}
			return
		}
		again := m.AppendTo(nil)
		if len(again) > len(msg) {
			t.Errorf("%d bytes became %d: % x", len(msg), len(again), again)
		}
		got, err := k.parse(again)
		if err != nil {
			t.Fatalf("encoded again, % x: %v", again, err)
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
		if third := got.AppendTo(nil); !bytes.Equal(third, again) {
			t.Errorf("two encodings of one value:\n% x\n% x", again, third)
		}
		if !bytes.Equal(msg, before) {
			t.Error("the decoder changed its message")
		}
	})
}

// FuzzFrames adds to the property of all decoders what a reader of frames relies on: one frame is reused, its data
// are slices of the message, what else it held stays what it was, and reading ends when it says so.
func FuzzFrames(f *testing.F) {
	f.Add(fullFrames().AppendTo(nil), 1)
	f.Add((&frames{Worker: "w"}).AppendTo(nil), 0)
	f.Fuzz(func(t *testing.T, msg []byte, stop int) {
		var first *wire.Frame
		var kept, copied []wire.Frame
		err := wire.ParseFrames(msg, func(worker []byte, _ wire.Instance, fr *wire.Frame) bool {
			if first == nil {
				first = fr
			}
			if fr != first {
				t.Fatal("a second frame was allocated")
			}
			if cap(fr.Data) != len(fr.Data) || len(worker) > wire.MaxName {
				t.Fatalf("data of %d bytes with room for %d; worker %q", len(fr.Data), cap(fr.Data), worker)
			}
			kept = append(kept, *fr)
			copied = append(copied, copyFrame(fr))
			return true
		})
		if err != nil && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrVersion) {
			t.Fatalf("got %v, want ErrMalformed or ErrVersion", err)
		}
		if diff := cmp.Diff(copied, kept); diff != "" {
			t.Errorf("frames changed after their call (-then +now):\n%s", diff)
		}
		if n := len(kept); n > 0 {
			stop = 1 + int(uint(stop)%uint(n))
			calls := 0
			if err := wire.ParseFrames(msg, func([]byte, wire.Instance, *wire.Frame) bool { calls++; return calls < stop }); calls != stop {
				t.Errorf("%d calls, want to stop after %d: %v", calls, stop, err)
			} else if err != nil && stop < n {
				t.Errorf("stopped after %d of %d: got %v, want nil", stop, n, err)
			}
		}
		sameBytes(t, msg, kept)
		if err != nil {
			return
		}
		m, _ := parseFrames(msg)
		again := m.AppendTo(nil)
		got, err := parseFrames(again)
		if err != nil {
			t.Fatalf("encoded again, % x: %v", again, err)
		}
		// Worker and instance may change between the frames of a strange message; the last is what m holds.
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}

func copyFrame(f *wire.Frame) wire.Frame {
	g := *f
	g.Data, g.Headers = bytes.Clone(f.Data), slices.Clone(f.Headers)
	if f.End != nil {
		g.End = new(*f.End)
	}
	return g
}

// sameBytes proves that data are slices of msg: turning all bits of the one turns those of the other.
func sameBytes(t *testing.T, msg []byte, kept []wire.Frame) {
	t.Helper()
	var want []byte
	for _, f := range kept {
		want = append(want, f.Data...)
	}
	turn := func(b []byte) {
		for i := range b {
			b[i] = ^b[i]
		}
	}
	turn(msg)
	turn(want)
	var got []byte
	for _, f := range kept {
		got = append(got, f.Data...)
	}
	turn(msg)
	if !bytes.Equal(got, want) {
		t.Error("data are not slices of the message")
	}
}
