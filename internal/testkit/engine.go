package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/surface"
)

// An Engine is an SGLang-like engine whose answers a test scripts.
type Engine struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	srv      *http.Server
	ln       net.Listener
	serving  sync.WaitGroup
	script   func(*Exchange)
	health   int
	openai   bool
	info     map[string]any
	owner    string // of the models
	more     []string
	own      map[string]http.HandlerFunc
	requests []*Exchange
	events   []string // what happened, in order
	aborted  map[string]chan struct{}
}

// NewEngine starts an engine that serves one model and answers nothing yet; see [Engine.Answer].
func NewEngine(t testing.TB, model string) *Engine {
	t.Helper()
	e := &Engine{t: t, addr: "127.0.0.1:0", health: http.StatusOK, owner: "test", own: make(map[string]http.HandlerFunc), aborted: make(map[string]chan struct{})}
	e.info = map[string]any{
		"served_model_name": model, "model_path": model, "version": "0.0-test", "page_size": 16, "dp_size": 1,
		"max_total_num_tokens": 100_000, "max_running_requests": 64, "context_length": 8192,
	}
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// URL is where it listens. It stays the same over Stop and Start.
func (e *Engine) URL() string { return "http://" + e.addr }

// Start listens again after Stop.
func (e *Engine) Start() {
	var ln net.Listener
	var err error
	for range 50 { // the port may not be free at once
		if ln, err = net.Listen("tcp", e.addr); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		e.t.Fatalf("engine: %v", err)
	}
	e.addr = ln.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(e.serve)}
	e.mu.Lock()
	e.srv, e.ln = srv, ln
	e.mu.Unlock()
	e.serving.Go(func() { srv.Serve(ln) }) //nolint:errcheck // ends with Stop
}

// Stop cuts every connection and refuses new ones.
func (e *Engine) Stop() {
	e.mu.Lock()
	srv := e.srv
	e.mu.Unlock()
	srv.Close() //nolint:errcheck // nothing depends on it
	e.serving.Wait()
}

// Refuse takes no new connections; requests that it has hang.
func (e *Engine) Refuse() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ln.Close() //nolint:errcheck // nothing depends on it
	e.srv.SetKeepAlivesEnabled(false)
}

// Answer sets what becomes of the inference requests from now on. The script runs on a goroutine for each request.
func (e *Engine) Answer(script func(*Exchange)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script = script
}

// SetHealth sets the status of /health; 0: it does not answer.
func (e *Engine) SetHealth(status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health = status
}

// SetInfo sets a field of /server_info.
func (e *Engine) SetInfo(key string, value any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.info[key] = value
}

// PlainOpenAI takes SGLang's own routes away.
func (e *Engine) PlainOpenAI() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.openai = true
}

// SetOwner sets owned_by of the models.
func (e *Engine) SetOwner(owner string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.owner = owner
}

// AddModel lists one more model, in the JSON of /v1/models.
func (e *Engine) AddModel(doc string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.more = append(e.more, doc)
}

// Handle serves a route that is not inference. What happens there is among the events, as "POST /path".
func (e *Engine) Handle(path string, h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own[path] = h
}

// Requests are the inference requests so far.
func (e *Engine) Requests() []*Exchange {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]*Exchange(nil), e.requests...)
}

// Events tells what happened, in order: "call", "abort RID", "hung up" (an inference connection was closed by the
// caller before its script ended).
func (e *Engine) Events() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.events...)
}

func (e *Engine) happened(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, what)
}

// An Exchange is one inference request and its answer. Its methods belong to the script's goroutine.
type Exchange struct {
	W    http.ResponseWriter
	R    *http.Request
	Body []byte
	// Aborted is closed when the request's rid is named in /abort_request.
	Aborted <-chan struct{}
	// Gone ends when the caller closes the connection.
	Gone context.Context

	rc *http.ResponseController
}

// Field is a top-level member of the request's body, as it was sent.
func (x *Exchange) Field(key string) string {
	var doc map[string]json.RawMessage
	if json.Unmarshal(x.Body, &doc) != nil {
		return ""
	}
	return string(doc[key])
}

