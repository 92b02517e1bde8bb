package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// A call is one client request, read and understood.
type call struct {
	who
	route   prefix.Route
	path    string
	arrived time.Time
	body    []byte
	req     *prefix.Request
	assign  wire.AssignRequest
	headers []wire.Header
}

// Request headers that clients may send us.
const (
	headerDeadline = "X-Radixbus-Deadline-Ms"
	headerModel    = "X-Radixbus-Model"
	headerSession  = "X-Radixbus-Session"
	headerSMGKey   = "X-Smg-Routing-Key"
	headerPriority = "X-Radixbus-Priority"
)

// read takes the request in: body, model, digests. The caller returns the body's bytes to the budget with release.
func (g *Gateway) read(ctx context.Context, a *answer, r *http.Request) (release func(), err error) {
	c := a.c
	release = func() {}
	if err := c.readHeaders(r); err != nil {
		return release, err
	}
	if end, ok := ctx.Deadline(); ok { // a body may not trickle in for longer than the request has
		a.rc.SetReadDeadline(end) //nolint:errcheck // a connection without deadlines has none to miss
	}
	if c.body, release, err = g.readBody(a.w, r); err != nil {
		a.rc.SetReadDeadline(time.Now().Add(lingering)) //nolint:errcheck // see above
		return release, err
	}
	a.rc.SetReadDeadline(time.Time{}) //nolint:errcheck // from here on, reading only tells whether the client is there
	g.metrics.bodyBytes.Add(float64(len(c.body)))
	if c.req, err = prefix.Parse(c.route, c.body); err != nil {
		if f, ok := errors.AsType[*prefix.FieldError](err); ok {
			return release, fieldFailure(f)
		}
		return release, err
	}
	return release, g.describe(ctx, r, c)
}

// lingering is how long the rest of a body that is not wanted is read, by the HTTP server, in front of the answer: a client
// in the middle of sending would not see an answer on a connection that is closed on it.
const lingering = 500 * time.Millisecond

// readBody reads the whole body within the bounds of one request and of all of them. What it takes from the budget is
// the room that it makes: what a client announces is believed up to 1 MiB; beyond, room is made as bytes come.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	var taken int64
	release = func() { g.inFlight.Add(-taken) }
	if r.ContentLength > g.cfg.MaxBody {
		return nil, release, tooLarge(g.cfg.MaxBody)
	}
	first, most := int64(16<<10), g.cfg.MaxBody
	if r.ContentLength >= 0 {
		first, most = 1<<20, r.ContentLength
	}
	limited := http.MaxBytesReader(w, r.Body, g.cfg.MaxBody)
	for next := make([]byte, 1); ; {
		into := next // full: is there another byte?
		if len(body) < cap(body) {
			into = body[len(body):cap(body)]
		}
		n, err := limited.Read(into)
		if n > 0 && len(body) == cap(body) {
			room := max(min(most, max(first, 2*int64(cap(body)))), int64(len(body)+1))
			if g.inFlight.Add(room-taken) > g.cfg.MaxInFlight {
				g.inFlight.Add(taken - room)
				return nil, release, overBudget()
			}
			taken = room
			body = append(append(make([]byte, 0, room), body...), next[0])
		} else {
			body = body[:len(body)+n]
		}
		switch {
		case err == nil:
		case err == io.EOF:
			return body, release, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, release, failureOf(wire.CodeDeadline, "The request's body did not arrive in time.", 0)
		default:
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return nil, release, tooLarge(g.cfg.MaxBody)
			}
			return nil, release, badRequest("", "The request body could not be read: %v.", err)
		}
	}
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
	for _, name := range [...]string{"Content-Type", "Accept", "Traceparent", "Tracestate"} {
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
	served, err := g.modelOf(ctx, r, c)
	if err != nil {
		return err
	}
	a.Request, a.Gateway, a.Model, a.Pool = c.id, g.cfg.ID, served.Model.Name, served.Pool
	lora := q.LoRA
	if served.Model.Kind == wire.LoRAModel {
		lora = served.Model.Name
	}
	if a.Session == "" {
		a.Session = clip(q.Session, wire.MaxName)
	}
	a.LoRA = clip(lora, wire.MaxName)
	a.MaxTokens = uint32(min(max(q.MaxTokens, 0), 1<<31))
	a.N = uint32(min(max(q.N, 1), 1<<16))
	a.BodyBytes = uint64(len(c.body))
	a.InputTokens = uint32(min(q.InputTokens, 1<<31))
	a.Flags = flagsOf(q)
	for _, d := range q.Digests(g.key, prefix.Namespace{Model: a.Pool, LoRA: lora, Salt: q.Salt}) {
		a.Digests = append(a.Digests, wire.Digest{KeyID: d.KeyID, Ladder: d.Ladder, Bytes: d.Bytes, Hashes: d.Hashes})
	}
	if q.Salt != "" {
		a.Salt = g.key.Hash([]byte(q.Salt))
	}
	a.Fingerprint = g.key.Hash(c.body)
	return nil
}

// modelOf finds the model that is meant: the body's, the header's, or the only one there is.
func (g *Gateway) modelOf(ctx context.Context, r *http.Request, c *call) (*roster.Served, error) {
	model := c.req.Model
	if model == "" {
		model = r.Header.Get(headerModel)
	}
	view := g.roster.View()
	if model == "" && len(view.Models) != 1 || model != "" && view.Lookup(model) == nil {
		g.settle(ctx)
		view = g.roster.View()
	}
	switch {
	case model == "" && len(view.Models) == 1:
		return view.Models[0], nil
	case model == "" && len(view.Models) == 0:
		return nil, failureOf(wire.CodeNoWorker, "", time.Second)
	case model == "":
		return nil, badRequest("model", "Several models are served here: name one in the field model, or in the header x-radixbus-model.")
	case view.Lookup(model) == nil && len(view.Models) == 0:
		return nil, failureOf(wire.CodeNoWorker, "", time.Second) // nothing is here yet: the name may be right
	case view.Lookup(model) == nil:
		return nil, unknownModel(model, view.Names(namesTold), len(view.Models))
	}
	return view.Lookup(model), nil
}

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
