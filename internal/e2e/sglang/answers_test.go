package sglang

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
)

// What comes through is what the engine says: every field, every choice, every prompt of a batch, at temperature 0.
func TestAnswersEqualTheEngines(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	question := "Question: \"why\" is a tree\n\ta good index of prompts? Ä, 界, 🙂."
	sampling := object{"temperature": 0, "max_new_tokens": 24, "ignore_eos": true}
	for _, tt := range []struct {
		name, path string
		body       object
	}{
		{"chat", chatRoute, chat(question, long(24))},
		{"chat that stops by itself", chatRoute, chat("Please write a short summary.", object{"max_tokens": 200})},
		{"chat with a stop word and logprobs", chatRoute, chat(question, long(64), object{"stop": []string{"the"}, "logprobs": true, "top_logprobs": 2})},
		{"chat with a system and an earlier turn", chatRoute, object{"model": tiny, "temperature": 0, "max_tokens": 16, "messages": []object{
			{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}, {"role": "assistant", "content": "Because."}, {"role": "user", "content": []object{{"type": "text", "text": "And why else?"}}},
		}}},
		{"chat of two choices", chatRoute, chat(question, long(16), object{"n": 2})},
		{"completion", textRoute, object{"model": tiny, "prompt": question, "temperature": 0, "max_tokens": 24}},
		{"completions of a list", textRoute, object{"model": tiny, "prompt": []string{question, "Another one:", "A third one:"}, "temperature": 0, "max_tokens": 12, "ignore_eos": true}},
		{"completion of tokens", textRoute, object{"model": tiny, "prompt": []int{5, 60, 7, 80, 9, 100}, "temperature": 0, "max_tokens": 12}},
		{"generate", generateRoute, object{"text": question, "sampling_params": sampling}},
		{"generate from tokens", generateRoute, object{"input_ids": []int{5, 60, 7, 80, 9, 100}, "sampling_params": sampling, "return_logprob": true}},
		{"generate of a list", generateRoute, object{"text": []string{question, "Another one:"}, "sampling_params": sampling}},
		{"generate of a list of one", generateRoute, object{"text": []string{question}, "sampling_params": sampling}},
		{"generate two completions", generateRoute, object{"text": question, "sampling_params": object{"temperature": 0, "max_new_tokens": 8, "n": 2}}},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s stream=%v", tt.name, stream), func(t *testing.T) {
				body := maps.Clone(tt.body)
				body["stream"], body["model"] = stream, tiny
				got, reply := whatCame(t, h.Client, tt.path, body)
				if reply.Header.Get("X-Radixbus-Worker") == "" {
					t.Fatalf("through the hub: %v", reply)
				}
				want, directly := whatCame(t, direct(t, h.by(t, reply)), tt.path, body)
				if len(want.texts) == 0 || directly.Status != 200 || reply.Done != stream {
					t.Fatalf("the engine itself: %v", directly)
				}
				if !maps.Equal(got.texts, want.texts) || !maps.Equal(got.finishes, want.finishes) {
					t.Errorf("got %v\nwant what the engine says: %v", got, want)
				}
				for _, f := range slices.Sorted(maps.Keys(got.fields)) {
					if got.fields[f] != want.fields[f] {
						t.Errorf("field %s is %q, the engine's %q", f, got.fields[f], want.fields[f])
					}
				}
				for _, f := range slices.Sorted(maps.Keys(want.fields)) {
					if _, ok := got.fields[f]; !ok {
						t.Errorf("no field %s, the engine has %q", f, want.fields[f])
					}
				}
				if stream && reply.Events < 4 {
					t.Errorf("%d events: that is no stream", reply.Events)
				}
				if reply.Usages != directly.Usages {
					t.Errorf("usage is told %d times, by the engine %d times", reply.Usages, directly.Usages)
				}
			})
		}
	}
	h.idle(t)
}

// A content is what an answer says, whether it came in one document or in many.
type content struct {
	texts    map[string]string // by choice
	finishes map[string]string
	fields   map[string]string // every field that any document has; its value, where that is no accident
}

// passing are fields whose values differ from time to time, or from event to event.
var passing = []string{
	"id", "created", "cached_tokens", "text", "content", "delta", "output_ids", "completion_tokens", "total_tokens", "finish_reason", "matched_stop",
	"matched", "length", "type", "logprobs", "choices", "usage", "end", "role", "index", "reasoning_content",
}

