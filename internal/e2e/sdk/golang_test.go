package sdk_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
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
	{"chat: an adapter", goAdapter, []string{"adapter"}},
	{"tools: forced call", goTool, []string{"tools"}},
	{"tools: streamed call", goStreamedTool, []string{"tools"}},
	{"tools: result goes back", goToolResult, []string{"tools"}},
	{"output: JSON schema", goSchema, []string{"grammar"}},
	{"completions: whole", goComplete, nil},
	{"completions: streamed", goStreamedCompletion, nil},
	{"completions: batch of prompts", goBatch, nil},
	{"embeddings: numbers and base64", goEmbed, []string{"embeddings"}},
	{"models: listed and one by one", goModels, nil},
	{"responses: whole", goResponse, nil},
	{"responses: streamed", goStreamedResponse, nil},
	{"responses: tools", goResponseTool, []string{"tools"}},
	{"responses: gone on with and looked up", goGoOn, []string{"stored"}},
	{"responses: in the background", goBackground, []string{"stored"}},
	{"responses: cancelled", goCancelled, []string{"stored"}},
	{"responses: not found", goNotFound, []string{"stored"}},
	{"audio: transcription", goHear, []string{"audio"}},
	{"others by raw post", goOthers, []string{"embeddings"}},
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

func newGoClient(_ *testing.T, x *target) *goClient {
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

// same compares two lists of values.
func same(t *testing.T, got, want []any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func goWhole(t *testing.T, c *goClient) {
	got := c.chat(t, ask(c.Model, goQuestion))
	choice, u := got.Choices[0], got.Usage
	same(t, []any{len(got.Choices), got.Model, choice.FinishReason, choice.Message.Role, u.CompletionTokens, u.TotalTokens},
		[]any{1, c.Model, "length", choice.Message.Role.Default(), int64(answerTokens), u.PromptTokens + answerTokens})
	if again := c.chat(t, ask(c.Model, goQuestion)).Choices[0].Message.Content; again != choice.Message.Content || again == "" {
		t.Errorf("first %q, then %q", choice.Message.Content, again)
	}
}

func goStreamed(t *testing.T, c *goClient) {
	want := c.chat(t, ask(c.Model, goQuestion)).Choices[0].Message.Content
	chunks := c.chunks(t, ask(c.Model, goQuestion))
	last := chunks[len(chunks)-1]
	same(t, []any{goSaid(chunks), last.Choices[0].FinishReason, chunks[0].Choices[0].Delta.Role, last.JSON.Usage.Valid()}, []any{want, "length", "assistant", false})
	if len(chunks) < answerTokens/2 {
		t.Errorf("%d chunks", len(chunks))
	}
}

func goAccumulated(t *testing.T, c *goClient) {
	want := c.chat(t, ask(c.Model, goQuestion)).Choices[0].Message.Content
	var acc openai.ChatCompletionAccumulator
	finished := ""
	for _, chunk := range c.chunks(t, ask(c.Model, goQuestion)) {
		if !acc.AddChunk(chunk) {
			t.Fatalf("not taken: %s", chunk.RawJSON())
		}
		if text, ok := acc.JustFinishedContent(); ok {
			finished = text
		}
	}
	same(t, []any{finished, acc.Choices[0].Message.Content, acc.Model}, []any{want, want, c.Model})
}

func goUsage(t *testing.T, c *goClient) {
	p := ask(c.Model, goQuestion)
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	chunks := c.chunks(t, p)
	told := 0
	for _, chunk := range chunks {
		if chunk.JSON.Usage.Valid() {
			told++
		}
	}
	last := chunks[len(chunks)-1]
	same(t, []any{told, len(last.Choices), last.Usage.CompletionTokens}, []any{1, 0, int64(answerTokens)})
	if last.Usage.PromptTokensDetails.CachedTokens == 0 { // asked before
		t.Error(last.RawJSON())
	}
}

func goCached(t *testing.T, c *goClient) {
	p := ask(c.Model, strings.Repeat("A prompt that is long enough to be worth a cache, of Go. ", 40))
	c.chat(t, p)
	if u := c.chat(t, p).Usage; u.PromptTokensDetails.CachedTokens < u.PromptTokens*9/10 {
		t.Error(u.RawJSON())
	}
}

func goChoices(t *testing.T, c *goClient) {
	p := ask(c.Model, goQuestion)
	p.N, p.Temperature = openai.Int(3), openai.Float(1)
	got := c.chat(t, p)
	same(t, []any{len(got.Choices), got.Choices[2].Index, got.Usage.CompletionTokens}, []any{3, int64(2), int64(3 * answerTokens)})
	texts := map[int64]string{}
	for _, chunk := range c.chunks(t, p) {
		for _, choice := range chunk.Choices {
			texts[choice.Index] += choice.Delta.Content
		}
	}
	if len(texts) != 3 || texts[0] == "" || texts[1] == "" || texts[2] == "" {
		t.Error(texts)
	}
}

func goLogprobs(t *testing.T, c *goClient) {
	p := ask(c.Model, goQuestion)
	p.Logprobs, p.TopLogprobs = openai.Bool(true), openai.Int(2)
	choice := c.chat(t, p).Choices[0]
	chunks := c.chunks(t, p)
	streamed := []openai.ChatCompletionTokenLogprob(nil)
	for _, chunk := range chunks {
		streamed = append(streamed, chunk.Choices[0].Logprobs.Content...)
	}
	for how, tokens := range map[string][]openai.ChatCompletionTokenLogprob{"whole": choice.Logprobs.Content, "streamed": streamed} {
		var text []byte
		for _, token := range tokens {
			for _, b := range token.Bytes {
				text = append(text, byte(b))
			}
			if token.Logprob > 0 || len(token.TopLogprobs) != 2 {
				t.Error(how, token.RawJSON())
			}
		}
		if string(text) != choice.Message.Content || len(tokens) != answerTokens {
			t.Errorf("%s: %q of %d tokens, want %q", how, text, len(tokens), choice.Message.Content)
		}
	}
	same(t, []any{goSaid(chunks)}, []any{choice.Message.Content})
}

func goStop(t *testing.T, c *goClient) {
	p := ask(c.Model, goQuestion)
	text := c.chat(t, p).Choices[0].Message.Content
	word := strings.Fields(text[len(text)/2:])[1]
	want, _, _ := strings.Cut(text, word)
	p.Stop.OfStringArray = []string{"no such words", word}
	got := c.chat(t, p).Choices[0]
	chunks := c.chunks(t, p)
	same(t, []any{got.Message.Content, got.FinishReason, goSaid(chunks), chunks[len(chunks)-1].Choices[0].FinishReason}, []any{want, "stop", want, "stop"})
}

func goSeed(t *testing.T, c *goClient) {
	said := func(seed int64) string {
		p := ask(c.Model, goQuestion)
		p.Seed, p.Temperature = openai.Int(seed), openai.Float(1)
		return c.chat(t, p).Choices[0].Message.Content
	}
	if a, b, other := said(7), said(7), said(8); a != b || a == other {
		t.Errorf("with seed 7 %q and %q, with 8 %q", a, b, other)
	}
}

func goTurns(t *testing.T, c *goClient) {
	p := ask(c.Model, "")
	p.Messages = []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("Be brief."),
		openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{openai.TextContentPart("Why?"), openai.TextContentPart("And since when?")}),
	}
	before := c.chat(t, p)
	p.Messages = append(p.Messages, before.Choices[0].Message.ToParam(), openai.UserMessage("And why else?"))
	after := c.chat(t, p)
	if after.Usage.PromptTokens <= before.Usage.PromptTokens+answerTokens/2 || after.Usage.PromptTokensDetails.CachedTokens < before.Usage.PromptTokens/2 {
		t.Errorf("%s, then %s", before.Usage.RawJSON(), after.Usage.RawJSON())
	}
}

