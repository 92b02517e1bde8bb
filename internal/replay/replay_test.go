package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/replay"
)

// TestMultiturnHitsAnInfiniteCacheAsArithmeticSays: rounds of 512, 1088, 1664, 2240 and 2816 tokens, of which
// all but the new 512 were seen: 5,760 of 8,320.
func TestMultiturnHitsAnInfiniteCacheAsArithmeticSays(t *testing.T) {
	for _, api := range []replay.API{replay.Chat, replay.Generate} {
		for _, tiers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tiers=%t", api, tiers), func(t *testing.T) {
				e := &engine{chunks: 4, tierDetails: tiers && api == replay.Chat}
				got := run(t, t.Context(), replay.Config{
					URL: serve(t, e), Workload: multiturn(t, replay.MultiturnConfig{}), API: api,
					Concurrency: 3, Interleave: 2, Conversations: 6,
				})
				if got.Requests != 30 || got.Errors != 0 || got.Partial || got.Stopped != "" {
					t.Fatalf("got %d requests, %d errors %v, partial %t %q", got.Requests, got.Errors, got.ErrorSamples, got.Partial, got.Stopped)
				}
				if *got.PromptTokens != 6*8320 || *got.CachedTokens != 6*5760 || *got.OutputTokens != 30*64 {
					t.Errorf("got %d prompt, %d cached, %d output tokens, want %d, %d, %d",
						*got.PromptTokens, *got.CachedTokens, *got.OutputTokens, 6*8320, 6*5760, 30*64)
				}
				if math.Abs(*got.HitRate-0.6923) > 0.0001 {
					t.Errorf("hit rate %f, want 0.6923", *got.HitRate)
				}
				if w := got.Workers; w["w0"].Requests != 15 || w["w1"].Share != 0.5 {
					t.Errorf("workers: %+v", w)
				}
			})
		}
	}
}

// TestSharedSystemPromptsHit: one conversation of a group pays for the system prompt, the others find it.
func TestSharedSystemPromptsHit(t *testing.T) {
	e := &engine{}
	got := run(t, t.Context(), replay.Config{
		URL: serve(t, e), Concurrency: 1, Conversations: 8,
		Workload: multiturn(t, replay.MultiturnConfig{Rounds: 1, InputTokens: 100, OutputTokens: 1, SystemPrompts: 2, SystemTokens: 300}),
	})
	if *got.PromptTokens != 8*400 || *got.CachedTokens != 6*300 {
		t.Errorf("got %d of %d cached, want %d of %d", *got.CachedTokens, *got.PromptTokens, 6*300, 8*400)
	}
	if role := e.requests()[0].raw["messages"].([]any)[0].(map[string]any)["role"]; role != "system" {
		t.Errorf("first message is from %v", role)
	}
}

// TestTimesAreExact measures in virtual time: 250 ms to the first chunk, nine gaps of 20 ms.
func TestTimesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, stop := serveInMemory(&engine{first: 250 * time.Millisecond, between: 20 * time.Millisecond, chunks: 10})
		defer stop()
		got := run(t, t.Context(), replay.Config{
			URL: "http://engine", Transport: transport, Concurrency: 2, Requests: 8, Think: time.Second,
			Workload: multiturn(t, replay.MultiturnConfig{Rounds: 2, InputTokens: 8, OutputTokens: 20}),
		})
		same := func(name string, d replay.Distribution, count int64, seconds float64) {
			t.Helper()
			for _, v := range []float64{d.Min, d.P50, d.P90, d.P99, d.Max, d.Mean} {
				if d.Count != count || math.Abs(v-seconds) > 1e-7 {
					t.Fatalf("%s: got %+v, want %d × %v", name, d, count, seconds)
				}
			}
		}
		same("TTFT", got.TTFT, 8, 0.250)
		same("ITL", got.ITL, 8*9, 0.020)
		same("E2E", got.E2E, 8, 0.430)
		same("TPOT", got.TPOT, 8, 0.180/19)
		// A user: two turns and the think time between them, twice; no pause between conversations.
		if want := 4*0.430 + 2*1.0; math.Abs(got.DurationSeconds-want) > 1e-9 {
			t.Errorf("duration %v, want %v", got.DurationSeconds, want)
		}
		if want := 8 * 20 / got.DurationSeconds; math.Abs(*got.OutputTokensPerSecond-want) > 1e-9 {
			t.Errorf("output tokens/s %v, want %v", *got.OutputTokensPerSecond, want)
		}
		if want := 8 * 0.430 / got.DurationSeconds; math.Abs(got.MeanConcurrency-want) > 1e-9 {
			t.Errorf("mean concurrency %v, want %v", got.MeanConcurrency, want)
		}
	})
}

