package core

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// zero fails unless nothing is counted anywhere.
func (s *stage) zero() {
	s.t.Helper()
	s.check()
	for _, w := range s.p.order {
		if w.running() != 0 || w.uncached != 0 || w.context != 0 || s.p.backlogOf(s.now, w) != 0 {
			s.t.Errorf("%s still counts %d attempts, %d uncached, %d context, %v backlog", w.info.Worker, w.running(), w.uncached, w.context, s.p.backlogOf(s.now, w))
		}
	}
	if len(s.p.leases) != 0 {
		s.t.Errorf("%d leases are left", len(s.p.leases))
	}
}

func TestALeaseEnds(t *testing.T) {
	path := prompt(1, 10)
	for _, tt := range []struct {
		name string
		end  func(*stage, *wire.AssignReply)
		held int // blocks believed held afterwards
	}{
		{"finished", func(s *stage, r *wire.AssignReply) { s.finish(r, 0) }, 10},
		{"finished, usage not told", func(s *stage, r *wire.AssignReply) { s.end(r, wire.End{}) }, 10},
		{"client left before the first byte", func(s *stage, r *wire.AssignReply) { s.end(r, wire.End{Code: wire.CodeCancelled}) }, 0},
		{"client left after it", func(s *stage, r *wire.AssignReply) { s.end(r, wire.End{Code: wire.CodeCancelled, Begun: true}) }, 10},
		{"engine refused it", func(s *stage, r *wire.AssignReply) { s.end(r, wire.End{Code: wire.CodeEngineRefused, Begun: true}) }, 0},
		{"worker was full", func(s *stage, r *wire.AssignReply) { s.end(r, wire.End{Code: wire.CodeBusy}) }, 0},
		{"next attempt's history", func(s *stage, r *wire.AssignReply) {
			s.p.Assign(s.now, &wire.AssignRequest{
				Request: r.Request, Attempt: 2, Model: "none",
				History: []wire.Outcome{{Attempt: 1, Worker: "w0", Instance: 1, Code: wire.CodeLost}},
			})
		}, 0},
		{"report omits it", func(s *stage, r *wire.AssignReply) {
			s.p.Report(s.now, load("w0", r))
			s.p.Report(s.now, load("w0"))
		}, 10},
		{"expiry", func(s *stage, _ *wire.AssignReply) { s.tick(31 * time.Second) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			s.join(1, 4)
			r := s.put(path)
			if s.running("w0") != 1 || s.p.Leases() != 1 {
				t.Fatalf("%d attempts counted, %d leases, want 1", s.running("w0"), s.p.Leases())
			}
			tt.end(s, r)
			s.zero()
			if got := s.held("w0", path); got != tt.held {
				t.Errorf("%d blocks believed held, want %d", got, tt.held)
			}
			s.finish(r, 0) // again, or late: nothing
			s.p.Report(s.now, load("w0"))
			s.zero()
		})
	}
}

func TestAReportThatNamesALeaseKeepsIt(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	r, unconfirmed := s.put(prompt(1, 10)), s.put(prompt(2, 10))
	for range 40 {
		s.tick(time.Second)
		s.p.Report(s.now, load("w0", r))
		s.check()
	}
	if s.p.Leases() != 1 || s.p.leases[wire.AttemptKey{Request: unconfirmed.Request, Attempt: 1, Instance: 1}] != nil {
		t.Errorf("%d leases, want only the one that was confirmed", s.p.Leases())
	}
	truncated := load("w0")
	truncated.Truncated = true
	s.p.Report(s.now, truncated)
	if s.p.Leases() != 1 {
		t.Error("a truncated report ended a lease that it may only not have had the room to name")
	}
}

func TestAReportBeforeTheDispatchEndsNothing(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	s.put(prompt(1, 10))
	s.p.Report(s.now, load("w0")) // the adapter has not seen it yet
	if s.p.Leases() != 1 {
		t.Errorf("%d leases, want 1", s.p.Leases())
	}
}

