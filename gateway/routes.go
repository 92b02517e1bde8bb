package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// A handler answers one request that has a name.
type handler func(http.ResponseWriter, *http.Request, who)

// routes is all that the public listener serves: the list in package surface, and what the gateway answers itself. What is
// not on it is 404, so no control route of an engine can be reached.
func (g *Gateway) routes() http.Handler {
	mux := &methods{ServeMux: http.NewServeMux(), byPath: make(map[string]map[string]handler)}
	for _, one := range []struct {
		method, path string
		h            handler
	}{
		{"GET", "/v1/models", g.models},
		{"GET", "/v1/models/{model...}", g.model},
		{"GET", "/model_info", g.modelInfo}, {"GET", "/get_model_info", g.modelInfo},
		{"GET", "/server_info", g.serverInfo}, {"GET", "/get_server_info", g.serverInfo},
		{"GET", "/v1/loads", g.loads}, {"GET", "/get_load", g.oldLoads},
		{"GET", "/get_loads", g.smgLoads}, {"GET", "/workers", g.publicWorkers},
		{"GET", "/health_generate", g.healthGenerate},
		{"POST", "/abort_request", g.abortRequest},
	} {
		mux.handle(one.method, one.path, g.open(one.h))
	}
	for route := range surface.Routes() {
		for _, method := range route.Methods {
			mux.handle(method, route.Path, g.open(func(w http.ResponseWriter, r *http.Request, who who) { g.serve(w, r, who, route) }))
		}
	}
	mux.handle("GET", "/livez", func(w http.ResponseWriter, _ *http.Request, _ who) { fmt.Fprintln(w, "ok") })
	for _, path := range []string{"/readyz", "/health"} {
		mux.handle("GET", path, g.readyz)
	}
	mux.handle("GET", "/readiness", g.readiness)
	mux.handle("GET", "/liveness", func(w http.ResponseWriter, _ *http.Request, _ who) { fmt.Fprintln(w, "ok") })
	for prefix, text := range absent {
		mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
			identify(w, r)
			notHere(text).write(w, r.URL.Path)
		})
	}
	mux.HandleFunc("/", unknownRoute)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		linger(w, r)
		if !strings.HasPrefix(r.URL.Path, "/") || r.RequestURI == "*" { // a mux answers these without a word
			unknownRoute(w, r)
			return
		}
		if clean := path.Clean(r.URL.Path); clean != strings.TrimSuffix(r.URL.Path, "/") && clean != r.URL.Path {
			to := *r.URL // a base URL with a slash too many is common; a mux would send its users elsewhere
			to.Path, to.RawPath = clean, ""
			r = r.Clone(r.Context())
			r.URL = &to
		}
		mux.ServeHTTP(w, r)
	})
}

// linger bounds what the HTTP server reads by itself of a body that no handler wants.
func linger(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // without a body, reading tells whether the client is there
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingering)) //nolint:errcheck // a connection without deadlines has none to miss
	}
}

// absent are routes of OpenAI's, Anthropic's and SGLang's surfaces that are known and not here, by where they begin.
var absent = map[string]string{
	"/v1/files":                  "Files are not served here yet.",
	"/v1/files/":                 "Files are not served here yet.",
	"/v1/batches":                "Batches are not served here yet: send the requests one by one.",
	"/v1/batches/":               "Batches are not served here yet: send the requests one by one.",
	"/v1/messages/batches":       "Batches are not served here yet: send the requests one by one.",
	"/v1/messages/batches/":      "Batches are not served here yet: send the requests one by one.",
	"/v1/realtime":               "Realtime sessions over WebSocket are not served here: use /v1/audio/transcriptions or /v1/chat/completions.",
	"/v1/realtime/":              "Realtime sessions over WebSocket are not served here: use /v1/audio/transcriptions or /v1/chat/completions.",
	"/v1/conversations":          "Conversations are not stored here: use previous_response_id, or send the messages.",
	"/v1/conversations/":         "Conversations are not stored here: use previous_response_id, or send the messages.",
	"/v1/responses/input_tokens": "Tokens of responses are not counted here: use /v1/messages/count_tokens or /v1/tokenize.",
	"/v1/responses/compact":      "Compaction of conversations is not served here: use previous_response_id, or send what is to be kept.",
}

func notHere(text string) *Failure {
	return &Failure{Status: http.StatusNotImplemented, Type: "invalid_request_error", Code: "not_implemented", Message: text}
}

// methods is a mux that tells a wrong method from an unknown path, in words.
type methods struct {
	*http.ServeMux
	byPath map[string]map[string]handler
}

