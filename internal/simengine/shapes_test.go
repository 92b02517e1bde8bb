package simengine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
)

// shape names the form of an error body, or of the first event of a stream.
func shape(body string) string {
	stream := false
	if all := events(body); len(all) > 0 {
		if all[len(all)-1] != "[DONE]" {
			return "stream without an end"
		}
		body, stream = all[0], true
	}
	var v struct {
		Object  string
		Message string
		Type    string
		Code    int
		Error   json.RawMessage
		Meta    struct {
			Reason struct {
				Type    string
				Status  int    `json:"status_code"`
				ErrType string `json:"err_type"`
			} `json:"finish_reason"`
		} `json:"meta_info"`
	}
	if json.Unmarshal([]byte(body), &v) != nil {
		return "text"
	}
	var inner map[string]any
	var text string
	name := "none"
	switch {
	case v.Object == "error" && v.Message != "" && v.Code != 0:
		name = fmt.Sprintf("flat %d", v.Code)
	case json.Unmarshal(v.Error, &text) == nil:
		name = "string"
	case json.Unmarshal(v.Error, &inner) == nil && inner["object"] == "error":
		name = fmt.Sprintf("nested flat %v", inner["code"])
	case inner != nil && inner["retryable"] != nil:
		name = fmt.Sprintf("nested %v %v", inner["type"], inner["code"])
	case len(inner) == 1 && inner["message"] != "":
		name = "nested"
	case v.Meta.Reason.Type == "abort":
		name = fmt.Sprintf("abort %d %s", v.Meta.Reason.Status, v.Meta.Reason.ErrType)
	}
	if stream {
		return "stream: " + name
	}
	return name
}

