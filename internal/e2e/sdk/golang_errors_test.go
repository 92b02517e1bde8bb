package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/realtime"
	"github.com/openai/openai-go/v3/responses"
)

// goFails wants the SDK's typed error, with a status and a word.
func goFails(t *testing.T, err error, status int, word string) openai.Error {
	t.Helper()
	got, ok := errors.AsType[*openai.Error](err)
	if !ok {
		t.Fatalf("got %v, want an *openai.Error", err)
	}
	if got.StatusCode != status || !strings.Contains(got.Message, word) {
		t.Errorf("got %d %q, want %d with %q", got.StatusCode, got.Message, status, word)
	}
	return *got
}

// goRefused wants an engine's own refusal, which is passed on as it is. SGLang's is not in the envelope that this SDK looks
// for, and is found in the answer only.
func goRefused(t *testing.T, err error, word string) {
	t.Helper()
	got, ok := errors.AsType[*openai.Error](err)
	if !ok {
		t.Fatalf("got %v, want an *openai.Error", err)
	}
	if said := string(got.DumpResponse(true)); got.StatusCode != http.StatusBadRequest || !strings.Contains(said, word) {
		t.Errorf("got %d %s, want 400 with %q", got.StatusCode, said, word)
	}
}

// running is how many requests the engines of the model have, by their own count.
func (c *goClient) running(t *testing.T) (n int) {
	t.Helper()
	var doc struct {
		Loads []struct {
			Model   string
			Running int `json:"num_running_reqs"`
			Waiting int `json:"num_waiting_reqs"`
		}
	}
	if err := fetch(c.URL+"/v1/loads", &doc); err != nil {
		t.Fatal(err)
	}
	for _, one := range doc.Loads {
		if one.Model == c.Model {
			n += one.Running + one.Waiting
		}
	}
	return n
}

func (c *goClient) busy(t *testing.T) {
	t.Helper()
	eventually(t, "the engine has the request", func() bool { return c.running(t) > 0 })
}

func (c *goClient) freed(t *testing.T) {
	t.Helper()
	eventually(t, "the engine has nothing to do any more", func() bool { return c.running(t) == 0 })
}