func goAdapter(t *testing.T, c *goClient) {
	for _, name := range []string{c.Adapter, c.Model + ":" + c.Adapter} {
		if got := c.chat(t, ask(name, goQuestion)); got.Choices[0].Message.Content == "" || got.Usage.CompletionTokens != answerTokens {
			t.Error(got.RawJSON())
		}
	}
}

// goForm is a schema that leaves a model no room.
func goForm() map[string]any {
	return map[string]any{
		"type":       "object",
		"properties": map[string]any{"city": map[string]any{"type": "string", "enum": []string{"Zürich", "Genève"}}, "days": map[string]any{"type": "integer", "minimum": 2, "maximum": 9}},
		"required":   []string{"city", "days"}, "additionalProperties": false,
	}
}

func goFilled(t *testing.T, doc string) {
	t.Helper()
	var form struct {
		City string
		Days int
	}
	if err := json.Unmarshal([]byte(doc), &form); err != nil || form.City != "Zürich" && form.City != "Genève" || form.Days < 2 {
		t.Errorf("%v: %q", err, doc)
	}
}

func goToolParams(c *goClient) openai.ChatCompletionNewParams {
	p := ask(c.Model, "How will the weather be?")
	p.MaxTokens = openai.Int(200)
	p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Description: openai.String(`Tells the weather of Zürich "or" so.`), Parameters: goForm(), Strict: openai.Bool(true),
	})}
	p.ToolChoice.OfAuto = openai.String("required")
	return p
}