func TestErrorShapes(t *testing.T) {
	long := strings.Repeat("word ", 700)
	r := start(t, simengine.Config{Profile: "instant", Capacity: 500, ContextLength: 600})
	big := start(t, simengine.Config{Profile: "instant", Capacity: 5000, ContextLength: 600})
	full := start(t, simengine.Config{MaxRunning: 1, MaxQueued: 1})
	var busy sync.WaitGroup
	for i := range 2 {
		busy.Go(func() {
			if code, body := full.post("/v1/chat/completions", chatBody(fmt.Sprint(i), slow)); code != 200 || !strings.Contains(body, `"abort"`) {
				t.Errorf("aborted in the end: %d %.200s, want 200", code, body)
			}
		})
		full.until("busy", func(s simengine.Stats) bool { return s.Running == 1 && s.Waiting == i })
	}
	overPool := strings.Repeat("word ", 550)
	for _, tt := range []struct {
		name string
		on   *rig
		path string
		body string
		code int
		want string
	}{
		{"generate without input", r, "/generate", `{}`, 400, "nested"},
		{"generate with empty ids", r, "/generate", `{"input_ids":[]}`, 400, "nested"},
		{"generate with a bad count", r, "/generate", `{"text":"a","sampling_params":{"max_new_tokens":-1}}`, 400, "nested"},
		{"unknown id", r, "/generate", `{"input_ids":[128000]}`, 400, "nested"},
		{"unknown sampling key", r, "/generate", `{"text":"a","sampling_params":{"max_tokens":3}}`, 400, "string"},
		{"unknown top-level key", r, "/generate", `{"text":"a","zzz":1,"sampling_params":{"max_new_tokens":1}}`, 200, "none"},
		{"bad JSON, native", r, "/generate", `{"text":`, 400, "flat 400"},
		{"bad JSON, chat", r, "/v1/chat/completions", `nope`, 400, "flat 400"},
		{"array", r, "/v1/chat/completions", `[]`, 500, "text"},
		{"array, native", r, "/generate", ` [1]`, 400, "flat 400"},
		{"number", r, "/generate", `7`, 400, "flat 400"},
		{"no messages", r, "/v1/chat/completions", `{"messages":[]}`, 400, "flat 400"},
		{"wrong type", r, "/v1/chat/completions", `{"messages":"hello"}`, 400, "flat 400"},
		{"content of numbers", r, "/v1/chat/completions", `{"messages":[{"role":"user","content":7}]}`, 400, "flat 400"},
		{"no tokens, completions", r, "/v1/completions", `{"prompt":"a","max_tokens":0}`, 400, "flat 400"},
		{"no tokens, native", r, "/generate", `{"text":"a","sampling_params":{"max_new_tokens":0}}`, 200, "none"},
		{"empty prompt", r, "/v1/completions", `{"prompt":""}`, 400, "flat 400"},
		{"negative temperature", r, "/v1/completions", `{"prompt":"a","temperature":-1}`, 400, "flat 400"},
		{"adapter", r, "/v1/completions", `{"prompt":"a","model":"m:lora"}`, 400, "flat 400"},
		{"chat over the context", r, "/v1/chat/completions", chatBody(long, ""), 400, "flat 400"},
		{"chat stream over the context", r, "/v1/chat/completions", chatBody(long, `,"stream":true`), 400, "flat 400"},
		{"chat over the context with its output", big, "/v1/chat/completions", chatBody("a", `,"max_tokens":600`), 400, "flat 400"},
		{"chat over the pool", r, "/v1/chat/completions", chatBody(overPool, ""), 400, "flat 400"},
		{"chat stream over the pool", r, "/v1/chat/completions", chatBody(overPool, `,"stream":true`), 200, "stream: nested flat 400"},
		{"generate over the context", r, "/generate", `{"text":"` + long + `"}`, 400, "nested"},
		{"generate stream over the context", r, "/generate", `{"stream":true,"text":"` + long + `"}`, 200, "stream: nested invalid_request_error 400"},
		{"generate over the pool", r, "/generate", `{"text":"` + overPool + `","sampling_params":{"max_new_tokens":9}}`, 400, "nested"},
		{"generate stream over the pool", r, "/generate", `{"stream":true,"text":"` + overPool + `","sampling_params":{"max_new_tokens":9}}`, 200, "stream: abort 400 BadRequestError"},
		{"queue full, native", full, "/generate", `{"text":"a"}`, 503, "flat 503"},
		{"queue full, chat", full, "/v1/chat/completions", chatBody("a", ""), 503, "flat 503"},
		{"queue full, chat stream", full, "/v1/chat/completions", chatBody("a", `,"stream":true`), 200, "stream: nested flat 503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := tt.on.send(tt.path, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			raw, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got := shape(string(raw)); res.StatusCode != tt.code || got != tt.want {
				t.Errorf("%d %s, want %d %s: %.300s", res.StatusCode, got, tt.code, tt.want, raw)
			}
			if tt.code == 500 && !res.Close {
				t.Error("the connection stays open")
			}
			if res.Header.Get("Retry-After") != "" {
				t.Error("a real engine sends no Retry-After")
			}
		})
	}
	if s := r.Stats(); s.Live != 0 || s.Used != 0 {
		t.Errorf("refused requests left %+v", s)
	}
	full.AbortAll()
	busy.Wait()
}

