package replay_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/replay"
)

// TestFailuresAreSorted: each way to fail has its name, and none of them leaves a latency.
func TestFailuresAreSorted(t *testing.T) {
	sse := func(w http.ResponseWriter, lines ...string) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, l := range lines {
			fmt.Fprint(w, l, "\n\n")
		}
	}
	const chunk = `data: {"choices":[{"delta":{"content":"hi"},"finish_reason":null}]}`
	tests := []struct {
		name     string
		noStream bool
		reply    func(w http.ResponseWriter, r *http.Request)
		want     replay.Kind
		sample   string
	}{
		{"429 with a nested error", false, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"error":{"message":"no room","code":429}}`)
		}, "http_429", "no room"},
		{"400 with a flat error", true, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"object":"error","message":"too long","type":"x","param":null,"code":400}`)
		}, "http_400", "too long"},
		{"500 with plain text", false, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Internal Server Error", http.StatusInternalServerError)
		}, "http_500", "Internal Server Error"},
		{"redirect", false, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "http_307", ""},
		{"error event", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, `data: {"error":{"object":"error","message":"over the pool","code":400}}`, "data: [DONE]")
		}, replay.StreamError, "over the pool"},
		{"error event after output", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, chunk, `data: {"error":"gone"}`, "data: [DONE]")
		}, replay.StreamError, "gone"},
		{"aborted chat", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, `data: {"choices":[{"delta":{},"finish_reason":"abort"}]}`, "data: [DONE]")
		}, replay.StreamError, "aborted"},
		{"aborted generate", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, `data: {"text":"","meta_info":{"finish_reason":{"type":"abort","message":"over","status_code":400}}}`, "data: [DONE]")
		}, replay.StreamError, "over"},
		{"aborted whole reply", true, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"choices":[{"message":{"content":"h"},"finish_reason":"abort"}]}`)
		}, replay.StreamError, "aborted"},
		{"stream that ends without [DONE]", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, chunk, `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`)
		}, replay.CutStream, "EOF"},
		{"stream that breaks off", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, chunk)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, replay.CutStream, "unexpected EOF"},
		{"whole reply that breaks off", true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"choices":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, replay.CutStream, "unexpected EOF"},
		{"closed without a reply", false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, replay.Connection, "EOF"},
		{"not JSON", false, func(w http.ResponseWriter, _ *http.Request) { sse(w, "data: {hello") }, replay.BadReply, "event is not a JSON object"},
		{"whole reply to a stream", false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"choices":[]}`)
		}, replay.BadReply, "whole reply"},
		{"event too large", false, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, "data: "+strings.Repeat("x", 1<<17))
		}, replay.BadReply, "event larger than 65536 bytes"},
		{"endless line", false, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, replay.BadReply, "event larger than 65536 bytes"},
		{"output too large", false, func(w http.ResponseWriter, _ *http.Request) {
			one := `data: {"choices":[{"delta":{"content":"` + strings.Repeat("y", 60_000) + `"}}]}`
			sse(w, one, one, one, "data: [DONE]")
		}, replay.BadReply, "output larger than 131072 bytes"},
		{"whole reply too large", true, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat(" ", 1<<18))
		}, replay.BadReply, "reply larger than 131072 bytes"},
		{"silence", false, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, replay.Timeout, "timed out"},
		{"silence after the first chunk", false, func(w http.ResponseWriter, r *http.Request) {
			sse(w, chunk)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, replay.Timeout, "timed out"},
		{"silence within an error", false, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, replay.Timeout, "timed out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport, stop := serveInMemory(&engine{misbehave: func(n int, w http.ResponseWriter, r *http.Request) bool {
					if n%2 == 1 {
						return false // every other request is served: the loop goes on, and reports both
					}
					tt.reply(w, r)
					return true
				}})
				defer stop()
				got := run(t, t.Context(), replay.Config{
					URL: "http://engine", Transport: transport, NoStream: tt.noStream, Concurrency: 1, Requests: 4,
					Timeout: time.Minute, MaxEventBytes: 1 << 16, MaxReplyBytes: 1 << 17,
					Workload: multiturn(t, replay.MultiturnConfig{InputTokens: 4, OutputTokens: 3}),
				})
				if want := map[replay.Kind]int64{tt.want: 2}; !cmp.Equal(got.ErrorsByKind, want) || !strings.Contains(got.ErrorSamples[tt.want], tt.sample) {
					t.Errorf("got %v %q, want %v %q", got.ErrorsByKind, got.ErrorSamples, want, tt.sample)
				}
				if got.Requests != 4 || got.Errors != 2 || got.E2E.Count != 2 || *got.OutputTokens != 6 {
					t.Errorf("got %d requests, %d errors, %d latencies, %d output tokens, want 4, 2, 2, 6",
						got.Requests, got.Errors, got.E2E.Count, *got.OutputTokens)
				}
				if tt.noStream != (got.TTFT.Count == 0) {
					t.Errorf("TTFT measured %d times", got.TTFT.Count)
				}
				if long := 2 * time.Minute.Seconds(); (tt.want == replay.Timeout) != (got.DurationSeconds > long) {
					t.Errorf("took %v s", got.DurationSeconds)
				}
			})
		})
	}
}

func TestRefusedConnectionsAreCounted(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	cfg := replay.Config{URL: s.URL, Model: "m", Requests: 3, Concurrency: 2, Workload: multiturn(t, replay.MultiturnConfig{})}
	got := run(t, t.Context(), cfg)
	if got.ErrorsByKind[replay.Connection] != 3 || got.Requests != 3 || got.E2E.Count != 0 {
		t.Errorf("got %+v", got)
	}

	cfg.Model = "" // now it has to be asked for
	_, err := replay.Run(t.Context(), cfg)
	if e, ok := errors.AsType[*replay.ModelError](err); !ok || !strings.HasSuffix(e.URL, "/v1/models") {
		t.Errorf("got %v, want a ModelError", err)
	}
}

func TestModelsOtherThanOKAreAnError(t *testing.T) {
	for body, want := range map[string]string{`{"data":[]}`: replay.ErrNoModel.Error(), `[`: "unexpected end", "": "status 503: "} {
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if body == "" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, body)
		}))
		_, err := replay.Run(t.Context(), replay.Config{URL: url, Workload: multiturn(t, replay.MultiturnConfig{})})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("models %q: got %v, want %q", body, err, want)
		}
	}
}
