// Package surface is the explicit list of what clients can reach of an engine.
//
// A route that is not on the list does not exist: gateways answer 404, adapters refuse to call it. No control route of an
// engine is on it, so none can be reached through the router, whatever a gateway sends.
//
// # Concurrency
//
// Everything is a constant or a pure function.
package surface

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// A Kind says how a route's requests find their worker.
type Kind uint8

// Kinds.
const (
	ByPrefix Kind = iota + 1 // they generate: to the worker that has most of the prompt, priced against its load
	ByLoad                   // they compute something else: to the least loaded
	Kept                     // they ask for what one engine keeps: to that one
)

// A Naming says how an engine's request gets the name by which it can be aborted.
type Naming uint8

// Namings.
const (
	Unnamed      Naming = iota // closing its connection is all there is
	ByRid                      // the field rid
	ByResponseID               // the field request_id: it is the id of the response too
)

// A Dialect says in which shape an engine answers on a route: where its usage stands, how a stream ends.
type Dialect uint8

// Dialects.
const (
	Plain     Dialect = iota // one JSON document, with OpenAI's usage if any
	OpenAI                   // usage in a last chunk that has to be asked for; [DONE]
	Native                   // meta_info; [DONE]
	Anthropic                // usage in message_start and message_delta; message_stop
	Responses                // usage in the last event, which is response.completed, .incomplete or .failed
)

// A Route is one entry of the list.
type Route struct {
	Path    string   // as clients call it; {id} stands for one segment, the name of what is kept
	Engine  string   // as engines call it, where that is another name
	Methods []string // the first is the usual one
	Kind    Kind
	Naming  Naming
	Dialect Dialect
	SGLang  bool // no other engine has it
	Light   bool // its engine's GPU has next to nothing to do with it: it takes no slot
	Opaque  bool // the body is no JSON: it is passed on as it is
	Empty   bool // there is no body
}

// The methods there are.
var (
	get     = []string{"GET"}
	post    = []string{"POST"}
	postPut = []string{"POST", "PUT"}
)

var routes = [...]Route{
	{Path: "/v1/chat/completions", Methods: post, Kind: ByPrefix, Naming: ByRid, Dialect: OpenAI},
	{Path: "/v1/completions", Methods: post, Kind: ByPrefix, Naming: ByRid, Dialect: OpenAI},
	{Path: "/generate", Methods: postPut, Kind: ByPrefix, Naming: ByRid, Dialect: Native, SGLang: true},
	{Path: "/v1/messages", Methods: post, Kind: ByPrefix, Dialect: Anthropic},
	{Path: "/v1/responses", Methods: post, Kind: ByPrefix, Naming: ByResponseID, Dialect: Responses},

	{Path: "/v1/messages/count_tokens", Methods: post, Kind: ByLoad, Light: true},
	{Path: "/v1/embeddings", Methods: post, Kind: ByLoad},
	{Path: "/v1/rerank", Methods: postPut, Kind: ByLoad},
	{Path: "/rerank", Engine: "/v1/rerank", Methods: post, Kind: ByLoad},
	{Path: "/v1/score", Methods: post, Kind: ByLoad},
	{Path: "/v1/classify", Methods: post, Kind: ByLoad},
	{Path: "/v1/tokenize", Methods: post, Kind: ByLoad, Light: true},
	{Path: "/tokenize", Methods: post, Kind: ByLoad, Light: true},
	{Path: "/v1/detokenize", Methods: post, Kind: ByLoad, Light: true},
	{Path: "/detokenize", Methods: post, Kind: ByLoad, Light: true},
	{Path: "/v1/audio/transcriptions", Methods: post, Kind: ByLoad, Opaque: true},
	{Path: "/encode", Methods: postPut, Kind: ByLoad, SGLang: true},
	{Path: "/classify", Methods: postPut, Kind: ByLoad, SGLang: true},
	{Path: "/parse_function_call", Methods: post, Kind: ByLoad, SGLang: true, Light: true},
	{Path: "/separate_reasoning", Methods: post, Kind: ByLoad, SGLang: true, Light: true},
	{Path: "/health_generate", Methods: get, Kind: ByLoad, SGLang: true, Light: true, Empty: true},

	{Path: "/v1/responses/{id}", Methods: get, Kind: Kept, Light: true, Empty: true},
	{Path: "/v1/responses/{id}/cancel", Methods: post, Kind: Kept, Light: true, Empty: true},
	{Path: OpenSession, Methods: post, Kind: ByLoad, SGLang: true, Light: true},
	{Path: CloseSession, Methods: post, Kind: Kept, SGLang: true, Light: true},
}

// The routes of an engine's own sessions.
const (
	OpenSession  = "/open_session"
	CloseSession = "/close_session"
)

// Routes yields all of them.
func Routes() iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		for i := range routes {
			if !yield(&routes[i]) {
				return
			}
		}
	}
}

// Lookup finds the route that an engine is called on with a method; nil when it is not on the list. Nothing but the path
// itself is taken: no query, no dots, no host.
func Lookup(method, path string) *Route {
	for i := range routes {
		r := &routes[i]
		if slices.Contains(r.Methods, method) && match(r.Called(), path) {
			return r
		}
	}
	return nil
}

// IsAnthropic tells whether the clients of a path expect errors in Anthropic's shape, {"type": "error", "error": {…}}, rather
// than in OpenAI's, {"error": {…}}.
func IsAnthropic(path string) bool {
	return path == anthropicRoot || strings.HasPrefix(path, anthropicRoot+"/")
}

const anthropicRoot = "/v1/messages"

// Called is what engines call the route.
func (r *Route) Called() string { return cmp.Or(r.Engine, r.Path) }

// For is the path for what is kept under a name, of a route with {id}.
func (r *Route) For(id string) string { return strings.Replace(r.Called(), idVariable, id, 1) }

const idVariable = "{id}"

// match tells whether a path is that of a pattern.
func match(pattern, path string) bool {
	before, after, variable := strings.Cut(pattern, idVariable)
	if !variable {
		return path == pattern
	}
	id, ok := strings.CutPrefix(path, before)
	if ok {
		id, ok = strings.CutSuffix(id, after)
	}
	return ok && ValidID(id)
}

// maxID bounds the name of what is kept, in bytes.
const maxID = 256

// ValidID tells whether a name can stand in a path: letters, digits, dashes and underscores.
func ValidID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
