package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// fleetOfKinds joins two ranks of one engine, another engine, and one that is no SGLang.
func (s *stage) fleetOfKinds() {
	for i, w := range []struct {
		engine, kind string
		rank         int
	}{{"e0", "sglang", 0}, {"e0", "sglang", 1}, {"e1", "sglang", 0}, {"e2", "vllm", 0}} {
		in := info(fmt.Sprintf("w%d", i), 1, 2)
		in.Engine, in.EngineKind, in.DPRank = w.engine, w.kind, w.rank
		if w.engine == "e0" {
			in.DPSize = 2
		}
		s.p.Join(s.now, in, wire.Ready)
	}
}

func TestConstraintsOfPlacement(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*wire.AssignRequest)
		want   string // the workers that take it, until all are full
	}{
		{"any", func(*wire.AssignRequest) {}, "w0 w1 w2 w3"},
		{"an engine", func(r *wire.AssignRequest) { r.Engine = "e0" }, "w0 w1"},
		{"a rank", func(r *wire.AssignRequest) { r.RankPlus1 = 1 }, "w0 w2 w3"},
		{"a rank of an engine", func(r *wire.AssignRequest) { r.Engine, r.RankPlus1 = "e0", 2 }, "w1"},
		{"a native route", func(r *wire.AssignRequest) { r.Flags = wire.FlagNative }, "w0 w1 w2"},
		{"an engine that is gone", func(r *wire.AssignRequest) { r.Engine = "e9" }, ""},
		{"a rank that nobody has", func(r *wire.AssignRequest) { r.RankPlus1 = 9 }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{Policy: "least-load"})
			s.fleetOfKinds()
			took := map[string]int{}
			for {
				req := s.request(prompt(uint64(s.ids)+1, 4))
				tt.change(req)
				r := s.assign(req)
				if r.Verdict != wire.Placed {
					if tt.want == "" && r.Code != wire.CodeNoWorker {
						t.Errorf("got %+v, want no worker", r)
					}
					break
				}
				took[where(r)]++
			}
			got := ""
			for _, w := range []string{"w0", "w1", "w2", "w3"} {
				if took[w] == 2 {
					got += " " + w
				} else if took[w] != 0 {
					t.Errorf("%s took %d, want all that it has room for or none", w, took[w])
				}
			}
			if got != "" && got[1:] != tt.want || got == "" && tt.want != "" {
				t.Errorf("taken by%s, want %s", got, tt.want)
			}
			s.check()
		})
	}
}

// A held request waits for its own kind of worker, and holds up nobody else.
func TestHeldRequestsWithConstraints(t *testing.T) {
	s := newStage(t, Config{Policy: "least-load"})
	s.fleetOfKinds()
	on := func(engine string) *wire.AssignRequest {
		req := s.request(prompt(uint64(s.ids)+1, 4))
		req.Engine = engine
		return req
	}
	first := s.assign(on("e1"))
	s.assign(on("e1"))
	waiting := on("e1")
	if r := s.assign(waiting); r.Verdict != wire.Held {
		t.Fatalf("got %+v, want it held", r)
	}
	if r := s.assign(on("e2")); where(r) != "w3" {
		t.Errorf("another engine: %+v", r)
	}
	s.finish(first, 0)
	if r := last(s.replies(), waiting); where(r) != "w2" {
		t.Errorf("got %+v, want its own engine", r)
	}
}

