package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// A call is one client request, read and understood.
type call struct {
	who
	route   *surface.Route
	method  string
	path    string // as engines call it
	arrived time.Time
	body    []byte          // until the answer begins
	release func()          // gives it back; nil: it has been
	req     *prefix.Request // nil where there is no JSON, and once the answer has begun
	assign  wire.AssignRequest
	headers []wire.Header
	live    live
}

// Request headers that clients may send us.
const (
	headerDeadline = "X-Radixbus-Deadline-Ms"
	headerModel    = "X-Radixbus-Model"
	headerSession  = "X-Radixbus-Session"
	headerSMGKey   = "X-Smg-Routing-Key"
	headerPriority = "X-Radixbus-Priority"
	headerRank     = "X-Data-Parallel-Rank"
)

// grammars say how the bodies of routes are read, by path. Some share one with another.
var grammars = func() map[string]prefix.Route {
	of := map[string]prefix.Route{
		"/rerank": prefix.Rerank, "/tokenize": prefix.Tokenize, "/detokenize": prefix.Detokenize,
		"/parse_function_call": prefix.Tokenize, "/separate_reasoning": prefix.Tokenize,
	}
	for r := prefix.Chat; r <= prefix.CloseSession; r++ {
		of[r.String()] = r
	}
	return of
}()

// letGo gives back what only another attempt would need, the body first of all. It may be called again.
func (c *call) letGo() {
	if c.release != nil {
		c.release()
	}
	c.release, c.body, c.req, c.assign.Digests = nil, nil, nil, nil
}

// read takes the request in: body, model, digests. The caller lets the call go, whatever comes of it.
func (g *Gateway) read(ctx context.Context, a *answer, r *http.Request) (err error) {
	c := a.c
	if err := c.readHeaders(r); err != nil {
		return err
	}
	if c.route.Empty {
		c.path = c.route.Called()
		return g.describeEmpty(ctx, r, c)
	}
	if c.body, c.release, err = g.readBody(ctx, a, r); err != nil {
		return err
	}
	g.metrics.bodyBytes.Add(float64(len(c.body)))
	if c.route.Opaque {
		return g.describeOpaque(ctx, r, c)
	}
	if c.req, err = prefix.Parse(grammars[c.route.Path], c.body); err != nil {
		if f, ok := errors.AsType[*prefix.FieldError](err); ok {
			return fieldFailure(f)
		}
		return err
	}
	return g.describe(ctx, r, c)
}

func (c *call) readHeaders(r *http.Request) error {
	if c.bad {
		return badRequest("x-request-id", "The header x-request-id has more than %d bytes, or bytes that are not printable ASCII.", wire.MaxName)
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return &Failure{
			Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_encoding",
			Message: fmt.Sprintf("The body is sent as it is: content encoding %.40q is not understood.", coding),
		}
	}
	a := &c.assign
	a.TraceParent, a.TraceState = r.Header.Get("Traceparent"), r.Header.Get("Tracestate")
	if len(a.TraceParent) > wire.MaxName || len(a.TraceState) > 2*wire.MaxName {
		a.TraceParent, a.TraceState = "", "" // as the W3C recommendation says of headers that cannot be carried
	}
	a.Session = r.Header.Get(headerSession)
	if a.Session == "" {
		a.Session = r.Header.Get(headerSMGKey)
	}
	if len(a.Session) > wire.MaxName {
		return badRequest("x-radixbus-session", "The session key has more than %d bytes.", wire.MaxName)
	}
	switch r.Header.Get(headerPriority) {
	case "", "default":
	case "interactive":
		a.Priority = wire.Interactive
	case "batch":
		a.Priority = wire.Batch
	default:
		return badRequest("x-radixbus-priority", "The header x-radixbus-priority is interactive, default or batch.")
	}
	for _, name := range [...]string{"Content-Type", "Accept", "Traceparent", "Tracestate", "Anthropic-Version", "Anthropic-Beta"} {
		if v := r.Header.Get(name); v != "" && len(v) <= 2*wire.MaxName {
			c.headers = append(c.headers, wire.Header{Name: name, Value: v})
		}
	}
	c.headers = append(c.headers, wire.Header{Name: headerRequestID, Value: c.label})
	return nil
}

