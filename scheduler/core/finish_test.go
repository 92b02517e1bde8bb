package core

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

func beliefs(outs []Output) (bs []Belief) {
	for _, o := range outs {
		if o.Belief != nil {
			bs = append(bs, *o.Belief)
		}
	}
	return bs
}

func TestBeliefIsComparedWithWhatTheEngineSaid(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  wire.End
		want []Belief
	}{
		{"as believed", wire.End{Prompt: 160, CachedPlus1: 81}, []Belief{{"w0", 160, 80, 80}}},
		{"less", wire.End{Prompt: 160, CachedPlus1: 1}, []Belief{{"w0", 160, 80, 0}}},
		{"more", wire.End{Prompt: 160, CachedPlus1: 160}, []Belief{{"w0", 160, 80, 159}}},
		{"absurd", wire.End{Prompt: 160, CachedPlus1: 1<<32 - 1}, []Belief{{"w0", 160, 80, 160}}},
		{"cached not told", wire.End{Prompt: 160}, nil},
		{"prompt not told", wire.End{CachedPlus1: 50}, nil},
		{"failed", wire.End{Code: wire.CodeEngineFault}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			s.join(1, 4)
			s.finish(s.put(prompt(1, 5)), 0)
			r := s.put(prompt(1, 10))
			s.p.Outputs()
			s.end(r, tt.end)
			if d := cmp.Diff(tt.want, beliefs(s.p.Outputs())); d != "" {
				t.Errorf("beliefs (-want +got):\n%s", d)
			}
			s.zero()
		})
	}
}

// The engine evicts its least recently used leaves first: when part of a path was gone, all that is no younger is gone.
func TestAShortfallEvictsOtherLeavesNoYounger(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	older, asked, younger := prompt(1, 20), prompt(2, 40), prompt(3, 20)
	for _, path := range [][]uint64{older, asked, younger} {
		s.finish(s.put(path), 0)
		s.wait(time.Second)
	}
	r := s.put(asked)
	s.finish(r, 100) // believed: 639
	if a, b, c := s.held("w0", older), s.held("w0", asked), s.held("w0", younger); a != 0 || b != 40 || c != 20 {
		t.Errorf("held %d, %d, %d blocks of the older, the asked, the younger path; want 0, 40, 20", a, b, c)
	}
}

func TestAShortfallThatProvesNothingEvictsNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*stage) *wire.AssignReply
		miss int // tokens
	}{
		{"a sibling was computing the path", func(s *stage) *wire.AssignReply {
			s.put(prompt(2, 40))
			return s.put(prompt(2, 40))
		}, 600},
		{"within the slack", func(s *stage) *wire.AssignReply { return s.put(prompt(2, 40)) }, 64},
		{"a batch tells only its sum", func(s *stage) *wire.AssignReply { return s.put(prompt(2, 40), prompt(3, 40)) }, 600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			s.join(1, 8)
			s.finish(s.put(prompt(1, 20)), 0)
			s.wait(time.Second)
			s.finish(s.put(prompt(2, 40)), 0)
			s.wait(time.Second)
			r := tt.do(s)
			s.finish(r, int(r.Placements[0].Predicted)-tt.miss)
			if got := s.held("w0", prompt(1, 20)); got != 20 {
				t.Errorf("%d blocks of another path held, want 20", got)
			}
		})
	}
}

func TestASurplusInserts(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	r := s.put(prompt(1, 40))
	if r.Placements[0].Predicted != 0 {
		t.Fatalf("predicted %d", r.Placements[0].Predicted)
	}
	s.p.tree.Clear(s.p.workers["w0"].index) // as if it had been evicted here and not there
	s.finish(r, 600)
	if got := s.held("w0", prompt(1, 40)); got != 40 {
		t.Errorf("%d blocks held, want 40", got)
	}
}

