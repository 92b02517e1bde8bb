package sglang

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
)

// An engine's refusal reaches the client with its true status and the engine's words, in whichever of its shapes it came;
// what cannot be meant is refused in front of it. Both have words for people, and neither is a stream.
func TestRefusalsReachTheClient(t *testing.T) {
	h := up(t, engines(t, narrow)) // a context of 8192 tokens, room for 4096
	engine := direct(t, h.engines[0])
	const deep, deeper = 1500, 3000 // words of more tokens than there is room for, and than the context takes
	for _, tt := range []struct {
		name, path string
		body       any
		early      bool // refused by the gateway
	}{
		{"no JSON", chatRoute, []byte(`{"model":`), true},
		{"no JSON", generateRoute, []byte(`{"text":`), true},
		{"an array", chatRoute, []byte(`[1,2]`), true},
		{"no prompt", generateRoute, object{"sampling_params": object{}}, true},
		{"no messages", chatRoute, object{"model": tiny}, true},
		{"a role that is none", chatRoute, object{"model": tiny, "messages": []object{{"role": "nobody", "content": "x"}}}, false},
		{"a hot temperature", chatRoute, chat("x", object{"temperature": "hot"}), false},
		{"no tokens", textRoute, object{"model": tiny, "prompt": "x", "max_tokens": 0}, false},
		{"unknown sampling key", generateRoute, object{"text": "x", "sampling_params": object{"nope": 1}}, false},
		{"a cold temperature", generateRoute, object{"text": "x", "sampling_params": object{"temperature": -1}}, false},
		{"both kinds of grammar", generateRoute, object{"text": "x", "sampling_params": object{"regex": "a", "json_schema": "{}"}}, false},
		{"over the context", chatRoute, chat(prose(1, deeper)), false},
		{"over the context", textRoute, object{"model": tiny, "prompt": prose(1, deeper)}, false},
		{"over the context", generateRoute, object{"text": prose(1, deeper)}, false},
		{"over the pool", chatRoute, chat(prose(1, deep)), false},
		{"over the pool", textRoute, object{"model": tiny, "prompt": prose(1, deep)}, false},
		{"over the pool", generateRoute, object{"text": prose(1, deep)}, false},
	} {
		for _, stream := range []bool{false, true} {
			body := tt.body
			if o, ok := body.(object); ok {
				o = maps.Clone(o)
				o["stream"] = stream
				body = o
			} else if stream {
				continue
			}
			t.Run(fmt.Sprintf("%s %s stream=%v", tt.path, tt.name, stream), func(t *testing.T) {
				got, want := h.Ask(t.Context(), tt.path, body), engine.Ask(t.Context(), tt.path, body)
				told := want.Raw
				if want.Events > 0 { // 200, and then the error
					told = want.Doc
				}
				if got.Status != http.StatusBadRequest || got.Events > 0 || got.Done {
					t.Fatalf("got %v, want 400; the engine says %d %s", got, want.Status, told)
				}
				said, words := message(got.Raw), message(told)
				switch {
				case tt.early && got.Failure != "invalid_request":
					t.Errorf("got %s, want our envelope", got.Raw)
				case !tt.early && words != "" && !strings.Contains(said, words[:min(len(words), 200)]):
					t.Errorf("got %s, want the words of the engine: %s", got.Raw, told)
				case !tt.early && want.Events == 0 && !bytes.Equal(got.Raw, want.Raw):
					t.Errorf("got %s, want what the engine says: %s", got.Raw, want.Raw)
				case said == "":
					t.Errorf("no words in %s", got.Raw)
				}
			})
		}
	}
	if r := h.Ask(t.Context(), chatRoute, chat("Still there?")); !r.OK() {
		t.Errorf("afterwards: %v", r)
	}
	h.idle(t)
}

// A list of which one prompt is too long for the cache: whole, it is refused; as a stream it has begun with the others.
func TestOneTooLongPromptOfAListIsNotTheEnginesFault(t *testing.T) {
	h := up(t, engines(t, narrow))
	body := object{"text": []string{"What fits is answered.", prose(1, 1500)}, "sampling_params": object{"max_new_tokens": 40, "ignore_eos": true}}
	if r := h.Ask(t.Context(), generateRoute, body); r.Status != http.StatusBadRequest {
		t.Errorf("whole: %v, want 400", r)
	}
	body["stream"] = true
	r := h.Ask(t.Context(), generateRoute, body)
	faults := h.admin.Metric(t, "radixbus_worker_attempts_total", `outcome="engine_fault"`)
	if r.Status != http.StatusBadRequest && (r.Status != http.StatusOK || !r.Done) || faults > 0 {
		t.Errorf("as a stream: %v (%.0f faults of the engine), want 400, or a whole stream that says which prompt was refused", r, faults)
	}
}

