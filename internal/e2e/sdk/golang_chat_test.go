package sdk_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"
)

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
		if lossy(string(text)) != lossy(choice.Message.Content) || len(tokens) != answerTokens {
			t.Errorf("%s: %q of %d tokens, want %q", how, text, len(tokens), choice.Message.Content)
		}
	}
	same(t, []any{goSaid(chunks)}, []any{choice.Message.Content})
}

// lossy is text with one mark for bytes that are no text. A model may say some, and there are several ways to mark them.
func lossy(s string) string {
	parts := strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return r == '\uFFFD' })
	return strings.Join(parts, "\uFFFD")
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
	p.ParallelToolCalls = openai.Bool(false)
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
