package simengine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
)

// loaded are the adapters of /v1/models, in order.
func (r *rig) loaded() string {
	var all []string
	for _, m := range parse[struct {
		Data []struct {
			ID, Root string
			Parent   *string
		}
	}](r.t, second(r.get("/v1/models"))).Data {
		if m.Parent != nil {
			all = append(all, m.ID+"="+m.Root)
		}
	}
	return strings.Join(all, " ")
}

func TestAdapters(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", Model: "base", CacheReport: true, LoRA: true, MaxLoadedAdapters: 2,
		Adapters: []simengine.Adapter{{Name: "a", Path: "/a"}, {Name: "b", Path: "/b"}}})
	cached := func(more string) (int, string) {
		t.Helper()
		code, body := r.post("/v1/chat/completions", chatBody("one two three", `,"max_tokens":3`+more))
		if code != 200 {
			t.Fatalf("%s: %d %s", more, code, body)
		}
		c := parse[chatChunk](t, body)
		return c.Usage.Details.Cached, c.Choices[0].Message.Content
	}
	cached("")
	all, _ := cached("")
	for _, tt := range []struct {
		name, more string
		want       int
	}{
		{"an adapter", `,"model":"base:a"`, 0},
		{"again", `,"model":"base:a"`, all},
		{"by its path", `,"lora_path":"a"`, all},
		{"of any base", `,"model":"other:a"`, all},
		{"rather than the path's", `,"model":"base:a","lora_path":"b"`, all},
		{"another", `,"model":"base:b"`, 0},
		{"by its name alone it is the base model", `,"model":"a"`, all},
		{"no adapter after the colon", `,"model":"base:"`, all},
	} {
		if got, _ := cached(tt.more); got != tt.want {
			t.Errorf("%s: %d cached, want %d", tt.name, got, tt.want)
		}
	}
	cached(`,"model":"base:a"`)
	if code, body := r.post("/load_lora_adapter", `{"lora_name":"c","lora_path":"/c"}`); code != 200 ||
		body != `{"rid":null,"http_worker_ipc":null,"success":true,"error_message":"","loaded_adapters":{"a":"/a","c":"/c"}}` {
		t.Errorf("load: %d %s", code, body)
	}
	if got := r.loaded(); got != "a=/a c=/c" {
		t.Errorf("loaded %q, want the least recently used one gone", got)
	}
	if got, _ := cached(`,"model":"base:b"`); got != 0 || r.loaded() != "c=/c b=/b" {
		t.Errorf("an unloaded adapter: %d cached, loaded %q; want it loaded again, and its cache gone", got, r.loaded())
	}
	if code, body := r.post("/unload_lora_adapter", `{"lora_name":"z"}`); code != 400 || !strings.Contains(body, `LoRA with name z does not exist`) || !strings.Contains(body, `"loaded_adapters":null`) {
		t.Errorf("unload of what is not there: %d %s", code, body)
	}
	if code, body := r.post("/unload_lora_adapter", `{"lora_name":"b"}`); code != 200 || !strings.Contains(body, `"loaded_adapters":{"c":"/c"}`) {
		t.Errorf("unload: %d %s", code, body)
	}
	for _, tt := range []struct{ path, body, want string }{
		{"/load_lora_adapter", `{"lora_name":"c","lora_path":"/c"}`, "Failed to load LoRA adapter c because it is already loaded"},
		{"/unload_lora_adapter", `{"lora_name":"b"}`, "LoRA with name b does not exist. Loaded LoRAs: odict_keys(['c'])"},
		{"/load_lora_adapter", `{"lora_name":"d"}`, "Field required"},
		{"/v1/chat/completions", chatBody("x", `,"model":"base:none"`), `never been loaded: none\nAll loaded adapters: dict_keys(['a', 'b', 'c']).`},
		{"/v1/chat/completions", chatBody("x", `,"lora_path":["a"]`), "lora_path is a list"},
	} {
		if code, body := r.post(tt.path, tt.body); code != 400 || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %s, want %s", tt.path, tt.body, code, body, tt.want)
		}
	}
	off := start(t, simengine.Config{Profile: "instant"})
	for _, tt := range []struct{ path, body, want string }{
		{"/v1/completions", `{"prompt":"a","model":"x:a"}`, "LoRA adapter 'a' was requested, but LoRA is not enabled."},
		{"/generate", `{"text":"a","lora_path":"a"}`, "LoRA is not enabled"},
		{"/load_lora_adapter", `{"lora_name":"c","lora_path":"/c"}`, `"loaded_adapters":null`},
	} {
		if code, body := off.post(tt.path, tt.body); code != 400 || !strings.Contains(body, tt.want) {
			t.Errorf("off: %s: %d %s, want %s", tt.path, code, body, tt.want)
		}
	}
}