func goCall(t *testing.T, c *goClient, p openai.ChatCompletionNewParams) *openai.ChatCompletion {
	t.Helper()
	got, err := c.Chat.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	choice := got.Choices[0]
	if len(choice.Message.ToolCalls) != 1 || choice.FinishReason != "tool_calls" {
		t.Fatal(choice.RawJSON())
	}
	call := choice.Message.ToolCalls[0]
	same(t, []any{call.Function.Name, call.Type, call.ID != ""}, []any{"weather", "function", true})
	goFilled(t, call.Function.Arguments)
	return got
}

func goTool(t *testing.T, c *goClient) {
	p := goToolParams(c)
	goCall(t, c, p)
	p.ToolChoice = openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "weather"})
	goCall(t, c, p)
}

func goStreamedTool(t *testing.T, c *goClient) {
	p := goToolParams(c)
	want := goCall(t, c, p).Choices[0].Message.ToolCalls[0].Function.Arguments
	s := c.Chat.Completions.NewStreaming(t.Context(), p)
	defer s.Close()
	var acc openai.ChatCompletionAccumulator
	finished, pieces := 0, 0
	for s.Next() {
		pieces += len(s.Current().Choices[0].Delta.ToolCalls)
		if !acc.AddChunk(s.Current()) {
			t.Fatalf("not taken: %s", s.Current().RawJSON())
		}
		if call, ok := acc.JustFinishedToolCall(); ok {
			finished++
			same(t, []any{call.Name, call.Arguments, call.ID != ""}, []any{"weather", want, true})
		}
	}
	if s.Err() != nil || finished != 1 || pieces < 4 {
		t.Errorf("%d finished calls in %d pieces, %v", finished, pieces, s.Err())
	}
}

func goToolResult(t *testing.T, c *goClient) {
	p := goToolParams(c)
	asked := goCall(t, c, p)
	message := asked.Choices[0].Message
	p.Messages = append(p.Messages, message.ToParam(), openai.ToolMessage("12 °C, rain", message.ToolCalls[0].ID))
	p.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{}
	p.MaxTokens = openai.Int(answerTokens)
	if got := c.chat(t, p); got.Choices[0].Message.Content == "" || got.Usage.PromptTokens <= asked.Usage.PromptTokens+10 {
		t.Errorf("%s, then %s", asked.Usage.RawJSON(), got.RawJSON())
	}
}

func goSchema(t *testing.T, c *goClient) {
	p := ask(c.Model, "How will the weather be?")
	p.MaxTokens = openai.Int(200)
	p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "answer", Strict: openai.Bool(true), Schema: goForm()},
	}
	got, err := c.Chat.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	same(t, []any{got.Choices[0].FinishReason}, []any{"stop"})
	goFilled(t, got.Choices[0].Message.Content)
}