func TestForeignAttemptsCountAfterARestart(t *testing.T) {
	before := newStage(t, Config{})
	before.join(2, 3)
	var on0 []*wire.AssignReply
	for len(on0) < 3 {
		if r := before.assign(before.request(prompt(uint64(before.ids), 4))); where(r) == "w0" {
			on0 = append(on0, r)
		}
	}
	s := newStage(t, Config{})
	s.join(2, 3)
	s.p.Report(s.now, load("w0", on0...))
	if s.running("w0") != 3 || s.p.Leases() != 0 {
		t.Fatalf("%d counted on w0 and %d leases, want 3 and 0", s.running("w0"), s.p.Leases())
	}
	for i := range 3 {
		if r := s.put(prompt(uint64(i+50), 4)); where(r) != "w1" {
			t.Errorf("got %s, want w1: w0 is full", where(r))
		}
	}
	s.p.Report(s.now, load("w0"))
	if s.running("w0") != 0 {
		t.Errorf("%d counted on w0 after it said that it runs nothing", s.running("w0"))
	}
	s.check()
}

func TestUnknownKeysAreIgnored(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	r := s.put(prompt(1, 10))
	other := wire.AttemptKey{Request: wire.RequestID{9}, Attempt: 1, Instance: 1}
	s.p.Finished(s.now, &wire.Finished{Worker: "w0", Instance: 1, Request: other.Request, Attempt: 1})
	s.p.Finished(s.now, &wire.Finished{Worker: "w0", Instance: 2, Request: r.Request, Attempt: 1})
	s.p.Finished(s.now, &wire.Finished{Worker: "w0", Instance: 1, Request: r.Request, Attempt: 2})
	s.p.Finished(s.now, &wire.Finished{Worker: "nobody", Instance: 1, Request: other.Request, Attempt: 9})
	s.p.Report(s.now, &wire.Load{Worker: "w0", Instance: 2})
	s.p.Report(s.now, &wire.Load{Worker: "nobody", Instance: 1})
	s.p.Peer(s.now, &wire.Assigned{Worker: "nobody", Instance: 1, LeaseMillis: 1000})
	s.p.Peer(s.now, &wire.Assigned{Worker: "w0", Instance: 2, LeaseMillis: 1000})
	s.p.Leave(s.now, "nobody", 1)
	if s.p.Leases() != 1 || s.running("w0") != 1 {
		t.Errorf("%d leases, %d counted, want 1", s.p.Leases(), s.running("w0"))
	}
	s.check()
}

func TestANewInstanceIsANewWorker(t *testing.T) {
	path := prompt(1, 10)
	s := newStage(t, Config{})
	s.join(1, 4)
	r := s.put(path)
	s.p.Join(s.now, info("w0", 2, 4), wire.Ready)
	s.zero()
	if got := s.held("w0", path); got != 0 {
		t.Errorf("%d blocks believed held by the new instance", got)
	}
	s.finish(r, 0) // of the old one
	s.p.Leave(s.now, "w0", 1)
	if s.p.Workers() != 1 || s.held("w0", path) != 0 {
		t.Errorf("the old instance's last words changed the new one: %d workers, %d blocks", s.p.Workers(), s.held("w0", path))
	}
	s.put(path)
	s.p.Leave(s.now, "w0", 2)
	if s.p.Workers() != 0 || s.p.Leases() != 0 || s.p.tree.Stats().Held != 0 {
		t.Errorf("%d workers, %d leases, %d blocks after the last left", s.p.Workers(), s.p.Leases(), s.p.tree.Stats().Held)
	}
	for i := range 10 { // indices are used again
		s.p.Join(s.now, info(fmt.Sprintf("v%d", i), 1, 4), wire.Ready)
		s.p.Leave(s.now, fmt.Sprintf("v%d", i), 1)
	}
	if len(s.p.byIndex) != 1 {
		t.Errorf("%d tree indices in use for one worker at a time", len(s.p.byIndex))
	}
	s.check()
}

func TestAChangedInfoKeepsWhatTheWorkerHas(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	s.put(prompt(1, 10))
	w := info("w0", 1, 4)
	w.Models = append(w.Models, wire.Model{Name: "adapter", Kind: wire.LoRAModel})
	s.p.Join(s.now, w, wire.Draining)
	if s.running("w0") != 1 || s.held("w0", prompt(1, 10)) != 10 {
		t.Errorf("%d attempts and %d blocks, want 1 and 10", s.running("w0"), s.held("w0", prompt(1, 10)))
	}
	s.p.Join(s.now, w, wire.Ready)
	req := s.request(prompt(2, 4))
	req.Model = "adapter"
	if r := s.assign(req); where(r) != "w0" {
		t.Errorf("got %+v, want w0", r)
	}
}

