package simengine_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
)

// inBubble runs an engine in exact time.
func inBubble(t *testing.T, cfg simengine.Config, use func(t *testing.T, e *simengine.Engine)) {
	synctest.Test(t, func(t *testing.T) {
		e, err := simengine.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		use(t, e)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHealthThatGenerates(t *testing.T) {
	inBubble(t, simengine.Config{GeneratingHealth: true}, func(t *testing.T, e *simengine.Engine) {
		check := func(path string, code int, after time.Duration) {
			t.Helper()
			begin := time.Now()
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if took := time.Since(begin); w.Code != code || took != after {
				t.Errorf("%s: %d after %v, want %d after %v", path, w.Code, took, code, after)
			}
		}
		send := func(path, body string) {
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, post(path, body))
		}
		check("/health", 200, time.Second)
		send("/pause_generation", `{"mode":"in_place"}`)
		check("/health", 503, 20*time.Second)
		check("/ping", 503, 0)
		send("/continue_generation", `{}`)
		check("/health_generate", 200, time.Second)
		check("/ping", 200, 0)
	})
}

func TestCheapHealthAnswersWhilePaused(t *testing.T) {
	inBubble(t, simengine.Config{}, func(t *testing.T, e *simengine.Engine) {
		e.Handler().ServeHTTP(httptest.NewRecorder(), post("/pause_generation", `{"mode":"abort"}`))
		begin := time.Now()
		for path, want := range map[string]int{"/health": 200, "/ready": 503, "/ping": 200} {
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if took := time.Since(begin); w.Code != want || took != 0 {
				t.Errorf("%s: %d after %v, want %d at once", path, w.Code, took, want)
			}
		}
	})
}

func TestAGoneClientIsNoticedByTheClock(t *testing.T) {
	// Counted from the request's start, whenever it went: of a whole answer the engine only looks then.
	for _, tt := range []struct {
		leaves time.Duration
		stream bool
		after  time.Duration
	}{{time.Second, false, 4 * time.Second}, {5 * time.Second, false, 8 * time.Second}, {time.Second, true, time.Second}} {
		inBubble(t, simengine.Config{}, func(t *testing.T, e *simengine.Engine) {
			body := chatBody("hello", slow)
			if tt.stream {
				body = chatBody("hello", slow+`,"stream":true`)
			}
			ctx, cancel := context.WithTimeout(t.Context(), tt.leaves)
			defer cancel()
			begin := time.Now()
			deliver(e, discard{http.Header{}}, post("/v1/chat/completions", body).WithContext(ctx))
			took := time.Since(begin)
			if late := took - tt.after; late < 0 || late > 100*time.Millisecond {
				t.Errorf("left after %v (stream %v): noticed after %v, want %v", tt.leaves, tt.stream, took, tt.after)
			}
			time.Sleep(time.Second)
			if s := e.Stats(); s.Live != 0 || s.Aborted != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// deliver serves a request as a server would, which survives a handler that breaks off.
func deliver(e *simengine.Engine, w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			panic(v)
		}
	}()
	e.Handler().ServeHTTP(w, r)
}

// discard is a client that only hears.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (d discard) WriteHeader(int)             {}

func TestWhatKillsAnEngine(t *testing.T) {
	for _, tt := range []struct {
		name, path, body string
		cfg              simengine.Config
		code             int // without poison
	}{
		{"an empty text", "/generate", `{"text":"","sampling_params":{"max_new_tokens":1}}`, simengine.Config{}, 400},
		{"empty ids in a list", "/generate", `{"input_ids":[[]]}`, simengine.Config{}, 400},
		{"an empty prompt among others", "/v1/completions", `{"prompt":["a",""],"max_tokens":1}`, simengine.Config{}, 400},
		{"an unknown id", "/v1/completions", `{"prompt":[5,9999999],"max_tokens":1}`, simengine.Config{}, 400},
		{"a negative id", "/generate", `{"input_ids":[-1]}`, simengine.Config{}, 400},
		{"adapters for one prompt", "/generate", `{"text":"a","lora_path":["l"]}`, simengine.Config{LoRA: true, Adapters: []simengine.Adapter{{Name: "l", Path: "/l"}}}, 400},
		{"generation on a model that embeds", "/generate", `{"text":"a"}`, simengine.Config{Embedding: true}, 400},
		{"chat on a model that embeds", "/v1/chat/completions", chatBody("a", ""), simengine.Config{Embedding: true}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tt.cfg
			cfg.Profile = "instant"
			mild := start(t, cfg)
			if code, body := mild.post(tt.path, tt.body); code != tt.code || mild.Stats().State != "serving" {
				t.Errorf("without poison: %d %s, want %d", code, body, tt.code)
			}
			cfg.Poison = true
			r := start(t, cfg)
			if res, err := r.send(tt.path, tt.body); err == nil {
				res.Body.Close()
				t.Errorf("answered with %d", res.StatusCode)
			}
			if s := r.Stats(); s.State != "crashed" {
				t.Errorf("the engine is %s", s.State)
			}
		})
	}
}
