package sdk_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// TestSimulatedWorkers asks a hub with two simulated workers all that a first program would.
func TestSimulatedWorkers(t *testing.T) {
	url := up(t, "--workers", "2", "--speed", "20")
	c := client(url)
	models, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatalf("models: %v", err)
	}
	if len(models.Data) != 1 {
		t.Fatalf("models: got %d, want the one of the simulated workers: %s", len(models.Data), models.RawJSON())
	}
	model := models.Data[0].ID

	t.Run("a model can be looked up", func(t *testing.T) {
		got, err := c.Models.Get(t.Context(), model)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != model || got.Created <= 0 || got.OwnedBy == "" || got.Object != "model" {
			t.Errorf("got %s, want %q with created, owned_by and object", got.RawJSON(), model)
		}
	})
	t.Run("chat, whole", func(t *testing.T) { wholeChat(t, c, model) })
	t.Run("chat, whole, again", func(t *testing.T) { repeatedChat(t, c, model) })
	t.Run("chat, streamed", func(t *testing.T) { streamedChat(t, c, model) })
	t.Run("chat, streamed, usage", func(t *testing.T) { streamedUsage(t, c, model) })
	t.Run("completion, whole", func(t *testing.T) { wholeCompletion(t, c, model) })
	t.Run("completion, streamed", func(t *testing.T) { streamedCompletion(t, c, model) })
	t.Run("parallel", func(t *testing.T) { parallel(t, c, model) })
	t.Run("errors", func(t *testing.T) { clientErrors(t, c, model) })
}

func wholeChat(t *testing.T, c openai.Client, model string) {
	var resp *http.Response
	got, err := c.Chat.Completions.New(t.Context(), ask(model, "Why is the sky blue?"), option.WithResponseInto(&resp), option.WithHeader("X-Request-Id", "my-label"))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID == "" || got.Model != model || got.Object != "chat.completion" || !got.JSON.Created.Valid() || len(got.Choices) != 1 {
		t.Fatalf("envelope: %s", got.RawJSON())
	}
	choice := got.Choices[0]
	if choice.Message.Content == "" || choice.Message.Role != "assistant" || choice.FinishReason != "length" {
		t.Errorf("choice: %s", choice.RawJSON())
	}
	u := got.Usage
	if u.PromptTokens <= 0 || u.CompletionTokens != answerTokens || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage: %s", u.RawJSON())
	}
	h := resp.Header
	if h.Get("X-Request-Id") != "my-label" || h.Get("X-Radixbus-Request") == "" || h.Get("X-Radixbus-Worker") == "" {
		t.Errorf("headers: %v", h)
	}
}

