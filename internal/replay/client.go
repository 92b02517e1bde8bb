package replay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// ErrNoModel reports an endpoint that lists no model.
var ErrNoModel = errors.New("no model is listed")

// A ModelError is a failure to learn the model from the endpoint.
type ModelError struct {
	URL string
	Err error
}

func (e *ModelError) Error() string {
	return "replay: ask " + e.URL + " for the model: " + e.Err.Error()
}
func (e *ModelError) Unwrap() error { return e.Err }

// A client builds and sends requests to one endpoint. It is safe for concurrent use once made.
type client struct {
	cfg       Config
	transport http.RoundTripper
	close     func()
	base      *url.URL   // of what is asked once
	bases     []*url.URL // of all replicas
	targets   []*url.URL // where prompts go, a replica each
	turn      atomic.Uint64
	header    http.Header // shared by all requests, which do not change it

	// A body is one of the heads, the prompt, the matching limit, a number, and the rest.
	messagesHead, messagesLimit []byte
	textHead, textLimit         []byte
	rest                        []byte
}

// newClient takes a Config with its defaults; prepare must follow. The caller calls close.
func newClient(cfg Config) (*client, error) {
	c := &client{cfg: cfg, transport: cfg.Transport, close: func() {}}
	for _, raw := range append([]string{cfg.URL}, cfg.Replicas...) {
		base, err := parseBase(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		c.bases = append(c.bases, base)
	}
	c.base = c.bases[0]
	if c.transport == nil {
		pool := newPool(cfg.Concurrency)
		c.transport, c.close = pool, pool.CloseIdleConnections
	}
	return c, nil
}

// newPool keeps one connection a user. HTTP/1.1 only, so that requests do not share one; no proxy, so that
// the environment does not decide where load goes.
func newPool(size int) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:           &protocols,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        size,
		MaxIdleConnsPerHost: size,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // a compressed stream would arrive in lumps
		ReadBufferSize:      16 << 10,
		WriteBufferSize:     16 << 10,
	}
}

// prepare learns the model if it must, and encodes all that requests have in common.
func (c *client) prepare(ctx context.Context) error {
	if c.cfg.Model == "" && c.cfg.API == Chat {
		model, err := c.detectModel(ctx)
		if err != nil {
			return &ModelError{URL: c.base.JoinPath("v1/models").Redacted(), Err: err}
		}
		c.cfg.Model = model
	}
	c.header = http.Header{"Content-Type": {"application/json"}}
	c.authorize(c.header)
	stream := strconv.FormatBool(!c.cfg.NoStream)
	if c.cfg.API == Generate {
		c.route("generate")
		if c.cfg.Model != "" {
			c.header.Set("x-radixbus-model", c.cfg.Model)
		}
		c.textHead = []byte(`{"text":"`)
		c.textLimit = []byte(`","sampling_params":{"max_new_tokens":`)
		c.rest = []byte(`,"temperature":0,"ignore_eos":true},"stream":` + stream + `}`)
		return nil
	}
	c.route("v1/chat/completions")
	head := append([]byte(`{"model":"`), appendEscaped(nil, c.cfg.Model)...)
	head = append(head, `","messages":[`...)
	c.messagesHead = head
	c.textHead = append(head[:len(head):len(head)], `{"role":"user","content":"`...)
	c.messagesLimit = []byte(`],"max_tokens":`)
	c.textLimit = append([]byte(`"}`), c.messagesLimit...)
	rest := `,"temperature":0,"stream":` + stream
	if !c.cfg.NoStream {
		rest += `,"stream_options":{"include_usage":true}`
	}
	if !c.cfg.Portable {
		rest += `,"ignore_eos":true,"return_cached_tokens_details":true`
	}
	c.rest = []byte(rest + `}`)
	return nil
}

// route says where on every replica prompts go.
func (c *client) route(path string) {
	c.targets = c.targets[:0]
	for _, base := range c.bases {
		c.targets = append(c.targets, base.JoinPath(path))
	}
}

// target is whose turn it is.
func (c *client) target() *url.URL {
	if len(c.targets) == 1 {
		return c.targets[0]
	}
	return c.targets[(c.turn.Add(1)-1)%uint64(len(c.targets))]
}

func (c *client) authorize(h http.Header) {
	if c.cfg.APIKey != "" {
		h.Set("Authorization", "Bearer "+c.cfg.APIKey)
	}
}

// detectModel asks for the served models and takes the first that is not an adapter of another.
func (c *client) detectModel(ctx context.Context) (string, error) {
	const wait, most = 15 * time.Second, 1 << 20
	ctx, cancel := context.WithTimeout(ctx, min(wait, c.cfg.Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("v1/models").String(), nil)
	if err != nil {
		return "", err
	}
	c.authorize(req.Header)
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		var said chunk
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, said.errorText(body))
	}
	var list struct {
		Data []struct {
			ID     string  `json:"id"`
			Parent *string `json:"parent"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", err
	}
	first := ""
	for _, m := range list.Data {
		if m.Parent == nil && m.ID != "" {
			return m.ID, nil
		}
		first = cmp.Or(first, m.ID)
	}
	if first == "" {
		return "", ErrNoModel
	}
	return first, nil
}

// request makes a turn's request. It copies the prompt, for two reasons: an endpoint may answer while it is still
// being sent, and of a body that net/http knows to be in memory the head does not need a write of its own.
func (c *client) request(ctx context.Context, turn Turn) *http.Request {
	head, prompt, limit := c.messagesHead, turn.Messages, c.messagesLimit
	if prompt == nil {
		head, prompt, limit = c.textHead, turn.Text, c.textLimit
	}
	const digits = 20
	body := make([]byte, 0, len(head)+len(prompt)+len(limit)+digits+len(c.rest))
	body = append(body, head...)
	body = append(body, prompt...)
	body = append(body, limit...)
	body = strconv.AppendInt(body, int64(cmp.Or(c.cfg.OutputTokens, turn.MaxTokens)), 10)
	body = append(body, c.rest...)
	// With GetBody the pool may send again what met a connection that was just closed for idleness.
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	reader, _ := open()
	header := c.header
	if turn.RoutingKey != "" {
		header = header.Clone()
		header.Set("x-smg-routing-key", turn.RoutingKey)
	}
	req := &http.Request{
		Method: http.MethodPost, URL: c.target(), Header: header,
		Body: reader, GetBody: open, ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return req.WithContext(ctx)
}
