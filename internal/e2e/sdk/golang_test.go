package sdk_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// A goCheck is one check of the Go SDK, under a name that the same check has in every language.
type goCheck struct {
	name  string
	do    func(*testing.T, *goClient)
	needs []string
}

// goChecks are all of them.
var goChecks = []goCheck{
	{"chat: whole", goWhole, nil},
	{"chat: streamed", goStreamed, nil},
	{"chat: stream helper", goAccumulated, nil},
	{"chat: usage of a stream", goUsage, nil},
	{"chat: cached tokens", goCached, nil},
	{"chat: several choices", goChoices, nil},
	{"chat: logprobs", goLogprobs, nil},
	{"chat: stop words", goStop, nil},
	{"chat: seed", goSeed, []string{"seed"}},
	{"chat: parts, system and earlier turns", goTurns, nil},
	{"chat: an adapter", goAdapter, nil},
	{"tools: forced call", goTool, nil},
	{"tools: streamed call", goStreamedTool, nil},
	{"tools: result goes back", goToolResult, nil},
	{"output: JSON schema", goSchema, nil},
	{"completions: whole", goComplete, nil},
	{"completions: streamed", goStreamedCompletion, nil},
	{"completions: batch of prompts", goBatch, nil},
	{"embeddings: numbers and base64", goEmbed, nil},
	{"models: listed and one by one", goModels, nil},
	{"responses: whole", goResponse, nil},
	{"responses: streamed", goStreamedResponse, nil},
	{"responses: tools", goResponseTool, nil},
	{"responses: gone on with and looked up", goGoOn, nil},
	{"responses: in the background", goBackground, nil},
	{"responses: cancelled", goCancelled, nil},
	{"responses: not found", goNotFound, nil},
	{"audio: transcription", goHear, []string{"audio"}},
	{"others by raw post", goOthers, nil},
	{"tokens by raw post", goTokens, nil},
	{"names of requests", goNames, nil},
	{"absent: files, batches, realtime", goAbsent, nil},
	{"errors: unknown model", goUnknown, nil},
	{"errors: bad field", goBad, nil},
	{"errors: wrong method, unknown route", goWrong, nil},
	{"errors: body too large", goLarge, nil},
	{"errors: deadline", goDeadline, nil},
	{"errors: client's own timeout", goTimeout, nil},
	{"errors: engine breaks off", goBroken, nil},
	{"errors: gateway dies", goDoomed, nil},
	{"retries: no worker yet", goLate, nil},
	{"retries: gateway is full", goFull, nil},
	{"cancel: stream closed", goLeave, nil},
	{"cancel: whole answer", goLeaveWhole, nil},
	{"many at once", goMany, nil},
}

// A goClient is the SDK's client of a target.
type goClient struct {
	openai.Client
	*target

	mu      sync.Mutex
	answers []*http.Response
}

func newGoClient(x *target) *goClient {
	c := &goClient{target: x}
	c.Client = client(x.URL, option.WithMaxRetries(0), option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil {
			c.answers = append(c.answers, resp)
		}
		return resp, err
	}))
	return c
}

const goQuestion = "Why is a radix tree a good index of prompts?"

// exact: an answer is as long as it may be.
func exact() option.RequestOption { return option.WithJSONSet("ignore_eos", true) }

func (c *goClient) chat(t *testing.T, p openai.ChatCompletionNewParams, opts ...option.RequestOption) *openai.ChatCompletion {
	t.Helper()
	got, err := c.Chat.Completions.New(t.Context(), p, append(opts, exact())...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (c *goClient) chunks(t *testing.T, p openai.ChatCompletionNewParams, opts ...option.RequestOption) (chunks []openai.ChatCompletionChunk) {
	t.Helper()
	s := c.Chat.Completions.NewStreaming(t.Context(), p, append(opts, exact())...)
	defer s.Close()
	for s.Next() {
		chunks = append(chunks, s.Current())
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return chunks
}

func goSaid(chunks []openai.ChatCompletionChunk) string {
	var text strings.Builder
	for _, c := range chunks {
		for _, choice := range c.Choices {
			text.WriteString(choice.Delta.Content)
		}
	}
	return text.String()
}

// same compares two lists of plain values.
func same(t *testing.T, got, want []any) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
