package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
)

// countingModel is what counting engines serve.
const countingModel = "counting-model"

// A countingEngine is an HTTP server of SGLang's shape whose answer to everything is t0 t1 t2 …
type countingEngine struct {
	url   string
	every time.Duration // between tokens

	mu      sync.Mutex
	running map[string]chan struct{} // by rid; closed by an abort
	served  int                      // answers that went out whole
	bodies  int64                    // bytes of the largest body
	aborted []time.Time
}

func newCountingEngine(t *testing.T, every time.Duration) *countingEngine {
	e := &countingEngine{every: every, running: make(map[string]chan struct{})}
	mux := http.NewServeMux()
	reply := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, v) }
	}
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", reply(object{"object": "list", "data": []object{{"id": countingModel, "object": "model"}}}))
	mux.HandleFunc("GET /server_info", reply(object{"model_path": countingModel, "max_total_num_tokens": 1 << 20, "max_running_requests": 512, "page_size": 1}))
	mux.HandleFunc("GET /model_info", reply(object{"model_path": countingModel}))
	mux.HandleFunc("POST /abort_request", e.abort)
	mux.HandleFunc("POST /v1/chat/completions", e.answer)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	e.url = srv.URL
	return e
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // a client that is gone reads nothing
}

func (e *countingEngine) abort(_ http.ResponseWriter, r *http.Request) {
	var b struct {
		Rid string `json:"rid"`
	}
	if json.NewDecoder(r.Body).Decode(&b) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.aborted = append(e.aborted, time.Now())
	if stop := e.running[b.Rid]; stop != nil {
		close(stop)
		delete(e.running, b.Rid)
	}
}

func (e *countingEngine) answer(w http.ResponseWriter, r *http.Request) {
	body := &counter{r: r.Body}
	var b struct {
		Rid       string `json:"rid"`
		Stream    bool   `json:"stream"`
		MaxTokens int    `json:"max_tokens"`
		Options   struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.NewDecoder(body).Decode(&b); err != nil || b.Rid == "" {
		http.Error(w, `{"message":"no usable body"}`, http.StatusBadRequest)
		return
	}
	io.Copy(io.Discard, body) //nolint:errcheck // what follows the document
	stop := make(chan struct{})
	e.mu.Lock()
	e.running[b.Rid] = stop
	e.bodies = max(e.bodies, body.n)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.running, b.Rid)
		e.mu.Unlock()
	}()
	use := object{"prompt_tokens": body.n / 4, "completion_tokens": b.MaxTokens, "total_tokens": body.n/4 + int64(b.MaxTokens), "prompt_tokens_details": object{"cached_tokens": 0}}
	event := func(v object) { fmt.Fprintf(w, "data: %s\n\n", must(json.Marshal(v))) }
	finish := "length"
	if b.Stream {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	tick := time.NewTicker(max(e.every, time.Nanosecond))
	defer tick.Stop()
	for i := 0; i < b.MaxTokens && finish == "length"; i++ {
		select {
		case <-tick.C:
		case <-stop:
			finish = "abort"
			continue
		case <-r.Context().Done():
			return
		}
		if b.Stream {
			event(object{"id": b.Rid, "object": "chat.completion.chunk", "model": countingModel, "choices": []object{{"index": 0, "delta": object{"content": fmt.Sprintf("t%d ", i)}}}})
			http.NewResponseController(w).Flush() //nolint:errcheck // a client that is gone reads nothing
		}
	}
	if b.Stream {
		event(object{"id": b.Rid, "choices": []object{{"index": 0, "delta": object{}, "finish_reason": finish}}})
		if b.Options.Usage {
			event(object{"id": b.Rid, "choices": []object{}, "usage": use})
		}
		io.WriteString(w, "data: [DONE]\n\n") //nolint:errcheck // a client that is gone reads nothing
	} else {
		writeJSON(w, object{"id": b.Rid, "object": "chat.completion", "model": countingModel, "usage": use,
			"choices": []object{{"index": 0, "message": object{"role": "assistant", "content": counted(b.MaxTokens)}, "finish_reason": finish}}})
	}
	e.mu.Lock()
	e.served++
	e.mu.Unlock()
}

// counter counts the bytes that it lets through, so that a large body need not be kept.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (e *countingEngine) active() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.running)
}

func (e *countingEngine) count() (served, aborts int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.served, len(e.aborted)
}

// simulated runs a simulated engine in this process and returns it with its URL. Equal seeds and profiles give equal
// answers.
func simulated(t *testing.T, cfg simengine.Config) (*simengine.Engine, string) {
	t.Helper()
	eng, err := simengine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { eng.Run(ctx) }) //nolint:errcheck // nil by contract
	srv := httptest.NewServer(eng.Handler())
	t.Cleanup(func() {
		cancel()
		running.Wait()
		srv.CloseClientConnections()
		srv.Close()
	})
	return eng, srv.URL
}

// filler is n bytes of words.
func filler(seed, n int) string {
	var b strings.Builder
	for i := seed; b.Len() < n; i++ {
		fmt.Fprintf(&b, "word%d ", i*7919%9973)
	}
	return b.String()[:n]
}
