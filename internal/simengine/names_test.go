package simengine_test

import (
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

// ids are the ids of an answer of /generate, whole or a batch.
func ids(t *testing.T, body string) string {
	t.Helper()
	type one struct {
		Meta struct{ ID string } `json:"meta_info"`
	}
	if !strings.HasPrefix(body, "[") {
		return parse[one](t, body).Meta.ID
	}
	var all []string
	for _, o := range parse[[]one](t, body) {
		all = append(all, o.Meta.ID)
	}
	return strings.Join(all, " ")
}

func TestRequestIDs(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	const one = `,"sampling_params":{"max_new_tokens":1}}`
	for _, tt := range []struct{ name, body, want string }{
		{"one", `{"text":"a","rid":"x"` + one, "x"},
		{"a list of one prompt", `{"text":["a"],"rid":"x"` + one, "x_0"},
		{"two prompts", `{"text":["a","b"],"rid":"x"` + one, "x_0 x_1"},
		{"two of two", `{"text":["a","b"],"rid":["x","y"]` + one, "x y"},
		{"empty", `{"text":"a","rid":""` + one, ""},
	} {
		if code, body := r.post("/generate", tt.body); code != 200 || ids(t, body) != tt.want {
			t.Errorf("%s: %d, ids %q, want %q", tt.name, code, ids(t, body), tt.want)
		}
	}
	if _, body := r.post("/generate", `{"text":"a","rid":"x","sampling_params":{"max_new_tokens":1,"n":2}}`); strings.Contains(ids(t, body), "x") {
		t.Errorf("two choices are called %s, want new names", ids(t, body))
	}
	for _, tt := range []struct {
		name, path, body string
		code             int
		want             string
	}{
		{"a list for one prompt", "/generate", `{"text":"a","rid":["x"]` + one, 500, "Internal Server Error"},
		{"a list for one chat", "/v1/chat/completions", chatBody("a", `,"rid":["x"]`), 500, "unhashable type: 'list'"},
		{"too few", "/generate", `{"text":["a","b"],"rid":["x"]` + one, 400, "length mismatch"},
		{"twice the same", "/generate", `{"text":["a","b"],"rid":["x","x"]` + one, 400, "Duplicate request IDs detected within the request: ['x']"},
		{"twice the same, completions", "/v1/completions", `{"prompt":["a","b"],"rid":["x","x"]}`, 400, "Duplicate request IDs"},
		{"too few, streamed", "/generate", `{"text":["a","b"],"rid":["x"],"stream":true` + one, 200, `"code":400,"retryable":false`},
	} {
		if code, body := r.post(tt.path, tt.body); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d with %s", tt.name, code, body, tt.code, tt.want)
		}
	}
}

func TestChoicesFindTheirPromptCached(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	_, body := r.post("/generate", `{"text":"one two three four","sampling_params":{"max_new_tokens":2,"n":3}}`)
	for _, o := range parse[[]struct {
		Meta struct {
			Cached int `json:"cached_tokens"`
		} `json:"meta_info"`
	}](t, body) {
		if o.Meta.Cached != 3 {
			t.Errorf("cached %d, want all but one: %s", o.Meta.Cached, body)
		}
	}
}

func TestAbortOfWhatTheSchedulerHasNotSeen(t *testing.T) {
	// A request that waits for the end of a pause cannot be aborted, not by a second try either.
	r := start(t, simengine.Config{Speed: 100})
	r.post("/pause_generation", `{"mode":"in_place"}`)
	done := make(chan string, 1)
	go func() {
		done <- second(r.post("/generate", `{"text":"a","rid":"held","sampling_params":{"max_new_tokens":3}}`))
	}()
	r.until("held", func(s simengine.Stats) bool { return s.Live == 1 })
	if s := r.Stats(); s.Waiting != 0 || s.Running != 0 {
		t.Errorf("%+v: the scheduler knows of it", s.Load)
	}
	for range 2 {
		if n := r.Abort("held"); n != 0 {
			t.Errorf("aborted %d", n)
		}
	}
	for path, want := range map[string]int{"/health": 200, "/ready": 503, "/ping": 200, "/flush_cache": 200} {
		if code, _ := r.get(path); code != want {
			t.Errorf("%s while paused: %d, want %d", path, code, want)
		}
	}
	r.post("/continue_generation", `{}`)
	if body := <-done; !strings.Contains(body, `"type":"length"`) {
		t.Errorf("after the pause: %s", body)
	}
	if code, _ := r.post("/continue_generation", ""); code != 400 {
		t.Errorf("continue without a body: %d, want 400", code)
	}
}

func TestFlushWhileRetracted(t *testing.T) {
	r := start(t, simengine.Config{Speed: 20})
	done := make(chan string, 1)
	go func() {
		done <- second(r.post("/generate", `{"text":"one two three","sampling_params":{"max_new_tokens":400}}`))
	}()
	r.until("running", func(s simengine.Stats) bool { return s.Output > 1 })
	r.post("/pause_generation", `{"mode":"in_place"}`)
	if code, _ := r.get("/flush_cache"); code != 400 {
		t.Errorf("flush under in_place: %d, want 400", code)
	}
	r.post("/pause_generation", `{"mode":"retract"}`)
	r.until("retracted", func(s simengine.Stats) bool { return s.Running == 0 && s.Waiting == 1 })
	if code, _ := r.get("/flush_cache"); code != 200 || r.Stats().Evictable != 0 {
		t.Errorf("flush under retract: %d, %+v", code, r.Stats().Load)
	}
	if code, body := r.post("/update_weights_from_disk", `{"model_path":"other","weight_version":"v2"}`); code != 200 || !strings.Contains(body, "updated to v2.") {
		t.Errorf("weights while paused: %d %s", code, body)
	}
	r.post("/continue_generation", `{}`)
	if body := <-done; !strings.Contains(body, `"length":400`) || !strings.Contains(body, `"num_retractions":1`) {
		t.Errorf("the retracted request ended with %.300s", body[strings.Index(body, "meta_info"):])
	}
}