// TestRequestsCarryWhatTheySay looks at what arrives.
func TestRequestsCarryWhatTheySay(t *testing.T) {
	e := &engine{}
	url := serve(t, http.StripPrefix("/sub", e))
	work := multiturn(t, replay.MultiturnConfig{Rounds: 2, InputTokens: 3, OutputTokens: 2})
	run(t, t.Context(), replay.Config{URL: url + "/sub/v1/", Workload: work, Concurrency: 1, Conversations: 1, APIKey: "secret"})
	run(t, t.Context(), replay.Config{URL: url + "/sub", Workload: work, Concurrency: 1, Requests: 1, Portable: true, NoStream: true, OutputTokens: 9, Model: `m"x`})
	run(t, t.Context(), replay.Config{URL: url + "/sub", Workload: work, Concurrency: 1, Requests: 1, API: replay.Generate, Model: "m"})

	got := e.requests()
	if len(got) != 4 {
		t.Fatalf("got %d requests", len(got))
	}
	want := []map[string]any{
		{"model": "base", "max_tokens": 2.0, "temperature": 0.0, "stream": true, "stream_options": map[string]any{"include_usage": true},
			"ignore_eos": true, "return_cached_tokens_details": true},
		{"model": `m"x`, "max_tokens": 9.0, "temperature": 0.0, "stream": false},
		{"sampling_params": map[string]any{"max_new_tokens": 2.0, "temperature": 0.0, "ignore_eos": true}, "stream": true},
	}
	for i, n := range []int{0, 2, 3} {
		raw := got[n].raw
		delete(raw, "messages")
		delete(raw, "text")
		if d := cmp.Diff(want[i], raw); d != "" {
			t.Errorf("request %d: (-want +got)\n%s", n, d)
		}
	}
	if auth := got[0].header.Get("Authorization"); auth != "Bearer secret" {
		t.Errorf("authorization %q", auth)
	}
	if model := got[3].header.Get("x-radixbus-model"); model != "m" || got[3].path != "/generate" {
		t.Errorf("generate went to %s for model %q", got[3].path, model)
	}
	// The second turn holds the model's own words.
	roles := ""
	for _, m := range got[1].raw["messages"].([]any) {
		roles += m.(map[string]any)["role"].(string) + " "
	}
	if roles != "user assistant user " || !slices.Equal(got[1].prompt[3:5], []string{"r0x0", "r0x1"}) {
		t.Errorf("second turn: %s%v", roles, got[1].prompt)
	}
}

// TestConversationEndsWithAFailedReply: its next question would rest on a reply that is not there.
func TestConversationEndsWithAFailedReply(t *testing.T) {
	e := &engine{misbehave: func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n == 1
	}}
	got := run(t, t.Context(), replay.Config{URL: serve(t, e), Concurrency: 1, Conversations: 2,
		Workload: multiturn(t, replay.MultiturnConfig{Rounds: 3, InputTokens: 2, OutputTokens: 1})})
	if got.Requests != 2+3 || got.ErrorsByKind["http_503"] != 1 {
		t.Errorf("got %d requests, errors %v, want 5 and one 503", got.Requests, got.ErrorsByKind)
	}
}

// TestPausesAfterFailures: 10, 20, 40 … ms between requests that are refused at once.
func TestPausesAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, stop := serveInMemory(&engine{misbehave: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}})
		defer stop()
		got := run(t, t.Context(), replay.Config{URL: "http://engine", Transport: transport, Concurrency: 1, Requests: 10,
			Workload: multiturn(t, replay.MultiturnConfig{})})
		// 10+20+40+80+160+320+640 ms, then 1 s twice.
		if want := 1.27 + 2; got.Errors != 10 || math.Abs(got.DurationSeconds-want) > 1e-9 {
			t.Errorf("%d errors in %v s, want 10 in %v", got.Errors, got.DurationSeconds, want)
		}
	})
}

func TestEndOfContextLeavesAPartialReport(t *testing.T) {
	for _, tt := range []struct {
		name             string
		grace            time.Duration
		done, unfinished int64
		took             time.Duration
	}{
		{"in flight may finish", 0, 4, 0, 4 * time.Second},    // two each before 3 s, the second ends at 4 s
		{"in flight is abandoned", -1, 2, 2, 3 * time.Second}, // at once
		{"grace is bounded", 500 * time.Millisecond, 2, 2, 3500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport, stop := serveInMemory(&engine{first: 2 * time.Second})
				defer stop()
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				got := run(t, ctx, replay.Config{URL: "http://engine", Transport: transport, Concurrency: 2, Requests: -1,
					Grace: tt.grace, Workload: multiturn(t, replay.MultiturnConfig{Rounds: 1000, InputTokens: 2, OutputTokens: 1})})
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if !got.Partial || got.Stopped != context.DeadlineExceeded.Error() {
					t.Errorf("partial %t, stopped %q", got.Partial, got.Stopped)
				}
				if got.Requests != tt.done || got.Unfinished != tt.unfinished || got.Errors != 0 {
					t.Errorf("got %d requests, %d unfinished, %v, want %d, %d", got.Requests, got.Unfinished, got.ErrorsByKind, tt.done, tt.unfinished)
				}
			})
		})
	}
}

