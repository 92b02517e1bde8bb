package sdk_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

func (c *goClient) complete(t *testing.T, p openai.CompletionNewParams) *openai.Completion {
	t.Helper()
	got, err := c.Completions.New(t.Context(), p, exact())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func completion(model, prompt string) openai.CompletionNewParams {
	return openai.CompletionNewParams{
		Model:       openai.CompletionNewParamsModel(model),
		Prompt:      openai.CompletionNewParamsPromptUnion{OfString: openai.String(prompt)},
		MaxTokens:   openai.Int(answerTokens),
		Temperature: openai.Float(0),
	}
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
		if one, err := c.Models.Get(t.Context(), name); err != nil || one.ID != name || one.Object != one.Object.Default() || one.Created <= 0 || one.OwnedBy == "" || !found[name] {
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
		p.Tools, p.MaxOutputTokens, p.ParallelToolCalls = tools, openai.Int(200), openai.Bool(false)
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
	var earlier []*responses.Response // by more than one engine
	for n := range 8 {
		earlier = append(earlier, c.respond(t, func(p *responses.ResponseNewParams) {
			p.Input.OfString = openai.String(fmt.Sprintf("Question %d: why is a radix tree a good index of prompts?", n))
		}))
	}
	for _, before := range earlier {
		kept, err := c.Responses.Get(t.Context(), before.ID, responses.ResponseGetParams{})
		if err != nil || kept.OutputText() != before.OutputText() {
			t.Errorf("looked up: %v", err)
		}
		after := c.respond(t, func(p *responses.ResponseNewParams) { p.PreviousResponseID = openai.String(before.ID) })
		if after.PreviousResponseID != before.ID || after.Usage.InputTokens <= before.Usage.InputTokens {
			t.Error(after.RawJSON())
		}
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
	text := c.chat(t, ask(c.Model, goQuestion)).Choices[0].Message.Content // which simulated engines know the tokens of, all of them
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
