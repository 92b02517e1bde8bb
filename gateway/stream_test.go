package gateway

import (
	"bytes"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/wire"
)

// A stream once kept whole messages for the sake of one small frame in them: a slow client's stream held the frames of
// all others that an engine ran at the time.
func TestAStreamKeepsItsOwnBytesOnly(t *testing.T) {
	d := newDemux(Config{ID: "g"}, nil, newMetrics(prometheus.NewRegistry()))
	s := d.open("w", 7, 1)
	msg := []byte("mine and the bytes of others")
	s.push(time.Now(), &wire.Frame{Type: wire.FrameData, Stream: s.id, Attempt: 1, Seq: 1, Data: msg[:4]})
	clear(msg)
	got := s.take(nil)
	if len(got) != 1 || string(got[0].Data) != "mine" {
		t.Fatalf("got %+v", got)
	}
	// What was taken stays as it is while more comes, until the next take.
	for seq := uint64(2); seq < 200; seq++ {
		s.push(time.Now(), &wire.Frame{Type: wire.FrameData, Stream: s.id, Attempt: 1, Seq: seq, Data: bytes.Repeat([]byte{byte(seq)}, 100)})
	}
	if string(got[0].Data) != "mine" {
		t.Errorf("taken bytes became %q", got[0].Data)
	}
	for i, f := range s.take(nil) {
		if want := bytes.Repeat([]byte{byte(i + 2)}, 100); !bytes.Equal(f.Data, want) {
			t.Fatalf("frame %d holds %q", f.Seq, f.Data)
		}
	}
	s.close()
	if d.find(s.id) != nil {
		t.Error("a closed stream is still known")
	}
}

func TestStreamNumbersDoNotRepeatOverRestarts(t *testing.T) {
	first, second := newDemux(Config{ID: "g"}, nil, newMetrics(prometheus.NewRegistry())), newDemux(Config{ID: "g"}, nil, newMetrics(prometheus.NewRegistry()))
	if a, b := first.open("w", 7, 1).id, second.open("w", 7, 1).id; a == b {
		t.Errorf("two gateways of one name both count from %d", a)
	}
}