func (c *goClient) complete(t *testing.T, p openai.CompletionNewParams) *openai.Completion {
	t.Helper()
	got, err := c.Completions.New(t.Context(), p, exact())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func goComplete(t *testing.T, c *goClient) {
	p := completion(c.Model, "Once upon a time")
	got := c.complete(t, p)
	same(t, []any{len(got.Choices), got.Choices[0].FinishReason, got.Usage.CompletionTokens, got.Choices[0].Text != ""},
		[]any{1, openai.CompletionChoiceFinishReasonLength, int64(answerTokens), true})
	p.Echo = openai.Bool(true)
	same(t, []any{c.complete(t, p).Choices[0].Text}, []any{"Once upon a time" + got.Choices[0].Text})
}

func goStreamedCompletion(t *testing.T, c *goClient) {
	p := completion(c.Model, "Once upon a time")
	want := c.complete(t, p).Choices[0].Text
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	s := c.Completions.NewStreaming(t.Context(), p, exact())
	defer s.Close()
	text, tokens := "", int64(0)
	for s.Next() {
		for _, choice := range s.Current().Choices {
			text += choice.Text
		}
		tokens += s.Current().Usage.CompletionTokens
	}
	same(t, []any{s.Err(), text, tokens}, []any{nil, want, int64(answerTokens)})
}

func goBatch(t *testing.T, c *goClient) {
	prompts := []string{"One bus", "Two trees", "Three roots"}
	p := completion(c.Model, "")
	p.Prompt = openai.CompletionNewParamsPromptUnion{OfArrayOfStrings: prompts}
	got := c.complete(t, p)
	for i, prompt := range prompts {
		same(t, []any{got.Choices[i].Index, got.Choices[i].Text}, []any{int64(i), c.complete(t, completion(c.Model, prompt)).Choices[0].Text})
	}
	p.Prompt = openai.CompletionNewParamsPromptUnion{OfArrayOfTokens: []int64{5, 60, 7, 80}}
	same(t, []any{c.complete(t, p).Usage.PromptTokens}, []any{int64(4)})
}

func goEmbed(t *testing.T, c *goClient) {
	p := openai.EmbeddingNewParams{Model: c.Embedder, Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a bus", "a tree"}}}
	plain, err := c.Embeddings.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.EncodingFormat = openai.EmbeddingNewParamsEncodingFormatBase64
	packed, err := c.Embeddings.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(plain.Data) != 2 || len(plain.Data[1].Embedding) < 2 || plain.Usage.PromptTokens == 0 || plain.Data[1].Index != 1 {
		t.Error(plain.RawJSON())
	}
	if raw := packed.Data[1].JSON.Embedding.Raw(); !strings.HasPrefix(raw, `"`) || len(raw) < 4*len(plain.Data[1].Embedding) {
		t.Errorf("base64: %.100s", raw)
	}
	p.EncodingFormat, p.Dimensions = "", openai.Int(8)
	p.Input = openai.EmbeddingNewParamsInputUnion{OfArrayOfTokenArrays: [][]int64{{1, 2, 3}, {4}}}
	short, err := c.Embeddings.New(t.Context(), p)
	if err != nil || len(short.Data[1].Embedding) != 8 {
		t.Errorf("dimensions: %v", err)
	}
}

func goModels(t *testing.T, c *goClient) {
	found := map[string]bool{}
	for page := c.Models.ListAutoPaging(t.Context()); page.Next(); {
		found[page.Current().ID] = true
	}
	for _, name := range []string{c.Model, c.Embedder, c.Adapter} {
		if name == "" {
			continue
		}
		if one, err := c.Models.Get(t.Context(), name); err != nil || one.ID != name || !found[name] {
			t.Errorf("%q: %v, listed %v", name, err, found)
		}
	}
	_, err := c.Models.Get(t.Context(), "no/such-model")
	goFails(t, err, http.StatusNotFound, "no/such-model")
}

func (c *goClient) respond(t *testing.T, change func(*responses.ResponseNewParams)) *responses.Response {
	t.Helper()
	p := responses.ResponseNewParams{
		Model: c.Model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(goQuestion)},
		MaxOutputTokens: openai.Int(answerTokens), Temperature: openai.Float(0),
	}
	change(&p)
	got, err := c.Responses.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func nothing(*responses.ResponseNewParams) {}

func goResponse(t *testing.T, c *goClient) {
	got := c.respond(t, func(p *responses.ResponseNewParams) { p.Instructions = openai.String("Be brief.") })
	if got.OutputText() == "" || got.Model != c.Model || got.Usage.InputTokens == 0 || got.Usage.OutputTokens == 0 || !goEnded(got) || !strings.HasPrefix(got.ID, "resp_") {
		t.Error(got.RawJSON())
	}
}

func goEnded(r *responses.Response) bool { return r.Status == "completed" || r.Status == "incomplete" }

func goStreamedResponse(t *testing.T, c *goClient) {
	want := c.respond(t, nothing).OutputText()
	s := c.Responses.NewStreaming(t.Context(), responses.ResponseNewParams{
		Model: c.Model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(goQuestion)},
		MaxOutputTokens: openai.Int(answerTokens), Temperature: openai.Float(0),
	})
	defer s.Close()
	var last responses.ResponseStreamEventUnion
	text, n := "", int64(0)
	for ; s.Next(); n++ {
		last = s.Current()
		if last.SequenceNumber != n {
			t.Errorf("event %d has number %d", n, last.SequenceNumber)
		}
		if last.Type == "response.output_text.delta" {
			text += last.Delta
		}
	}
	same(t, []any{s.Err(), text, last.Response.OutputText(), goEnded(&last.Response)}, []any{nil, want, want, true})
}

func goResponseTool(t *testing.T, c *goClient) {
	tools := []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "weather", Parameters: goForm(), Strict: openai.Bool(true)}}}
	got := c.respond(t, func(p *responses.ResponseNewParams) {
		p.Tools, p.MaxOutputTokens = tools, openai.Int(200)
		p.ToolChoice.OfToolChoiceMode = openai.Opt(responses.ToolChoiceOptionsRequired)
	})
	call := got.Output[0]
	same(t, []any{call.Type, call.Name}, []any{"function_call", "weather"})
	goFilled(t, call.Arguments.OfString)
	result := responses.ResponseInputItemParamOfFunctionCallOutput("12 °C, rain")
	result.OfFunctionCallOutput.CallID = openai.String(call.CallID)
	answer := c.respond(t, func(p *responses.ResponseNewParams) {
		p.Tools = tools
		p.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
			responses.ResponseInputItemParamOfMessage("How?", responses.EasyInputMessageRoleUser),
			responses.ResponseInputItemParamOfFunctionCall(call.Arguments.OfString, call.CallID, call.Name), result,
		}}
	})
	if answer.OutputText() == "" {
		t.Error(answer.RawJSON())
	}
}