// repeatedChat: the second time, the worker that has the prompt cached gets it.
func repeatedChat(t *testing.T, c openai.Client, model string) {
	p := ask(model, strings.Repeat("A prompt that is long enough to be worth a cache. ", 40))
	for i := range 2 {
		got, err := c.Chat.Completions.New(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		cached, prompt := got.Usage.PromptTokensDetails.CachedTokens, got.Usage.PromptTokens
		if i == 1 && cached < prompt*9/10 {
			t.Errorf("repeat: %d of %d tokens cached, want nearly all", cached, prompt)
		}
	}
}

func streamedChat(t *testing.T, c openai.Client, model string) {
	p := ask(model, "Tell a story of a bus.")
	want, err := c.Chat.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Chat.Completions.NewStreaming(t.Context(), p)
	defer s.Close()
	var acc openai.ChatCompletionAccumulator
	chunks, endings := 0, 0
	for s.Next() {
		chunk := s.Current()
		if chunk.JSON.Usage.Valid() {
			t.Errorf("usage that was not asked for: %s", chunk.RawJSON())
		}
		if !acc.AddChunk(chunk) {
			t.Fatalf("the accumulator does not take chunk %d: %s", chunks, chunk.RawJSON())
		}
		if text, ok := acc.JustFinishedContent(); ok {
			endings++
			if text != want.Choices[0].Message.Content {
				t.Errorf("streamed %q, want the whole answer's %q", text, want.Choices[0].Message.Content)
			}
		}
		chunks++
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if chunks < answerTokens/2 {
		t.Errorf("%d chunks for %d tokens: not streamed", chunks, answerTokens)
	}
	if endings != 1 || len(acc.Choices) != 1 || acc.Choices[0].FinishReason != "length" || acc.Model != model {
		t.Errorf("%d endings, accumulated %+v", endings, acc.Choices)
	}
}

func streamedUsage(t *testing.T, c openai.Client, model string) {
	p := ask(model, "Count your tokens.")
	p.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	s := c.Chat.Completions.NewStreaming(t.Context(), p)
	defer s.Close()
	var last openai.ChatCompletionChunk
	told := 0
	for s.Next() {
		if last = s.Current(); last.JSON.Usage.Valid() {
			told++
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if told != 1 || len(last.Choices) != 0 || last.Usage.CompletionTokens != answerTokens || last.Usage.PromptTokens <= 0 {
		t.Errorf("usage in %d chunks, want it in the last alone, which is %s", told, last.RawJSON())
	}
}

func completion(model, prompt string) openai.CompletionNewParams {
	return openai.CompletionNewParams{
		Model:       openai.CompletionNewParamsModel(model),
		Prompt:      openai.CompletionNewParamsPromptUnion{OfString: openai.String(prompt)},
		MaxTokens:   openai.Int(answerTokens),
		Temperature: openai.Float(0),
	}
}

func wholeCompletion(t *testing.T, c openai.Client, model string) {
	got, err := c.Completions.New(t.Context(), completion(model, "Once upon a time"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 1 || got.Choices[0].Text == "" || got.Choices[0].FinishReason != "length" || got.Object != "text_completion" {
		t.Errorf("got %s", got.RawJSON())
	}
	if got.Usage.CompletionTokens != answerTokens {
		t.Errorf("usage: %s", got.Usage.RawJSON())
	}
}

func streamedCompletion(t *testing.T, c openai.Client, model string) {
	p := completion(model, "Once upon another time")
	want, err := c.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Completions.NewStreaming(t.Context(), p)
	defer s.Close()
	var text strings.Builder
	finish := ""
	for s.Next() {
		for _, choice := range s.Current().Choices {
			text.WriteString(choice.Text)
			if choice.FinishReason != "" {
				finish = string(choice.FinishReason)
			}
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if text.String() != want.Choices[0].Text || finish != "length" {
		t.Errorf("streamed %q (%s), want the whole answer's %q (length)", text.String(), finish, want.Choices[0].Text)
	}
}

// parallel: one client, many conversations at once, and nobody gets an answer that is another's.
func parallel(t *testing.T, c openai.Client, model string) {
	const users, turns = 16, 3
	var wg sync.WaitGroup
	for user := range users {
		wg.Go(func() {
			for turn := range turns {
				p := ask(model, fmt.Sprintf("User %d, turn %d: say something of your own.", user, turn))
				want, err := c.Chat.Completions.New(t.Context(), p)
				if err != nil {
					t.Errorf("user %d, turn %d: %v", user, turn, err)
					return
				}
				s := c.Chat.Completions.NewStreaming(t.Context(), p)
				var acc openai.ChatCompletionAccumulator
				for s.Next() {
					acc.AddChunk(s.Current())
				}
				if err := s.Err(); err != nil || len(acc.Choices) != 1 {
					t.Errorf("user %d, turn %d: %d choices, %v", user, turn, len(acc.Choices), err)
					return
				}
				if got, want := acc.Choices[0].Message.Content, want.Choices[0].Message.Content; got != want || got == "" {
					t.Errorf("user %d, turn %d: streamed %q, want %q", user, turn, got, want)
				}
			}
		})
	}
	wg.Wait()
}
