package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// broken has request bodies with the fingerprint break n engines, as one client's tries would.
func (s *stage) broken(fingerprint uint64, n int) {
	s.t.Helper()
	for range n {
		req := s.request(prompt(fingerprint, 4))
		req.Fingerprint = fingerprint
		r := s.assign(req)
		if where(r) == "" {
			s.t.Fatalf("got %+v, want a placement", r)
		}
		s.end(r, wire.End{Code: wire.CodeEngineBroke})
	}
}

func (s *stage) tryBody(fingerprint uint64) wire.Code {
	req := s.request(prompt(fingerprint, 4))
	req.Fingerprint = fingerprint
	r := s.assign(req)
	if where(r) != "" {
		s.end(r, wire.End{Code: wire.CodeEngineBusy})
	}
	return r.Code
}

// An empty prompt killed SGLang, and its client's tries killed two engines each.
func TestABodyThatBreaksEnginesIsGivenToNoFurtherOne(t *testing.T) {
	s := newStage(t, Config{})
	s.join(4, 4)
	s.broken(7, 1)
	if c := s.tryBody(7); c != wire.CodeOK {
		t.Errorf("after one engine: %v, want another chance: it may have died of something else", c)
	}
	s.broken(7, 1)
	if c := s.tryBody(7); c != wire.CodePoison {
		t.Errorf("after two engines: %v, want it refused", c)
	}
	if c := s.tryBody(8); c != wire.CodeOK {
		t.Errorf("another body: %v", c)
	}
	s.tick(poisonFor + time.Second)
	for i := range 4 { // they have been started again
		s.p.Join(s.now, info(fmt.Sprintf("w%d", i), 2, 4), wire.Ready)
	}
	s.broken(7, 1) // it is tried again, and breaks another one
	s.tick(poisonFor + time.Second)
	if c := s.tryBody(7); c != wire.CodePoison {
		t.Errorf("after the third: %v, want it refused for longer", c)
	}
	s.tick(poisonFor)
	if c := s.tryBody(7); c != wire.CodeOK {
		t.Errorf("at last: %v", c)
	}
}

// A popular body is on an engine many times, on several ranks, when that dies of something else.
func TestOneDeathOfAnEngineCountsOnceForABody(t *testing.T) {
	s := newStage(t, Config{Policy: "least-load"})
	s.fleetOfKinds() // w0 and w1 are ranks of e0, w2 is e1, w3 is e2
	var on []*wire.AssignReply
	for range 8 {
		req := s.request(prompt(7, 4))
		req.Fingerprint = 7
		on = append(on, s.assign(req))
	}
	for _, r := range on {
		if where(r) == "w0" || where(r) == "w1" {
			s.end(r, wire.End{Code: wire.CodeEngineBroke})
		}
	}
	if n := s.p.poisons.of[7].broke; n != 1 || s.p.poisons.refuses(s.now, 7) {
		t.Errorf("one engine has died, %d are counted", n)
	}
	for range 2 { // the second is known already when its second request's end is heard
		for _, r := range on {
			if where(r) == "w2" {
				s.end(r, wire.End{Code: wire.CodeEngineBroke})
			}
		}
	}
	if n := s.p.poisons.of[7].broke; n != 2 || !s.p.poisons.refuses(s.now, 7) {
		t.Errorf("two engines have died, %d are counted", n)
	}
	s.tick(poisonFor + time.Second)
	back := info("w2", 2, 2)
	back.Engine, back.EngineKind = "e1", "sglang"
	s.p.Join(s.now, back, wire.Ready)
	req := s.request(prompt(7, 4))
	req.Fingerprint, req.Engine = 7, "e1"
	s.end(s.assign(req), wire.End{Code: wire.CodeEngineBroke}) // its next life is another death
	if n := s.p.poisons.of[7].broke; n != 3 {
		t.Errorf("after a third death %d are counted", n)
	}
}

// One that waits for room is given to nobody either, once it is known for what it is.
func TestAHeldBodyThatBreaksEnginesIsRefused(t *testing.T) {
	s := newStage(t, Config{})
	s.join(3, 1)
	body := func() *wire.AssignRequest {
		req := s.request(prompt(7, 4))
		req.Fingerprint = 7
		return req
	}
	first, second, other := s.assign(body()), s.assign(body()), s.put(prompt(1, 4))
	held := body()
	if r := s.assign(held); r.Verdict != wire.Held {
		t.Fatalf("got %+v, want it held", r)
	}
	s.end(first, wire.End{Code: wire.CodeEngineBroke})
	if r := last(s.replies(), held); where(r) == "" { // on the engine that is free now
		t.Fatalf("got %+v, want it placed: one engine may have died of something else", r)
	}
	again := body()
	s.assign(again)
	s.end(second, wire.End{Code: wire.CodeEngineBroke})
	s.finish(other, 0)
	if r := last(s.replies(), again); r == nil || r.Code != wire.CodePoison {
		t.Errorf("got %+v, want it refused", r)
	}
	if s.p.Held() != 0 {
		t.Errorf("%d are held", s.p.Held())
	}
}

