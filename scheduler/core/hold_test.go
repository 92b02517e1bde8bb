package core

import (
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// fill takes all the room there is.
func (s *stage) fill(n int) (rs []*wire.AssignReply) {
	s.t.Helper()
	for i := range n {
		rs = append(rs, s.put(prompt(uint64(9000+i), 2)))
	}
	return rs
}

func TestHeldRequestsAreServedInOrder(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 2)
	open := s.fill(4)
	var reqs []*wire.AssignRequest
	for i := range 3 {
		req := s.request(prompt(uint64(i), 4))
		if r := s.assign(req); r.Verdict != wire.Held {
			t.Fatalf("request %d: got %+v, want held", i, r)
		}
		reqs = append(reqs, req)
	}
	wakes := []func(){
		func() { s.finish(open[0], 0) },
		func() { s.p.Join(s.now, info("w9", 1, 1), wire.Ready) },
		func() { // an attempt that a report named is not named any more
			at := where(open[3])
			s.p.Report(s.now, load(at, open[3]))
			s.p.Report(s.now, load(at))
		},
	}
	for i, wake := range wakes {
		wake()
		rs := s.replies()
		if where(last(rs, reqs[i])) == "" {
			t.Errorf("request %d was not placed when there was room: %v", i, rs)
		}
		for _, later := range reqs[i+1:] {
			if last(rs, later) != nil {
				t.Errorf("a request overtook number %d", i)
			}
		}
		s.check()
	}
	if s.p.Held() != 0 {
		t.Errorf("%d still held", s.p.Held())
	}
}

func TestNewRequestDoesNotOvertakeHeldOnes(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	open := s.fill(1)
	first, second := s.request(prompt(1, 4)), s.request(prompt(2, 4))
	s.assign(first)
	// The worker turns the running attempt away: its room comes back after busyFor, without any event.
	retry := s.request(prompt(9000, 2))
	retry.Request, retry.Attempt = open[0].Request, 2
	retry.History = []wire.Outcome{{Attempt: 1, Worker: "w0", Instance: 1, Code: wire.CodeBusy}}
	s.assign(retry)
	s.wait(busyFor)
	s.p.Assign(s.now, second)
	rs := s.replies()
	if where(last(rs, first)) != "w0" || last(rs, second).Verdict != wire.Held {
		t.Errorf("got %+v and %+v, want the first placed and the second held", last(rs, first), last(rs, second))
	}
	s.check()
}

func TestHeldForAnotherModelDoesNotBlock(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	s.fill(1)
	for i := range 3 {
		s.assign(s.request(prompt(uint64(i), 4)))
	}
	w := info("other", 1, 4)
	w.Models = []wire.Model{{Name: "adapter", Kind: wire.LoRAModel}}
	s.p.Join(s.now, w, wire.Ready)
	req := s.request(prompt(7, 4))
	req.Model = "adapter"
	if r := s.assign(req); where(r) != "other" {
		t.Errorf("got %+v, want a placement on the worker that has room", r)
	}
	if s.p.Held() != 3 {
		t.Errorf("%d held, want 3", s.p.Held())
	}
	s.check()
}

func TestHeldRequestBeatsAndIsRefusedInTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name      string
		remaining uint32
		want      time.Duration
		beats     int // after the first
	}{
		{"at the end of the hold", 0, 5 * time.Second, 4},
		{"long deadline", 60_000, 5 * time.Second, 4},
		{"at its own deadline", 2500, 2500 * time.Millisecond, 2},
		{"at once almost", 1, time.Millisecond, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{LeaseFor: time.Hour})
			s.join(1, 1)
			s.fill(1)
			req := s.request(prompt(1, 4))
			req.RemainingMillis = tt.remaining
			if r := s.assign(req); r.Verdict != wire.Held {
				t.Fatalf("got %+v, want held", r)
			}
			beats, start := 0, s.now
			for s.p.Held() > 0 {
				s.wait(min(100*time.Millisecond, tt.want))
				s.p.Tick(s.now)
				for _, r := range s.replies() {
					switch {
					case r.Verdict == wire.Held:
						beats++
					case r.Verdict != wire.Refused || r.Code != wire.CodeOverloaded || r.RetryAfterMillis == 0:
						t.Errorf("got %+v, want overloaded and when to retry", r)
					}
				}
			}
			if took := s.now.Sub(start); took != tt.want || beats != tt.beats {
				t.Errorf("refused after %v and %d beats, want %v and %d", took, beats, tt.want, tt.beats)
			}
			s.check()
		})
	}
}

