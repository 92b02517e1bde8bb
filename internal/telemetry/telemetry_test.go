package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	admin, err := telemetry.ListenAdmin("127.0.0.1", 0, reg, func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("no worker yet")
	})
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

func TestTakenAdminPortIsToldAndAnUnusedOneGivenBack(t *testing.T) {
	first, err := telemetry.ListenAdmin("127.0.0.1", 0, telemetry.NewRegistry(), func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	port := first.Addr().(*net.TCPAddr).Port
	if _, err := telemetry.ListenAdmin("127.0.0.1", port, telemetry.NewRegistry(), func() error { return nil }); err == nil || !strings.Contains(err.Error(), "admin listener") {
		t.Errorf("a taken port: %v, want an error that names the listener", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	again, err := telemetry.ListenAdmin("127.0.0.1", port, telemetry.NewRegistry(), func() error { return nil })
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