func goGoOn(t *testing.T, c *goClient) {
	before := c.respond(t, nothing)
	kept, err := c.Responses.Get(t.Context(), before.ID, responses.ResponseGetParams{})
	if err != nil || kept.OutputText() != before.OutputText() {
		t.Errorf("looked up: %v", err)
	}
	after := c.respond(t, func(p *responses.ResponseNewParams) { p.PreviousResponseID = openai.String(before.ID) })
	if after.PreviousResponseID != before.ID || after.Usage.InputTokens <= before.Usage.InputTokens {
		t.Error(after.RawJSON())
	}
}

func goBackground(t *testing.T, c *goClient) {
	got := c.respond(t, func(p *responses.ResponseNewParams) { p.Background = openai.Bool(true) })
	eventually(t, "a background response ends", func() bool {
		var err error
		if got, err = c.Responses.Get(t.Context(), got.ID, responses.ResponseGetParams{}); err != nil {
			t.Fatal(err)
		}
		return goEnded(got)
	})
	same(t, []any{got.OutputText()}, []any{c.respond(t, nothing).OutputText()})
}

func goCancelled(t *testing.T, c *goClient) {
	got := c.respond(t, func(p *responses.ResponseNewParams) {
		p.Background, p.MaxOutputTokens = openai.Bool(true), openai.Int(int64(c.Forever))
	})
	c.busy(t)
	ended, err := c.Responses.Cancel(t.Context(), got.ID)
	if err != nil || ended.Status != "cancelled" {
		t.Fatalf("cancelled: %v, %v", ended, err)
	}
	c.freed(t)
}

