package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

// A sibling follows a first that has not run yet, as soon as waiting for it costs less than the prefix saves.
func TestSiblingsFollowTheirFirst(t *testing.T) {
	s := newStage(t, Config{})
	s.join(8, 64)
	first := s.put(prompt(1, 200))
	for i := range 4 {
		s.wait(20 * time.Millisecond)
		next := s.put(chain(1, 200, 190, uint64(i+1)))
		if where(next) != where(first) {
			t.Errorf("sibling %d got %s, want %s", i, where(next), where(first))
		}
		if got := next.Placements[0].Predicted; got != 190*blockTokens {
			t.Errorf("sibling %d: predicted %d tokens, want %d", i, got, 190*blockTokens)
		}
	}
	if got := s.p.Leases(); got != 5 {
		t.Errorf("%d leases, want 5", got)
	}
	s.check()
}

// A hot prefix must not pile up on its first holder: each request adds the answer's cost there, and once that is more
// than the prefix saves, another worker computes the prefix too.
func TestHerdIsSpreadOnceTheBacklogCostsMoreThanThePrefixSaves(t *testing.T) {
	s := newStage(t, Config{})
	s.join(4, 256)
	counts := make(map[string]int)
	for i := range 64 { // 60 blocks shared, 40 of their own
		r := s.put(chain(7, 100, 60, uint64(i+1)))
		counts[where(r)]++
	}
	if len(counts) != 4 {
		t.Errorf("64 requests of one prefix ran on %v, want all 4 workers", counts)
	}
	for w, n := range counts {
		if n > 32 {
			t.Errorf("%s got %d of 64 requests", w, n)
		}
	}
	// Without a backlog the holder keeps them: there is no switch that turns affinity off.
	calm := newStage(t, Config{})
	calm.join(4, 256)
	first := calm.put(chain(7, 100, 60, 1))
	for i := range 64 {
		calm.wait(time.Second)
		if r := calm.put(chain(7, 100, 60, uint64(i+2))); where(r) != where(first) {
			t.Fatalf("request %d left its holder %s for %s", i, where(first), where(r))
		} else {
			calm.finish(r, 60*blockTokens)
		}
	}
}

func TestIdenticalRequestsPlaceIdentically(t *testing.T) {
	s := newStage(t, Config{})
	s.join(4, 256)
	counts := make(map[string]int)
	for range 64 { // the same prompt, all at once: nothing to prefill after the first, but a batch slows its decoding
		req := s.request(prompt(7, 400))
		req.MaxTokens = 512
		counts[where(s.assign(req))]++
	}
	if len(counts) < 2 {
		t.Errorf("64 identical requests ran on %v, want more than one worker", counts)
	}
	s.check()
}

func TestPredictionIsWholePagesAndNeverTheLastToken(t *testing.T) {
	for _, tt := range []struct {
		name          string
		page          int
		held, of      int // blocks
		wantPredicted uint32
	}{
		{"nothing held", 1, 0, 10, 0},
		{"part held", 1, 5, 10, 80},
		{"all held", 1, 10, 10, 159},
		{"all held, pages of 16", 16, 10, 10, 144},
		{"part held, pages of 64", 64, 5, 10, 64},
		{"less than a page", 128, 5, 10, 0},
		{"page not told", 0, 5, 10, 80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			w := info("w0", 1, 8)
			w.PageSize = tt.page
			s.p.Join(s.now, w, wire.Ready)
			if tt.held > 0 {
				s.finish(s.put(prompt(1, tt.held)), 0)
			}
			if got := s.put(prompt(1, tt.of)).Placements[0]; got.Predicted != tt.wantPredicted || got.Prompt != 160 {
				t.Errorf("got %d of %d tokens, want %d of 160", got.Predicted, got.Prompt, tt.wantPredicted)
			}
		})
	}
}

func TestPromptLength(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  wire.AssignRequest
		want uint32
	}{
		{"as counted", wire.AssignRequest{InputTokens: 77, BodyBytes: 4000, Digests: []wire.Digest{{Bytes: 400}}}, 77},
		{"by the digests", wire.AssignRequest{BodyBytes: 4000, Digests: []wire.Digest{{Bytes: 400}, {Bytes: 800}}}, 300},
		{"by the body", wire.AssignRequest{BodyBytes: 4000}, 1000},
		{"nothing known", wire.AssignRequest{}, 1},
		{"absurd count", wire.AssignRequest{InputTokens: 1<<32 - 1}, maxPrompt},
		{"absurd body", wire.AssignRequest{BodyBytes: 1<<64 - 1}, maxPrompt},
		{"absurd digests", wire.AssignRequest{Digests: []wire.Digest{{Bytes: 1<<64 - 1}, {Bytes: 1<<64 - 1}}}, maxPrompt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			s.join(1, 8)
			req := s.request()
			tt.req.Request, tt.req.Attempt, tt.req.Model = req.Request, 1, "m"
			r := s.assign(&tt.req)
			if where(r) != "w0" || r.Placements[0].Prompt != tt.want || r.Placements[0].Predicted != 0 {
				t.Errorf("got %+v, want %d tokens on w0", r, tt.want)
			}
			s.check()
		})
	}
}