func TestUnloadWaitsForTheAdaptersRequests(t *testing.T) {
	r := start(t, simengine.Config{Model: "m", LoRA: true, Adapters: []simengine.Adapter{{Name: "a", Path: "/a"}}})
	done := make(chan string, 1)
	go func() {
		done <- second(r.post("/generate", `{"text":"x","rid":"run","lora_path":"a","sampling_params":{"max_new_tokens":100000}}`))
	}()
	r.until("running", func(s simengine.Stats) bool { return s.Output > 1 })
	unloaded := make(chan error, 1)
	go func() { unloaded <- r.UnloadAdapter(context.Background(), "a") }()
	select {
	case err := <-unloaded:
		t.Errorf("unloaded under its request: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	r.Abort("run")
	<-done
	if err := <-unloaded; err != nil {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	if code, body := r.post("/open_session", `{"capacity_of_str_len":100,"session_id":"s"}`); code != 200 || body != `"s"` {
		t.Fatalf("open: %d %s", code, body)
	}
	if code, _ := r.post("/open_session", `{"capacity_of_str_len":100,"session_id":"s"}`); code != 400 {
		t.Errorf("open twice: %d", code)
	}
	type native struct {
		Meta struct {
			Prompt int `json:"prompt_tokens"`
			Cached int `json:"cached_tokens"`
		} `json:"meta_info"`
	}
	// Prompts of four and one tokens, answers of four.
	for _, tt := range []struct {
		name, rid, ids, params string
		prompt, cached         int
	}{
		{"the first turn", "t1", "500,501,502,503", `{"id":"s"}`, 4, 0},
		{"one that continues none", "t2", "600", `{"id":"s"}`, 1, 0},
		{"one that continues the first", "t3", "700", `{"id":"s","rid":"t1"}`, 9, 7},
		{"a part of it", "t4", "700", `{"id":"s","rid":"t1","offset":2}`, 3, 2},
		{"without its answer", "t5", "701", `{"id":"s","rid":"t3","drop_previous_output":true}`, 10, 9},
		{"in the place of what followed", "t6", "702", `{"id":"s","rid":"t1","replace":true}`, 9, 8},
		{"no session at all", "", "700", `{"rid":"zzz"}`, 1, 0},
	} {
		code, body := r.post("/generate", fmt.Sprintf(`{"input_ids":[%s],"rid":%q,"session_params":%s,"sampling_params":{"max_new_tokens":4,"temperature":0}}`, tt.ids, tt.rid, tt.params))
		if got := parse[native](t, body).Meta; code != 200 || got.Prompt != tt.prompt || got.Cached != tt.cached {
			t.Errorf("%s: %d, %+v, want %d tokens, %d cached", tt.name, code, got, tt.prompt, tt.cached)
		}
	}
	ask := func(params, more string) (int, string) {
		return r.post("/generate", `{"input_ids":[1],"session_params":`+params+more+`}`)
	}
	for _, tt := range []struct {
		name, params, more string
		code               int
		want               string
	}{
		{"a turn that was replaced", `{"id":"s","rid":"t3"}`, "", 400, "Invalid request session id"},
		{"no such session", `{"id":"x"}`, "", 400, "Invalid request: session id x does not exist"},
		{"no such session, streamed", `{"id":"x"}`, `,"stream":true`, 200, `"output_ids":[0],"meta_info":{`},
		{"an unknown key", `{"id":"s","more":1}`, "", 500, "Internal Server Error"},
		{"no object", `"s"`, "", 400, "Input should be a valid dictionary"},
		{"two kinds at once", `{"id":"s"}`, `,"session_id":"s"`, 400, "cannot both be set"},
	} {
		if code, body := ask(tt.params, tt.more); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d with %s", tt.name, code, body, tt.code, tt.want)
		}
	}
	r.post("/open_session", `{"capacity_of_str_len":1,"session_id":"short","timeout":0.01}`)
	time.Sleep(20 * time.Millisecond)
	if code, _ := ask(`{"id":"short"}`, ""); code != 400 {
		t.Errorf("a session that timed out: %d, want 400", code)
	}
	r.post("/close_session", `{"session_id":"s"}`)
	if code, _ := ask(`{"id":"s"}`, ""); code != 400 {
		t.Errorf("a closed session: %d, want 400", code)
	}
	if code, _ := r.post("/close_session", `{"session_id":"never"}`); code != 200 {
		t.Errorf("close what is not open: %d, want 200", code)
	}
	if code, _ := r.post("/open_session", `{"capacity_of_str_len":1,"streaming":true}`); code != 400 {
		t.Errorf("a streaming session: %d, want 400", code)
	}
}
