package sglang

import "testing"

// An engine that evicts by priority says so, the priority that a client gives reaches it, and the scheduler's tree
// follows.
func TestEvictionByPriority(t *testing.T) {
	h := up(t, engines(t, narrow))
	info := h.roster(t).View().Workers[0].Info
	if info.EvictionPolicy != "priority" || info.PageSize != 16 || info.CapacityTokens != 4096 || info.MaxRunning != 2 {
		t.Errorf("registered with eviction %q, page %d, capacity %d, %d at a time", info.EvictionPolicy, info.PageSize, info.CapacityTokens, info.MaxRunning)
	}
	ask := func(seed, priority int) int {
		t.Helper()
		r := h.ask(t, chatRoute, chat(prose(seed, 400), object{"max_tokens": 4, "priority": priority}))
		if r.Prompt < 1000 || r.Prompt > 2000 {
			t.Fatalf("a prompt of %d tokens, want about a third of the cache", r.Prompt)
		}
		return r.Cached
	}
	ask(1, 5) // protected; the others push each other out
	ask(2, 0)
	for seed := range 4 {
		ask(10+seed, 0)
	}
	kept, gone := 0, 0
	protected := h.asking(t, func() int { kept = ask(1, 5); return 1 })
	other := h.asking(t, func() int { gone = ask(2, 0); return 1 })
	t.Logf("protected: %d cached, %.0f believed; not protected: %d cached, %.0f believed", kept, protected.predicted, gone, other.predicted)
	if kept < 1000 || gone > 100 {
		t.Errorf("of the protected prompt %d tokens are cached, of the other %d: the priority does not reach the engine", kept, gone)
	}
	if other.predicted > 100 {
		t.Errorf("%.0f tokens of the evicted prompt are believed cached", other.predicted)
	}
	if protected.predicted < 1000 {
		t.Errorf("%.0f of %d cached tokens are believed", protected.predicted, kept)
	}
}