// Token ids are four bytes each in a digest; the text of the same pool may have learnt another length.
func TestTokenIDsAreCreditedByTheirOwnLength(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	s.p.bytesPerToken = 2
	req := s.request(prompt(1, 10))
	req.InputTokens = 160
	s.finish(s.assign(req), 0)
	s.p.bytesPerToken = 2
	again := s.request(prompt(1, 10))
	again.Digests[0].Hashes = again.Digests[0].Hashes[:5]
	again.InputTokens = 160
	if got := s.assign(again).Placements[0].Predicted; got != 80 {
		t.Errorf("5 of 10 blocks of 160 ids: predicted %d tokens, want 80", got)
	}
}

func TestRequestsWithoutDigestsRun(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 8)
	for range 8 {
		req := s.request()
		req.BodyBytes = 4096
		r := s.assign(req)
		if where(r) == "" || r.Placements[0].Predicted != 0 {
			t.Fatalf("got %+v, want a placement with nothing predicted", r)
		}
		s.finish(r, 0)
	}
	empty := s.request([]uint64{}) // shorter than a block
	if r := s.assign(empty); where(r) == "" {
		t.Errorf("got %+v, want a placement", r)
	}
	s.check()
}

func TestBatchCountsAllItsPrompts(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	r := s.put(prompt(1, 10), prompt(2, 20), prompt(1, 10))
	if got := r.Placements[0]; got.Prompt != 40*blockTokens || got.Predicted != 0 {
		t.Errorf("got %d of %d tokens, want 0 of %d", got.Predicted, got.Prompt, 40*blockTokens)
	}
	for _, path := range [][]uint64{prompt(1, 10), prompt(2, 20)} {
		if got := s.held("w0", path); got != len(path) {
			t.Errorf("%d blocks held, want %d", got, len(path))
		}
	}
	s.end(r, wire.End{Code: wire.CodeEngineFault})
	if got := s.p.tree.HeldCost(s.p.workers["w0"].index); got != 0 {
		t.Errorf("%d bytes believed held after the batch failed, want 0", got)
	}
	s.check()
}

func TestTiesGoToTheLeastWorkThenToASeededCoin(t *testing.T) {
	s := newStage(t, Config{})
	s.join(4, 64)
	counts := make(map[string]int)
	for i := range 40 { // nothing shared, nothing waiting
		s.wait(time.Minute)
		r := s.put(prompt(uint64(100+i), 10))
		s.finish(r, 0)
		counts[where(r)]++
	}
	if want := map[string]int{"w0": 10, "w1": 10, "w2": 10, "w3": 10}; !cmp.Equal(counts, want) {
		t.Errorf("got %v, want %v", counts, want)
	}
	firsts := make(map[string]int)
	for seed := range uint64(64) {
		var got [2]string
		for i := range got {
			s := newStage(t, Config{Seed: seed})
			s.join(4, 64)
			got[i] = where(s.put(prompt(1, 10)))
		}
		if got[0] != got[1] {
			t.Errorf("seed %d: %s, then %s", seed, got[0], got[1])
		}
		firsts[got[0]]++
	}
	if len(firsts) != 4 {
		t.Errorf("64 seeds chose among %v, want 4 workers", firsts)
	}
}

// A newcomer has done no work. Counted from zero it would win every tie until it had caught up with months of it.
func TestNewcomerDoesNotWinEveryTie(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 64)
	spread := func(n int) map[string]int {
		counts := make(map[string]int)
		for range n {
			s.wait(time.Minute)
			r := s.put(prompt(uint64(s.ids+1000), 10))
			s.finish(r, 0)
			counts[where(r)]++
		}
		return counts
	}
	spread(60)
	s.p.Join(s.now, info("new", 1, 64), wire.Ready)
	if got := spread(30); got["new"] > 12 {
		t.Errorf("got %v, want about 10 each", got)
	}
}

