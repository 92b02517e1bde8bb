package wire_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/radixbus/radixbus/internal/wire"
)

// Each benchmark is one message, encoded into a buffer that is reused and decoded as its reader does.

func BenchmarkAssignRequest(b *testing.B) {
	m := fullAssignRequest()
	hashes := make([]uint64, 512) // a prompt of 32k tokens, 64 a block
	for i := range hashes {
		hashes[i] = uint64(i+1) * 0x9e3779b97f4a7c15
	}
	m.Digests = []wire.Digest{{KeyID: 1, Ladder: 1, Bytes: 131_072, Hashes: hashes}}
	benchMessage(b, m, func(msg []byte) error {
		got, err := wire.ParseAssignRequest(msg)
		if err == nil && len(got.Digests[0].Hashes) != len(hashes) {
			return fmt.Errorf("got %d hashes, want %d", len(got.Digests[0].Hashes), len(hashes))
		}
		return err
	})
}

func BenchmarkFrames(b *testing.B) {
	event := []byte(`data: {"id":"0123456789abcdef0123456789abcdef","object":"text_completion","created":1767225600,` +
		`"choices":[{"index":0,"text":" upon","logprobs":null,"finish_reason":null}],"model":"llama","usage":null}` + "\n\n")
	m := &frames{Worker: "w-1", Instance: 0x0101010101010101}
	for i := range 64 {
		m.Frames = append(m.Frames, wire.Frame{
			Type: wire.FrameData, Stream: uint64(100_000 + i), Attempt: 1, Seq: uint64(200 + i), Data: event,
		})
	}
	benchMessage(b, m, func(msg []byte) error {
		n := 0
		err := wire.ParseFrames(msg, func(_ []byte, _ wire.Instance, f *wire.Frame) bool {
			n += len(f.Data)
			return true
		})
		if err == nil && n != 64*len(event) {
			return fmt.Errorf("got %d bytes, want %d", n, 64*len(event))
		}
		return err
	})
}

func BenchmarkDispatch(b *testing.B) {
	m := fullDispatch()
	m.Body = bytes.Repeat([]byte("x"), 20<<10)
	m.Size = uint64(len(m.Body))
	benchMessage(b, m, func(msg []byte) error {
		got, err := wire.ParseDispatch(msg)
		if err == nil && len(got.Body) != len(m.Body) {
			return fmt.Errorf("got %d bytes, want %d", len(got.Body), len(m.Body))
		}
		return err
	})
}

func BenchmarkFinished(b *testing.B) {
	m := fullFinished()
	benchMessage(b, m, func(msg []byte) error {
		got, err := wire.ParseFinished(msg)
		if err == nil && got.End != m.End {
			return fmt.Errorf("got %v, want %v", got.End, m.End)
		}
		return err
	})
}

// BenchmarkLoad is a report of a busy worker: a small nested message for each of 256 leases.
func BenchmarkLoad(b *testing.B) {
	m := fullLoad()
	m.Leases = nil
	for i := range 256 {
		m.Leases = append(m.Leases, wire.LeaseRef{Request: requestID(byte(i)), Attempt: 1})
	}
	benchMessage(b, m, func(msg []byte) error {
		got, err := wire.ParseLoad(msg)
		if err == nil && len(got.Leases) != len(m.Leases) {
			return fmt.Errorf("got %d leases, want %d", len(got.Leases), len(m.Leases))
		}
		return err
	})
}

// benchMessage measures both directions; parse fails when it did not see the whole message.
func benchMessage(b *testing.B, m message, parse func([]byte) error) {
	msg := m.AppendTo(nil)
	b.Run("encode", func(b *testing.B) {
		buf := make([]byte, 0, len(msg)+16)
		b.SetBytes(int64(len(msg)))
		b.ReportAllocs()
		for b.Loop() {
			buf = m.AppendTo(buf[:0])
		}
		if !bytes.Equal(buf, msg) {
			b.Fatal("encoded another message")
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(msg)))
		b.ReportAllocs()
		for b.Loop() {
			if err := parse(msg); err != nil {
				b.Fatal(err)
			}
		}
	})
}