// The same attempt assigned twice (the first answer was lost) is one attempt: the lease that the second replaces once
// stayed on the worker's list, and its expiry took the other one's name away.
func TestAnAttemptAssignedTwiceIsCountedOnce(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	req := s.request(prompt(1, 10))
	s.assign(req)
	r := s.assign(req)
	if s.running("w0") != 1 || s.p.Leases() != 1 {
		t.Errorf("%d counted, %d leases, want 1", s.running("w0"), s.p.Leases())
	}
	s.check()
	s.finish(r, 0)
	s.zero()
}

// peerOf is the event of what s has just placed.
func peerOf(t *testing.T, s *stage, req *wire.AssignRequest) (*wire.AssignReply, *wire.Assigned) {
	t.Helper()
	s.p.Assign(s.now, req)
	var r *wire.AssignReply
	var e *wire.Assigned
	for _, o := range s.p.Outputs() {
		if o.Reply != nil {
			r = o.Reply
		}
		if o.Event != nil {
			e = o.Event
		}
	}
	if r == nil || e == nil {
		t.Fatalf("got %v and %v, want a reply and an event", r, e)
	}
	return r, e
}

func TestEventsOfPeersInAnyOrder(t *testing.T) {
	path := prompt(1, 10)
	for _, tt := range []struct {
		name  string
		order string // a: assigned, f: finished, r: a report that names it, o: one that does not
		count int
		held  int
	}{
		{"in order", "af", 0, 10},
		{"end first", "fa", 0, 10},
		{"assigned twice", "aa", 1, 10},
		{"assigned again after its end", "afa", 0, 10},
		{"ended twice", "aff", 0, 10},
		{"end first, all twice", "ffaa", 0, 10},
		{"report first", "raro", 0, 10},
		{"end after a report", "arof", 0, 10},
		{"assigned again after a report ended it", "aroa", 0, 10},
		{"only assigned", "a", 1, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newStage(t, Config{}), newStage(t, Config{Scheduler: "s2"})
			a.join(1, 8)
			b.join(1, 8)
			r, e := peerOf(t, a, a.request(path))
			for _, event := range tt.order {
				b.wait(time.Millisecond)
				switch event {
				case 'a':
					b.p.Peer(b.now, e)
				case 'f':
					b.finish(r, 0)
				case 'r':
					b.p.Report(b.now, load("w0", r))
				case 'o':
					b.p.Report(b.now, load("w0"))
				}
				b.check()
			}
			if b.p.Leases() != tt.count || b.held("w0", path) != tt.held {
				t.Errorf("%d leases and %d blocks, want %d and %d", b.p.Leases(), b.held("w0", path), tt.count, tt.held)
			}
			b.tick(40 * time.Second)
			b.zero()
		})
	}
}

func TestAbsurdPeerEventsAreBounded(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	s.p.Peer(s.now, &wire.Assigned{Request: wire.RequestID{1}, Attempt: 1, Worker: "w0", Instance: 1, LeaseMillis: 1<<32 - 1, Prompt: 10, Predicted: 1<<32 - 1})
	s.p.Peer(s.now, &wire.Assigned{Request: wire.RequestID{2}, Attempt: 1, Worker: "w0", Instance: 1, Prompt: 1<<32 - 1})
	s.check()
	s.tick(31 * time.Second) // not 49 days
	s.zero()
}

func TestEndingsAreRememberedWithinABound(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	for range 3 * maxOver {
		s.finish(s.put(prompt(1, 2)), 0)
	}
	s.check()
	s.zero()
	if len(s.p.over.of) != maxOver {
		t.Errorf("%d endings remembered, want %d", len(s.p.over.of), maxOver)
	}
}