// A request that failed on an engine was given to another rank of it, and ended there.
func TestRanksOfAnEngineFailTogether(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeEngineFault, wire.CodeEngineBroke, wire.CodeEngineDown, wire.CodeWorkerGone} {
		for first := range 8 {
			s := newStage(t, Config{Seed: uint64(first)})
			s.fleetOfKinds()
			req := s.request(prompt(1, 4))
			req.Engine = "e0"
			r := s.assign(req)
			next := *req
			next.Attempt, next.Engine, next.History = 2, "", []wire.Outcome{{Attempt: 1, Worker: where(r), Instance: 1, Code: code}}
			if at := where(s.assign(&next)); at != "w2" && at != "w3" {
				t.Errorf("%v on %s: then given to %q, want another engine", code, where(r), at)
			}
			if code == wire.CodeEngineFault {
				if at := where(s.put(prompt(9, 4))); at != "w2" && at != "w3" {
					t.Errorf("after a fault of one rank another request is on %q, want another engine", at)
				}
			}
		}
	}
	s := newStage(t, Config{})
	s.fleetOfKinds()
	req := s.request(prompt(1, 4))
	req.Engine = "e0"
	r := s.assign(req)
	next := *req
	next.Attempt, next.History = 2, []wire.Outcome{{Attempt: 1, Worker: where(r), Instance: 1, Code: wire.CodeDraining}}
	if at := where(s.assign(&next)); at == where(r) || at == "" {
		t.Errorf("one rank drains: then given to %q, want the other one", at)
	}
}

func TestABodyThatWasAnsweredIsAboveSuspicion(t *testing.T) {
	s := newStage(t, Config{})
	s.join(4, 4)
	for range 5 { // engines that die of something else while they have a common body
		s.broken(7, 1)
		req := s.request(prompt(7, 4))
		req.Fingerprint = 7
		s.finish(s.assign(req), 0)
	}
	s.broken(0, 5) // a gateway that tells no fingerprint
	if a, b := s.tryBody(7), s.tryBody(0); a != wire.CodeOK || b != wire.CodeOK {
		t.Errorf("got %v and %v, want neither refused", a, b)
	}
}

// The failure is known by the next attempt's history when that comes before the adapter's event, and by a peer's.
func TestBrokenEnginesAreCountedOnceHoweverTheyAreHeardOf(t *testing.T) {
	s, peer := newStage(t, Config{}), newStage(t, Config{Scheduler: "s2"})
	s.join(4, 4)
	peer.join(4, 4)
	req := s.request(prompt(7, 4))
	req.Fingerprint = 7
	r, e := peerOf(t, s, req)
	peer.p.Peer(peer.now, e)
	next := *req
	next.Attempt, next.History = 2, []wire.Outcome{{Attempt: 1, Worker: where(r), Instance: 1, Code: wire.CodeEngineBroke}}
	s.p.Assign(s.now, &next)
	s.end(r, wire.End{Code: wire.CodeEngineBroke}) // and again, as an event
	peer.end(r, wire.End{Code: wire.CodeEngineBroke})
	if a, b := s.p.poisons.of[7].broke, peer.p.poisons.of[7].broke; a != 1 || b != 1 {
		t.Errorf("counted %d and %d times, want once each", a, b)
	}
}

func TestBodiesRememberedAreBounded(t *testing.T) {
	var p poisons
	for i := range uint64(3 * maxPoisons) {
		p.broke(epoch, i+1, 1, life{"e0", []wire.Instance{1}})
		p.broke(epoch, i+1, 1, life{"e1", []wire.Instance{1}})
		if i%5 == 0 {
			p.answered(i + 1)
		}
	}
	if len(p.of) > maxPoisons || len(p.order) > maxPoisons || !p.refuses(epoch, 3*maxPoisons-1) {
		t.Errorf("%d bodies, %d places", len(p.of), len(p.order))
	}
	p.broke(epoch.Add(24*time.Hour), 3*maxPoisons, 1, life{"e0", []wire.Instance{1}}) // long after
	if one := p.of[3*maxPoisons]; one.broke != 1 {
		t.Errorf("an old suspicion still counts: %+v", one)
	}
}

// An engine that answers 500 at once looks idle: it drew nearly all requests to itself, while another was healthy.
func TestAWorkerWhoseEngineFailsIsPassedOver(t *testing.T) {
	s := newStage(t, Config{Policy: "least-load"})
	s.join(2, 8)
	bad := 0
	for range 200 {
		r := s.put(prompt(uint64(s.ids)+1, 4))
		if where(r) == "w0" {
			bad++
			s.end(r, wire.End{Code: wire.CodeEngineFault})
		} else {
			s.finish(r, 0)
		}
		s.wait(10 * time.Millisecond) // 2 s in all
	}
	if bad < 2 || bad > 12 {
		t.Errorf("%d of 200 requests went to an engine that fails, want a few tries", bad)
	}
	s.p.Leave(s.now, "w1", 1)
	if r := s.put(prompt(1, 4)); where(r) != "w0" {
		t.Errorf("got %+v, want the only one there is", r)
	} else {
		s.finish(r, 0)
	}
	if w := s.p.workers["w0"]; w.failures != 0 || s.now.Before(w.troubledUntil) {
		t.Error("an answer does not end the trouble")
	}
}

// The gateway asks again when it has heard nothing, and gives back what comes late: that ended the live lease.
func TestAPlacementGivenBackEndsNoOther(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	req := s.request(prompt(1, 10))
	late, live := s.assign(req), s.assign(req)
	s.end(late, wire.End{Code: wire.CodeCancelled})
	if s.p.Leases() != 1 || s.held("w0", prompt(1, 10)) != 10 {
		t.Errorf("%d leases, %d blocks held, want the live one's", s.p.Leases(), s.held("w0", prompt(1, 10)))
	}
	s.finish(live, 0)
	if b := beliefs(s.p.Outputs()); len(b) != 1 {
		t.Errorf("%d beliefs of the real end, want 1", len(b))
	}
	s.zero()
}

func TestWhatAnEngineRefusedIsNotBelievedCached(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 4)
	s.end(s.put(prompt(1, 10)), wire.End{Code: wire.CodeEngineRefused, Begun: true, Prompt: 1})
	if got := s.held("w0", prompt(1, 10)); got != 0 {
		t.Errorf("%d blocks held of a prompt that was refused", got)
	}
	s.zero()
}
