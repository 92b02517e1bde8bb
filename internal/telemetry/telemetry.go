// Package telemetry is what a process tells of itself: log lines, metrics, and the admin listener that serves them.
//
// Prompts and secrets never reach it.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/lmittmann/tint"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewLog makes a logger that writes lines for people when w is a terminal, and JSON otherwise.
func NewLog(w io.Writer, terminal, color bool, level slog.Level) *slog.Logger {
	if terminal {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: !color}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

// NewRegistry makes a metrics registry with the process's own figures in it.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Admin is the listener for operators: /livez, /readyz, /metrics and /debug/pprof.
type Admin struct {
	ln    net.Listener
	srv   *http.Server
	ready func() error
}

// ListenAdmin takes the address. ready tells why the process would not accept a request, or nil.
func ListenAdmin(host string, port int, reg *prometheus.Registry, ready func() error) (*Admin, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	a := &Admin{ln: ln, ready: ready}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	return a, nil
}

// Addr is where it listens.
func (a *Admin) Addr() net.Addr { return a.ln.Addr() }

// Close gives the address back. Run does so too.
func (a *Admin) Close() error { return a.ln.Close() }

// Run serves until ctx ends.
func (a *Admin) Run(ctx context.Context, ready func()) error {
	done := make(chan error, 1)
	go func() { done <- a.srv.Serve(a.ln) }()
	ready()
	select {
	case err := <-done:
		return fmt.Errorf("admin listener: %w", err)
	case <-ctx.Done():
	}
	err := a.srv.Close() // whoever reads metrics while we stop can do without
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