func (m *methods) handle(method, pattern string, h handler) {
	of := m.byPath[pattern]
	if of == nil {
		of = make(map[string]handler)
		m.byPath[pattern] = of
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			who := identify(w, r)
			h := of[r.Method]
			if r.Method == http.MethodHead {
				h = of[http.MethodGet]
			}
			if h == nil {
				wrongMethod(r, of).write(w, r.URL.Path)
				return
			}
			h(w, r, who)
		})
	}
	if of[method] == nil { // what the gateway answers itself was first
		of[method] = h
	}
}

func wrongMethod(r *http.Request, of map[string]handler) *Failure {
	var right []string
	for method := range of {
		right = append(right, method)
		if method == http.MethodGet {
			right = append(right, http.MethodHead)
		}
	}
	slices.Sort(right)
	return &Failure{
		Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method_not_allowed", Allow: strings.Join(right, ", "),
		Message: fmt.Sprintf("%.200s takes %s, not %.20s.", r.URL.Path, strings.Join(right, " or "), r.Method),
	}
}

func unknownRoute(w http.ResponseWriter, r *http.Request) {
	identify(w, r)
	(&Failure{
		Status: http.StatusNotFound, Type: "invalid_request_error", Code: "unknown_route",
		Message: fmt.Sprintf("There is no route %.20s %.200s.", r.Method, r.URL.Path),
	}).write(w, r.URL.Path)
}

// open lets requests in while the gateway takes any, once it has joined.
func (g *Gateway) open(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, who who) {
		if !g.doors.enter() {
			w.Header().Set("Connection", "close")
			leaving().write(w, r.URL.Path)
			return
		}
		defer g.doors.leave()
		if f := g.awaitJoin(r.Context()); f != nil {
			f.write(w, r.URL.Path)
			return
		}
		h(w, r, who)
	}
}

// awaitJoin waits for a gateway that has not found its bus yet, within the same bound as for a bus that was lost.
func (g *Gateway) awaitJoin(ctx context.Context) *Failure {
	select {
	case <-g.joined:
		return nil
	default:
	}
	bound := time.NewTimer(g.cfg.BusPatience)
	defer bound.Stop()
	select {
	case <-g.joined:
		return nil
	case <-bound.C:
		return failureOf(wire.CodeNoBus, "", 0)
	case <-g.doors.closing:
		return leaving()
	case <-ctx.Done():
		return failureOf(causeCode(ctx), "", 0)
	}
}

// who are the names of a request.
type who struct {
	id    wire.RequestID
	label string // the client's own; the minted id when it sent none, or one that cannot be carried
	bad   bool   // its x-request-id cannot be carried
}

const headerRequestID = "X-Request-Id"

// otherLabels are headers that name a request where x-request-id does not, the first one first: those that SMG reads.
var otherLabels = [...]string{"X-Correlation-Id", "X-Trace-Id", "Request-Id"}

// identify names a request, and the answer to it.
func identify(w http.ResponseWriter, r *http.Request) who {
	n := who{id: wire.NewRequestID(), label: r.Header.Get(headerRequestID)}
	n.bad = !carriable(n.label)
	for _, name := range otherLabels {
		if other := r.Header.Get(name); n.label == "" && carriable(other) {
			n.label = other
		}
	}
	if n.bad || n.label == "" {
		n.label = n.id.String()
	}
	w.Header().Set(headerRequestID, n.label)
	if surface.IsAnthropic(r.URL.Path) { // whose clients know it by this name
		w.Header().Set("Request-Id", n.label)
	}
	w.Header().Set("X-Radixbus-Request", n.id.String())
	return n
}

// carriable tells whether a label can go in a message and in a header.
func carriable(s string) bool { return len(s) <= wire.MaxName && printable(s) }

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request, _ who) {
	if g.isReady(w, r) {
		fmt.Fprintln(w, "ready")
	}
}

// readiness is readyz as SMG answers it.
func (g *Gateway) readiness(w http.ResponseWriter, r *http.Request, _ who) {
	if g.isReady(w, r) {
		view := g.roster.View()
		writeJSON(w, map[string]any{"status": "ready", "healthy_workers": view.Ready, "total_workers": len(view.Workers)})
	}
}

// isReady tells whether requests are taken now. If not, it has answered why.
func (g *Gateway) isReady(w http.ResponseWriter, r *http.Request) bool {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	err := g.Ready(ctx)
	if err != nil {
		(&Failure{
			Status: http.StatusServiceUnavailable, Type: "server_error", Code: "not_ready",
			Message: "Not ready: " + err.Error() + ".", RetryAfter: time.Second,
		}).write(w, r.URL.Path)
	}
	return err == nil
}

func writeJSON(w http.ResponseWriter, v any) {
	doc, err := json.Marshal(v)
	if err != nil { // our own types: cannot happen
		http.Error(w, "The answer could not be encoded.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(doc, '\n')) //nolint:errcheck // the client may be gone
}

// asFailure finds the failure that an error stands for.
func asFailure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error", Message: "The request failed inside the router."}
}