func TestInfoRoutes(t *testing.T) {
	r := start(t, simengine.Config{Profile: "qwen3-32b-h100-tp2", Eviction: "priority", PageSize: 16, CacheReport: true, Speed: 100})
	r.post("/v1/chat/completions", chatBody("hello", `,"max_tokens":3`))
	var info map[string]any
	for _, path := range []string{"/server_info", "/get_server_info"} {
		_, raw := r.get(path)
		info = parse[map[string]any](t, raw)
	}
	for key, want := range map[string]any{
		"served_model_name": "Qwen/Qwen3-32B", "max_total_num_tokens": 307328.0, "page_size": 16.0, "dp_size": 1.0,
		"tp_size": 2.0, "radix_eviction_policy": "priority", "enable_cache_report": true,
		"enable_priority_scheduling": false, "max_running_requests": nil, "context_length": nil,
		"chunked_prefill_size": 8192.0, "kv_events": nil,
	} {
		if got, ok := info[key]; !ok || got != want {
			t.Errorf("server_info %s = %v, want %v", key, got, want)
		}
	}
	for path, want := range map[string]string{
		"/health": "", "/ready": "", "/ping": "", "/health_generate": "",
		"/model_info": `"weight_version":"default"`, "/get_model_info": `"is_generation":true`,
		"/v1/models": `"max_model_len":40960`, "/v1/models/Qwen/Qwen3-32B": `"id":"Qwen/Qwen3-32B"`,
		"/v1/loads": `"max_total_num_tokens":307328`, "/v1/loads?dp_rank=3": `"loads":[]`,
		"/metrics": `sglang:generation_tokens_total{engine_type="unified",model_name="Qwen/Qwen3-32B"} `,
	} {
		if code, raw := r.get(path); code != 200 || !strings.Contains(raw, want) {
			t.Errorf("%s: %d %.200s, want %s in it", path, code, raw, want)
		}
	}
	for path, want := range map[string]int{"/get_load": 404, "/weight_version": 404, "/v1/models/other": 404, "/generate": 405} {
		if code, _ := r.get(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}

func TestHealthOfAnEngineThatDoesNotRunYet(t *testing.T) {
	e, err := simengine.New(simengine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("health before Run: %d, want 503", w.Code)
	}
}

// FuzzHandler sends arbitrary bodies to every route: no answer may be a panic or leave anything behind.
func FuzzHandler(f *testing.F) {
	paths := []string{
		"/v1/chat/completions", "/v1/completions", "/generate", "/abort_request", "/pause_generation", "/update_weights_from_disk",
		"/flush_cache", "/v1/loads", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/tokenize", "/v1/detokenize",
		"/v1/score", "/v1/embeddings", "/v1/classify", "/v1/rerank", "/encode", "/v1/audio/transcriptions", "/open_session",
		"/close_session", "/load_lora_adapter", "/unload_lora_adapter", "/continue_generation", "/v1/responses/resp_x/cancel",
	}
	for _, body := range []string{
		chatBody("hi", `,"max_tokens":3,"stream":true,"n":2`), `{"prompt":[[1,2],[3]],"echo":true,"stop":["a","b"]}`,
		`{"input_ids":[[5,6]],"sampling_params":{"n":2,"max_new_tokens":4,"stop":"e"},"rid":["a"],"stream":true}`,
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"y"}],"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}],"tools":[{}],"stop":null}`,
		`{"rid":"","abort_all":false}`, `{"mode":"retract"}`, `{"model_path":"p","flush_cache":false}`, `[`, `{"stop":3}`, `{"text":""}`,
		`{"model":"m","max_tokens":9,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}],"tools":[{"name":"f"}],"tool_choice":{"type":"any"}}`,
		`{"input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}],"background":true,"stream":false,"store":true}`,
		`{"input":[[1],[2]],"encoding_format":"base64","dimensions":3}`, `{"query":"q","items":["a"],"label_token_ids":[5],"documents":["d"]}`,
		`{"tokens":[[300,301],[302]]}`, `{"capacity_of_str_len":9,"session_id":"s","lora_name":"l","lora_path":"/l"}`,
		`{"text":"a","session_params":{"id":"s","rid":"r","offset":-1,"replace":true},"lora_path":"l","routed_dp_rank":1}`,
		`{"messages":[{"role":"assistant","content":null}],"continue_final_message":true,"max_completion_tokens":1}`,
	} {
		for path := range paths {
			f.Add(path, body)
		}
	}
	f.Fuzz(func(t *testing.T, path int, body string) {
		e, err := simengine.New(simengine.Config{Profile: "instant", Capacity: 2000, ContextLength: 1000, DefaultTokens: 16, GoneCheck: time.Millisecond,
			DP: 2, LoRA: true, ResponseStore: true, MaxResponses: 2, Audio: true, Embedding: path%7 == 6})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := newContext(t)
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		for range 10_000 {
			if e.Stats().State == "serving" {
				break
			}
			time.Sleep(10 * time.Microsecond)
		}
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, paths[uint(path)%uint(len(paths))], strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		deliver(e, w, req)
		if s := e.Stats(); s.Live != 0 || s.Used != 0 {
			t.Errorf("%s %q left %+v", req.URL, body, s)
		}
		if !slices.Contains([]int{200, 400, 404, 405, 500, 503}, w.Code) {
			t.Errorf("%s %q: %d", req.URL, body, w.Code)
		}
		cancel(errors.New("over"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// newContext ends an engine that a request could keep busy for too long.
func newContext(t *testing.T) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(10*time.Second, func() { cancel(errors.New("too long")) })
	t.Cleanup(func() { timer.Stop() })
	return ctx, cancel
}