// Reply answers as a whole.
func (x *Exchange) Reply(status int, contentType, body string) {
	x.W.Header().Set("Content-Type", contentType)
	x.W.WriteHeader(status)
	io.WriteString(x.W, body) //nolint:errcheck // the caller may be gone
}

// Begin begins a stream.
func (x *Exchange) Begin() {
	x.W.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	x.W.WriteHeader(http.StatusOK)
	x.rc.Flush() //nolint:errcheck // the caller may be gone
}

// Send writes bytes and lets them go.
func (x *Exchange) Send(s string) error {
	if _, err := io.WriteString(x.W, s); err != nil {
		return err
	}
	return x.rc.Flush()
}

// Event sends one event.
func (x *Exchange) Event(data string) error { return x.Send("data: " + data + "\n\n") }

// Stream is Begin, events, [DONE].
func (x *Exchange) Stream(events ...string) {
	x.Begin()
	for _, e := range events {
		x.Event(e) //nolint:errcheck // the caller may be gone
	}
	x.Event("[DONE]") //nolint:errcheck // the caller may be gone
}

// Break cuts the connection. It does not return.
func (x *Exchange) Break() { panic(http.ErrAbortHandler) }

// Hang waits until the request is aborted or the caller is gone.
func (x *Exchange) Hang() {
	select {
	case <-x.Aborted:
	case <-x.Gone.Done():
	}
}

func (e *Engine) serve(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	health, openai, script, owner, own := e.health, e.openai, e.script, e.owner, e.own[r.URL.Path]
	more := strings.Join(append([]string{""}, e.more...), ",")
	info, err := json.Marshal(e.info)
	model := e.info["served_model_name"]
	e.mu.Unlock()
	if err != nil {
		panic(err)
	}
	switch path := r.URL.Path; {
	case own != nil:
		e.happened(r.Method + " " + r.URL.RequestURI())
		own(w, r)
	case path == "/health" && health == 0:
		<-r.Context().Done()
	case path == "/health":
		w.WriteHeader(health)
	case path == "/v1/models":
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","created":1700000000,"owned_by":%q,"max_model_len":8192}%s]}`, model, owner, more)
	case openai && !strings.HasPrefix(path, "/v1/"):
		http.NotFound(w, r)
	case path == "/server_info":
		w.Write(info) //nolint:errcheck // the caller may be gone
	case path == "/model_info":
		io.WriteString(w, `{"weight_version":"v1"}`) //nolint:errcheck // the caller may be gone
	case path == "/abort_request":
		e.abort(r)
	case surface.Lookup(r.Method, path) != nil:
		e.exchange(w, r, script)
	default:
		e.happened("stray " + path)
		http.NotFound(w, r)
	}
}

func (e *Engine) abort(r *http.Request) {
	var ask struct {
		Rid string `json:"rid"`
	}
	if json.NewDecoder(r.Body).Decode(&ask) != nil {
		return
	}
	e.happened("abort " + ask.Rid)
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.aborted[ask.Rid]; c != nil {
		close(c)
		delete(e.aborted, ask.Rid)
	}
}

func (e *Engine) exchange(w http.ResponseWriter, r *http.Request, script func(*Exchange)) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	aborted := make(chan struct{})
	x := &Exchange{W: w, R: r, Body: body, Aborted: aborted, Gone: r.Context(), rc: http.NewResponseController(w)}
	var rid string
	for _, key := range []string{"rid", "request_id"} {
		if named := x.Field(key); named != "" && json.Unmarshal([]byte(named), &rid) != nil {
			rid = ""
		}
	}
	e.mu.Lock()
	e.requests = append(e.requests, x)
	e.events = append(e.events, "call")
	if rid != "" {
		e.aborted[rid] = aborted
	}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.aborted, rid)
		e.mu.Unlock()
	}()
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-over:
		case <-r.Context().Done():
			e.happened("hung up")
		}
	}()
	defer func() { close(over); <-watched }()
	if script == nil {
		http.Error(w, "no script", http.StatusNotImplemented)
		return
	}
	script(x)
}