func TestSessionsStay(t *testing.T) {
	s, peer := newStage(t, Config{Policy: "random", Seed: 3}), newStage(t, Config{Policy: "random", Seed: 4, Scheduler: "s2"})
	s.join(8, 4)
	peer.join(8, 4)
	of := func(tenant, session string) *wire.AssignRequest {
		req := s.request(prompt(uint64(s.ids)+1, 4))
		req.Tenant, req.Session = tenant, session
		return req
	}
	r, e := peerOf(t, s, of("", "mine"))
	home := where(r)
	e.Session = "mine"
	peer.p.Peer(peer.now, e)
	s.finish(r, 0)
	for range 20 {
		r := s.assign(of("", "mine"))
		other := peer.assign(of("", "mine"))
		if where(r) != home || where(other) != home {
			t.Fatalf("on %s and %s, want %s", where(r), where(other), home)
		}
		s.finish(r, 0)
		peer.finish(other, 0)
	}
	elsewhere := 0
	for range 20 {
		if r := s.assign(of("another", "mine")); where(r) != home { // it is another session
			elsewhere++
		} else {
			s.finish(r, 0)
		}
	}
	if elsewhere == 0 {
		t.Error("another tenant's session of the same name follows it")
	}
	s.p.Leave(s.now, home, 1) // it is spilled, and stays where it is then
	next := where(s.assign(of("", "mine")))
	if next == "" || next == home {
		t.Fatalf("without its worker: on %q", next)
	}
	if again := where(s.assign(of("", "mine"))); again != next {
		t.Errorf("on %s, then on %s", next, again)
	}
	s.wait(sessionIdle + time.Second)
	if w := s.p.sessions.find(s.now, sessionKey("", "mine")); w != "" {
		t.Errorf("still at %s after an idle hour", w)
	}
}

// What a session's engine keeps is nowhere else: it is waited for, and nobody's preference of the same name moves it.
func TestABoundSessionIsNotSpilled(t *testing.T) {
	s, peer := newStage(t, Config{Policy: "least-load"}), newStage(t, Config{Policy: "least-load", Scheduler: "s2"})
	s.join(3, 1)
	peer.join(3, 1)
	of := func(flags wire.Flags) *wire.AssignRequest {
		req := s.request(prompt(uint64(s.ids)+1, 4))
		req.Session, req.Flags = "mine", flags
		return req
	}
	if r := s.assign(of(wire.FlagBound)); r.Code != wire.CodeNoSession {
		t.Fatalf("nobody has opened it: %+v", r)
	}
	first, e := peerOf(t, s, of(wire.FlagOpens))
	peer.p.Peer(peer.now, e)
	bound := of(wire.FlagBound)
	if r := s.assign(bound); r.Verdict != wire.Held {
		t.Fatalf("got %+v, want it held: its worker is full", r)
	}
	if r := s.assign(of(0)); where(r) == "" || where(r) == where(first) {
		t.Errorf("one that is not bound: %+v, want it elsewhere", r)
	}
	s.finish(first, 0)
	if r := last(s.replies(), bound); where(r) != where(first) {
		t.Errorf("got %+v, want %s", r, where(first))
	}
	peer.finish(first, 0)
	if r := peer.assign(of(wire.FlagBound)); where(r) != where(first) {
		t.Errorf("by another scheduler on %q, want %s", where(r), where(first))
	}
	opensAgain := of(wire.FlagOpens)
	if r := s.assign(opensAgain); r.Verdict != wire.Held { // a client's second try: the engine says that it is open
		t.Errorf("opened again: %+v, want it where it is open, which is full", r)
	}
	s.p.Forget(opensAgain.Request, 1)
	home := s.p.workers[where(first)]
	s.p.Join(s.now, home.info, wire.Down)
	anew := of(wire.FlagOpens | wire.FlagLight)
	anew.Session = "mine too"
	s.p.opened.set(s.now, sessionKey("", "mine too"), where(first))
	if r := s.assign(anew); where(r) == "" || where(r) == where(first) {
		t.Errorf("opened again while its engine is down: %+v, want it anew elsewhere", r)
	}
	s.p.Join(s.now, home.info, wire.Ready)
	waits := of(wire.FlagBound)
	s.assign(waits)
	s.p.Leave(s.now, where(first), 1)
	if r := last(s.replies(), waits); r == nil || r.Code != wire.CodeNoSession {
		t.Errorf("held when its worker leaves: %+v, want no session", r)
	}
	if r := s.assign(of(wire.FlagBound)); r.Code != wire.CodeNoSession {
		t.Errorf("without its worker: %+v, want no session", r)
	}
	found := of(wire.FlagBound) // an adapter has told where it is
	for _, w := range s.p.order {
		w.info.Engine = w.info.Worker
		if w.free(s.now) > 0 {
			found.Engine = w.info.Worker
		}
	}
	if r := s.assign(found); where(r) != found.Engine {
		t.Errorf("got %+v, want %s", r, found.Engine)
	}
}

