package workeradapter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/radixbus/radixbus/internal/h1"
	"github.com/radixbus/radixbus/internal/jsonscan"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// request makes the engine's request: the client's body with our edits, all other bytes as they came.
func (t *attempt) request(l *life) (*h1.Request, error) {
	body := t.body // all of it is here
	if t.route == nil {
		return nil, errors.New("no route for clients: " + t.d.Method + " " + t.d.Path)
	}
	req := &h1.Request{Method: t.d.Method, Path: t.d.Path, Headers: make([]h1.Header, 0, len(t.d.Headers)+3), Body: [][]byte{body}}
	contentType := ""
	for _, h := range t.d.Headers {
		switch {
		case !forwarded[h.Name] || !sendable(h.Value):
		case h.Name == "Content-Type":
			contentType = h.Value
		default:
			req.Headers = append(req.Headers, h1.Header(h))
		}
	}
	switch {
	case t.route.Empty && len(body) > 0:
		return nil, errors.New("a body where there is none")
	case t.route.Empty:
		req.Body = nil
	case t.route.Opaque:
		req.Body = t.editForm(contentType, body, l)
	default:
		var err error
		if req.Body, err = t.edited(body, l); err != nil {
			return nil, err
		}
		if !strings.Contains(contentType, "json") {
			contentType = "application/json" // engines insist, and it is what the gateway has parsed
		}
	}
	if contentType != "" {
		req.Headers = append(req.Headers, h1.Header{Name: "Content-Type", Value: contentType})
	}
	if l.info.DPSize > 1 {
		req.Headers = append(req.Headers, h1.Header{Name: "X-Data-Parallel-Rank", Value: strconv.Itoa(t.w.rank)})
	}
	if t.w.a.engine.authorization != "" {
		req.Headers = append(req.Headers, h1.Header{Name: "Authorization", Value: t.w.a.engine.authorization})
	}
	return req, nil
}

// forwarded are the headers of a request that its engine sees. Credentials are not among them.
var forwarded = map[string]bool{
	"Accept": true, "Content-Type": true, "Traceparent": true, "Tracestate": true, "X-Request-Id": true,
	"Anthropic-Version": true, "Anthropic-Beta": true,
}

