package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

var fleets = []int{8, 64, 1000, 4000}

// Prompts of 1 KiB and of 1 MiB have that many blocks in the ladder of a digest; here a block is 64 bytes.
var promptSizes = []struct {
	name   string
	blocks int
}{{"1KB", 16}, {"1MB", 940}}

const (
	benchBlocks = 512
	benchHeld   = benchBlocks * 3 / 4
)

// busy is a pool of warm workers, each with some attempts running, on prompts of that many blocks.
func busy(b *testing.B, workers, blocks int) *stage {
	s := newStage(b, Config{})
	for i := range workers {
		s.p.Join(s.now, info(fmt.Sprintf("w%04d", i), 1, 256), wire.Ready)
	}
	for i := range 8 * workers {
		s.put(chain(uint64(i%64), blocks, blocks*3/4, uint64(i)))
	}
	return s
}

// BenchmarkAssign is one decision on a prompt of which three quarters are held somewhere, with its reservation; ending
// the attempt again is not measured.
func BenchmarkAssign(b *testing.B) {
	for _, workers := range fleets {
		for _, prompt := range promptSizes {
			b.Run(fmt.Sprintf("workers=%d/prompt=%s", workers, prompt.name), func(b *testing.B) {
				s, held := busy(b, workers, prompt.blocks), prompt.blocks*3/4
				reqs := make([]*wire.AssignRequest, 256)
				for i := range reqs {
					reqs[i] = s.request(chain(uint64(i%64), prompt.blocks, held, uint64(1e6+i)))
				}
				s.wait(time.Minute)
				if r := s.assign(reqs[0]); where(r) == "" || int(r.Placements[0].Predicted) != held*blockTokens {
					b.Fatalf("benchmark would measure a miss: %+v", r)
				}
				b.ReportAllocs()
				n := 1
				for b.Loop() {
					req := reqs[n%len(reqs)]
					n++
					s.p.Assign(s.now, req)
					b.StopTimer()
					r := last(s.replies(), req)
					s.end(r, wire.End{Code: wire.CodeCancelled})
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkFinished is the end of an attempt with all there is to learn from it.
func BenchmarkFinished(b *testing.B) {
	for _, workers := range fleets {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := busy(b, workers, benchBlocks)
			req := s.request(chain(1, benchBlocks, benchHeld, 1e6))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s.wait(time.Minute)
				req.Attempt++
				r := s.assign(req)
				end := ended(r, int(r.Placements[0].Predicted))
				end.TTFTMicros, end.TotalMicros = 100_000, 1_000_000
				b.StartTimer()
				s.end(r, end)
			}
		})
	}
}

// BenchmarkReport is one worker's account of 256 attempts.
func BenchmarkReport(b *testing.B) {
	for _, workers := range fleets {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := busy(b, workers, benchBlocks)
			w := s.p.order[0]
			for i := range 256 - w.count {
				s.p.Peer(s.now, &wire.Assigned{Request: wire.RequestID{1, byte(i)}, Attempt: 1, Worker: w.info.Worker, Instance: 1, Prompt: 10})
			}
			l := &wire.Load{Worker: w.info.Worker, Instance: 1}
			for one := range w.leases() {
				l.Leases = append(l.Leases, wire.LeaseRef{Request: one.key.Request, Attempt: one.key.Attempt})
			}
			if len(l.Leases) != 256 {
				b.Fatalf("%d attempts named, want 256", len(l.Leases))
			}
			b.ReportAllocs()
			for b.Loop() {
				s.p.Report(s.now, l)
			}
			if w.count != 256 {
				b.Fatalf("%d attempts counted after the reports", w.count)
			}
		})
	}
}
