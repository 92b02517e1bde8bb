package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// routes is the list of what the public listener serves. What is not on it is 404, so no control route of an engine
// can be reached.
func (g *Gateway) routes() http.Handler {
	mux := http.NewServeMux()
	always := func(method, pattern string, h func(http.ResponseWriter, *http.Request, who)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			who := identify(w, r)
			if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
				wrongMethod(r, method).write(w)
				return
			}
			h(w, r, who)
		})
	}
	handle := func(method, pattern string, h func(http.ResponseWriter, *http.Request, who)) {
		always(method, pattern, func(w http.ResponseWriter, r *http.Request, who who) {
			if !g.doors.enter() {
				w.Header().Set("Connection", "close")
				leaving().write(w)
				return
			}
			defer g.doors.leave()
			if f := g.awaitJoin(r.Context()); f != nil {
				f.write(w)
				return
			}
			h(w, r, who)
		})
	}
	for _, route := range []prefix.Route{prefix.Chat, prefix.Completions, prefix.Generate} {
		handle(http.MethodPost, route.String(), func(w http.ResponseWriter, r *http.Request, who who) { g.serve(w, r, who, route) })
	}
	handle(http.MethodGet, "/v1/models", g.models)
	handle(http.MethodGet, "/v1/models/{model...}", g.model)
	always(http.MethodGet, "/livez", func(w http.ResponseWriter, _ *http.Request, _ who) { fmt.Fprintln(w, "ok") })
	always(http.MethodGet, "/readyz", g.readyz)
	always(http.MethodGet, "/health", g.readyz)
	mux.HandleFunc("/", unknownRoute)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

func unknownRoute(w http.ResponseWriter, r *http.Request) {
	identify(w, r)
	(&Failure{
		Status: http.StatusNotFound, Type: "invalid_request_error", Code: "unknown_route",
		Message: fmt.Sprintf("There is no route %.20s %.200s.", r.Method, r.URL.Path),
	}).write(w)
}

func wrongMethod(r *http.Request, right string) *Failure {
	f := &Failure{
		Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method_not_allowed", Allow: right,
		Message: fmt.Sprintf("%.200s takes %s, not %.20s.", r.URL.Path, right, r.Method),
	}
	if right == http.MethodGet {
		f.Allow += ", " + http.MethodHead
	}
	return f
}

// who are the names of a request.
type who struct {
	id    wire.RequestID
	label string // the client's x-request-id; the minted id when it sent none, or one that cannot be carried
	bad   bool   // it did send one that cannot be carried
}

const headerRequestID = "X-Request-Id"

// identify names a request, and the answer to it.
func identify(w http.ResponseWriter, r *http.Request) who {
	n := who{id: wire.NewRequestID(), label: r.Header.Get(headerRequestID)}
	if n.bad = len(n.label) > wire.MaxName || !printable(n.label); n.bad || n.label == "" {
		n.label = n.id.String()
	}
	w.Header().Set(headerRequestID, n.label)
	w.Header().Set("X-Radixbus-Request", n.id.String())
	return n
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request, _ who) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := g.Ready(ctx); err != nil {
		(&Failure{
			Status: http.StatusServiceUnavailable, Type: "server_error", Code: "not_ready",
			Message: "Not ready: " + err.Error() + ".", RetryAfter: time.Second,
		}).write(w)
		return
	}
	fmt.Fprintln(w, "ready")
}

// modelCard is OpenAI's model object, with what SGLang adds to it.
type modelCard struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Created     int64   `json:"created"`
	OwnedBy     string  `json:"owned_by"`
	Root        string  `json:"root"`
	Parent      *string `json:"parent"`
	MaxModelLen *int    `json:"max_model_len"`
}

func (g *Gateway) card(s *roster.Served) modelCard {
	c := modelCard{ID: s.Model.Name, Object: "model", Created: s.Model.Created, OwnedBy: s.Model.OwnedBy, Root: s.Pool}
	if c.Created == 0 {
		c.Created = g.started.Unix()
	}
	if c.OwnedBy == "" {
		c.OwnedBy = "radixbus"
	}
	if s.Model.Name != s.Pool {
		c.Parent = &s.Pool
	}
	if s.Model.ContextLength > 0 {
		c.MaxModelLen = &s.Model.ContextLength
	}
	return c
}

func (g *Gateway) models(w http.ResponseWriter, r *http.Request, _ who) {
	g.settle(r.Context())
	cards := []modelCard{}
	for _, s := range g.roster.View().Models {
		cards = append(cards, g.card(s))
	}
	writeJSON(w, map[string]any{"object": "list", "data": cards})
}

func (g *Gateway) model(w http.ResponseWriter, r *http.Request, _ who) {
	g.settle(r.Context())
	name, view := strings.Trim(r.PathValue("model"), "/"), g.roster.View()
	if s := view.Lookup(name); s != nil {
		writeJSON(w, g.card(s))
		return
	}
	unknownModel(name, view.Names(namesTold), len(view.Models)).write(w)
}

// settle waits out the first roll call: just after the start, an unknown worker may only be an unheard one.
func (g *Gateway) settle(ctx context.Context) {
	select {
	case <-g.roster.Settled():
	case <-ctx.Done():
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	doc, err := json.Marshal(v)
	if err != nil {
		(&Failure{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error", Message: "The answer could not be encoded."}).write(w)
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