// TestThinkingUserStopsAtOnce: the pause between turns does not outlive the context.
func TestThinkingUserStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, stop := serveInMemory(&engine{})
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		got := run(t, ctx, replay.Config{URL: "http://engine", Transport: transport, Concurrency: 1, Think: time.Hour,
			Workload: multiturn(t, replay.MultiturnConfig{InputTokens: 2, OutputTokens: 1})})
		if time.Since(begin) != time.Minute || got.Requests != 1 || !got.Partial {
			t.Errorf("%v, %d requests, partial %t", time.Since(begin), got.Requests, got.Partial)
		}
	})
}

func TestUnreportedIsNotZero(t *testing.T) {
	for _, tt := range []struct {
		e            *engine
		prompt, hits bool
	}{
		{&engine{noUsage: true}, false, false},
		{&engine{noCached: true}, true, false},
		{&engine{}, true, true},
	} {
		got := run(t, t.Context(), replay.Config{URL: serve(t, tt.e), Requests: 4, Concurrency: 2,
			Workload: multiturn(t, replay.MultiturnConfig{InputTokens: 2, OutputTokens: 2})})
		var keys map[string]any
		encoded, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &keys); err != nil {
			t.Fatal(err)
		}
		if (keys["prompt_tokens"] != nil) != tt.prompt || (keys["output_tokens_per_second"] != nil) != tt.prompt ||
			(keys["cached_tokens"] != nil) != tt.hits || (keys["hit_rate"] != nil) != tt.hits {
			t.Errorf("got %s", encoded)
		}
		var table strings.Builder
		if err := got.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(table.String(), "not reported") == tt.hits {
			t.Errorf("table:\n%s", &table)
		}
	}
}

// TestMissesLeftOutCountAsMisses: some releases of SGLang report no details for a miss.
func TestMissesLeftOutCountAsMisses(t *testing.T) {
	e := &engine{misbehave: func(n int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		details := `null`
		if n == 1 {
			details = `{"cached_tokens":30}`
		}
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":0,\"prompt_tokens_details\":%s}}\n\ndata: [DONE]\n\n", details)
		return true
	}}
	got := run(t, t.Context(), replay.Config{URL: serve(t, e), Concurrency: 1, Requests: 2, Workload: multiturn(t, replay.MultiturnConfig{})})
	if got.HitRate == nil || *got.HitRate != 0.3 || got.CachedReported != 1 {
		t.Errorf("got %v from %d replies, want 0.3 from 1", got.HitRate, got.CachedReported)
	}
}

func TestBoundsOfARun(t *testing.T) {
	work := multiturn(t, replay.MultiturnConfig{Rounds: 2, InputTokens: 2, OutputTokens: 1})
	for _, tt := range []struct {
		name string
		cfg  replay.Config
		want int64
	}{
		{"natural size", replay.Config{}, 512},
		{"requests", replay.Config{Requests: 7}, 7},
		{"requests beyond the natural size", replay.Config{Requests: 600}, 600},
		{"conversations", replay.Config{Conversations: 3}, 6},
		{"whichever comes first", replay.Config{Conversations: 3, Requests: 5}, 5},
		{"more users than requests", replay.Config{Requests: 2, Concurrency: 64}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &engine{}
			tt.cfg.URL, tt.cfg.Workload = serve(t, e), work
			got := run(t, t.Context(), tt.cfg)
			if got.Requests != tt.want || int64(len(e.requests())) != tt.want || got.Partial || got.Stopped != "" {
				t.Errorf("got %d requests, sent %d, %q, want %d", got.Requests, len(e.requests()), got.Stopped, tt.want)
			}
		})
	}
}

func TestConfigErrorsComeTogether(t *testing.T) {
	_, err := replay.Run(t.Context(), replay.Config{URL: "localhost:8080", API: "soap", Concurrency: -1, Timeout: -1, Interleave: -2})
	if !errors.Is(err, replay.ErrConfig) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"URL", "soap", "no workload", "concurrency -1", "timeout", "interleave -2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing from: %v", part, err)
		}
	}
	if _, err := replay.Run(t.Context(), replay.Config{URL: "http://user:hunter2@h/", Workload: multiturn(t, replay.MultiturnConfig{})}); !errors.Is(err, replay.ErrConfig) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
	if _, err := replay.NewMultiturn(replay.MultiturnConfig{Rounds: -1, SystemTokens: 5}); !errors.Is(err, replay.ErrConfig) ||
		!strings.Contains(err.Error(), "rounds") || !strings.Contains(err.Error(), "without system prompts") {
		t.Errorf("got %v", err)
	}
}

