package sglang

import (
	"fmt"
	"math"
	"sync"
	"testing"
)

// What the scheduler believes to be cached is close to what engines find cached, for small pages and large ones.
func TestBeliefIsCloseToTheTruth(t *testing.T) {
	for _, tt := range []struct {
		name    string
		engines []kind
		users   int
		// Bounds as parts of all prompt tokens: of (believed - true), and of |believed - true|.
		bias, wrong float64
	}{
		{"pages of 1 token on two engines", []kind{plain, plain}, 6, 0.05, 0.05},
		{"pages of 16 tokens", []kind{narrow}, 3, 0.05, 0.08},
		{"pages of 16 tokens in a cache that is too small", []kind{narrow}, 6, 0.10, 0.20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := up(t, engines(t, tt.engines...))
			var mu sync.Mutex
			prompts, cached := 0, 0
			got := h.asking(t, func() int {
				conversations(t, h, tt.users, func(prompt, found int) {
					mu.Lock()
					prompts, cached = prompts+prompt, cached+found
					mu.Unlock()
				})
				return prompts
			})
			bias, wrong := (got.predicted-got.actual)/got.prompt, got.wrong/got.prompt
			t.Logf("of %.0f prompt tokens %.0f were cached and %.0f believed cached: bias %+.1f %%, error %.1f %%", got.prompt, got.actual, got.predicted, 100*bias, 100*wrong)
			if int(got.prompt) != prompts || int(got.actual) != cached {
				t.Errorf("the scheduler heard of %.0f prompt tokens, %.0f cached; clients were told of %d, %d cached", got.prompt, got.actual, prompts, cached)
			}
			if math.Abs(bias) > tt.bias || wrong > tt.wrong {
				t.Errorf("bias %.3f, want at most ±%.3f; error %.3f, want at most %.3f", bias, tt.bias, wrong, tt.wrong)
			}
			if got.actual < got.prompt/2 {
				t.Errorf("%.0f of %.0f prompt tokens were found cached: most of a conversation's prompt is its earlier turns", got.actual, got.prompt)
			}
		})
	}
}

// conversations are users, two at a time, on two applications: each has five turns, which carry on what was said. told
// hears of every answer.
func conversations(t *testing.T, h *hub, users int, told func(prompt, cached int)) {
	t.Helper()
	var all sync.WaitGroup
	places := make(chan struct{}, 2)
	for u := range users {
		all.Go(func() {
			messages := []object{{"role": "system", "content": prose(10+u%2, 120)}}
			for turn := range 5 {
				messages = append(messages, object{"role": "user", "content": fmt.Sprintf("User %d asks in turn %d: %s", u, turn, prose(100+10*u+turn, 20))})
				places <- struct{}{}
				r := h.Ask(t.Context(), chatRoute, chat("", long(24), object{"messages": messages, "stream": turn%2 == 0, "stream_options": object{"include_usage": true}}))
				<-places
				if !r.OK() || r.Prompt == 0 {
					t.Errorf("user %d, turn %d: %v", u, turn, r)
					return
				}
				told(r.Prompt, r.Cached)
				messages = append(messages, object{"role": "assistant", "content": r.Text})
			}
		})
	}
	all.Wait()
}
