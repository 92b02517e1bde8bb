package testkit

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
	"testing"
	"time"
)

// A Reply is what a client got for a request.
type Reply struct {
	Status  int
	Header  http.Header
	Raw     []byte // of a whole answer
	Doc     []byte // of a stream: the last event's document
	Text    string
	Finish  string
	Prompt  int // tokens, as usage tells
	Cached  int
	Usages  int    // events, or documents, that tell usage
	Events  int    // of a stream
	Done    bool   // [DONE] came
	Failure string // the code of an error event, or of the envelope
	Err     error  // the connection's
}

// OK tells a complete answer.
func (r *Reply) OK() bool {
	return r.Err == nil && r.Status == http.StatusOK && r.Failure == "" && r.Finish != "" && r.Finish != "abort"
}

func (r *Reply) String() string {
	return fmt.Sprintf("status %d, %d events, finish %q, done %v, failure %q, error %v, text of %d bytes, body %.200s", r.Status, r.Events, r.Finish, r.Done, r.Failure, r.Err, len(r.Text), r.Raw)
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
	Usage *usage `json:"usage"`
	Text  any    `json:"text"` // of /generate: a string, cumulative; of responses something else
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

// take reads a document, or each of a list of them.
func (r *Reply) take(doc []byte) {
	if len(doc) > 0 && doc[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(doc, &list); err != nil {
			r.Err = fmt.Errorf("no JSON: %.100q: %w", doc, err)
		}
		for _, one := range list {
			r.take(one)
		}
		return
	}
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		r.Err = fmt.Errorf("no JSON: %.100q: %w", doc, err)
		return
	}
	if d.Error != nil {
		r.Failure = fmt.Sprint(d.Error.Code)
		if d.Error.Message == "" {
			r.Err = fmt.Errorf("an error without a message: %.200s", doc)
		}
	}
	for _, c := range d.Choices {
		r.Text += c.Text + c.Message.Content + c.Delta.Content
		if c.Finish != "" {
			r.Finish = c.Finish
		}
	}
	if d.Usage != nil {
		r.Usages++
		r.Prompt, r.Cached = d.Usage.Prompt, d.Usage.Details.Cached
	}
	if text, ok := d.Text.(string); ok {
		r.Text = text
		r.Prompt, r.Cached = d.Meta.Prompt, d.Meta.Cached
		if d.Meta.Finish != nil {
			r.Finish = d.Meta.Finish.Type
		}
	}
}

// A Client talks to one server. It is safe for concurrent use.
type Client struct {
	Base string // URL
	http *http.Client
}

// NewClient makes a client whose connections the test's cleanup closes.
func NewClient(t testing.TB, base string) *Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 512}
	t.Cleanup(tr.CloseIdleConnections)
	return &Client{Base: base, http: &http.Client{Transport: tr}}
}

// CloseIdleConnections closes those that no request uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Ask posts a body, bytes or what becomes JSON, and reads the whole answer, stream or not. each, if given, hears of every
// event.
func (c *Client) Ask(ctx context.Context, path string, body any, each ...func(*Reply)) *Reply {
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return &Reply{Err: err}
		}
	}
	return c.Send(ctx, http.MethodPost, path, raw, each...)
}

// Send is Ask with any method. What has no JSON type is not read for what it says.
func (c *Client) Send(ctx context.Context, method, path string, body []byte, each ...func(*Reply)) *Reply {
	r := new(Reply)
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(body))
	if err != nil {
		r.Err = err
		return r
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		r.Err = err
		return r
	}
	defer resp.Body.Close()
	r.Status, r.Header = resp.StatusCode, resp.Header
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		r.Raw, r.Err = io.ReadAll(resp.Body)
		if r.Err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			r.take(r.Raw)
		}
		return r
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() && r.Err == nil {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		switch {
		case len(lines.Bytes()) == 0, bytes.HasPrefix(lines.Bytes(), []byte("event: ")): // whose name the document repeats
			continue
		case !ok:
			r.Err = fmt.Errorf("a line that is no data: %.100q", lines.Bytes())
			return r
		case r.Done:
			r.Err = fmt.Errorf("an event after [DONE]: %.100q", data)
			return r
		case string(data) == "[DONE]":
			r.Done = true
			continue
		}
		r.Events++
		r.Doc = append(r.Doc[:0], data...)
		r.take(data)
		for _, f := range each {
			f(r)
		}
	}
	if r.Err == nil {
		r.Err = lines.Err()
	}
	return r
}

// Get reads a small document. Where there is no answer, the status is 0 and the text says why.
func (c *Client) Get(t testing.TB, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	r := c.Send(ctx, http.MethodGet, path, nil)
	if r.Err != nil {
		return 0, r.Err.Error()
	}
	return r.Status, string(r.Raw)
}

// Ready waits until the server says that it would take a request.
func (c *Client) Ready(t testing.TB) {
	t.Helper()
	status, last := 0, ""
	for end := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		if status, last = c.Get(t, "/readyz"); status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not ready in %v: %d %s", c.Base, Patience, status, last)
		}
	}
}

// Metric sums the series of a metric whose labels contain all of want, at the listener that c talks to; -1 when there
// is none.
func (c *Client) Metric(t testing.TB, name string, want ...string) float64 {
	t.Helper()
	status, text := c.Get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("metrics of %s: %d %.200s", c.Base, status, text)
	}
	sum, found := 0.0, false
series:
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		labels, value := rest[:strings.LastIndexByte(rest, ' ')], rest[strings.LastIndexByte(rest, ' ')+1:]
		for _, w := range want {
			if !strings.Contains(labels, w) {
				continue series
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
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