func TestTextLengthIsLearntAndCapacitiesFollow(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 8)
	capacity := func(w string) int64 { return s.p.tree.Capacity(s.p.workers[w].index) }
	if got := capacity("w0"); got != 4<<20 {
		t.Fatalf("%d bytes at first, want 4 a token", got)
	}
	for i := range 50 { // 640 bytes, 320 tokens
		r := s.put(prompt(uint64(i), 10))
		s.end(r, wire.End{Prompt: 320, CachedPlus1: 1})
	}
	if got := s.p.bytesPerToken; math.Abs(got-2) > 0.01 {
		t.Errorf("%v bytes a token learnt, want 2", got)
	}
	for _, w := range []string{"w0", "w1"} {
		if got := capacity(w); math.Abs(float64(got)/(2<<20)-1) > 0.03 {
			t.Errorf("capacity of %s is %d bytes, want about %d", w, got, 2<<20)
		}
	}
	// A drift of a tenth of a percent a step must add up, not be overlooked.
	fitted := s.p.fitted
	for i := range 400 {
		r := s.put(prompt(uint64(1000+i), 10))
		s.end(r, wire.End{Prompt: uint32(640 / (s.p.bytesPerToken * 1.01)), CachedPlus1: 1})
	}
	if s.p.bytesPerToken < 1.1*fitted {
		t.Fatalf("%v bytes a token: nothing has drifted", s.p.bytesPerToken)
	}
	if got, want := float64(capacity("w1")), s.p.bytesPerToken*(1<<20); math.Abs(got/want-1) > 0.025 {
		t.Errorf("capacity is %.0f bytes after a slow drift, want about %.0f", got, want)
	}
}

func TestCapacityOfAnEngineThatDoesNotTell(t *testing.T) {
	s := newStage(t, Config{Capacity: 1000})
	for name, tokens := range map[string]int64{"silent": 0, "absurd": math.MaxInt64} {
		w := info(name, 1, 8)
		w.CapacityTokens = tokens
		s.p.Join(s.now, w, wire.Ready)
	}
	if got := s.p.tree.Capacity(s.p.workers["silent"].index); got != 4000 {
		t.Errorf("%d bytes, want 4000", got)
	}
	if got := s.p.tree.Capacity(s.p.workers["absurd"].index); got < 1<<50 {
		t.Errorf("%d bytes for an absurd capacity, want a large one", got)
	}
}

func TestRatesAreLearntFromUndisturbedPrefills(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	run := func(group uint64, end wire.End) {
		s.wait(time.Minute)
		r := s.put(prompt(group, 100)) // 1600 tokens
		end.Prompt, end.CachedPlus1 = 1600, max(1, end.CachedPlus1)
		s.end(r, end)
	}
	rate := func() float64 { return s.p.rateOf(s.p.workers["w0"]) }
	for _, tt := range []struct {
		name string
		end  wire.End
	}{
		{"no time told", wire.End{}},
		{"too little computed", wire.End{TTFTMicros: 100, CachedPlus1: 1500}},
		{"an answer in one piece", wire.End{TTFTMicros: 5_000_000, TotalMicros: 5_000_050, Completion: 200}},
	} {
		run(1, tt.end)
		if got := rate(); got != initialRate {
			t.Errorf("%s: rate %v learnt", tt.name, got)
		}
	}
	for i := range 30 {
		run(uint64(i+10), wire.End{TTFTMicros: 160_000, TotalMicros: 900_000, Completion: 50})
	}
	if got := rate(); math.Abs(got-10_000) > 100 {
		t.Errorf("rate %v, want 10000", got)
	}
	s.p.Join(s.now, info("new", 1, 8), wire.Ready)
	if got := s.p.rateOf(s.p.workers["new"]); math.Abs(got-10_000) > 100 {
		t.Errorf("a newcomer is taken for %v, want what the others do", got)
	}
	// One that waited behind another says nothing of the rate.
	before := rate()
	s.wait(time.Minute)
	first := s.put(prompt(500, 100))
	second := s.put(prompt(501, 100))
	if where(first) == where(second) {
		t.Fatal("both went to one worker: nothing to compare")
	}
	s.p.Leave(s.now, "new", 1)
	third := s.put(prompt(502, 100))
	end := ended(third, 0)
	end.TTFTMicros = 1_000_000
	s.end(third, end)
	if got := rate(); got != before {
		t.Errorf("rate went from %v to %v by an attempt that had to wait", before, got)
	}
}

