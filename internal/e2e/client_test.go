package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds everything that must come true in the end; the machine may be busy.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A watchdog notices that the machine does not let this process run. Then beats and frames come late, and a router may
// take a live worker for a dead one: honest errors are no failure of a test that saw such a stall.
type watchdog struct {
	stop  func()
	worst atomic.Int64 // nanoseconds
}

// stall is a delay that only a starved process knows. A worker counts as gone after seconds.
const stall = 250 * time.Millisecond

func newWatchdog(t *testing.T) *watchdog {
	w, done, over := new(watchdog), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		const every = 20 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-tick.C:
				now := time.Now()
				w.worst.Store(max(w.worst.Load(), int64(now.Sub(last)-every)))
				last = now
			case <-done:
				return
			}
		}
	}()
	w.stop = sync.OnceFunc(func() { close(done); <-over })
	t.Cleanup(w.stop)
	return w
}

// starved tells whether the process has stood still since the start.
func (w *watchdog) starved() bool { return w.worst.Load() > int64(stall) }

type object = map[string]any

// An answer is what a client got.
type answer struct {
	status  int
	header  http.Header
	raw     []byte // of a whole answer
	text    string
	finish  string
	prompt  int // tokens, as usage tells
	cached  int
	usages  int    // events, or documents, that tell usage
	events  int    // of a stream
	done    bool   // [DONE] came
	failure string // the code of an error event, or of the envelope
	err     error  // the connection's
}

// ok tells a complete answer.
func (a *answer) ok() bool {
	return a.err == nil && a.status == http.StatusOK && a.failure == "" && a.finish != "" && a.finish != "abort"
}

func (a *answer) String() string {
	return fmt.Sprintf("status %d, %d events, finish %q, done %v, failure %q, error %v, text of %d bytes, body %.200s", a.status, a.events, a.finish, a.done, a.failure, a.err, len(a.text), a.raw)
}

// usage in the shapes of OpenAI.
type usage struct {
	Prompt  int `json:"prompt_tokens"`
	Details struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// document is any answer, or event, of the three routes.
type document struct {
	Choices []struct {
		Text    string `json:"text"`
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
		Finish string `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage  `json:"usage"`
	Text  *string `json:"text"` // of /generate: cumulative
	Meta  struct {
		Finish *struct {
			Type string `json:"type"`
		} `json:"finish_reason"`
		Prompt int `json:"prompt_tokens"`
		Cached int `json:"cached_tokens"`
	} `json:"meta_info"`
	Error *struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    any    `json:"code"`
	} `json:"error"`
}

func (a *answer) take(doc []byte) {
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		a.err = fmt.Errorf("no JSON: %.100q: %w", doc, err)
		return
	}
	if d.Error != nil {
		a.failure = fmt.Sprint(d.Error.Code)
		if d.Error.Message == "" {
			a.err = fmt.Errorf("an error without a message: %.200s", doc)
		}
	}
	for _, c := range d.Choices {
		a.text += c.Text + c.Message.Content + c.Delta.Content
		if c.Finish != "" {
			a.finish = c.Finish
		}
	}
	if d.Usage != nil {
		a.usages++
		a.prompt, a.cached = d.Usage.Prompt, d.Usage.Details.Cached
	}
	if d.Text != nil {
		a.text = *d.Text
		a.prompt, a.cached = d.Meta.Prompt, d.Meta.Cached
		if d.Meta.Finish != nil {
			a.finish = d.Meta.Finish.Type
		}
	}
}

// A client talks to one server. It is safe for concurrent use.
type client struct {
	base string
	http *http.Client
}

func newClient(t *testing.T, base string) *client {
	tr := &http.Transport{MaxIdleConnsPerHost: 512}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{base: base, http: &http.Client{Transport: tr}}
}

// ask sends a request and reads its whole answer, stream or not. each, if given, hears of every event.
func (c *client) ask(ctx context.Context, path string, body any, each ...func(*answer)) *answer {
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return &answer{err: err}
		}
	}
	return c.send(ctx, http.MethodPost, path, raw, each...)
}

func (c *client) send(ctx context.Context, method, path string, body []byte, each ...func(*answer)) *answer {
	a := new(answer)
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		a.raw, a.err = io.ReadAll(resp.Body)
		if a.err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			a.take(a.raw)
		}
		return a
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() && a.err == nil {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		switch {
		case len(lines.Bytes()) == 0:
			continue
		case !ok:
			a.err = fmt.Errorf("a line that is no data: %.100q", lines.Bytes())
			return a
		case a.done:
			a.err = fmt.Errorf("an event after [DONE]: %.100q", data)
			return a
		case string(data) == "[DONE]":
			a.done = true
			continue
		}
		a.events++
		a.take(data)
		for _, f := range each {
			f(a)
		}
	}
	if a.err == nil {
		a.err = lines.Err()
	}
	return a
}

// get reads a small document.
func (c *client) get(t *testing.T, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a := c.send(ctx, http.MethodGet, path, nil)
	if a.err != nil {
		return 0, a.err.Error()
	}
	return a.status, string(a.raw)
}

// ready waits until the server would take a request.
func (c *client) ready(t *testing.T) {
	t.Helper()
	status, last := 0, ""
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if status, last = c.get(t, "/readyz"); status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not ready in %v: %d %s", c.base, patience, status, last)
		}
	}
}

// metric sums the series of a metric of the admin listener that c talks to; -1 when there is none.
func (c *client) metric(t *testing.T, name string) float64 {
	t.Helper()
	status, text := c.get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("metrics of %s: %d %.200s", c.base, status, text)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			t.Fatalf("metric line %q: %v", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return -1
	}
	return sum
}

// chat is a chat request for one short question.
func chat(model, question string, more ...object) object {
	b := object{"model": model, "temperature": 0, "max_tokens": 16, "messages": []object{{"role": "user", "content": question}}}
	for _, m := range more {
		for k, v := range m {
			b[k] = v
		}
	}
	return b
}

// counted is the text of n tokens of a counting engine.
func counted(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "t%d ", i)
	}
	return b.String()
}