// sendable tells whether a header value can be sent: the HTTP client fails the whole request over one that cannot.
func sendable(value string) bool {
	return !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// edited is the body as the engine gets it, in pieces.
func (t *attempt) edited(body []byte, l *life) ([][]byte, error) {
	points := jsonscan.Points{Open: int(t.d.Open), Empty: t.d.Empty}
	for _, p := range t.d.Points {
		points.Members = append(points.Members, jsonscan.Member{Key: p.Key, KeyStart: int(p.KeyStart), Start: int(p.Start), End: int(p.End)})
	}
	var sets []jsonscan.Set
	for _, e := range t.d.Edits {
		sets = append(sets, jsonscan.Set{Key: e.Key, Value: e.Value})
	}
	for _, edit := range []func(body []byte, points jsonscan.Points, l *life) ([]jsonscan.Set, error){t.editModel, t.editName, t.editUsage} {
		more, err := edit(body, points, l)
		if err != nil {
			return nil, err
		}
		sets = append(sets, more...)
	}
	return points.Pieces(body, sets)
}

// member is a member of the body that the gateway has found; nil when it is absent.
func member(body []byte, points jsonscan.Points, key string) []byte {
	for _, m := range points.Members {
		if m.Key == key && 0 <= m.Start && m.Start < m.End && m.End <= len(body) {
			return body[m.Start:m.End]
		}
	}
	return nil
}

// editModel puts the engine's own name of the model in place of what it is called here. SGLang takes any name for its base
// model's, an adapter's own name too: that is told as base:adapter, or as lora_path where there is no model.
func (t *attempt) editModel(body []byte, points jsonscan.Points, l *life) ([]jsonscan.Set, error) {
	m := l.modelOf(t.d.Model)
	if m == nil {
		return nil, nil // a model that has gone meanwhile: the engine says so
	}
	key, name := t.modelName(m, l)
	if name == "" {
		return nil, nil
	}
	value := jsonscan.AppendString(nil, name)
	if bytes.Equal(member(body, points, key), value) {
		return nil, nil
	}
	return []jsonscan.Set{{Key: key, Value: value}}, nil
}

// modelName is how the engine is told of a model, and under which key; "" for not at all.
func (t *attempt) modelName(m *wire.Model, l *life) (key, name string) {
	sglang, adapter := l.info.EngineKind == kindSGLang, lora(m)
	switch {
	case sglang && t.route.SGLang:
		return "lora_path", adapter
	case sglang && adapter != "":
		return "model", l.info.Pool + ":" + adapter
	}
	return "model", cmp.Or(m.Root, m.Name)
}

// editName gives the engine's request the name by which it can be aborted, or asked for later.
func (t *attempt) editName(body []byte, points jsonscan.Points, l *life) ([]jsonscan.Set, error) {
	keeper := wire.Reference{Engine: wire.EngineHash(l.info.Engine), Rank: uint16(t.w.rank)}
	switch sglang := l.info.EngineKind == kindSGLang; {
	case t.route.Naming == surface.ByRid && sglang:
		rid, err := t.mint()
		return []jsonscan.Set{{Key: "rid", Value: rid}}, err
	case t.route.Naming == surface.ByResponseID && (sglang || l.info.EngineKind == kindVLLM):
		id := keeper.Response(t.rid(0))
		if sglang {
			t.rids = []string{id}
		}
		value, err := json.Marshal(id)
		return []jsonscan.Set{{Key: "request_id", Value: value}}, err
	case t.route.Path == surface.CloseSession, t.route.Path == surface.OpenSession && given(member(body, points, "session_id")):
		t.session = sessionOf(member(body, points, "session_id"))
	case t.route.Path == surface.OpenSession:
		value, err := json.Marshal(keeper.Name(t.rid(0)))
		return []jsonscan.Set{{Key: "session_id", Value: value}}, err
	}
	return nil, nil
}

// given tells whether a member says something.
func given(value []byte) bool {
	return len(value) > 0 && string(value) != "null" && string(value) != `""`
}

// rid is the engine's name for one prompt.
func (t *attempt) rid(prompt int) string {
	return wire.RidOf(t.d.Request, t.d.Attempt, prompt+t.tries*wire.MostRids)
}

// mint makes the names by which the engine can be told to abort, and returns them as the body has them. The prompts of a
// list, be it a list of one, have a name each. Of several completions of a prompt each gets a name that only the engine
// knows: closing the connection is all that ends them.
func (t *attempt) mint() (rid []byte, err error) {
	names := make([]string, min(max(t.d.Prompts, 1), wire.MostRids))
	for i := range names {
		names[i] = t.rid(i)
	}
	if t.d.N <= 1 {
		t.rids = names
	}
	if t.d.Flags&wire.FlagBatch != 0 {
		return json.Marshal(names)
	}
	return json.Marshal(names[0])
}

// editUsage asks to be told how many tokens were cached, where the client did not.
func (t *attempt) editUsage(body []byte, points jsonscan.Points, l *life) (sets []jsonscan.Set, err error) {
	if t.hidesDetails(l.info) {
		sets = append(sets, jsonscan.Set{Key: "return_cached_tokens_details", Value: []byte("true")})
	}
	if t.hidesUsage() {
		sets = append(sets, jsonscan.Set{Key: "stream_options", Value: withUsage(body, points)})
	}
	return sets, nil
}

// hidesUsage: the stream's usage is asked for by us alone, so the client does not see it.
func (t *attempt) hidesUsage() bool {
	return t.route.Dialect == surface.OpenAI && t.d.Flags&wire.FlagStream != 0 && t.d.Flags&wire.FlagUsage == 0
}

// hidesDetails: the engine tells cached tokens only when asked to, and the client did not ask.
func (t *attempt) hidesDetails(info *wire.WorkerInfo) bool {
	return t.route.Dialect == surface.OpenAI && info.EngineKind == kindSGLang && !info.CacheReport && t.d.Flags&wire.FlagDetails == 0
}

// withUsage is the client's stream_options with usage asked for. Options that name include_usage twice, or cannot be
// read, are replaced.
func withUsage(body []byte, points jsonscan.Points) []byte {
	ask := []byte(`{"include_usage":true}`)
	value := member(body, points, "stream_options")
	if len(value) == 0 || value[0] != '{' {
		return ask // absent, or null
	}
	var doc jsonscan.Doc
	err := jsonscan.Scan(&doc, value, func(key []byte) (string, jsonscan.Mode) {
		if string(key) == "include_usage" {
			return "include_usage", jsonscan.Note
		}
		return "", jsonscan.Skip
	})
	if err != nil {
		return ask
	}
	merged, err := doc.Points(nil).Apply(value, []jsonscan.Set{{Key: "include_usage", Value: []byte("true")}})
	if err != nil {
		return ask
	}
	return merged
}
