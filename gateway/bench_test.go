package gateway

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

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
