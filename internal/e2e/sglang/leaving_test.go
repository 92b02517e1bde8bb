package sglang

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
)

// A client that leaves has its request ended at the engine, at once, and no other: a stranger's stream on the same engine
// goes on.
func TestLeavingClientEndsItsRequestAndNoOther(t *testing.T) {
	fleet := engines(t, plain)
	e := fleet[0]
	h := up(t, fleet)
	for _, tt := range []struct {
		name, path string
		body       object
		sequences  int
		within     time.Duration
	}{
		{"chat stream", chatRoute, chat("Count.", long(3000), object{"stream": true}), 1, 100 * time.Millisecond},
		{"whole chat", chatRoute, chat("Count.", long(3000)), 1, 100 * time.Millisecond},
		{"completion stream", textRoute, object{"model": tiny, "prompt": "Count:", "max_tokens": 3000, "ignore_eos": true, "stream": true}, 1, 100 * time.Millisecond},
		{"generate stream", generateRoute, generate("Count:", 3000, true), 1, 100 * time.Millisecond},
		{"whole generate", generateRoute, generate("Count:", 3000, false), 1, 100 * time.Millisecond},
		{"stream of a list", generateRoute, generate([]string{"Count:", "Count again:", "And again:"}, 2000, true), 3, 100 * time.Millisecond},
		{"whole answers of a list", textRoute, object{"model": tiny, "prompt": []string{"Count:", "Count again:"}, "max_tokens": 2000, "ignore_eos": true}, 2, 100 * time.Millisecond},
		{"whole answer of a list of one", generateRoute, generate([]string{"Count:"}, 2000, false), 1, 100 * time.Millisecond},
		{"stream of two choices", chatRoute, chat("Count.", long(2000), object{"stream": true, "n": 2}), 2, 300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stranger := follow(t, h.Client, chatRoute, chat("A stranger counts.", long(4000), object{"stream": true}))
			for series := 1; ; series++ {
				var took []time.Duration
				for range 5 {
					took = append(took, leaving(t, h, e, tt.path, tt.body, tt.sequences))
				}
				slices.Sort(took)
				t.Logf("the engine is relieved after %v", took)
				if took[len(took)/2] <= tt.within {
					break
				}
				if series == 3 { // the machine may be busy, but not all the time
					t.Errorf("half of the times it takes %v or more, want at most %v", took[len(took)/2], tt.within)
					break
				}
			}
			events := stranger.events.Load()
			testkit.Eventually(t, "the stranger's stream goes on", func() bool { return stranger.events.Load() > events })
			stranger.leave()
			testkit.Eventually(t, "the engine has nothing to do", func() bool { return e.running(t) == 0 })
		})
	}
	h.idle(t)
}

// leaving starts a request beside the one that runs, leaves in the middle of it, and returns how long the engine goes on.
func leaving(t *testing.T, h *hub, e *engine, path string, body object, sequences int) time.Duration {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer leave()
	asking.Go(func() { h.Ask(ctx, path, body) })
	testkit.Eventually(t, "the engine computes", func() bool { return e.running(t) == 1+sequences })
	time.Sleep(50 * time.Millisecond) // into the middle
	leave()
	left := time.Now()
	for e.running(t) > 1 {
		if time.Since(left) > testkit.Patience {
			t.Fatalf("the engine still computes after %v", testkit.Patience)
		}
	}
	return time.Since(left)
}

// A name ends the request that has exactly that name; to SGLang itself it is a prefix.
func TestAbortByName(t *testing.T) {
	h := up(t, engines(t, plain))
	e := h.engines[0]
	id := func(f *follower) string { // of the answer, in its first event
		var doc struct {
			ID       string
			Response struct{ ID string }
		}
		if err := json.Unmarshal(*f.doc.Load(), &doc); err != nil {
			t.Fatal(err)
		}
		return cmp.Or(doc.ID, doc.Response.ID)
	}
	for _, tt := range []struct {
		name, path string
		body       object
		by         func(*follower) string
	}{
		{"the client's rid", chatRoute, chat("Count.", long(3000), object{"stream": true, "rid": "job-1"}), func(*follower) string { return "job-1" }},
		{"the id of a chat", chatRoute, chat("Count.", long(3000), object{"stream": true}), id},
		{"the id of a response", "/v1/responses", object{"model": tiny, "input": "Count.", "max_output_tokens": 3000, "ignore_eos": true, "stream": true}, id},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stranger := follow(t, h.Client, chatRoute, chat("A stranger counts.", long(4000), object{"stream": true, "rid": "job-10"}))
			mine := follow(t, h.Client, tt.path, tt.body)
			testkit.Eventually(t, "the engine computes both", func() bool { return e.running(t) == 2 })
			name := tt.by(mine)
			if r := h.Ask(t.Context(), "/abort_request", object{"rid": name[:len(name)-1]}); r.Status != 200 || !strings.Contains(string(r.Raw), `"aborted":0`) {
				t.Errorf("the beginning of its name: %v", r)
			}
			if r := h.Ask(t.Context(), "/abort_request", object{"rid": name}); r.Status != 200 || !strings.Contains(string(r.Raw), `"aborted":1`) {
				t.Errorf("its name %q: %v", name, r)
			}
			testkit.Eventually(t, "the engine computes one", func() bool { return e.running(t) == 1 })
			if r := mine.wait(t, testkit.Patience); r.OK() || r.Err != nil {
				t.Errorf("what was aborted ends as %v", r)
			}
			events := stranger.events.Load()
			testkit.Eventually(t, "the stranger's stream goes on", func() bool { return stranger.events.Load() > events })
			stranger.leave()
			testkit.Eventually(t, "the engine has nothing to do", func() bool { return e.running(t) == 0 })
		})
	}
	h.idle(t)
}
