package workeradapter

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/radixbus/radixbus/internal/wire"
)

// Whatever is sent and consumed in whatever order: what is kept for a gateway that has missed it is what was sent, though the
// bytes were lent and their room is used again.
func TestWhatIsKeptIsWhatWasSent(t *testing.T) {
	w := unsent(t)
	rapid.Check(t, func(t *rapid.T) {
		d := &wire.Dispatch{Request: wire.NewRequestID(), Attempt: 1, Instance: 7, Stream: 1, Gateway: "g", Window: wire.StreamWindow}
		s := w.out.open(d, nil)
		defer w.out.forget(s.key)
		var sent []wire.Frame
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(sent) > 0 && rapid.IntRange(0, 3).Draw(t, "consume") == 0 {
				n := rapid.IntRange(1, len(sent)).Draw(t, "frames")
				s.box.mu.Lock()
				s.acked(sent[n-1].Seq)
				s.box.mu.Unlock()
				sent = sent[n:]
				continue
			}
			b := bytes.Repeat([]byte{byte(s.next)}, rapid.SampledFrom([]int{1, 40, 300, 1500, 6000}).Draw(t, "bytes"))
			lent := rapid.Bool().Draw(t, "lent")
			sent = append(sent, wire.Frame{Seq: s.next, Data: bytes.Clone(b)})
			if !s.send(context.Background(), b, lent) {
				t.Fatal("not sent, with room in the window")
			}
			if lent {
				clear(b)
			}
		}
		if !slices.EqualFunc(s.kept, sent, func(k, f wire.Frame) bool { return k.Seq == f.Seq && bytes.Equal(k.Data, f.Data) }) {
			t.Fatalf("%d frames are kept of %d, or others", len(s.kept), len(sent))
		}
		cost := 0
		for _, f := range sent {
			cost += len(f.Data) + wire.FrameOverhead
		}
		if s.cost != cost {
			t.Errorf("what is kept costs %d, want %d", s.cost, cost)
		}
	})
}