func goNotFound(t *testing.T, c *goClient) {
	_, err := c.Responses.Get(t.Context(), "resp_of_nobody", responses.ResponseGetParams{})
	goFails(t, err, http.StatusNotFound, "resp_of_nobody")
	_, err = c.Responses.Cancel(t.Context(), "resp_of_nobody")
	goFails(t, err, http.StatusNotFound, "resp_of_nobody")
	_, err = c.Responses.New(t.Context(), responses.ResponseNewParams{
		Model: c.Model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")}, PreviousResponseID: openai.String("resp_of_nobody"),
	})
	goFails(t, err, http.StatusNotFound, "resp_of_nobody")
}

func goHear(t *testing.T, c *goClient) {
	file := openai.File(strings.NewReader(strings.Repeat("\x00", 64000)), "silence.wav", "audio/wav")
	got, err := c.Audio.Transcriptions.New(t.Context(), openai.AudioTranscriptionNewParams{Model: c.Model, File: file, Language: openai.String("de")})
	if err != nil || got.Text == "" || got.Usage.Seconds == 0 {
		t.Errorf("%v: %v", got, err)
	}
}

func goOthers(t *testing.T, c *goClient) {
	post := func(path string, body map[string]any, into any) {
		t.Helper()
		if err := c.Post(t.Context(), path, body, into); err != nil {
			t.Error(err)
		}
	}
	var ranked []struct{ Document string }
	post("rerank", map[string]any{"model": c.Embedder, "query": "a bus", "documents": []string{"a tree", "a bus"}}, &ranked)
	var scored struct{ Scores [][]float64 }
	post("score", map[string]any{"model": c.Model, "query": "a", "items": []string{"b", "c"}, "label_token_ids": []int{1, 2}, "apply_softmax": true}, &scored)
	var classes struct{ Data []any }
	post("classify", map[string]any{"model": c.Embedder, "input": []string{"a", "b"}}, &classes)
	if len(ranked) != 2 || len(scored.Scores) != 2 || len(scored.Scores[0]) != 2 || len(classes.Data) != 2 {
		t.Errorf("ranked %v, scored %v, classes %v", ranked, scored, classes)
	}
}

func goTokens(t *testing.T, c *goClient) {
	const text = "There and back again."
	var tokens struct {
		Tokens []int
		Count  int
	}
	if err := c.Post(t.Context(), "tokenize", map[string]any{"model": c.Model, "prompt": text}, &tokens); err != nil || tokens.Count != len(tokens.Tokens) || tokens.Count < 4 {
		t.Fatalf("%+v: %v", tokens, err)
	}
	var back struct{ Text string }
	if err := c.Post(t.Context(), "detokenize", map[string]any{"model": c.Model, "tokens": tokens.Tokens}, &back); err != nil || !strings.Contains(back.Text, text) {
		t.Errorf("%+v: %v", back, err)
	}
}

func goNames(t *testing.T, c *goClient) {
	c.chat(t, ask(c.Model, "Who?"), option.WithHeader("x-request-id", "my-label"))
	h := c.answers[0].Header
	same(t, []any{h.Get("X-Request-Id"), h.Get("X-Radixbus-Worker") != "", h.Get("X-Radixbus-Request") != ""}, []any{"my-label", true, true})
}

func goMany(t *testing.T, c *goClient) {
	var wg sync.WaitGroup
	for user := range 16 {
		wg.Go(func() {
			p := ask(c.Model, fmt.Sprintf("User %d: say something of your own.", user))
			whole, err := c.Chat.Completions.New(t.Context(), p, exact())
			if err != nil {
				t.Error(err)
				return
			}
			s := c.Chat.Completions.NewStreaming(t.Context(), p, exact())
			defer s.Close()
			var chunks []openai.ChatCompletionChunk
			for s.Next() {
				chunks = append(chunks, s.Current())
			}
			if got, want := goSaid(chunks), whole.Choices[0].Message.Content; s.Err() != nil || got != want {
				t.Errorf("user %d: streamed %q, want %q; %v", user, got, want, s.Err())
			}
		})
	}
	wg.Wait()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