// What an abandoned attempt would have computed is not held, unless another one there computes it instead.
func TestAbandonForgetsOnlyWhatNobodyElseComputes(t *testing.T) {
	broke := wire.End{Code: wire.CodeEngineFault}
	shared := func(tail uint64) []uint64 { return chain(1, 20, 10, tail) }
	type attempts struct{ first, second *wire.AssignReply }
	for _, tt := range []struct {
		name          string
		do            func(*stage, attempts)
		first, second int // blocks held of each path
	}{
		{"sibling in flight", func(s *stage, a attempts) { s.end(a.first, broke) }, 10, 20},
		{"sibling finished after it", func(s *stage, a attempts) { s.end(a.first, broke); s.finish(a.second, 0) }, 10, 20},
		// The sibling's proof once was thrown away with the first's promise.
		{"sibling finished before it", func(s *stage, a attempts) { s.finish(a.second, 0); s.end(a.first, broke) }, 10, 20},
		// The sibling once believed that the first had left it the shared part.
		{"both abandoned", func(s *stage, a attempts) { s.end(a.first, broke); s.end(a.second, broke) }, 0, 0},
		{"both abandoned, the other way", func(s *stage, a attempts) { s.end(a.second, broke); s.end(a.first, broke) }, 0, 0},
		{"only the second", func(s *stage, a attempts) { s.end(a.second, broke) }, 20, 10},
		{"the first finished", func(s *stage, a attempts) { s.finish(a.first, 0); s.end(a.second, broke) }, 20, 10},
		{"a report proves the sibling", func(s *stage, a attempts) {
			s.p.Report(s.now, load("w0", a.first, a.second))
			s.p.Report(s.now, load("w0", a.first))
			s.end(a.first, broke)
		}, 10, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			s.join(1, 8)
			a := attempts{first: s.put(shared(1))}
			s.wait(time.Millisecond)
			a.second = s.put(shared(2))
			s.wait(time.Millisecond)
			tt.do(s, a)
			if f, sec := s.held("w0", shared(1)), s.held("w0", shared(2)); f != tt.first || sec != tt.second {
				t.Errorf("%d and %d blocks held, want %d and %d", f, sec, tt.first, tt.second)
			}
			s.check()
		})
	}
}

// snapshot is what two replicas must agree on.
type snapshot struct {
	Leases   []wire.AttemptKey
	Backlog  float64
	Context  int64
	Uncached int64
	Work     float64
	Rate     float64
	Leaves   map[string]tree.Stamp
}

func (s *stage) snapshot() map[string]snapshot {
	all := make(map[string]snapshot)
	for _, w := range s.p.order {
		one := snapshot{Context: w.context, Uncached: w.uncached, Work: w.work, Rate: s.p.rateOf(w), Backlog: s.p.backlogOf(s.now, w), Leaves: make(map[string]tree.Stamp)}
		for l := range w.leases() {
			one.Leases = append(one.Leases, l.key)
		}
		for path, stamp := range s.p.tree.Leaves(w.index) {
			one.Leaves[fmt.Sprint(path)] = stamp
		}
		all[w.info.Worker] = one
	}
	return all
}

func TestReplicasThatHearEachOtherAgree(t *testing.T) {
	replicas := []*stage{newStage(t, Config{Seed: 1}), newStage(t, Config{Seed: 2})}
	for _, s := range replicas {
		s.join(4, 64)
	}
	replicas[1].ids = 1 << 20
	rng := rand.New(rand.NewPCG(3, 3))
	var open []*wire.AssignReply
	now := epoch
	for range 2000 {
		now = now.Add(time.Duration(rng.IntN(20)) * time.Millisecond)
		for _, s := range replicas {
			s.now = now
		}
		switch n := rng.IntN(10); {
		case n < 5:
			by := rng.IntN(2)
			s, other := replicas[by], replicas[1-by]
			r, e := peerOf(t, s, s.request(chain(rng.Uint64N(20), 30, 15, rng.Uint64N(100))))
			other.p.Peer(now, e)
			open = append(open, r)
		case len(open) > 0:
			i := rng.IntN(len(open))
			r := open[i]
			open = append(open[:i], open[i+1:]...)
			end := ended(r, rng.IntN(480))
			end.TTFTMicros, end.TotalMicros = rng.Uint64N(100_000), 10_000_000
			if rng.IntN(8) == 0 {
				end = wire.End{Code: wire.CodeEngineFault}
			}
			for _, s := range replicas {
				s.end(r, end)
			}
		}
	}
	a, b := replicas[0].snapshot(), replicas[1].snapshot()
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("replicas differ (-first +second):\n%s", d)
	}
	if len(a) != 4 || len(open) == 0 {
		t.Fatalf("%d workers and %d open attempts: nothing was compared", len(a), len(open))
	}
	for _, s := range replicas {
		s.check()
		s.tick(time.Minute)
		s.zero()
	}
}
