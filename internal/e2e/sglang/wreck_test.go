package sglang

import (
	"net/http"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
)

// A token that the model does not have ends SGLang. A request with one costs two engines and is then given to no third,
// which goes on serving everybody else.
func TestPoisonBreaksNoMoreThanTwoEngines(t *testing.T) {
	fleet := engines(t, plain, plain, ranked)
	h := up(t, fleet)
	poison := generate("", 4, false)
	delete(poison, "text")
	poison["input_ids"] = []int{5, 6, 1 << 20}
	living := func() (n int) {
		for _, e := range fleet {
			if e.healthy() {
				n++
			}
		}
		return n
	}
	first := h.Ask(t.Context(), generateRoute, poison)
	t.Logf("the first time: %v", first)
	if first.OK() || first.Status < 400 {
		t.Errorf("the first time: %v, want an error", first)
	}
	testkit.Eventually(t, "at most one engine is left", func() bool { return living() <= 1 })
	for range 3 {
		r := h.Ask(t.Context(), generateRoute, poison)
		if r.Status != http.StatusUnprocessableEntity || r.Failure != "breaks_engines" || r.Header.Get("Retry-After") != "" {
			t.Errorf("again: %v, want 422 breaks_engines", r)
		}
	}
	if n := living(); n != 1 {
		t.Errorf("%d engines are left, want one", n)
	}
	for range 3 {
		if r := h.Ask(t.Context(), chatRoute, chat("Is anybody left?")); !r.OK() {
			t.Errorf("another request: %v", r)
		}
	}
	h.idle(t)
}
