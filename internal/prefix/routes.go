package prefix

import (
	"fmt"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// Route says what a body is.
type Route uint8

// The routes whose bodies Parse understands. The first five generate, and their prompts have digests; the others go by load.
const (
	Chat           Route = iota + 1 // /v1/chat/completions
	Completions                     // /v1/completions
	Generate                        // /generate
	Messages                        // /v1/messages
	Responses                       // /v1/responses
	CountTokens                     // /v1/messages/count_tokens
	Embeddings                      // /v1/embeddings
	Rerank                          // /v1/rerank
	Score                           // /v1/score
	Classify                        // /v1/classify
	Tokenize                        // /v1/tokenize
	Detokenize                      // /v1/detokenize
	Encode                          // /encode
	NativeClassify                  // /classify
	OpenSession                     // /open_session
	CloseSession                    // /close_session
)

// routes is what sets the routes apart.
var routes = [...]struct {
	path    string
	want    jsonscan.Want
	perNode int // bytes of a body for each node on its tape, rather too few; 0 if its tape is short
	native  bool
	byLoad  bool
	work    []string // by load: the members that an engine works through, if there are any
}{
	Chat:           {path: "/v1/chat/completions", want: wantChat, perNode: 128},
	Completions:    {path: "/v1/completions", want: wantCompletions},
	Generate:       {path: "/generate", want: wantGenerate, native: true},
	Messages:       {path: "/v1/messages", want: wantMessages, perNode: 64},
	Responses:      {path: "/v1/responses", want: wantResponses, perNode: 64},
	CountTokens:    {path: "/v1/messages/count_tokens", want: wantByLoad, byLoad: true, work: []string{"system", "messages", "tools"}},
	Embeddings:     {path: "/v1/embeddings", want: wantByLoad, byLoad: true, work: []string{"input"}},
	Rerank:         {path: "/v1/rerank", want: wantByLoad, byLoad: true, work: []string{"query", "documents"}},
	Score:          {path: "/v1/score", want: wantByLoad, byLoad: true, work: []string{"query", "items"}},
	Classify:       {path: "/v1/classify", want: wantByLoad, byLoad: true, work: []string{"input"}},
	Tokenize:       {path: "/v1/tokenize", want: wantByLoad, byLoad: true, work: []string{"prompt", "messages", "tools"}},
	Detokenize:     {path: "/v1/detokenize", want: wantByLoad, byLoad: true, work: []string{"tokens"}},
	Encode:         {path: "/encode", want: wantByLoad, native: true, byLoad: true, work: []string{"text", "input_ids", "image_data", "video_data", "audio_data"}},
	NativeClassify: {path: "/classify", want: wantByLoad, native: true, byLoad: true, work: []string{"text", "input_ids", "image_data", "video_data", "audio_data"}},
	OpenSession:    {path: "/open_session", want: wantByLoad, native: true, byLoad: true},
	CloseSession:   {path: "/close_session", want: wantByLoad, native: true, byLoad: true},
}

func (r Route) known() bool { return r >= Chat && int(r) < len(routes) }

// String returns the route's path.
func (r Route) String() string {
	if !r.known() {
		return fmt.Sprintf("route %d", uint8(r))
	}
	return routes[r].path
}

// ByLoad reports whether nothing is generated on the route, so that no cache is worth a digest.
func (r Route) ByLoad() bool { return r.known() && routes[r].byLoad }

// Native reports whether the route is SGLang's own: no other engine has it.
func (r Route) Native() bool { return r.known() && routes[r].native }