func TestEligibility(t *testing.T) {
	worker := func(edit func(*wire.WorkerInfo)) *wire.WorkerInfo {
		w := info("w1", 1, 8)
		w.WeightVersion = "v2"
		w.Models = append(w.Models, wire.Model{Name: "alias", Kind: wire.AliasModel}, wire.Model{Name: "adapter", Kind: wire.LoRAModel})
		if edit != nil {
			edit(w)
		}
		return w
	}
	history := func(os ...wire.Outcome) func(*wire.AssignRequest) {
		return func(r *wire.AssignRequest) { r.History, r.Attempt = os, uint32(len(os)+1) }
	}
	for _, tt := range []struct {
		name  string
		state wire.State
		info  *wire.WorkerInfo
		ask   func(*wire.AssignRequest)
		want  wire.Code // CodeOK: placed
	}{
		{"plain", wire.Ready, worker(nil), func(*wire.AssignRequest) {}, wire.CodeOK},
		{"alias", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.Model = "alias" }, wire.CodeOK},
		{"lora", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.Model = "adapter" }, wire.CodeOK},
		{"unknown model", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.Model = "other" }, wire.CodeNoWorker},
		{"region", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.Regions = []string{"us", "eu"} }, wire.CodeOK},
		{"other region", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.Regions = []string{"us"} }, wire.CodeNoWorker},
		{"weights", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.WeightVersion = "v2" }, wire.CodeOK},
		{"other weights", wire.Ready, worker(nil), func(r *wire.AssignRequest) { r.WeightVersion = "v1" }, wire.CodeNoWorker},
		{"draining", wire.Draining, worker(nil), func(*wire.AssignRequest) {}, wire.CodeNoWorker},
		{"down", wire.Down, worker(nil), func(*wire.AssignRequest) {}, wire.CodeNoWorker},
		{"no state", 0, worker(nil), func(*wire.AssignRequest) {}, wire.CodeNoWorker},
		{"failed here", wire.Ready, worker(nil), history(wire.Outcome{Attempt: 1, Worker: "w1", Instance: 1, Code: wire.CodeEngineFault}), wire.CodeNoWorker},
		{"failed in an earlier life", wire.Ready, worker(nil), history(wire.Outcome{Attempt: 1, Worker: "w1", Instance: 7, Code: wire.CodeEngineFault}), wire.CodeOK},
		{"failed elsewhere", wire.Ready, worker(nil), history(wire.Outcome{Attempt: 1, Worker: "w2", Instance: 1, Code: wire.CodeEngineFault}), wire.CodeOK},
		{"busy long ago", wire.Ready, worker(nil), history(wire.Outcome{Attempt: 1, Worker: "w1", Instance: 1, Code: wire.CodeBusy}, wire.Outcome{Attempt: 2, Worker: "w2", Instance: 1, Code: wire.CodeLost}), wire.CodeOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, Config{})
			s.p.Join(s.now, tt.info, tt.state)
			req := s.request(prompt(1, 4))
			tt.ask(req)
			r := s.assign(req)
			if tt.want == wire.CodeOK && where(r) != "w1" || tt.want != wire.CodeOK && (r.Verdict != wire.Refused || r.Code != tt.want || r.RetryAfterMillis == 0) {
				t.Errorf("got %+v, want %v", r, tt.want)
			}
		})
	}
}

