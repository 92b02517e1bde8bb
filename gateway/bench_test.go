package gateway

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/wire"
)

// BenchmarkFrames takes the message of one decode step, a frame of 200 bytes for each of 64 streams, from the bus to
// the streams' owners. One op is one message.
func BenchmarkFrames(b *testing.B) {
	const width = 64
	d := newDemux(Config{ID: "g"}, nil, newMetrics(prometheus.NewRegistry()))
	streams := make([]*stream, width)
	for i := range streams {
		streams[i] = d.open("w", 7, 1)
	}
	data := make([]byte, 200)
	taken, owned := 0, []wire.Frame(nil)
	var buf []byte
	b.ReportAllocs()
	for seq := uint64(1); b.Loop(); seq++ {
		buf = wire.AppendFrames(buf[:0], "w", 7)
		for _, s := range streams {
			buf = wire.AppendFrame(buf, &wire.Frame{Type: wire.FrameData, Stream: s.id, Attempt: 1, Seq: seq, Data: data})
		}
		d.frames(&nats.Msg{Data: buf})
		for _, s := range streams {
			owned = s.take(owned)
			taken += len(owned)
		}
	}
	if taken != width*b.N {
		b.Fatalf("%d frames arrived of %d", taken, width*b.N)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(taken), "ns/frame")
}

// BenchmarkAbort looks for as many names as one abort may have, which nobody has, among 2,000 calls.
func BenchmarkAbort(b *testing.B) {
	for _, prompts := range []int{1, maxRids} {
		b.Run(fmt.Sprintf("prompts=%d", prompts), func(b *testing.B) {
			var l lives
			var last *call
			for i := range 2000 {
				last = &call{who: who{id: wire.NewRequestID(), label: fmt.Sprint(i)}, req: &prefix.Request{Prompts: prompts}}
				l.add(last)
				l.attempt(last, 1)
			}
			var a wire.Abort
			for i := range wire.MaxAborts {
				a.Names = append(a.Names, wire.Reference{Engine: uint64(i)}.Response(fmt.Sprintf("%032x", i)))
			}
			b.ReportAllocs()
			for b.Loop() {
				if n := l.abort(&a, 0); n != 0 {
					b.Fatalf("%d calls have a name that nobody has", n)
				}
			}
			a.Names[0] = wire.Reference{}.Response(wire.RidOf(last.id, 1, 0))
			if n := l.abort(&a, 0); n != 1 {
				b.Fatalf("would measure something else: %d calls have the name of one", n)
			}
		})
	}
}

// BenchmarkLive makes a call known, gives it an attempt and forgets it.
func BenchmarkLive(b *testing.B) {
	for _, prompts := range []int{1, maxRids} {
		b.Run(fmt.Sprintf("prompts=%d", prompts), func(b *testing.B) {
			var l lives
			b.ReportAllocs()
			for b.Loop() {
				c := &call{who: who{id: wire.NewRequestID(), label: "r"}, req: &prefix.Request{Prompts: prompts}}
				l.add(c)
				l.attempt(c, 1)
				l.remove(c)
			}
			if len(l.calls)+len(l.named) != 0 {
				b.Fatalf("%d calls and %d names are left", len(l.calls), len(l.named))
			}
		})
	}
}