func whatCame(t *testing.T, c *testkit.Client, path string, body object) (content, *testkit.Reply) {
	t.Helper()
	got := content{map[string]string{}, map[string]string{}, map[string]string{}}
	reply := c.Ask(t.Context(), path, body, func(r *testkit.Reply) { got.add(t, r.Doc) })
	if reply.Err != nil {
		t.Fatalf("%s: %v", c.Base, reply)
	}
	if reply.Events == 0 {
		got.add(t, reply.Raw)
	}
	return got, reply
}

// add takes in a document, or a list of them.
func (c *content) add(t *testing.T, doc []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatalf("no JSON: %.200s", doc)
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for i, one := range list {
		d, ok := one.(object)
		if !ok {
			t.Fatalf("no document: %.200s", doc)
		}
		c.walk(c.say(d, i), d)
	}
}

// say takes in the words of a document, and returns whose they are where it is one of several prompts'.
func (c *content) say(d object, at int) (whose string) {
	choices, _ := d["choices"].([]any)
	for _, one := range choices {
		choice := one.(object)
		key := fmt.Sprint(choice["index"])
		for _, part := range []any{choice, choice["message"], choice["delta"]} {
			p, _ := part.(object)
			for _, field := range []string{"text", "content"} {
				if s, ok := p[field].(string); ok {
					c.texts[key] += s
				}
			}
		}
		if choice["finish_reason"] != nil {
			c.finishes[key] = fmt.Sprint(choice["finish_reason"], choice["matched_stop"])
		}
	}
	if text, ok := d["text"].(string); ok {
		whose = fmt.Sprint(at)
		if i, ok := d["index"]; ok {
			whose = fmt.Sprint(i)
		}
		c.texts[whose] = text
		if meta, _ := d["meta_info"].(object); meta["finish_reason"] != nil {
			c.finishes[whose] = fmt.Sprint(meta["finish_reason"])
		}
	}
	return whose
}

// walk notes every field. Numbers with a fraction are times, or so deep in the noise that they may differ.
func (c *content) walk(path string, v any) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	if name == "cached_tokens_details" {
		v = "" // nothing, or an account, as there was something cached or not
	}
	switch v := v.(type) {
	case object:
		for k, inner := range v {
			c.walk(path+"."+k, inner)
		}
	case []any:
		for _, inner := range v {
			c.walk(path, inner)
		}
	case float64:
		if slices.Contains(passing, name) || v != float64(int(v)) || v > 1e6 {
			c.fields[path] = "a number"
		} else {
			c.fields[path] = fmt.Sprint(v)
		}
	default:
		if slices.Contains(passing, name) || strings.Contains(path, "logprob") {
			c.fields[path] = "…"
		} else {
			c.fields[path] = fmt.Sprintf("%v", v)
		}
	}
}

// With one model there is no question which is meant.
func TestModelNeedNotBeNamed(t *testing.T) {
	h := up(t, engines(t, narrow))
	for _, tt := range []struct {
		path string
		body object
	}{
		{chatRoute, chat("Who answers?")},
		{textRoute, object{"prompt": "Who answers?", "max_tokens": 8}},
		{generateRoute, generate("Who answers?", 8, false)},
	} {
		for _, stream := range []bool{false, true} {
			delete(tt.body, "model")
			tt.body["stream"] = stream
			r := h.Ask(t.Context(), tt.path, tt.body)
			if !r.OK() {
				t.Errorf("%s, stream %v: %v", tt.path, stream, r)
			}
		}
	}
}

func TestUsageIsToldOnlyWhenAsked(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	for _, path := range []string{chatRoute, textRoute} {
		for _, tt := range []struct {
			options any
			want    int
		}{{nil, 0}, {object{"include_usage": true}, 1}, {object{"include_usage": false}, 0}} {
			body := chat("How many tokens?", long(12), object{"stream": true})
			if path == textRoute {
				delete(body, "messages")
				body["prompt"] = "How many tokens?"
			}
			if tt.options != nil {
				body["stream_options"] = tt.options
			}
			r := h.ask(t, path, body)
			if r.Usages != tt.want || !r.Done {
				t.Errorf("%s with stream_options %v tells usage %d times, want %d", path, tt.options, r.Usages, tt.want)
			}
		}
	}
	body := chat("How many tokens?", long(12), object{"stream": true, "stream_options": object{"include_usage": true, "continuous_usage_stats": true}})
	if r := h.ask(t, chatRoute, body); r.Usages < 5 {
		t.Errorf("continuous usage is told %d times in 12 tokens", r.Usages)
	}
	// What a client is not told, we are.
	got := h.asking(t, func() int { return h.ask(t, chatRoute, chat(prose(3, 100))).Prompt })
	if got.prompt < 100 {
		t.Errorf("the scheduler heard of %+v", got)
	}
	h.idle(t)
}