func TestDPRankIsSetInTheRequest(t *testing.T) {
	s := newStage(t, Config{})
	w := info("w0", 1, 8)
	w.DPSize, w.DPRank = 4, 3
	s.p.Join(s.now, w, wire.Ready)
	want := []wire.Edit{{Key: "routed_dp_rank", Value: []byte("3")}}
	if got := s.put(prompt(1, 4)).Placements[0].Edits; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSuspectWorkerGetsNothingUntilItReports(t *testing.T) {
	s := newStage(t, Config{})
	s.join(2, 8)
	first := s.put(prompt(1, 100))
	bad := where(first)
	retry := s.request(prompt(1, 100))
	retry.Request, retry.Attempt = first.Request, 2
	retry.History = []wire.Outcome{{Attempt: 1, Worker: bad, Instance: 1, Code: wire.CodeWorkerGone}}
	second := s.assign(retry)
	if where(second) == bad || where(second) == "" {
		t.Fatalf("attempt 2 went to %q, want the other worker", where(second))
	}
	if s.running(bad) != 0 || s.held(bad, prompt(1, 100)) != 0 {
		t.Errorf("%s still has %d leases and %d blocks of the attempt that failed there", bad, s.running(bad), s.held(bad, prompt(1, 100)))
	}
	for i := range 4 {
		if r := s.put(prompt(uint64(10+i), 10)); where(r) == bad {
			t.Errorf("request %d went to the suspect", i)
		}
	}
	s.p.Report(s.now, load(bad))
	// A later attempt's history still names the old failure: that is no news, and no reason to suspect it again.
	retry = s.request(prompt(1, 100))
	retry.Request, retry.Attempt = first.Request, 3
	retry.History = []wire.Outcome{
		{Attempt: 1, Worker: bad, Instance: 1, Code: wire.CodeWorkerGone},
		{Attempt: 2, Worker: where(second), Instance: 1, Code: wire.CodeBusy},
	}
	s.p.Assign(s.now, retry)
	s.replies()
	if r := s.put(prompt(50, 10)); where(r) != bad {
		t.Errorf("got %q, want %s, which has reported since", where(r), bad)
	}
	s.check()
}

// One request that broke an engine's connection had every other client refused until the next beat.
func TestTheOnlyWorkerIsWaitedForWhileItIsSuspect(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	first := s.put(prompt(1, 10))
	retry := s.request(prompt(1, 10))
	retry.Request, retry.Attempt = first.Request, 2
	retry.History = []wire.Outcome{{Attempt: 1, Worker: where(first), Instance: 1, Code: wire.CodeEngineBroke}}
	if r := s.assign(retry); r.Verdict != wire.Refused || r.Code != wire.CodeNoWorker {
		t.Errorf("the request that broke it: %v %v, want no other worker", r.Verdict, r.Code)
	}
	other := s.request(prompt(2, 10))
	if r := s.assign(other); r.Verdict != wire.Held {
		t.Fatalf("another request: %v %v, want held", r.Verdict, r.Code)
	}
	s.p.Report(s.now, load(where(first)))
	if r := last(s.replies(), other); r == nil || where(r) != where(first) {
		t.Errorf("after the report: %+v, want it placed", r)
	}
	s.check()
}

func TestBusyWorkerIsTriedAgain(t *testing.T) {
	s := newStage(t, Config{})
	s.join(1, 8)
	first := s.put(prompt(1, 10))
	retry := s.request(prompt(1, 10))
	retry.Request, retry.Attempt = first.Request, 2
	retry.History = []wire.Outcome{{Attempt: 1, Worker: "w0", Instance: 1, Code: wire.CodeBusy}}
	if r := s.assign(retry); r.Verdict != wire.Held {
		t.Fatalf("got %+v, want held: the only worker has just turned it away", r)
	}
	s.wait(busyFor - 1)
	s.p.Tick(s.now)
	if r := last(s.replies(), retry); r != nil {
		t.Fatalf("got %+v before busyFor was over", r)
	}
	s.wait(1)
	s.p.Tick(s.now)
	if r := last(s.replies(), retry); where(r) != "w0" {
		t.Errorf("got %+v, want a placement on w0", r)
	}
	s.check()
}

func TestNobodyServes(t *testing.T) {
	s := newStage(t, Config{})
	if r := s.assign(s.request(prompt(1, 4))); r.Verdict != wire.Refused || r.Code != wire.CodeNoWorker {
		t.Errorf("got %+v, want no_worker", r)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for i, cfg := range []Config{
		{}, {Cost: blockCost, Policy: "none such"}, {Cost: blockCost, HoldFor: -1}, {Cost: blockCost, LeaseFor: -1}, {Cost: blockCost, MaxHeld: -1},
	} {
		if p, err := New(cfg); err == nil {
			t.Errorf("config %d: got %v, want an error", i, p)
		}
	}
}

func TestEqualCallsGiveEqualOutputs(t *testing.T) {
	for _, policy := range Policies() {
		t.Run(policy, func(t *testing.T) {
			var runs [2][]Output
			for i := range runs {
				s := newStage(t, Config{Policy: policy, Seed: 5})
				s.join(5, 6)
				var open []*wire.AssignReply
				for n := range 300 {
					s.wait(time.Duration(n%7) * 10 * time.Millisecond)
					s.p.Assign(s.now, s.request(chain(uint64(n%9), 40, 20, uint64(n%30))))
					if n%3 == 0 && len(open) > 0 {
						s.finish(open[0], n%200)
						open = open[1:]
					}
					if n%50 == 49 {
						s.p.Join(s.now, info(fmt.Sprintf("w%d", n/50), wire.Instance(n), 6), wire.Ready)
					}
					s.p.Tick(s.now)
					for _, o := range s.p.Outputs() {
						runs[i] = append(runs[i], o)
						if where(o.Reply) != "" {
							open = append(open, o.Reply)
						}
					}
				}
				s.check()
			}
			if len(runs[0]) < 600 {
				t.Fatalf("only %d outputs", len(runs[0]))
			}
			if d := cmp.Diff(runs[0], runs[1]); d != "" {
				t.Errorf("two runs differ (-first +second):\n%s", d)
			}
		})
	}
}
