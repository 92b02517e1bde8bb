package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
)

// TestEngineRefuses: an engine's own 400 keeps its status and its words.
func TestEngineRefuses(t *testing.T) {
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(`{"object":"error","message":"top_p is out of range","type":"BadRequestError","param":null,"code":400}`)) //nolint:errcheck // the adapter may be gone
	})
	c := client(up(t, []string{e.url}))
	_, err := c.Chat.Completions.New(t.Context(), ask(scriptedModel, "hello"))
	goRefused(t, err, "top_p is out of range")
	if n := len(e.requests()); n != 1 {
		t.Errorf("the engine was asked %d times, want once", n)
	}
}

// TestEngineFullForAWhile: two refusals of a full engine cost the client nothing but time.
func TestEngineFullForAWhile(t *testing.T) {
	var calls atomic.Int32
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request, body []byte) {
		switch {
		case calls.Add(1) <= 2:
			http.Error(w, `{"object":"error","message":"The request queue is full.","type":"ServiceUnavailable","param":null,"code":503}`, http.StatusServiceUnavailable)
		case streams(body):
			stream(w, words("all is "), words("well"), chunk(finished), usage, "[DONE]")
		default:
			text(whole)(w, nil)
		}
	})
	c := client(up(t, []string{e.url}))

	got, err := c.Chat.Completions.New(t.Context(), ask(scriptedModel, "hello"))
	if err != nil {
		t.Fatalf("whole: %v", err)
	}
	if got.Choices[0].Message.Content != "all is well" || calls.Load() != 3 {
		t.Errorf("whole: got %s after %d calls, want the third call's answer", got.RawJSON(), calls.Load())
	}

	calls.Store(0)
	s := c.Chat.Completions.NewStreaming(t.Context(), ask(scriptedModel, "hello again"))
	defer s.Close()
	var acc openai.ChatCompletionAccumulator
	for s.Next() {
		acc.AddChunk(s.Current())
	}
	if err := s.Err(); err != nil {
		t.Fatalf("streamed: %v", err)
	}
	if len(acc.Choices) != 1 || acc.Choices[0].Message.Content != "all is well" || calls.Load() != 3 {
		t.Errorf("streamed: got %+v after %d calls, want the third call's answer", acc.Choices, calls.Load())
	}
}

// TestCancel: a client that leaves in the middle of a stream frees its place in the engine at once.
func TestCancel(t *testing.T) {
	left := make(chan struct{}, 1)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		stream(w, words("one "), words("two "))
		select {
		case <-r.Context().Done():
			left <- struct{}{}
		case <-time.After(stopBound):
			t.Error("the engine was never left")
		}
	})
	c := client(up(t, []string{e.url}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := c.Chat.Completions.NewStreaming(ctx, ask(scriptedModel, "hello"))
	defer s.Close()
	if !s.Next() {
		t.Fatalf("no first chunk: %v", s.Err())
	}
	cancel()
	cancelled := time.Now()
	for s.Next() { // what was on its way
	}
	if err := s.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v, want context.Canceled", err)
	}
	var sent struct {
		Rid string `json:"rid"`
	}
	if err := json.Unmarshal(e.requests()[0], &sent); err != nil || sent.Rid == "" {
		t.Fatalf("the engine's request has no name to abort it by: %s", e.requests()[0])
	}
	select {
	case rid := <-e.aborts:
		if rid != sent.Rid {
			t.Errorf("aborted %q, want %q", rid, sent.Rid)
		}
		t.Logf("aborted %v after the client left", time.Since(cancelled))
	case <-time.After(time.Second):
		t.Error("not aborted within a second")
	}
	select {
	case <-left:
	case <-time.After(2 * time.Second):
		t.Error("the connection to the engine is still open")
	}
}
