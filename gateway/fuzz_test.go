package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
)

// FuzzHTTP sends anything to the whole public surface, with a worker behind it that echoes. Whatever comes in, the
// answer is valid HTTP, and an error is an envelope.
func FuzzHTTP(f *testing.F) {
	f.Add("POST", chatPath, "X-Request-Id", "mine", []byte(chat(true)))
	f.Add("POST", chatPath, "X-Radixbus-Deadline-Ms", "99999999999", []byte(chat(false)))
	f.Add("POST", "/generate", "X-Radixbus-Model", model, []byte(`{"text":["a","b"],"sampling_params":[{},null]}`))
	f.Add("POST", "/v1/completions", "Content-Type", "text/plain", []byte(`{"prompt":[[1,2],[3]],"stream":true,"stream_options":null}`))
	f.Add("GET", "/v1/models/%2e%2e/x", "Accept", "*/*", []byte(nil))
	f.Add("OPTIONS", "*", "Traceparent", "00-x", []byte("x"))
	f.Add("PUT", "//generate", "X-Radixbus-Priority", "batch", []byte(`[]`))
	f.Add("HEAD", "/readyz", "X-Radixbus-Session", "\x80", []byte(`{`))
	e := newEdge(f, 1, func(c *gateway.Config) { c.MaxBody, c.RequestTimeout = 64<<10, 10*time.Second })
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	e.workers[0].Answer(func(j *testkit.Job) {
		select {
		case <-j.Whole():
		case <-j.Cancelled():
			return
		}
		j.Reply(200, string(j.Body()))
	})
	f.Fuzz(func(t *testing.T, method, path, header, value string, body []byte) {
		if len(header)+len(value)+len(path) > 32<<10 || http.CanonicalHeaderKey(header) == "Expect" {
			t.Skip("answered by the HTTP server itself")
		}
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, e.gw.URL(), bytes.NewReader(body))
		if err != nil {
			t.Skip(err)
		}
		r.URL.Opaque = path // as it is, unescaped
		r.Header[header] = []string{value}
		if err := sendable(r); err != nil {
			t.Skip(err)
		}
		resp, err := e.client.Do(r)
		if err != nil {
			t.Fatalf("%q %q: %v", method, path, err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%q %q: %v", method, path, err)
		}
		fromUs := resp.Header.Get("X-Radixbus-Request") != ""
		switch {
		case resp.StatusCode < 400 || method == http.MethodHead:
		case fromUs:
			failureIn(t, string(got))
		case resp.StatusCode != http.StatusBadRequest: // what the HTTP server cannot parse never reaches us
			t.Errorf("%q %q: %d %q without a name", method, path, resp.StatusCode, got)
		}
		if resp.StatusCode == 200 && method == http.MethodPost && !json.Valid(got) {
			t.Errorf("%q %q was answered with %q", method, path, got)
		}
	})
}

// sendable tells what the client itself refuses to send.
func sendable(r *http.Request) error {
	passed := errors.New("all checks are passed")
	dry := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, passed }}
	clone := r.Clone(r.Context())
	clone.Body = nil
	if _, err := dry.RoundTrip(clone); !errors.Is(err, passed) {
		return err
	}
	return clone.Write(io.Discard)
}
