// Package telemetry is what a process tells of itself: log lines, metrics, and the admin listener that serves them.
//
// Prompts and secrets never reach it.
package telemetry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
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

// Admin is the listener for operators: /livez, /readyz and /metrics for everybody who reaches it; profiles and control for
// those who have its key.
type Admin struct {
	ln    net.Listener
	srv   *http.Server
	ready func() error
}

// AdminConfig tells what an Admin serves.
type AdminConfig struct {
	Host string
	Port int
	// Registry holds the metrics. Required.
	Registry *prometheus.Registry
	// Ready tells why the process would not accept a request, or nil. Required.
	Ready func() error
	// Control serves everything else, behind the key. Default: nothing.
	Control http.Handler
	// Key is what operators show as a bearer token. Without one, profiles and control are served to this machine alone: on a
	// loopback address, to programs that call it by one.
	Key string
}

// ListenAdmin takes the address.
func ListenAdmin(cfg AdminConfig) (*Admin, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)))
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	a := &Admin{ln: ln, ready: cfg.Ready}
	guarded := http.NewServeMux()
	guarded.HandleFunc("GET /debug/pprof/", pprof.Index)
	guarded.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	guarded.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	guarded.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if cfg.Control != nil {
		guarded.Handle("/", cfg.Control)
	}
	mux := http.NewServeMux()
	for path, h := range map[string]http.Handler{
		"/livez":   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }),
		"/readyz":  http.HandlerFunc(a.readyz),
		"/metrics": promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}),
	} {
		mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				w.Header().Set("Allow", "GET, HEAD")
				refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", path+" takes GET.")
				return
			}
			h.ServeHTTP(w, r)
		}))
	}
	mux.Handle("/", guard(guarded, cfg.Key, loopback(ln.Addr().String())))
	a.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	return a, nil
}

// guard lets those through who have the key. Where there is none, it lets this machine's programs through, but not the pages
// that its browsers show: those come from another origin, or under a name that is not the machine's.
func guard(next http.Handler, key string, local bool) http.Handler {
	if key != "" {
		want := sha256.Sum256([]byte(key))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			got := sha256.Sum256([]byte(shown))
			if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="radixbus admin"`)
				refuse(w, http.StatusUnauthorized, "invalid_admin_key", "Show the admin key: Authorization: Bearer KEY.")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	own := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local || !loopback(r.Host) {
			refuse(w, http.StatusForbidden, "admin_key_required", "Without an admin key this is for the machine itself alone: start with --admin-key-file FILE.")
			return
		}
		own.ServeHTTP(w, r)
	})
}

// refuse answers in the envelope that all our errors have.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":"invalid_request_error","param":null,"code":%q}}`+"\n", message, code)
}

// loopback tells whether an address, with or without a port, is this machine's own.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
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
