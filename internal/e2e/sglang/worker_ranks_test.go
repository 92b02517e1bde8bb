package sglang

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
)

// Each rank of an engine is a worker: what is given to w0-r1 runs on the engine's rank 1, and what is believed of its
// cache is true of that rank.
func TestRanksAreWorkers(t *testing.T) {
	h := up(t, engines(t, ranked))
	e := h.engines[0]
	running := func() (n [2]int) {
		loads := e.loads(t)
		if len(loads) != len(n) {
			t.Fatalf("the engine has %d ranks, want two", len(loads))
		}
		for i, l := range loads {
			n[i] = int(l["num_running_reqs"].(float64))
		}
		return n
	}
	for i, w := range h.roster(t).View().Workers {
		if want := fmt.Sprintf("w0-r%d", i); w.Info.Worker != want || w.Info.DPRank != i || w.Info.DPSize != 2 || w.Info.CapacityTokens != 8192 {
			t.Errorf("worker %s is rank %d of %d with room for %d tokens, want %s with 8192", w.Info.Worker, w.Info.DPRank, w.Info.DPSize, w.Info.CapacityTokens, want)
		}
	}

	seen := map[string]bool{}
	for i := range 8 {
		if len(seen) == 2 && i >= 4 {
			break
		}
		f := follow(t, h.Client, chatRoute, chat(fmt.Sprint("Count to ", i), long(2000), object{"stream": true}))
		var n [2]int
		testkit.Eventually(t, "a rank computes", func() bool { n = running(); return n != [2]int{} }) // what is told of ranks is a little old
		f.leave()
		testkit.Eventually(t, "the rank has nothing to do", func() bool { return running() == [2]int{} })
		worker := f.reply.Header.Get("X-Radixbus-Worker")
		seen[worker] = true
		if want := map[string][2]int{"w0-r0": {1, 0}, "w0-r1": {0, 1}}[worker]; n != want {
			t.Errorf("what was given to %s runs on the ranks %v", worker, n)
		}
	}
	if len(seen) != 2 {
		t.Errorf("one at a time, all requests were given to %v", seen)
	}

	var mu sync.Mutex
	prompts := 0
	got := h.asking(t, func() int {
		conversations(t, h, 4, func(prompt, _ int) {
			mu.Lock()
			prompts += prompt
			mu.Unlock()
		})
		return prompts
	})
	bias, wrong := (got.predicted-got.actual)/got.prompt, got.wrong/got.prompt
	t.Logf("of %.0f prompt tokens %.0f were cached and %.0f believed cached: bias %+.1f %%, error %.1f %%", got.prompt, got.actual, got.predicted, 100*bias, 100*wrong)
	if math.Abs(bias) > 0.05 || wrong > 0.05 {
		t.Errorf("bias %.3f and error %.3f, want at most 0.05", bias, wrong)
	}
	h.idle(t)
}

// An abort is for one rank's request: those on the same rank and on the other go on.
func TestAbortOnOneRankLeavesTheOthers(t *testing.T) {
	h := up(t, engines(t, ranked))
	e := h.engines[0]
	var all []*follower
	for i := range 6 {
		all = append(all, follow(t, h.Client, chatRoute, chat(fmt.Sprintf("Count: %s", prose(400+i, 5)), long(400), object{"stream": true})))
	}
	testkit.Eventually(t, "the engine computes", func() bool { return e.running(t) == len(all) })
	all[0].leave()
	all[3].leave()
	for _, i := range []int{1, 2, 4, 5} {
		if r := all[i].wait(t, time.Minute); !r.OK() || r.Finish != "length" {
			t.Errorf("request %d, whose client stayed: %v", i, r)
		}
	}
	if all[0].reply.Err == nil {
		t.Errorf("the client that left: %v", all[0].reply)
	}
	testkit.Eventually(t, "the engine has nothing to do", func() bool { return e.running(t) == 0 })
	h.idle(t)
}