// staged has something done on the stage.
func (c *goClient) staged(t *testing.T, path string) (p place) {
	t.Helper()
	resp, err := http.Post(c.Stage+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return p
}

func (c *goClient) endless() openai.ChatCompletionNewParams {
	p := ask(c.Model, goQuestion)
	p.MaxTokens = openai.Int(int64(c.Forever))
	return p
}

func goAbsent(t *testing.T, c *goClient) {
	const tries = 2
	for word, do := range map[string]func(option.RequestOption) error{
		"Files": func(o option.RequestOption) error {
			_, err := c.Files.List(t.Context(), openai.FileListParams{}, o)
			return err
		},
		"files": func(o option.RequestOption) error {
			_, err := c.Files.New(t.Context(), openai.FileNewParams{File: openai.File(bytes.NewReader([]byte("{}")), "a.jsonl", "application/json"), Purpose: openai.FilePurposeBatch}, o)
			return err
		},
		"Batches": func(o option.RequestOption) error {
			_, err := c.Batches.New(t.Context(), openai.BatchNewParams{InputFileID: "f", Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions, CompletionWindow: openai.BatchNewParamsCompletionWindow24h}, o)
			return err
		},
		"Realtime": func(o option.RequestOption) error {
			_, err := c.Realtime.ClientSecrets.New(t.Context(), realtime.ClientSecretNewParams{}, o)
			return err
		},
	} {
		c.answers = nil
		if got := goFails(t, do(option.WithMaxRetries(tries)), http.StatusNotImplemented, strings.ToUpper(word[:1])+word[1:]); got.Code != "not_implemented" || len(c.answers) != 1 {
			t.Errorf("%s after %d answers, want one: trying again cannot help", got.Code, len(c.answers))
		}
	}
}

func goUnknown(t *testing.T, c *goClient) {
	_, err := c.Chat.Completions.New(t.Context(), ask("no-such-model", "hello"))
	if got := goFails(t, err, http.StatusNotFound, "no-such-model"); got.Code != "model_not_found" || got.Param != "model" || !strings.Contains(got.Message, c.Model) {
		t.Error(got.RawJSON())
	}
	s := c.Chat.Completions.NewStreaming(t.Context(), ask("no-such-model", "hello"))
	defer s.Close()
	if s.Next() {
		t.Error(s.Current().RawJSON())
	}
	goFails(t, s.Err(), http.StatusNotFound, "no-such-model")
}

func goBad(t *testing.T, c *goClient) {
	_, err := c.Chat.Completions.New(t.Context(), ask(c.Model, "hello"), option.WithJSONSet("messages", "hello"))
	if got := goFails(t, err, http.StatusBadRequest, "messages"); got.Param != "messages" || got.Type != "invalid_request_error" {
		t.Error(got.RawJSON())
	}
	for _, p := range []openai.ChatCompletionNewParams{{Temperature: openai.Float(-1)}, {MaxTokens: openai.Int(100_000_000)}} { // these the engine says
		word := "temperature"
		if p.MaxTokens.Valid() {
			word = "tokens"
		}
		p.Model, p.Messages = c.Model, ask(c.Model, "hello").Messages
		_, err := c.Chat.Completions.New(t.Context(), p)
		goRefused(t, err, word)
		s := c.Chat.Completions.NewStreaming(t.Context(), p)
		if s.Next() {
			t.Error(s.Current().RawJSON())
		}
		goRefused(t, s.Err(), word)
	}
}

func goWrong(t *testing.T, c *goClient) {
	var into any
	goFails(t, c.Get(t.Context(), "chat/completions", nil, &into), http.StatusMethodNotAllowed, "POST")
	_, err := c.Moderations.New(t.Context(), openai.ModerationNewParams{Input: openai.ModerationNewParamsInputUnion{OfString: openai.String("hello")}})
	goFails(t, err, http.StatusNotFound, "/v1/moderations")
}

func goLarge(t *testing.T, c *goClient) {
	_, err := c.Chat.Completions.New(t.Context(), ask(c.Model, strings.Repeat("x", c.BodyLimit+1)))
	if got := goFails(t, err, http.StatusRequestEntityTooLarge, "larger"); got.Code != "request_too_large" {
		t.Error(got.RawJSON())
	}
}

func goDeadline(t *testing.T, c *goClient) {
	brief := option.WithHeader("x-radixbus-deadline-ms", "400")
	_, err := c.Chat.Completions.New(t.Context(), c.endless(), brief, exact(), option.WithMaxRetries(2))
	if got := goFails(t, err, http.StatusGatewayTimeout, ""); got.Code != "deadline_exceeded" || len(c.answers) != 1 {
		t.Errorf("%s after %d answers, want one: the time is over for another try, too", got.Code, len(c.answers))
	}
	s := c.Chat.Completions.NewStreaming(t.Context(), c.endless(), brief, exact())
	defer s.Close()
	heard := 0
	for s.Next() {
		heard++
	}
	if err, ok := errors.AsType[*ssestream.StreamError](s.Err()); !ok || heard == 0 || !strings.Contains(err.Error(), "deadline_exceeded") {
		t.Errorf("after %d events: %v", heard, s.Err())
	}
	c.freed(t)
}

func goTimeout(t *testing.T, c *goClient) {
	_, err := c.Chat.Completions.New(t.Context(), c.endless(), exact(), option.WithRequestTimeout(500*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	c.freed(t)
}

func goBroken(t *testing.T, c *goClient) {
	chats := c.Chat.Completions.NewStreaming(t.Context(), ask(c.Scripted, "hello"))
	heard := ""
	for chats.Next() {
		heard += chats.Current().Choices[0].Delta.Content
	}
	goBrokeOff(t, heard, chats.Err())
	events := c.Responses.NewStreaming(t.Context(), responses.ResponseNewParams{Model: c.Scripted, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")}})
	heard = ""
	for events.Next() {
		heard += events.Current().Delta
	}
	goBrokeOff(t, heard, events.Err())
}

func goBrokeOff(t *testing.T, heard string, err error) {
	t.Helper()
	if e, ok := errors.AsType[*ssestream.StreamError](err); !ok || heard != "half of " || !strings.Contains(e.Error(), "engine_broke") {
		t.Errorf("after %q: %v, want a StreamError with engine_broke", heard, err)
	}
}

func goDoomed(t *testing.T, c *goClient) {
	doomed := c.staged(t, "/doomed")
	p := c.endless()
	p.Model = doomed.Model
	other := client(doomed.URL, option.WithMaxRetries(0))
	s := other.Chat.Completions.NewStreaming(t.Context(), p)
	defer s.Close()
	if !s.Next() {
		t.Fatal(s.Err())
	}
	c.staged(t, "/doomed/kill")
	for s.Next() {
	}
	if s.Err() == nil {
		t.Error("the stream ended as if it were whole")
	}
}

// goRetried asks with a client that tries again, and has something done at the first answer that is none.
func goRetried(t *testing.T, url string, p openai.ChatCompletionNewParams, status int, onFirst func(), opts ...option.RequestOption) {
	t.Helper()
	var seen []*http.Response
	c := client(url, option.WithMaxRetries(10), option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		if seen = append(seen, resp); len(seen) == 1 && err == nil && resp.StatusCode != http.StatusOK {
			onFirst()
		}
		return resp, err
	}))
	got, err := c.Chat.Completions.New(t.Context(), p, append(opts, exact())...)
	if err != nil {
		t.Fatal(err)
	}
	last := len(seen) - 1
	if got.Usage.CompletionTokens != answerTokens || last == 0 {
		t.Errorf("after %d answers: %s", len(seen), got.RawJSON())
	}
	for _, one := range seen[:last] {
		same(t, []any{one.StatusCode, one.Header.Get("Retry-After")}, []any{status, "1"})
	}
}

func goLate(t *testing.T, c *goClient) {
	late := c.staged(t, "/late")
	goRetried(t, late.URL, ask(late.Model, "hello"), http.StatusServiceUnavailable, func() { c.staged(t, "/late/begin") })
}

func goFull(t *testing.T, c *goClient) {
	half := option.WithJSONSet("pad", strings.Repeat("x", c.BodyLimit*3/4))
	full := c.staged(t, "/full")
	goRetried(t, full.URL, ask(full.Model, "hello"), http.StatusTooManyRequests, func() { c.staged(t, "/full/free") }, half)
}

func goLeave(t *testing.T, c *goClient) {
	closed := c.Chat.Completions.NewStreaming(t.Context(), c.endless(), exact())
	if !closed.Next() {
		t.Fatal(closed.Err())
	}
	c.busy(t)
	closed.Close()
	c.freed(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := c.Chat.Completions.NewStreaming(ctx, c.endless(), exact())
	defer left.Close()
	if !left.Next() {
		t.Fatal(left.Err())
	}
	c.busy(t)
	cancel()
	for left.Next() {
	}
	if !errors.Is(left.Err(), context.Canceled) {
		t.Errorf("got %v", left.Err())
	}
	c.freed(t)
}

func goLeaveWhole(t *testing.T, c *goClient) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Chat.Completions.New(ctx, c.endless(), exact())
		done <- err
	}()
	c.busy(t)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	c.freed(t)
}