// Polling, cancelling and counting take no slot: a fleet that is full answers them, and so does a worker that drains what it keeps.
func TestLightRequestsTakeNoSlot(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 1)
	s.p.order[0].info.Engine = "e0"
	of := func(flags wire.Flags) *wire.AssignRequest {
		req := s.request()
		req.Flags, req.Engine = wire.FlagByLoad|flags, "e0"
		return req
	}
	busy := s.put(prompt(1, 4))
	var light []*wire.AssignReply
	for range 5 {
		r := s.assign(of(wire.FlagLight))
		if where(r) == "" {
			t.Fatalf("beside a full worker: %+v", r)
		}
		light = append(light, r)
	}
	heavy := of(0)
	if r := s.assign(heavy); r.Verdict != wire.Held {
		t.Fatalf("got %+v, want it held", r)
	}
	s.finish(busy, 0)
	if r := last(s.replies(), heavy); where(r) == "" {
		t.Errorf("five light ones take its slot: %+v", r)
	}
	for _, r := range light {
		s.end(r, wire.End{Code: wire.CodeOK})
	}
	if w := s.p.order[0]; w.aside != 0 || w.occupied() != 1 {
		t.Errorf("in the end %d are counted as light, %d slots are taken", w.aside, w.occupied())
	}
	s.p.Join(s.now, s.p.order[0].info, wire.Draining)
	if r := s.assign(of(wire.FlagLight)); r.Code != wire.CodeNoWorker {
		t.Errorf("a worker that drains is given something new: %+v", r)
	}
	if r := s.assign(of(wire.FlagLight | wire.FlagKept)); where(r) == "" {
		t.Errorf("a worker that drains is not asked for what it keeps: %+v", r)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	var s sessions
	for i := range uint64(3 * maxSessions) {
		s.set(epoch, i+1, "w")
	}
	if n := len(s.young) + len(s.old); n > maxSessions || s.find(epoch, 3*maxSessions) != "w" || s.find(epoch, 1) != "" {
		t.Errorf("%d sessions remembered", n)
	}
	s.set(epoch, 0, "w") // none
	if s.find(epoch, 0) != "" {
		t.Error("no session has a worker")
	}
}

// What is no generation says nothing of prompts and outputs.
func TestByLoadTeachesNothing(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 4)
	bytesPerToken, completion, rate := s.p.bytesPerToken, s.p.completion, s.p.rate
	for range 10 {
		req := s.request()
		req.Flags, req.BodyBytes = wire.FlagByLoad, 4000
		r := s.assign(req)
		s.end(r, wire.End{Prompt: 4000, CachedPlus1: 1, Completion: 100, TTFTMicros: 10, TotalMicros: 1e6})
	}
	if b := beliefs(s.p.Outputs()); len(b) != 0 {
		t.Errorf("%d beliefs", len(b))
	}
	if s.p.bytesPerToken != bytesPerToken || s.p.completion != completion || s.p.rate != rate {
		t.Errorf("learnt %v bytes a token, %v tokens an answer, %v tokens a second", s.p.bytesPerToken, s.p.completion, s.p.rate)
	}
	s.zero()
}

// Requests for an adapter go where it is loaded, until that worker is busier than a load is worth.
func TestAdaptersAreKeptTogether(t *testing.T) {
	s := newStage(t, Config{})
	for i := range 4 {
		in := info(fmt.Sprintf("w%d", i), 1, 100)
		in.Models = append(in.Models, wire.Model{Name: "sql", Kind: wire.LoRAModel, Loaded: i == 2})
		s.p.Join(s.now, in, wire.Ready)
	}
	of := func(blocks int) *wire.AssignRequest {
		req := s.request(prompt(uint64(s.ids)+1, blocks))
		req.Model, req.LoRA = "sql", "sql"
		return req
	}
	for range 5 {
		if r := s.assign(of(10)); where(r) != "w2" {
			t.Fatalf("on %s, want w2, which has it", where(r))
		}
	}
	spread := map[string]int{}
	for range 12 { // 12 times 9,600 tokens: 0.5 s each
		spread[where(s.assign(of(600)))]++
	}
	if spread["w2"] == 12 || spread["w2"] == 0 {
		t.Errorf("spread %v, want it loaded elsewhere once w2 is busy", spread)
	}
}
