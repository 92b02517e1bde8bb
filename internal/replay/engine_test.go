package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/replay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An engine pretends to be one SGLang server with an infinite cache that never misses what it could know. A
// token is a word; nothing is added by a template.
type engine struct {
	first, between time.Duration // before the first chunk, and between chunks
	chunks         int           // per reply; 0 means one per token
	noUsage        bool          // report nothing
	noCached       bool          // report no cached tokens
	tierDetails    bool          // report them only as sglext
	misbehave      func(n int, w http.ResponseWriter, r *http.Request) bool

	mu   sync.Mutex
	seen map[string]bool // every prefix, word by word
	got  []request       // in order of arrival
}

type request struct {
	header http.Header
	path   string
	raw    map[string]any
	prompt []string // words
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/models" {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"ad","parent":"base"},{"id":"base","parent":null}]}`)
		return
	}
	req := request{header: r.Header.Clone(), path: r.URL.Path}
	if err := json.NewDecoder(r.Body).Decode(&req.raw); err != nil {
		http.Error(w, "bad body: "+err.Error(), http.StatusBadRequest)
		return
	}
	var limit any
	if text, ok := req.raw["text"].(string); ok {
		req.prompt = strings.Fields(text)
		limit = req.raw["sampling_params"].(map[string]any)["max_new_tokens"]
	} else {
		for _, m := range req.raw["messages"].([]any) {
			content, _ := m.(map[string]any)["content"].(string)
			req.prompt = append(req.prompt, strings.Fields(content)...)
		}
		limit = req.raw["max_tokens"]
	}
	e.mu.Lock()
	n := len(e.got)
	e.got = append(e.got, req)
	e.mu.Unlock()
	if e.misbehave != nil && e.misbehave(n, w, r) {
		return
	}
	e.answer(w, r, req, n, int(limit.(float64)))
}

// learn stores a token sequence and returns how many of its leading tokens were known.
func (e *engine) learn(tokens []string) (known int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = map[string]bool{}
	}
	prefix := strings.Join(tokens, " ") + " "
	end := 0
	for i, word := range tokens {
		end += len(word) + 1
		if e.seen[prefix[:end]] {
			known = i + 1
		}
		e.seen[prefix[:end]] = true
	}
	return known
}

func (e *engine) answer(w http.ResponseWriter, r *http.Request, req request, n, tokens int) {
	cached := e.learn(req.prompt)
	words := make([]string, tokens)
	for i := range words {
		words[i] = fmt.Sprintf("r%dx%d", n, i) // no reply is like another
	}
	e.learn(append(req.prompt, words...))
	w.Header().Set("x-radixbus-worker", fmt.Sprintf("w%d", n%2))

	usage := "null"
	if !e.noUsage {
		details := fmt.Sprintf(`{"cached_tokens":%d}`, cached)
		if e.noCached || e.tierDetails {
			details = "null"
		}
		usage = fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":%s}`,
			len(req.prompt), tokens, len(req.prompt)+tokens, details)
	}
	tiers := ""
	if e.tierDetails {
		tiers = fmt.Sprintf(`,"sglext":{"cached_tokens_details":{"device":%d,"host":%d,"storage_backend":"none"}}`, cached-cached/2, cached/2)
	}
	if stream, _ := req.raw["stream"].(bool); !stream {
		time.Sleep(e.first)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"length"}],"usage":%s%s}`,
			strings.Join(words, " "), usage, tiers)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	flush := w.(http.Flusher).Flush
	chat := req.path == "/v1/chat/completions"
	if chat {
		fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, "\n\n")
		flush()
	}
	chunks := e.chunks
	if chunks == 0 {
		chunks = tokens
	}
	time.Sleep(e.first)
	for i := range chunks {
		if i > 0 {
			time.Sleep(e.between)
		}
		from, to := i*tokens/chunks, (i+1)*tokens/chunks
		if chat {
			text := strings.Join(words[from:to], " ")
			if i > 0 {
				text = " " + text
			}
			fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", text)
		} else {
			fmt.Fprintf(w, "data: {\"text\":%q,\"meta_info\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"cached_tokens\":%d,\"finish_reason\":null}}\n\n",
				" "+strings.Join(words[:to], " "), len(req.prompt), to, cached)
		}
		flush()
	}
	if chat {
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":%s%s}\n\n", usage, tiers)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func (e *engine) requests() []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got
}

// serve starts an engine on loopback.
func serve(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// serveInMemory starts an engine without sockets, for bubbles of virtual time. The caller calls stop.
func serveInMemory(h http.Handler) (transport *http.Transport, stop func()) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	transport = &http.Transport{DialContext: l.dial, MaxIdleConnsPerHost: 64}
	return transport, func() {
		transport.CloseIdleConnections()
		_ = server.Shutdown(context.Background()) // waits for handlers, and virtual time is patient
		<-done
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func multiturn(t testing.TB, cfg replay.MultiturnConfig) *replay.Multiturn {
	t.Helper()
	m, err := replay.NewMultiturn(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func run(t testing.TB, ctx context.Context, cfg replay.Config) replay.Report {
	t.Helper()
	report, err := replay.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}