// message finds the words of an error in any of the shapes that SGLang has.
func message(doc []byte) string {
	var shapes struct {
		Message string          `json:"message"`
		Error   json.RawMessage `json:"error"`
		Meta    struct {
			Finish struct {
				Message string `json:"message"`
			} `json:"finish_reason"`
		} `json:"meta_info"`
	}
	if err := json.Unmarshal(doc, &shapes); err != nil {
		return string(doc)
	}
	var inner struct {
		Message string `json:"message"`
	}
	var plain string
	if json.Unmarshal(shapes.Error, &inner) == nil && inner.Message != "" {
		return inner.Message
	}
	if json.Unmarshal(shapes.Error, &plain) == nil && plain != "" {
		return plain
	}
	return shapes.Message + shapes.Meta.Finish.Message
}

// An engine that is full, of requests that others gave it, is no mistake of the client's: 503, when to come again, and
// never a stream that began with 200.
func TestFullEngineIsSaidToBeFull(t *testing.T) {
	h := up(t, engines(t, narrow)) // two run, two wait
	e := h.engines[0]
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	for i := range 4 {
		c := direct(t, e)
		others.Go(func() {
			for ctx.Err() == nil {
				c.Ask(ctx, chatRoute, chat(fmt.Sprint("Others ask ", i), long(1200), object{"stream": true}))
			}
		})
	}
	for _, stream := range []bool{false, true} {
		for _, r := range []struct {
			path string
			body object
		}{
			{chatRoute, chat("Is there room?", object{"stream": stream})},
			{textRoute, object{"model": tiny, "prompt": "Is there room?", "stream": stream}},
			{generateRoute, object{"text": "Is there room?", "stream": stream}},
		} {
			for try := 1; ; try++ { // when one of the others ends, there is room for an instant
				testkit.Eventually(t, "the engine is full", func() bool { return e.count(t, "num_running_reqs") == 2 && e.count(t, "num_waiting_reqs") == 2 })
				got := h.Ask(t.Context(), r.path, r.body)
				if got.Status == http.StatusServiceUnavailable && got.Failure == "engine_busy" && got.Header.Get("Retry-After") != "" && strings.Contains(message(got.Raw), "queue is full") {
					break
				}
				if !got.OK() || try == 5 {
					t.Errorf("%s stream=%v: %v, want 503 engine_busy and Retry-After", r.path, stream, got)
					break
				}
			}
		}
	}
	stop()
	others.Wait()
	testkit.Eventually(t, "the engine is empty", func() bool { return e.running(t) == 0 })
	if r := h.Ask(t.Context(), chatRoute, chat("Is there room now?")); !r.OK() {
		t.Errorf("afterwards: %v", r)
	}
}

// A prompt without tokens ends SGLang's scheduler, or hangs. None reaches it.
func TestEmptyPromptsDoNotReachTheEngine(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	requests := func() (n float64) {
		for _, e := range h.engines {
			n += max(0, direct(t, e).Metric(t, "sglang:num_requests_total"))
		}
		return n
	}
	before := requests()
	for _, tt := range []struct {
		path  string
		field string
		value any
	}{
		{chatRoute, "messages", []object{}},
		{textRoute, "prompt", ""},
		{textRoute, "prompt", []string{}},
		{textRoute, "prompt", []string{""}},
		{textRoute, "prompt", []string{"fine", ""}},
		{textRoute, "prompt", []int{}},
		{textRoute, "prompt", [][]int{{}}},
		{textRoute, "prompt", [][]int{{5}, {}}},
		{generateRoute, "text", ""},
		{generateRoute, "text", []string{}},
		{generateRoute, "text", []string{"fine", ""}},
		{generateRoute, "input_ids", []int{}},
		{generateRoute, "input_ids", [][]int{}},
		{generateRoute, "input_ids", [][]int{{5, 6}, {}}},
	} {
		for _, stream := range []bool{false, true} {
			r := h.Ask(t.Context(), tt.path, object{"model": tiny, tt.field: tt.value, "stream": stream})
			if r.Status != http.StatusBadRequest || r.Failure != "invalid_request" || !strings.Contains(message(r.Raw), tt.field) {
				t.Errorf("%s with %s %#v, stream %v: %v, want 400 with the field's name", tt.path, tt.field, tt.value, stream, r)
			}
		}
	}
	if after := requests(); after != before {
		t.Errorf("the engines have counted %g requests, before %g", after, before)
	}
	for _, e := range h.engines {
		if !e.healthy() {
			t.Errorf("engine %s serves no more", e.url)
		}
	}
	if r := h.Ask(t.Context(), chatRoute, chat("")); !r.OK() || r.Prompt == 0 { // the template has tokens of its own
		t.Errorf("a chat with an empty question: %v", r)
	}
}