// TestProgressIsDrawnOnTerminalsOnly, with what is known so far.
func TestProgressIsDrawnOnTerminalsOnly(t *testing.T) {
	for _, cfg := range []replay.Config{{Conversations: 2}, {Requests: 10}} { // without and with a known total
		for _, terminal := range []bool{false, true} {
			var out strings.Builder
			cfg.URL, cfg.Workload = serve(t, &engine{}), multiturn(t, replay.MultiturnConfig{})
			cfg.Progress, cfg.Terminal, cfg.Concurrency = &out, terminal, 1
			run(t, t.Context(), cfg)
			if !terminal && out.Len() > 0 {
				t.Errorf("wrote %q to what is no terminal", out.String())
			}
			done := "10 requests"
			if cfg.Requests > 0 {
				done = "10 of 10"
			}
			if terminal && (!strings.Contains(out.String(), done) || !strings.Contains(out.String(), "hit rate 69.2 %")) {
				t.Errorf("%q or the hit rate is missing from %q", done, out.String())
			}
		}
	}
}

// TestConnectionsAreKept: a user's requests share one connection, also after failures with a short body.
func TestConnectionsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, stop := serveInMemory(&engine{between: time.Millisecond, misbehave: func(n int, w http.ResponseWriter, _ *http.Request) bool {
			switch n % 5 {
			case 0:
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprint(w, "data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n")
			case 1:
				http.Error(w, "no", http.StatusTooManyRequests)
			}
			return n%5 < 2
		}})
		defer stop()
		var dials atomic.Int64
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, address)
		}
		got := run(t, t.Context(), replay.Config{URL: "http://engine", Transport: transport, Model: "m", Requests: 40, Concurrency: 4,
			Workload: multiturn(t, replay.MultiturnConfig{InputTokens: 2, OutputTokens: 2})})
		if got.Errors != 16 || dials.Load() > 4 { // fewer if a user came too late to get a request
			t.Errorf("%d errors, %d connections for 4 users", got.Errors, dials.Load())
		}
	})
}

// TestInterleavedConversationsTakeTurns: the think time of one is there for the other.
func TestInterleavedConversationsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{first: 250 * time.Millisecond}
		transport, stop := serveInMemory(e)
		defer stop()
		got := run(t, t.Context(), replay.Config{URL: "http://engine", Transport: transport, Concurrency: 1, Interleave: 2,
			Conversations: 2, Think: time.Second, Workload: multiturn(t, replay.MultiturnConfig{Rounds: 2, InputTokens: 2, OutputTokens: 1})})
		// One speaks until 0.25 s, the other until 0.5 s. The first is ready at 1.25 s, the other at 1.5 s.
		if want := 1.75; math.Abs(got.DurationSeconds-want) > 1e-9 {
			t.Errorf("took %v s, want %v", got.DurationSeconds, want)
		}
		var rounds []int
		for _, r := range e.requests() {
			rounds = append(rounds, len(r.prompt))
		}
		if !slices.Equal(rounds, []int{2, 2, 5, 5}) {
			t.Errorf("prompts of %v tokens, want both first rounds before both second ones", rounds)
		}
	})
}

// TestAServerThatLingersAfterDoneCostsLittle: the end of the body is waited for, but not long, and E2E does
// not include it.
func TestAServerThatLingersAfterDoneCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, stop := serveInMemory(&engine{misbehave: func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: [DONE]\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}})
		defer stop()
		begin := time.Now()
		got := run(t, t.Context(), replay.Config{URL: "http://engine", Transport: transport, Concurrency: 1, Requests: 3,
			Workload: multiturn(t, replay.MultiturnConfig{})})
		if took := time.Since(begin); got.Errors != 0 || took > time.Second || got.E2E.Max > 0.001 {
			t.Errorf("took %v, %d errors, E2E up to %v s", took, got.Errors, got.E2E.Max)
		}
	})
}

func ExampleRun() {
	server := httptest.NewServer(&engine{})
	defer server.Close()
	work, err := replay.NewMultiturn(replay.MultiturnConfig{Rounds: 3, InputTokens: 100, OutputTokens: 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := replay.Run(context.Background(), replay.Config{URL: server.URL, Workload: work, Conversations: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d requests, %d errors, hit rate %.3f\n", report.Requests, report.Errors, *report.HitRate)
	if err := report.WriteTable(io.Discard); err != nil {
		fmt.Println(err)
	}
	// Output: 30 requests, 0 errors, hit rate 0.545
}
