package sdk_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// scriptedModel is the model of a scripted engine.
const scriptedModel = "scripted"

// A script answers one chat request. It gets the body as it reached the engine.
type script func(w http.ResponseWriter, r *http.Request, body []byte)

// engine is an SGLang server whose chat answers a test has written.
type engine struct {
	url    string
	mux    *http.ServeMux // for routes that a test adds
	aborts chan string    // names of requests that were aborted

	mu     sync.Mutex
	bodies [][]byte
}

func newEngine(t *testing.T, chat script) *engine {
	t.Helper()
	mux := http.NewServeMux()
	e := &engine{mux: mux, aborts: make(chan string, 64)}
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", text(`{"object":"list","data":[{"id":"scripted","object":"model","created":1,"owned_by":"test","root":"scripted","parent":null,"max_model_len":32768}]}`))
	mux.HandleFunc("GET /server_info", text(`{"model_path":"scripted","served_model_name":"scripted","version":"0","page_size":1,"dp_size":1,"max_total_num_tokens":100000,"max_running_requests":64,"context_length":32768,"enable_cache_report":true}`))
	mux.HandleFunc("GET /model_info", text(`{"model_path":"scripted","weight_version":"1"}`))
	mux.HandleFunc("POST /abort_request", func(_ http.ResponseWriter, r *http.Request) {
		var doc struct {
			Rid string `json:"rid"`
		}
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
			t.Errorf("/abort_request: %v", err)
		}
		select {
		case e.aborts <- doc.Rid:
		default:
			t.Error("/abort_request: more calls than requests")
		}
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("engine reads the body: %v", err)
			return
		}
		e.mu.Lock()
		e.bodies = append(e.bodies, body)
		e.mu.Unlock()
		chat(w, r, body)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	e.url = srv.URL
	return e
}

// requests are the bodies that have come so far.
func (e *engine) requests() [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([][]byte(nil), e.bodies...)
}

func text(doc string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, doc) //nolint:errcheck // the adapter may be gone
	}
}

// streams tells whether a body asks for a stream.
func streams(body []byte) bool {
	var doc struct {
		Stream bool `json:"stream"`
	}
	return json.Unmarshal(body, &doc) == nil && doc.Stream
}

// stream writes events and lets them go one by one.
func stream(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		fmt.Fprintf(w, "data: %s\n\n", e)
		w.(http.Flusher).Flush()
	}
}

// chunk is one event of a chat stream: choice is its only choice.
func chunk(choice string) string {
	return `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"scripted","choices":[` + choice + `]}`
}

// words is the chunk that says s, which is plain ASCII.
func words(s string) string {
	return chunk(fmt.Sprintf(`{"index":0,"delta":{"role":"assistant","content":%q},"finish_reason":null}`, s))
}

const (
	finished = `{"index":0,"delta":{},"finish_reason":"stop"}`
	whole    = `{"id":"c1","object":"chat.completion","created":1,"model":"scripted","choices":[{"index":0,"message":{"role":"assistant","content":"all is well"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}`
	usage    = `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"scripted","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}`
)

// breaking is an engine whose streams break off in the middle, in the words of each route.
func breaking(t *testing.T) *engine {
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) { breakOff(w, "data: "+words("half of ")+"\n\n") })
	e.mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		breakOff(w, `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"scripted","usage":{"input_tokens":5,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half of "}}

`)
	})
	e.mux.HandleFunc("POST /v1/responses", func(w http.ResponseWriter, r *http.Request) {
		breakOff(w, `event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"scripted","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":1,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"half of ","logprobs":[]}

`)
	})
	return e
}

// breakOff says something and ends the connection.
func breakOff(w http.ResponseWriter, events string) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, events) //nolint:errcheck // it ends anyway
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}