// deadline is how long the request may take, as its client or our default says.
func (g *Gateway) deadline(r *http.Request) (time.Duration, error) {
	v := r.Header.Get(headerDeadline)
	if v == "" {
		return g.cfg.RequestTimeout, nil
	}
	ms, err := strconv.ParseUint(v, 10, 32)
	if err != nil || ms == 0 {
		return 0, badRequest("x-radixbus-deadline-ms", "The header x-radixbus-deadline-ms is a whole number of milliseconds from 1 to 4294967295.")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// describe fills in what a scheduler must know: pool, digests, needs.
func (g *Gateway) describe(ctx context.Context, r *http.Request, c *call) error {
	q, a := c.req, &c.assign
	served, err := g.served(ctx, c, cmp.Or(q.Model, r.Header.Get(headerModel)))
	if err != nil {
		return err
	}
	if adapter := adapterOf(g.roster.View(), served.Pool, q.LoRA); adapter != nil {
		served = adapter // named in a field of its own
	}
	if err := g.able(c.route, served); err != nil {
		return err
	}
	g.take(c, served)
	if served.Model.Kind != wire.LoRAModel {
		a.LoRA = clip(q.LoRA, wire.MaxName)
	}
	if a.Session == "" {
		a.Session = clip(q.Session, wire.MaxName)
	}
	g.live.name(c, q.Rids...)
	a.MaxTokens = uint32(min(max(q.MaxTokens, 0), 1<<31))
	a.N = uint32(min(max(q.N, 1), 1<<16))
	a.InputTokens = uint32(min(q.InputTokens, 1<<31))
	a.EnginePriority = int32(q.Priority) // the parser lets no other through
	a.Flags |= flagsOf(q)
	switch {
	case c.route.Light:
	case c.route.Kind == surface.ByPrefix:
		a.BodyBytes = uint64(len(c.body))
		for _, d := range q.Digests(g.key, prefix.Namespace{Model: a.Pool, LoRA: a.LoRA, Salt: q.Salt}) {
			a.Digests = append(a.Digests, wire.Digest{KeyID: d.KeyID, Ladder: d.Ladder, Bytes: d.Bytes, Hashes: d.Hashes})
		}
	default:
		a.BodyBytes = uint64(q.PromptBytes)
	}
	if q.Salt != "" {
		a.Salt = g.key.Hash([]byte(q.Salt))
	}
	a.Fingerprint = g.key.Hash(c.body)
	return g.constrain(r, c)
}

// served finds the model of a request that names one, or none. What goes on in a session that was opened here, and says no
// model, is of the model that its engine has; so is the session's end, whatever it says. One that is only opened is not there yet.
func (g *Gateway) served(ctx context.Context, c *call, model string) (*roster.Served, error) {
	id, kept := c.req.SessionID, c.route.Kind == surface.Kept
	at, ok := wire.ParseReference(id)
	if !ok || !kept && (model != "" || c.route.Path == surface.OpenSession) {
		return g.meant(ctx, model)
	}
	g.settle(ctx)
	view := g.roster.View()
	switch keeper := keeperOf(view, at); {
	case keeper != nil:
		return view.LookupIn(keeper.Info.Pool, keeper.Info.Models[0].Name), nil
	case kept:
		return nil, gone("session_id", "The engine that held the session %.100q is gone.", id)
	}
	return g.meant(ctx, model)
}

// sglang is the kind of engine that has routes of its own.
const sglang = "sglang"

// has tells whether there is a worker of which something is true.
func (g *Gateway) has(is func(*wire.WorkerInfo) bool) bool {
	return slices.ContainsFunc(g.roster.View().Workers, func(w *roster.Worker) bool { return is(w.Info) })
}

// able tells why a model cannot serve a route, or nil: engines die of some requests that they cannot serve, break off others,
// and answer some with another model.
func (g *Gateway) able(route *surface.Route, served *roster.Served) error {
	info := served.Info
	switch {
	case route.SGLang && info.EngineKind != sglang && !g.has(func(w *wire.WorkerInfo) bool { return w.Pool == served.Pool && w.EngineKind == sglang }):
		return notHere(fmt.Sprintf("%s is a route of SGLang's alone, and the engines of %s are none.", route.Path, served.Model.Name))
	case route.Kind == surface.ByPrefix && info.Embeds:
		return badRequest("model", "The model %s embeds; it does not generate: use /v1/embeddings.", served.Model.Name)
	case route.Opaque && info.NoAudio:
		return badRequest("model", "The model %s understands no audio.", served.Model.Name)
	case route.Dialect == surface.Responses && info.EngineKind == sglang && served.Model.Kind == wire.LoRAModel:
		return badRequest("model", "SGLang serves no adapters on /v1/responses: %s is one, of %s. Use /v1/chat/completions.", served.Model.Name, served.Pool)
	}
	return nil
}

// take notes the model, and what the route demands of a worker.
func (g *Gateway) take(c *call, served *roster.Served) {
	a := &c.assign
	a.Request, a.Gateway, a.Model, a.Pool = c.id, g.cfg.ID, served.Model.Name, served.Pool
	if served.Model.Kind == wire.LoRAModel {
		a.LoRA = served.Model.Name
		if served.Model.Root != "" {
			a.LoRA = served.Model.Root // aliases share a cache
		}
	}
	a.Flags |= flagsOfRoute(c.route)
	a.N = 1
}

func flagsOfRoute(route *surface.Route) (f wire.Flags) {
	if route.SGLang {
		f |= wire.FlagNative
	}
	if route.Kind != surface.ByPrefix {
		f |= wire.FlagByLoad
	}
	if route.Light {
		f |= wire.FlagLight
	}
	if route.Kind == surface.Kept {
		f |= wire.FlagKept
	}
	return f
}

// describeEmpty is describe for a request without a body: for what an engine keeps, or of any engine.
func (g *Gateway) describeEmpty(ctx context.Context, r *http.Request, c *call) error {
	id := r.PathValue("id")
	if c.route.Kind != surface.Kept {
		served, err := g.meant(ctx, r.Header.Get(headerModel))
		if err == nil {
			err = g.able(c.route, served)
		}
		if err == nil {
			g.take(c, served)
		}
		return err
	}
	if !surface.ValidID(id) {
		return badRequest("response_id", "The id %.100q is none that is given out here.", id)
	}
	c.path = c.route.For(id)
	keeper, err := g.keeper(ctx, id, "response_id", r.Header.Get(headerModel))
	if err != nil {
		return err
	}
	served := g.roster.View().LookupIn(keeper.Info.Pool, keeper.Info.Models[0].Name)
	if served == nil { // it has left in between
		return noWorkerYet()
	}
	g.take(c, served)
	c.assign.Engine = keeper.Info.Engine
	return nil
}

// describeOpaque is describe for a form: it names its model in a field.
func (g *Gateway) describeOpaque(ctx context.Context, r *http.Request, c *call) error {
	model, err := formField(r.Header.Get("Content-Type"), c.body, "model")
	if err != nil {
		return err
	}
	served, err := g.meant(ctx, cmp.Or(model, r.Header.Get(headerModel)))
	if err != nil {
		return err
	}
	if err := g.able(c.route, served); err != nil {
		return err
	}
	g.take(c, served)
	c.assign.Flags |= wire.FlagOpaque
	c.assign.BodyBytes = uint64(len(c.body))
	c.assign.Fingerprint = g.key.Hash(c.body)
	return g.constrain(r, c)
}

// formField finds a field of a multipart form, within a bound.
func formField(contentType string, body []byte, name string) (string, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return "", &Failure{
			Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_content_type",
			Message: "This route takes a form: content type multipart/form-data with a boundary.",
		}
	}
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for range maxFormParts {
		part, err := form.NextPart()
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", badRequest("", "The form could not be read.")
		}
		if part.FormName() == name {
			value, err := io.ReadAll(io.LimitReader(part, wire.MaxName+1))
			if err != nil || len(value) > wire.MaxName {
				return "", badRequest(name, "The field %s could not be read.", name)
			}
			return string(value), nil
		}
	}
	return "", nil
}

// maxFormParts bounds the fields of a form that are looked at.
const maxFormParts = 256

func flagsOf(q *prefix.Request) (f wire.Flags) {
	for _, b := range [...]struct {
		on   bool
		flag wire.Flags
	}{
		{q.Stream, wire.FlagStream}, {q.Structured, wire.FlagStructured}, {q.Logprobs, wire.FlagLogprobs}, {q.Tools, wire.FlagTools},
		{q.Multimodal(), wire.FlagMultimodal}, {q.Batch, wire.FlagBatch}, {q.IncludeUsage, wire.FlagUsage}, {q.CachedDetails, wire.FlagDetails},
	} {
		if b.on {
			f |= b.flag
		}
	}
	return f
}

func clip(s string, n int) string { return s[:min(len(s), n)] }