func TestAbsurdReportsKeepFiguresSane(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 8)
	most := uint32(1<<32 - 1)
	for _, end := range []wire.End{
		{Prompt: most, CachedPlus1: 1, TTFTMicros: 1, Completion: most},
		{Prompt: most, CachedPlus1: 1, TTFTMicros: math.MaxUint64, TotalMicros: math.MaxUint64, Completion: 1},
		{Prompt: 1, CachedPlus1: most, TTFTMicros: math.MaxUint64},
		{Prompt: 1 << 31, CachedPlus1: 1, TTFTMicros: math.MaxUint64, TotalMicros: 1},
	} {
		for range 20 {
			s.wait(time.Hour)
			req := s.request(prompt(uint64(s.ids), 10))
			req.Digests[0].Bytes = math.MaxUint64
			s.end(s.assign(req), end)
			s.check()
			for _, got := range []struct {
				what         string
				value, least float64
				most         float64
			}{
				{"bytes a token", s.p.bytesPerToken, minBytesPerToken, maxBytesPerToken},
				{"rate", s.p.rate, minRate, maxRate},
				{"w0's rate", s.p.rateOf(s.p.workers["w0"]), minRate, maxRate},
				{"tokens of an answer", s.p.completion, 0, maxCompletion},
			} {
				if !(got.value >= got.least && got.value <= got.most) {
					t.Fatalf("%s is %v, want %v to %v", got.what, got.value, got.least, got.most)
				}
			}
		}
	}
	if r := s.put(prompt(1, 10)); where(r) == "" {
		t.Error("nothing is placed any more")
	}
}

func TestOutputsStayUntilTheNextCall(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	s.p.Assign(s.now, s.request(prompt(1, 4)))
	first := s.p.Outputs()
	want := append([]Output(nil), first...)
	s.p.Assign(s.now, s.request(prompt(2, 4)))
	if !cmp.Equal(first, want) || len(first) != 2 {
		t.Errorf("the outputs changed under their reader: %d", len(first))
	}
	if second := s.p.Outputs(); len(second) != 2 || cmp.Equal(second, want) {
		t.Errorf("got %d outputs, want the 2 of the second request", len(second))
	}
	if got := s.p.Outputs(); len(got) != 0 {
		t.Errorf("got %d outputs once more", len(got))
	}
}

// What the engine keeps for its priority has to be believed kept: it pushes out all that is used later.
func TestEvictionIsInTheEnginesOrder(t *testing.T) {
	for _, tt := range []struct {
		policy                  string
		protected, older, young int // blocks held in the end
	}{
		{"priority", 40, 0, 40},
		{"lru", 0, 0, 40},
		{"lfu", 0, 0, 40}, // taken for lru
	} {
		t.Run(tt.policy, func(t *testing.T) {
			s := newStage(t, Config{})
			w := info("w0", 1, 8)
			w.EvictionPolicy, w.CapacityTokens = tt.policy, 100*blockBytes/4
			s.p.Join(s.now, w, wire.Ready)
			ask := func(group uint64, priority int32) {
				req := s.request(prompt(group, 40))
				req.EnginePriority = priority
				s.finish(s.assign(req), 0)
				s.wait(time.Second)
			}
			ask(1, 5)
			for group := range uint64(4) {
				ask(2+group, -3)
			}
			held := func(group uint64) int { return s.held("w0", prompt(group, 40)) }
			if p, o, y := held(1), held(2), held(5); p != tt.protected || o != tt.older || y != tt.young {
				t.Errorf("held %d, %d, %d blocks of the protected, an older, the youngest path; want %d, %d, %d", p, o, y, tt.protected, tt.older, tt.young)
			}
		})
	}
}

// Another scheduler's requests are kept as long as our own.
func TestAPeersPriorityCounts(t *testing.T) {
	s := newStage(t, Config{})
	w := info("w0", 1, 8)
	w.EvictionPolicy, w.CapacityTokens = "priority", 100*blockBytes/4
	s.p.Join(s.now, w, wire.Ready)
	s.p.Peer(s.now, &wire.Assigned{Worker: "w0", Instance: 1, Request: wire.RequestID{9}, Attempt: 1, Lease: 1, LeaseMillis: 1000, Digests: []wire.Digest{digest(prompt(1, 40))}, EnginePriority: 5})
	for group := range uint64(4) {
		s.wait(time.Second)
		s.finish(s.put(prompt(2+group, 40)), 0)
	}
	if got := s.held("w0", prompt(1, 40)); got != 40 {
		t.Errorf("%d blocks held of what a peer asked to be kept, want 40", got)
	}
}
