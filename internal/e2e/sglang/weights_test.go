package sglang

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
)

// Weights that are changed at the engine, past us, end what is known of it: it is another instance, with an empty cache and
// another version.
func TestChangedWeightsAreAnotherInstance(t *testing.T) {
	h := up(t, engines(t, narrow))
	e := h.engines[0]
	l := h.roster(t)
	before := l.View().Workers[0].Info
	document := prose(5, 120)
	ask := func() (r *testkit.Reply, b belief) {
		t.Helper()
		b = h.asking(t, func() int {
			r = h.ask(t, chatRoute, chat(document, object{"model": l.View().Workers[0].Info.Pool})) // SGLang names its model anew with its weights
			return r.Prompt
		})
		return r, b
	}
	first, _ := ask()
	if r, b := ask(); r.Cached < r.Prompt/2 || b.predicted < float64(r.Prompt/2) || r.Text != first.Text {
		t.Fatalf("the second time: %d tokens cached, %.0f believed", r.Cached, b.predicted)
	}

	e.spent = true
	changed := direct(t, e).Ask(t.Context(), "/update_weights_from_disk", object{"model_path": filepath.Join(home(t), "models", "tiny-b"), "weight_version": "second"})
	if changed.Status != http.StatusOK {
		t.Fatalf("the engine itself: %v", changed)
	}
	since := time.Now()
	h.ask(t, chatRoute, chat("Who are you now?")) // the answer tells the version
	testkit.Eventually(t, "the router sees another instance", func() bool {
		v := l.View()
		return len(v.Workers) == 1 && v.Workers[0].Info.Instance > before.Instance
	})
	if took := time.Since(since); took > 5*time.Second {
		t.Errorf("seen %v after the first answer of the new version", took)
	}
	after := l.View().Workers[0].Info
	t.Logf("seen after %v: pool %q was %q, weights %q were %q", time.Since(since).Round(time.Millisecond), after.Pool, before.Pool, after.WeightVersion, before.WeightVersion)
	if after.WeightVersion != "second" {
		t.Errorf("weights %q, want those that the update named", after.WeightVersion)
	}
	testkit.Eventually(t, "nothing is believed cached", func() bool { return h.admin.Metric(t, "radixbus_scheduler_worker_held_bytes") <= 0 })
	r, b := ask()
	if r.Cached > 32 || b.predicted > 32 {
		t.Errorf("with the new weights: %d of %d tokens cached, %.0f believed", r.Cached, r.Prompt, b.predicted)
	}
	if r.Text == first.Text {
		t.Error("the new weights say the same as the old ones")
	}
	if r := h.Ask(t.Context(), chatRoute, chat(document)); after.Pool != tiny || !r.OK() {
		t.Errorf("by the name under which the engine was started: %v; the pool is %q", r, after.Pool)
	}
}
