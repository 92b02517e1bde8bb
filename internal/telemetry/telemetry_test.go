package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/telemetry"
)

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: 20 * time.Second}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(doc)
}

func TestAdminListenerServesItsRoutesAndNoOthers(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	reg := telemetry.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_test_total"})
	reg.MustRegister(c)
	c.Add(7)
	var ready atomic.Bool
	admin, err := telemetry.ListenAdmin(telemetry.AdminConfig{Host: "127.0.0.1", Registry: reg, Ready: func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("no worker yet")
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- admin.Run(ctx, func() { close(up) }) }()
	<-up
	base := "http://" + admin.Addr().String()
	for _, tt := range []struct {
		method, path string
		status       int
		say          string
	}{
		{"GET", "/livez", 200, "ok"},
		{"GET", "/readyz", 503, "no worker yet"},
		{"GET", "/metrics", 200, "radixbus_test_total 7"},
		{"GET", "/metrics", 200, "go_goroutines"},
		{"GET", "/metrics", 200, "process_resident_memory_bytes"},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile"},
		{"POST", "/metrics", 405, ""},
		{"POST", "/livez", 405, ""},
		{"GET", "/", 404, ""},
	} {
		if status, body := get(t, tt.method, base+tt.path); status != tt.status || !strings.Contains(body, tt.say) {
			t.Errorf("%s %s = %d %.80q, want %d with %q", tt.method, tt.path, status, body, tt.status, tt.say)
		}
	}
	ready.Store(true)
	if status, _ := get(t, "GET", base+"/readyz"); status != 200 {
		t.Errorf("/readyz = %d once ready, want 200", status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if nc, err := net.Dial("tcp", admin.Addr().String()); err == nil {
		nc.Close()
		t.Error("it still listens after Run")
	}
}

// Control and profiles are for operators: those with the key or, where there is none, this machine's own programs.
func TestWhoMayControl(t *testing.T) {
	control := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") }) //nolint:errcheck // a test's client reads it
	for _, tt := range []struct {
		name, bind, key string
		method, path    string
		host            string // "": as it is
		headers         []string
		status          int
	}{
		{"key", "127.0.0.1", "secret", "POST", "/flush_cache", "", []string{"Authorization", "Bearer secret"}, 200},
		{"key, by whatever name", "127.0.0.1", "secret", "POST", "/flush_cache", "radixbus.internal", []string{"Authorization", "Bearer secret"}, 200},
		{"no key shown", "127.0.0.1", "secret", "POST", "/flush_cache", "", nil, 401},
		{"another key", "127.0.0.1", "secret", "POST", "/flush_cache", "", []string{"Authorization", "Bearer secret2"}, 401},
		{"key without its scheme", "127.0.0.1", "secret", "POST", "/flush_cache", "", []string{"Authorization", "secret"}, 401},
		{"profile without the key", "127.0.0.1", "secret", "GET", "/debug/pprof/goroutine?debug=1", "", nil, 401},
		{"metrics need none", "127.0.0.1", "secret", "GET", "/metrics", "", nil, 200},
		{"readiness needs none", "127.0.0.1", "secret", "GET", "/readyz", "radixbus.internal", nil, 200},
		{"this machine's program", "127.0.0.1", "", "POST", "/flush_cache", "", nil, 200},
		{"localhost", "127.0.0.1", "", "POST", "/flush_cache", "localhost:8081", nil, 200},
		{"IPv6", "127.0.0.1", "", "POST", "/flush_cache", "[::1]:8081", nil, 200},
		{"a page from elsewhere", "127.0.0.1", "", "POST", "/flush_cache", "", []string{"Origin", "https://example.org"}, 403},
		{"a page from elsewhere, newer browser", "127.0.0.1", "", "POST", "/flush_cache", "", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a page under a name of its own", "127.0.0.1", "", "POST", "/flush_cache", "example.org:8081", nil, 403},
		{"open to the network", "0.0.0.0", "", "POST", "/flush_cache", "", nil, 403},
		{"profile, open to the network", "0.0.0.0", "", "GET", "/debug/pprof/", "", nil, 403},
		{"metrics, open to the network", "0.0.0.0", "", "GET", "/metrics", "", nil, 200},
		{"open to the network, key", "0.0.0.0", "secret", "POST", "/flush_cache", "", []string{"Authorization", "Bearer secret"}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			admin, err := telemetry.ListenAdmin(telemetry.AdminConfig{
				Host: tt.bind, Registry: telemetry.NewRegistry(), Ready: func() error { return nil }, Control: control, Key: tt.key,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			up, done := make(chan struct{}), make(chan error, 1)
			go func() { done <- admin.Run(ctx, func() { close(up) }) }()
			<-up
			defer func() { cancel(); <-done }()
			req, err := http.NewRequestWithContext(t.Context(), tt.method, fmt.Sprintf("http://127.0.0.1:%d%s", admin.Addr().(*net.TCPAddr).Port, tt.path), nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.host != "" {
				req.Host = tt.host
			}
			for i := 0; i < len(tt.headers); i += 2 {
				req.Header.Set(tt.headers[i], tt.headers[i+1])
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTakenAdminPortIsToldAndAnUnusedOneGivenBack(t *testing.T) {
	cfg := telemetry.AdminConfig{Host: "127.0.0.1", Registry: telemetry.NewRegistry(), Ready: func() error { return nil }}
	first, err := telemetry.ListenAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Port = first.Addr().(*net.TCPAddr).Port
	if _, err := telemetry.ListenAdmin(cfg); err == nil || !strings.Contains(err.Error(), "admin listener") {
		t.Errorf("a taken port: %v, want an error that names the listener", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	again, err := telemetry.ListenAdmin(cfg)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	again.Close()
}

func TestLogIsJSONUnlessItGoesToATerminal(t *testing.T) {
	var out bytes.Buffer
	log := telemetry.NewLog(&out, false, true, slog.LevelInfo)
	log.Debug("unseen")
	log.Info("worker left", "worker", "w0")
	var line struct{ Level, Msg, Worker string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "worker left" || line.Worker != "w0" || line.Level != "INFO" {
		t.Errorf("got %q (%v), want one line of JSON", out.String(), err)
	}
	out.Reset()
	telemetry.NewLog(&out, true, false, slog.LevelWarn).Warn("worker left", "worker", "w0")
	if got := out.String(); !strings.Contains(got, "worker left worker=w0") || strings.Contains(got, "\x1b") {
		t.Errorf("got %q, want a line for people, without colour", got)
	}
	out.Reset()
	telemetry.NewLog(&out, true, true, slog.LevelWarn).Warn("x")
	if !strings.Contains(out.String(), "\x1b[") {
		t.Errorf("got %q, want colour", out.String())
	}
}