func TestHoldIsBounded(t *testing.T) {
	s := newStage(t, Config{MaxHeld: 3})
	s.join(1, 1)
	s.fill(1)
	for i := range 5 {
		r := s.assign(s.request(prompt(uint64(i), 4)))
		if want := wire.Held; i < 3 && r.Verdict != want {
			t.Errorf("request %d: got %+v, want held", i, r)
		}
		if i >= 3 && (r.Verdict != wire.Refused || r.Code != wire.CodeOverloaded) {
			t.Errorf("request %d: got %+v, want overloaded", i, r)
		}
	}
	s.check()
}

func TestForgottenRequestIsNotPlaced(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	open := s.fill(1)
	gone, stays := s.request(prompt(1, 4)), s.request(prompt(2, 4))
	s.assign(gone)
	s.assign(stays)
	s.p.Forget(gone.Request, gone.Attempt)
	s.p.Forget(gone.Request, gone.Attempt) // again: nothing
	s.p.Forget(stays.Request, 77)          // no such attempt: nothing
	s.p.Forget(open[0].Request, 1)         // not held: nothing
	s.finish(open[0], 0)
	rs := s.replies()
	if last(rs, gone) != nil || where(last(rs, stays)) != "w0" {
		t.Errorf("got %v, want only the second placed", rs)
	}
	s.check()
}

// A gateway that heard nothing asks again: the question that is still held must not be answered as well.
func TestQuestionAskedAgainIsHeldOnce(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	open := s.fill(1)
	req := s.request(prompt(1, 4))
	s.assign(req)
	s.assign(req)
	if s.p.Held() != 1 {
		t.Errorf("%d held, want 1", s.p.Held())
	}
	s.finish(open[0], 0)
	s.check()
	if s.p.Leases() != 1 || len(s.p.held) != 0 {
		t.Errorf("%d leases and %d held, want 1 and 0", s.p.Leases(), s.p.Held())
	}
}

func TestHeldRequestsLearnThatNobodyIsLeft(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	s.fill(1)
	req := s.request(prompt(1, 4))
	s.assign(req)
	s.p.Leave(s.now, "w0", 99) // another life: nothing
	if r := last(s.replies(), req); r != nil {
		t.Fatalf("got %+v for the end of another life", r)
	}
	s.p.Leave(s.now, "w0", 1)
	if r := last(s.replies(), req); r == nil || r.Code != wire.CodeNoWorker {
		t.Errorf("got %+v, want no_worker", r)
	}
	s.check()
}

// While nobody has room, an event costs one look at each worker, not one for each held request.
func TestWakeIsCheapWhenNobodyHasRoom(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	s.fill(1)
	for i := range 4096 {
		s.assign(s.request(prompt(uint64(i), 4)))
	}
	s.p.Outputs()
	s.p.Outputs()
	if got := testing.AllocsPerRun(100, func() { s.p.wake(s.now) }); got != 0 {
		t.Errorf("wake allocated %v times", got)
	}
	looked := 0
	s.p.policy = pickFunc(func([]Candidate) int { looked++; return 0 })
	w := info("other", 1, 4) // has room, but for nobody who waits
	w.Models = []wire.Model{{Name: "adapter", Kind: wire.LoRAModel}}
	s.p.Join(s.now, w, wire.Ready)
	if looked != 0 || s.p.Held() != 4096 {
		t.Errorf("%d picks and %d held, want none and 4096", looked, s.p.Held())
	}
	s.check()
}
