package sglang

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/radixbus/radixbus/internal/testkit"
)

// documents are what came for a request, of a stream each event's, without what is another each time: names, times, and what
// was cached.
func documents(t *testing.T, c *testkit.Client, path string, body any) (docs []any, r *testkit.Reply) {
	t.Helper()
	take := func(raw []byte) {
		var doc any
		if err := json.Unmarshal(raw, &doc); err != nil && len(raw) > 0 {
			t.Fatalf("%s: no JSON: %.200s", path, raw)
		}
		docs = append(docs, doc)
	}
	r = c.Ask(t.Context(), path, body, func(r *testkit.Reply) { take(r.Doc) })
	if r.Err != nil {
		t.Fatalf("%s: %v", path, r)
	}
	if r.Events == 0 {
		take(r.Raw)
	}
	var own func(any)
	own = func(v any) {
		switch v := v.(type) {
		case object:
			for _, name := range []string{"id", "item_id", "meta_info", "created", "created_at", "request_id", "usage", "timestamp", "sequence_number"} {
				delete(v, name)
			}
			for _, inner := range v {
				own(inner)
			}
		case []any:
			for _, inner := range v {
				own(inner)
			}
		}
	}
	own(docs)
	merged := docs[:0]
	for _, doc := range docs {
		if len(merged) == 0 || !continues(merged[len(merged)-1], doc) {
			merged = append(merged, doc)
		}
	}
	return merged, r
}

// continues adds the text of an event to that of the one before, if both say the same otherwise: engines put into one event
// what is ready at that moment.
func continues(before, next any) bool {
	a, _ := before.(object)
	b, _ := next.(object)
	if a == nil || b == nil || a["type"] != b["type"] {
		return false
	}
	if text, ok := b["delta"].(string); ok {
		a["delta"] = fmt.Sprint(a["delta"], text)
		return true
	}
	from, _ := a["delta"].(object)
	to, _ := b["delta"].(object)
	if from == nil || to == nil || from["text"] == nil || to["text"] == nil {
		return false
	}
	from["text"] = fmt.Sprint(from["text"], to["text"])
	return true
}

// answersAsItsEngine wants the same answer through the hub as from the engine that gives it.
func (h *hub) answersAsItsEngine(t *testing.T, path string, body object, status int) {
	t.Helper()
	if body["model"] == nil {
		body["model"] = tiny
	}
	t.Run(fmt.Sprint(path, " model=", body["model"], " stream=", body["stream"] == true), func(t *testing.T) {
		got, r := documents(t, h.Client, path, body)
		if r.Status != status || r.Header.Get("X-Radixbus-Worker") == "" {
			t.Fatalf("through the hub: %v", r)
		}
		want, directly := documents(t, direct(t, h.by(t, r)), path, body)
		if d := cmp.Diff(want, got, cmpopts.EquateApprox(1e-3, 0)); d != "" || directly.Status != r.Status {
			t.Errorf("status %d, the engine's %d; what differs (-engine +hub):\n%s", r.Status, directly.Status, d)
		}
	})
}

// Every other route answers as the engine behind it does, what that refuses included: a model that generates embeds nothing.
func TestEveryRouteAnswersAsTheEngineDoes(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	hello := []object{{"role": "user", "content": "Why is a tree a good index?"}}
	for _, tt := range []struct {
		path   string
		body   object
		status int
	}{
		{"/v1/messages", object{"max_tokens": 8, "temperature": 0, "messages": hello, "system": "Be brief."}, 200},
		{"/v1/messages", object{"max_tokens": 8, "temperature": 0, "messages": hello, "stream": true}, 200},
		{"/v1/messages", object{"model": tiny + ":red", "max_tokens": 8, "temperature": 0, "messages": hello}, 200},
		{"/v1/messages/count_tokens", object{"messages": hello}, 200},
		{"/v1/responses", object{"input": "Why?", "max_output_tokens": 8, "temperature": 0}, 200},
		{"/v1/responses", object{"input": "Why?", "max_output_tokens": 8, "temperature": 0, "stream": true}, 200},
		{"/v1/score", object{"query": "hello", "items": []string{"a", "b"}, "label_token_ids": []int{5, 6}, "apply_softmax": true}, 200},
		{"/v1/tokenize", object{"prompt": "Why is a tree a good index?"}, 200},
		{"/v1/detokenize", object{"tokens": []int{5, 60, 7}}, 200},
		{"/parse_function_call", object{"text": "hello", "tools": []any{}, "tool_call_parser": "qwen25"}, 200},
		{"/separate_reasoning", object{"text": "<think>why</think>because", "reasoning_parser": "deepseek-r1"}, 200},
		{"/v1/embeddings", object{"input": "hello"}, 400},
		{"/v1/rerank", object{"query": "hello", "documents": []string{"a", "b"}}, 400},
		{"/v1/classify", object{"input": "hello"}, 400},
		{"/encode", object{"text": "hello"}, 400},
		{"/classify", object{"text": "hello"}, 400},
	} {
		h.answersAsItsEngine(t, tt.path, tt.body, tt.status)
	}
	if status, doc := h.Get(t, "/health_generate"); status != http.StatusOK {
		t.Errorf("/health_generate: %d %s", status, doc)
	}
	h.idle(t)
}

