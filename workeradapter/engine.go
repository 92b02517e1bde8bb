package workeradapter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/radixbus/radixbus/internal/h1"
)

// engine is the HTTP client of one engine.
type engine struct {
	base          string
	shown         string       // its URL as people see it, without credentials
	authorization string       // the header of that name; "": none
	calls         *h1.Client   // inference: no timeout of its own, the attempt has one
	asks          *http.Client // health, info, abort, orders
}

// idleBound is how long a connection to an engine is kept unused for what we ask ourselves. SGLang's HTTP server closes one
// after 5 s, and the standard library gives a request up that meets the close.
const idleBound = 3 * time.Second

func newEngine(base, key string) (*engine, error) {
	calls, err := h1.New(h1.Config{URL: base})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	e := &engine{base: base, shown: (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), calls: calls}
	switch password, _ := u.User.Password(); {
	case key != "":
		e.authorization = "Bearer " + key
	case u.User != nil:
		e.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	dial := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	e.asks = &http.Client{
		Transport: &http.Transport{DialContext: dial.DialContext, MaxIdleConnsPerHost: 8, IdleConnTimeout: idleBound, DisableCompression: true},
		// An engine answers by itself: its key and its prompts go nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, nil
}

func (e *engine) close() {
	e.calls.Close()
	e.asks.CloseIdleConnections()
}

// docBound bounds a document that an engine tells of itself.
const docBound = 4 << 20

// get reads a small document.
func (e *engine) get(ctx context.Context, path string) (status int, doc []byte, err error) {
	return e.do(ctx, http.MethodGet, path, nil)
}

// post sends one; nil is no body.
func (e *engine) post(ctx context.Context, path string, body []byte) (status int, doc []byte, err error) {
	return e.do(ctx, http.MethodPost, path, body)
}

func (e *engine) do(ctx context.Context, method, path string, body []byte) (status int, doc []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, e.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if e.authorization != "" {
		r.Header.Set("Authorization", e.authorization)
	}
	resp, err := e.asks.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	doc, err = io.ReadAll(io.LimitReader(resp.Body, docBound))
	return resp.StatusCode, doc, err
}

// firstOf reads the first of the paths that the engine has; newer names come first.
func (e *engine) firstOf(ctx context.Context, into any, paths ...string) (found bool, err error) {
	for _, path := range paths {
		status, doc, err := e.get(ctx, path)
		switch {
		case err != nil:
			return false, fmt.Errorf("%s: %w", path, err)
		case status == http.StatusOK:
			if err := json.Unmarshal(doc, into); err != nil {
				return false, fmt.Errorf("%s: %w", path, err)
			}
			return true, nil
		case status >= 500:
			return false, &statusError{path, status}
		}
	}
	return false, nil
}

// abort ends a running request at the engine. Nobody minds when it is over already.
func (e *engine) abort(ctx context.Context, rid string) error {
	doc, err := json.Marshal(map[string]string{"rid": rid})
	if err == nil {
		_, _, err = e.post(ctx, "/abort_request", doc)
	}
	return err
}

// healthy asks whether the engine serves.
func (e *engine) healthy(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	status, _, err := e.get(ctx, "/health")
	if err != nil {
		return err
	}
	if status != http.StatusOK && status != http.StatusNotFound { // an OpenAI surface alone may have no such route
		return &statusError{"/health", status}
	}
	return nil
}

// listen connects, waits for the connection's end, and tells whether there was one.
func (e *engine) listen(ctx context.Context) (ended bool) {
	u, err := url.Parse(e.base)
	if err != nil {
		return false
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // it was only read from
	defer stop()
	conn.Read(make([]byte, 1)) //nolint:errcheck // whatever it is, it is the end
	conn.Close()               //nolint:errcheck // see above
	return ctx.Err() == nil
}

// A statusError is an answer that is not the one hoped for.
type statusError struct {
	path   string
	status int
}

func (e *statusError) Error() string { return fmt.Sprintf("%s answered %d", e.path, e.status) }

func isStatus(err error) bool {
	_, ok := errors.AsType[*statusError](err)
	return ok
}