// A model that embeds, beside one that generates, has its own routes, and is asked for nothing else.
func TestEmbeddingModelBesideAGeneratingOne(t *testing.T) {
	h := up(t, engines(t, plain, embedding))
	for _, tt := range []struct {
		path string
		body object
	}{
		{"/v1/embeddings", object{"input": []string{"hello", "there"}}},
		{"/v1/classify", object{"input": "hello"}},
		{"/v1/rerank", object{"query": "hello", "documents": []string{"a", "b"}}},
		{"/v1/score", object{"query": "hello", "items": []string{"a", "b"}}},
		{"/v1/tokenize", object{"prompt": "hello"}},
		{"/encode", object{"text": "hello"}},
		{"/classify", object{"text": []string{"hello", "there"}}},
	} {
		tt.body["model"] = embedder
		h.answersAsItsEngine(t, tt.path, tt.body, http.StatusOK)
	}
	for _, path := range []string{chatRoute, "/v1/messages", "/v1/responses"} { // the engine takes the last one, and says nothing
		r := h.Ask(t.Context(), path, chat("Why?", object{"model": embedder, "input": "Why?"}))
		if r.Status != http.StatusBadRequest || r.Header.Get("X-Radixbus-Worker") != "" {
			t.Errorf("%s of a model that embeds: %v", path, r)
		}
	}
	h.ask(t, chatRoute, chat("Why?"))
	if status, doc := h.Get(t, "/health_generate"); status != http.StatusOK {
		t.Errorf("/health_generate of both: %d %s", status, doc)
	}
}

// The turns of an engine's session find the engine that holds it, whichever that is.
func TestSessionsGoOnWhereTheyWereOpened(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	used := map[*engine]bool{}
	for seed := range 12 {
		opened := h.Ask(t.Context(), "/open_session", object{"capacity_of_str_len": 1000})
		var session string
		if err := json.Unmarshal(opened.Raw, &session); err != nil || opened.Status != http.StatusOK {
			t.Fatalf("open a session: %v", opened)
		}
		before, last, by := 0, any(nil), (*engine)(nil)
		for turn := range 3 {
			r := h.ask(t, generateRoute, object{
				"model": tiny, "text": prose(500+10*seed+turn, 10), "session_params": object{"id": session, "rid": last}, "sampling_params": object{"temperature": 0, "max_new_tokens": 4, "ignore_eos": true},
			})
			var answer struct {
				Meta struct{ ID string } `json:"meta_info"`
			}
			if err := json.Unmarshal(r.Raw, &answer); err != nil {
				t.Fatal(err)
			}
			if by != nil && h.by(t, r) != by || r.Prompt <= before {
				t.Errorf("turn %d of session %s: %d prompt tokens after %d, by %s", turn, session, r.Prompt, before, r.Header.Get("X-Radixbus-Worker"))
			}
			before, last, by = r.Prompt, answer.Meta.ID, h.by(t, r)
		}
		used[by] = true
		if r := h.Ask(t.Context(), "/close_session", object{"session_id": session}); r.Status != http.StatusOK {
			t.Errorf("close it: %v", r)
		}
	}
	if len(used) < 2 {
		t.Error("one engine has held all sessions: this shows nothing")
	}
}

// Orders on the admin port are carried out by real engines, and the answer tells what each has said.
func TestOrdersAreCarriedOut(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	type outcome struct {
		Worker, Message string
		OK              bool
		Status          int
	}
	type outcomes struct {
		Failed  []string
		Workers []outcome
	}
	order := func(path string, body []byte, status int) (told outcomes) {
		t.Helper()
		r := h.admin.Send(t.Context(), http.MethodPost, path, body)
		if err := json.Unmarshal(r.Raw, &told); err != nil || r.Status != status {
			t.Fatalf("%s: %v, want status %d", path, r, status)
		}
		return told
	}
	cached := map[string]int{} // by worker: tokens of a repeated prompt
	repeat := func(rounds int) {
		t.Helper()
		clear(cached)
		h.asking(t, func() (prompt int) {
			for range rounds {
				for seed := range 4 {
					r := h.ask(t, chatRoute, chat(prose(700+seed, 100)))
					cached[r.Header.Get("X-Radixbus-Worker")], prompt = r.Cached, prompt+r.Prompt
				}
			}
			return prompt
		})
	}
	repeat(2)
	if len(cached) != 2 || cached["w0"] < 200 || cached["w1"] < 200 {
		t.Fatalf("before any order the workers find %v tokens cached", cached)
	}

	if told := order("/flush_cache?timeout=10", nil, http.StatusOK); len(told.Workers) != 2 || !told.Workers[0].OK || !strings.Contains(told.Workers[1].Message, "flushed") {
		t.Errorf("flush: %+v", told)
	}
	testkit.Eventually(t, "the flushed caches are believed empty", func() bool { return h.admin.Metric(t, "radixbus_scheduler_worker_held_bytes") == 0 })
	busy := follow(t, h.Client, chatRoute, chat("Go on and on.", long(4000), object{"stream": true}))
	told := order("/flush_cache", nil, http.StatusPartialContent)
	if len(told.Failed) != 1 || !slices.Contains(told.Workers, outcome{Worker: told.Failed[0], Status: http.StatusBadRequest, Message: "Flush cache failed."}) {
		t.Errorf("flush beside a stream: %+v", told)
	}
	busy.leave()
	h.idle(t)

	order("/workers/w0/drain", nil, http.StatusOK)
	repeat(1)
	if len(cached) != 1 || cached["w1"] == 0 {
		t.Errorf("with w0 drained the workers find %v tokens cached", cached)
	}
	order("/workers/w0/undrain", nil, http.StatusOK)
	testkit.Eventually(t, "w0 is back", func() bool { return h.admin.Metric(t, "radixbus_scheduler_workers", `state="ready"`) == 2 })

	folder := t.TempDir()
	order("/start_profile?worker=w1", fmt.Appendf(nil, `{"output_dir":%q,"activities":["CPU"]}`, folder), http.StatusOK)
	h.ask(t, chatRoute, chat("What takes the time?"))
	order("/stop_profile?worker=w1", nil, http.StatusOK)
}
