package workeradapter_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

func cacheReport(e *testkit.Engine, _ *workeradapter.Config) { e.SetInfo("enable_cache_report", true) }

// What engines answer when something is wrong, as seen on SGLang 0.5, and what a gateway gets of it.
func TestErrorsOfTheEngine(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	const flat = `{"object":"error","message":"Bad request.","type":"BadRequestError","param":null,"code":400}`
	reply := func(status int, contentType, body string) func(*testkit.Exchange) {
		return func(x *testkit.Exchange) { x.Reply(status, contentType, body) }
	}
	events := func(docs ...string) func(*testkit.Exchange) {
		return func(x *testkit.Exchange) { x.Begin(); x.Send(sse(append(docs, "[DONE]")...)) } //nolint:errcheck // the caller may be gone
	}
	tests := []struct {
		name   string
		route  prefix.Route
		body   string
		answer func(*testkit.Exchange)
		code   wire.Code
		status int    // 0: nothing is passed on
		doc    string // verbatim
		says   string
	}{
		{"generate validation", prefix.Generate, `{"text":"x"}`, reply(400, "application/json", `{"error":{"message":"Bad."}}`), wire.CodeEngineRefused, 400, `{"error":{"message":"Bad."}}`, ""},
		{"unknown sampling key", prefix.Generate, `{"text":"x"}`, reply(400, "application/json", `{"error":"Unexpected keyword 'x'"}`), wire.CodeEngineRefused, 400, `{"error":"Unexpected keyword 'x'"}`, ""},
		{"flat 400", prefix.Chat, whole, reply(400, "application/json", flat), wire.CodeEngineRefused, 400, flat, ""},
		{"flat 400 to a stream", prefix.Chat, stream, reply(400, "application/json", flat), wire.CodeEngineRefused, 400, flat, ""},
		{"chat stream over the pool", prefix.Chat, stream, events(`{"error":` + flat + `}`), wire.CodeEngineRefused, 400, `{"error":` + flat + `}`, ""},
		{"the same with spaces", prefix.Chat, stream, events(`{"error": {"object": "error", "message": "Bad.", "code": 400}}`), wire.CodeEngineRefused, 400, `{"error": {"object": "error", "message": "Bad.", "code": 400}}`, ""},
		{"flat with spaces in a stream", prefix.Chat, stream, events(`{"object": "error", "message": "Bad.", "code": 400}`), wire.CodeEngineRefused, 400, `{"object": "error", "message": "Bad.", "code": 400}`, ""},
		{"an error after the first chunk, at once", prefix.Chat, stream, events(first, `{"error":`+flat+`}`), wire.CodeEngineRefused, 400, `{"error":` + flat + `}`, ""},
		{"generate stream over the context", prefix.Generate, `{"text":"x","stream":true}`, events(`{"error":{"message":"Too long.","type":"invalid_request_error","code":400,"retryable":false}}`), wire.CodeEngineRefused, 400, `{"error":{"message":"Too long.","type":"invalid_request_error","code":400,"retryable":false}}`, ""},
		{"generate stream over the pool", prefix.Generate, `{"text":"x","stream":true}`, events(`{"text":"","meta_info":{"finish_reason":{"type":"abort","message":"Over the pool.","status_code":400,"err_type":"BadRequestError"}}}`), wire.CodeEngineRefused, 400, `{"error":{"code":400,"message":"Over the pool.","param":null,"type":"invalid_request_error"}}`, ""},
		{"counts of a refused request", prefix.Generate, `{"text":"x","stream":true}`, events(`{"text":"","meta_info":{"prompt_tokens":1,"completion_tokens":1,"finish_reason":{"type":"abort","message":"Over the pool.","status_code":400}}}`), wire.CodeEngineRefused, 400, `{"error":{"code":400,"message":"Over the pool.","param":null,"type":"invalid_request_error"}}`, ""},
		{"generate over the pool", prefix.Generate, `{"text":"x"}`, reply(200, "application/json", `{"text":"","meta_info":{"finish_reason":{"type":"abort","message":"Over the pool.","status_code":400}}}`), wire.CodeEngineRefused, 400, `{"error":{"code":400,"message":"Over the pool.","param":null,"type":"invalid_request_error"}}`, ""},
		{"queue full", prefix.Generate, `{"text":"x"}`, reply(503, "application/json", `{"object":"error","message":"The queue is full.","code":503}`), wire.CodeEngineBusy, 0, "", "The queue is full."},
		{"queue full in a stream", prefix.Chat, stream, events(`{"error":{"object":"error","message":"The queue is full.","code":503}}`), wire.CodeEngineBusy, 0, "", "The queue is full."},
		{"queue full, called the client's", prefix.Chat, whole, reply(400, "application/json", `{"error":{"message":"503: The request queue is full.","type":"invalid_request_error","code":400}}`), wire.CodeEngineBusy, 0, "", "The request queue is full."},
		{"words that begin with a number", prefix.Chat, whole, reply(400, "application/json", `{"error":{"message":"404: no"}}`), wire.CodeEngineRefused, 400, `{"error":{"message":"404: no"}}`, ""},
		{"429", prefix.Chat, whole, reply(429, "text/plain", "slow down"), wire.CodeEngineBusy, 0, "", "slow down"},
		{"our key refused", prefix.Chat, whole, reply(401, "application/json", `{"error":"Unauthorized"}`), wire.CodeEngineFault, 0, "", "Unauthorized"},
		{"an error of the engine's", prefix.Chat, whole, reply(500, "text/plain", "Internal Server Error"), wire.CodeEngineFault, 0, "", "Internal Server Error"},
		{"detail of a framework", prefix.Chat, whole, reply(500, "application/json", `{"detail":"boom"}`), wire.CodeEngineFault, 0, "", "boom"},
		{"an error without a code in a stream", prefix.Chat, stream, events(`{"error":"boom"}`), wire.CodeEngineFault, 0, "", "boom"},
		{"error in a whole answer", prefix.Chat, whole, reply(200, "application/json", `{"error":{"message":"boom","code":500}}`), wire.CodeEngineFault, 0, "", "boom"},
		{"a page in place of an answer", prefix.Chat, whole, reply(200, "text/html", "<html>It works!</html>"), wire.CodeEngineFault, 0, "", "<html>It works!</html>"},
		{"a long page", prefix.Chat, whole, reply(200, "text/html", strings.Repeat("x", 100_000)), wire.CodeEngineFault, 0, "", strings.Repeat("x", 512) + "…"},
		{"an empty answer", prefix.Chat, whole, reply(200, "application/json", ""), wire.CodeEngineFault, 0, "", ""},
		{"a stream of nonsense", prefix.Chat, stream, events("{not json}"), wire.CodeEngineFault, 0, "", "{not json}"},
		{"elsewhere", prefix.Chat, whole, func(x *testkit.Exchange) {
			x.W.Header().Set("Location", s.engine.URL()+"/v1/completions")
			x.Reply(307, "text/plain", "")
		}, wire.CodeEngineFault, 0, "", ""},
		{"cut before the head", prefix.Chat, whole, func(x *testkit.Exchange) { x.Break() }, wire.CodeEngineBroke, 0, "", ""},
		{"cut before the first event", prefix.Chat, stream, func(x *testkit.Exchange) { x.Begin(); x.Break() }, wire.CodeEngineBroke, 0, "", ""},
		{"cut after a comment", prefix.Chat, stream, func(x *testkit.Exchange) { x.Begin(); x.Send(": wait\n\n"); x.Break() }, wire.CodeEngineBroke, 0, "", ""}, //nolint:errcheck // it is cut
		{"an empty stream", prefix.Chat, stream, func(x *testkit.Exchange) { x.Begin() }, wire.CodeEngineBroke, 0, "", ""},
		{"cut in a whole answer", prefix.Chat, whole, func(x *testkit.Exchange) {
			x.W.Header().Set("Content-Length", "1000")
			x.Reply(200, "application/json", `{"half":`)
			x.Break()
		}, wire.CodeEngineBroke, 0, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.engine.Answer(tt.answer)
			st := s.ask(tt.route, tt.body)
			got := st.Wait()
			if got.End.Code != tt.code || got.Status != tt.status || got.Body != tt.doc || !strings.Contains(got.End.Message, tt.says) {
				t.Errorf("got %v, status %d, %q, message %q; want %v, status %d, %q, message %q", got.End.Code, got.Status, got.Body, got.End.Message, tt.code, tt.status, tt.doc, tt.says)
			}
			if got.End.Begun != (tt.status != 0) {
				t.Errorf("begun = %v", got.End.Begun)
			}
			if f := s.finished(st); f.End.Code != tt.code || f.End.Message != "" || f.End.Prompt != 0 {
				t.Errorf("the schedulers were told %+v: want the code, and no word that may be a prompt's", f.End)
			}
		})
	}
	s.idle()
	for _, e := range s.engine.Events() {
		if e != "call" && e != "hung up" {
			t.Errorf("the engine saw %q", e)
		}
	}
}

func TestErrorsInTheMiddleOfAStream(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, tt := range []struct {
		name string
		then func(x *testkit.Exchange, next <-chan struct{})
		code wire.Code
	}{
		{"no [DONE]", func(*testkit.Exchange, <-chan struct{}) {}, wire.CodeEngineBroke},
		{"cut", func(x *testkit.Exchange, _ <-chan struct{}) { x.Break() }, wire.CodeEngineBroke},
		{"half an event", func(x *testkit.Exchange, _ <-chan struct{}) { x.Send("data: {\"ha"); x.Break() }, wire.CodeEngineBroke},       //nolint:errcheck // it is cut
		{"[DONE] without a blank line", func(x *testkit.Exchange, _ <-chan struct{}) { x.Send("data: [DONE]\n") }, wire.CodeEngineBroke}, //nolint:errcheck // it is over
		{"an error", func(x *testkit.Exchange, _ <-chan struct{}) {
			x.Send(sse(`{"error":{"message":"boom","code":500}}`, "[DONE]")) //nolint:errcheck // it is over
		}, wire.CodeEngineFault},
		{"a refusal, too late to be one", func(x *testkit.Exchange, _ <-chan struct{}) {
			x.Send(sse(`{"error":{"message":"boom","code":400}}`, "[DONE]")) //nolint:errcheck // it is over
		}, wire.CodeEngineFault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := make(chan struct{})
			s.engine.Answer(func(x *testkit.Exchange) {
				x.Begin()
				x.Event(first) //nolint:errcheck // the caller may be gone
				<-next
				tt.then(x, next)
			})
			st := s.ask(prefix.Chat, stream)
			testkit.Eventually(t, "the first event", func() bool { return st.Answer().Body != "" })
			close(next)
			got := st.Wait()
			if got.End.Code != tt.code || got.Status != 200 || got.Body != sse(first) || !got.End.Begun {
				t.Errorf("got %+v with %q", got.End, got.Body)
			}
		})
	}
	s.idle()
}

func TestStreamsAreRelayedByteForByte(t *testing.T) {
	t.Parallel()
	const withUsage = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}`
	const withDetails = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"return_cached_tokens_details":true}`
	const inChoice = `{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"sglext":{"cached_tokens_details":{"device":20,"host":12}},"n": 1.50}`
	long := `{"id":"x","choices":[{"index":0,"delta":{"content":"` + strings.Repeat("é", 700<<10) + `"},"finish_reason":null}]}`
	for _, tt := range []struct {
		name    string
		prepare func(*testkit.Engine, *workeradapter.Config)
		route   prefix.Route
		body    string
		sent    string
		want    string // "": all of sent
		cached  uint32 // +1
	}{
		{"the usage that we asked for", cacheReport, prefix.Chat, stream, sse(first, second, last, usage, "[DONE]"), sse(first, second, last, "[DONE]"), 33},
		{"the usage that the client asked for", cacheReport, prefix.Chat, withUsage, sse(first, second, last, usage, "[DONE]"), "", 33},
		{"details that we asked for", nil, prefix.Chat, stream, sse(first, last, ext, strings.ReplaceAll(usage, `,"prompt_tokens_details":{"cached_tokens":32}`, ""), "[DONE]"), sse(first, last, "[DONE]"), 33},
		{"details that the client asked for", nil, prefix.Chat, withDetails, sse(first, last, ext, usage, "[DONE]"), sse(first, last, ext, "[DONE]"), 33},
		{"details beside a choice", nil, prefix.Chat, stream, sse(first, inChoice, usage, "[DONE]"), sse(first, strings.Replace(inChoice, `"sglext":{"cached_tokens_details":{"device":20,"host":12}},`, "", 1), "[DONE]"), 33},
		{"usage in every chunk is the client's", cacheReport, prefix.Chat, withUsage, sse(strings.Replace(first, `"usage":null`, `"usage":{"prompt_tokens":40,"completion_tokens":1}`, 1), last, usage, "[DONE]"), "", 33},
		{"completions", cacheReport, prefix.Completions, `{"model":"m","prompt":"x","stream":true}`, sse(`{"choices":[{"text":"a","finish_reason":null}]}`, `{"choices":[{"text":"","finish_reason":"length"}]}`, usage, "[DONE]"), sse(`{"choices":[{"text":"a","finish_reason":null}]}`, `{"choices":[{"text":"","finish_reason":"length"}]}`, "[DONE]"), 33},
		{"generate", nil, prefix.Generate, `{"text":"x","stream":true}`, sse(`{"text":"a","meta_info":{"prompt_tokens":40,"completion_tokens":1,"cached_tokens":32,"finish_reason":null}}`, `{"text":"ab","meta_info":{"prompt_tokens":40,"completion_tokens":2,"cached_tokens":32,"finish_reason":{"type":"stop"}}}`, "[DONE]"), "", 33},
		{"a batch", nil, prefix.Generate, `{"text":["x","y"],"stream":true}`, sse(`{"index":0,"meta_info":{"prompt_tokens":10,"completion_tokens":1,"cached_tokens":8,"finish_reason":{"type":"stop"}}}`, `{"index":1,"meta_info":{"prompt_tokens":30,"completion_tokens":1,"cached_tokens":24,"finish_reason":{"type":"stop"}}}`, "[DONE]"), "", 33},
		{"a batch of which one is refused", nil, prefix.Generate, `{"text":["x","y"],"stream":true}`, sse(
			`{"index":0,"text":"a","meta_info":{"prompt_tokens":40,"completion_tokens":1,"cached_tokens":32,"finish_reason":null}}`,
			`{"index":1,"text":"","meta_info":{"prompt_tokens":1,"completion_tokens":1,"cached_tokens":0,"finish_reason":{"type":"abort","message":"Input length","status_code":400}}}`,
			`{"index":0,"text":"ab","meta_info":{"prompt_tokens":40,"completion_tokens":2,"cached_tokens":32,"finish_reason":{"type":"length"}}}`, "[DONE]"), "", 33},
		{"CRLF", cacheReport, prefix.Chat, stream, strings.ReplaceAll(sse(first, last, usage, "[DONE]"), "\n", "\r\n"), strings.ReplaceAll(sse(first, last, "[DONE]"), "\n", "\r\n"), 33},
		{"comments, fields, no space", cacheReport, prefix.Chat, stream, ": ping\n\nevent: x\nid: 3\ndata:" + first + "\n\n:\n\nretry: 10\n\n" + sse(last, usage) + ": bye\n\n" + sse("[DONE]"), ": ping\n\nevent: x\nid: 3\ndata:" + first + "\n\n:\n\nretry: 10\n\n" + sse(last) + ": bye\n\n" + sse("[DONE]"), 33},
		{"a very large event", cacheReport, prefix.Chat, stream, sse(long, last, usage, "[DONE]"), sse(long, last, "[DONE]"), 33},
		{"nonsense in data", cacheReport, prefix.Chat, withUsage, sse(first, "{\"usage\":{", last, usage, "[DONE]"), "", 33},
		{"a plain engine's stream", func(e *testkit.Engine, _ *workeradapter.Config) { e.PlainOpenAI() }, prefix.Chat, withUsage, sse(first, last, usage, "[DONE]"), "", 33},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tt.prepare)
			s.engine.Answer(func(x *testkit.Exchange) { x.Begin(); x.Send(tt.sent) }) //nolint:errcheck // a difference shows
			st := s.ask(tt.route, tt.body)
			got := st.Wait()
			want := tt.want
			if want == "" {
				want = tt.sent
			}
			if got.Body != want || got.Status != 200 || got.ContentType != testkit.EventStream || got.End.Code != wire.CodeOK {
				t.Errorf("got %v %d %s, difference:\n%s", got.End.Code, got.Status, got.ContentType, cmp.Diff(want, got.Body))
			}
			if e := got.End; e.CachedPlus1 != tt.cached || e.Prompt != 40 || e.Completion != 2 || e.TTFTMicros == 0 || e.TotalMicros < e.TTFTMicros {
				t.Errorf("end = %+v, want 40 prompt tokens, 2 of the answer, %d cached", e, tt.cached-1)
			}
			f := s.finished(st)
			if f.Worker != "w" || f.Instance != s.now || f.Lease != 42 || f.Predicted != 5 || f.End != *got.End {
				t.Errorf("finished = %+v, want the end %+v", f, got.End)
			}
			s.idle()
		})
	}
}

// Wherever the engine's writes are cut, the client gets the same.
func TestEventsMayBeCutAnywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, cacheReport)
	sent := ": c\n\n" + sse(`{"choices":[{"delta":{"content":"é"}}]}`) + "data: " + usage + "\r\n\r\n" + sse("[DONE]")
	want := ": c\n\n" + sse(`{"choices":[{"delta":{"content":"é"}}]}`, "[DONE]")
	for at := range len(sent) {
		s.engine.Answer(func(x *testkit.Exchange) {
			x.Begin()
			x.Send(sent[:at]) //nolint:errcheck // a difference shows
			x.Send(sent[at:]) //nolint:errcheck // a difference shows
		})
		if got := s.ask(prefix.Chat, stream).Wait(); got.Body != want || got.End.Code != wire.CodeOK {
			t.Fatalf("cut at %d: %v %q", at, got.End.Code, got.Body)
		}
	}
	s.engine.Answer(func(x *testkit.Exchange) {
		x.Begin()
		for i := range len(sent) {
			x.Send(sent[i : i+1]) //nolint:errcheck // a difference shows
		}
	})
	if got := s.ask(prefix.Chat, stream).Wait(); got.Body != want || got.End.Code != wire.CodeOK {
		t.Fatalf("byte by byte: %v %q", got.End.Code, got.Body)
	}
	s.idle()
}

func TestWholeAnswers(t *testing.T) {
	t.Parallel()
	const full = `{"id":"x","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":40,"completion_tokens":2},"metadata":{"weight_version":"v7"}, "sglext":{"cached_tokens_details":{"device":30,"host":2}} ,"big":12345678901234567890.10}`
	s := newSite(t, nil)
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", full) })
	hidden := strings.Replace(full, ` "sglext":{"cached_tokens_details":{"device":30,"host":2}} ,`, "", 1)
	got := s.ask(prefix.Chat, whole).Wait()
	if strings.Contains(got.Body, "sglext") || strings.ReplaceAll(got.Body, " ", "") != strings.ReplaceAll(hidden, " ", "") || !strings.Contains(got.Body, "12345678901234567890.10") {
		t.Errorf("got %s, want %s", got.Body, hidden)
	}
	if e := got.End; e.CachedPlus1 != 33 || e.Prompt != 40 || e.Completion != 2 || e.Finish != "stop" || e.WeightVersion != "v7" {
		t.Errorf("end = %+v", e)
	}
	asked := strings.Replace(whole, "{", `{"return_cached_tokens_details":true,`, 1)
	if got := s.ask(prefix.Chat, asked).Wait(); got.Body != full {
		t.Errorf("asked for details: %s", got.Body)
	}
	const batch = `[{"text":"a","meta_info":{"prompt_tokens":10,"completion_tokens":1,"cached_tokens":8,"finish_reason":{"type":"stop"}}},{"text":"b","meta_info":{"prompt_tokens":30,"completion_tokens":1,"cached_tokens":24,"finish_reason":{"type":"length"}}}]`
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", batch) })
	got = s.ask(prefix.Generate, `{"text":["a","b"]}`).Wait()
	if e := got.End; got.Body != batch || e.CachedPlus1 != 33 || e.Prompt != 40 || e.Completion != 2 {
		t.Errorf("batch: %+v %s", e, got.Body)
	}
	s.idle()
}

// SGLang prefills a prompt once for several completions, and then reports it as cached for each. Of a batch, its details are
// those of one prompt.
func TestCachedTokensThatSayNothingOfTheCache(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	const account = `{"text":"a","meta_info":{"prompt_tokens":10,"completion_tokens":1,"cached_tokens":9,"finish_reason":{"type":"stop"}}}`
	for _, tt := range []struct {
		name, body, answer string
		route              prefix.Route
		n                  uint32
		prompt             uint32
	}{
		{"completions of a chat", `{"model":"m","messages":[{"role":"user","content":"hi"}],"n":2}`, `{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":39}}}`, prefix.Chat, 2, 40},
		{"samples of generate", `{"text":"x","sampling_params":{"n":2}}`, "[" + account + "," + account + "]", prefix.Generate, 2, 10},
		{"details of a batch", `{"model":"m","prompt":["x","y"]}`, `{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2},"sglext":{"cached_tokens_details":{"device":3}}}`, prefix.Completions, 1, 8},
	} {
		s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", tt.answer) })
		st := s.gateway.NewStream("w", s.now, tt.route, tt.body)
		st.N = tt.n
		st.Send()
		if e := st.Wait().End; e.CachedPlus1 != 0 || e.Prompt != tt.prompt || e.Completion != 2 {
			t.Errorf("%s: %+v, want %d prompt tokens, and no word on how many were cached", tt.name, e, tt.prompt)
		}
	}
	s.idle()
}

// Frames were of one size whatever the bus took: a longer one was lost, and asked for until the request's deadline.
func TestABusOfSmallMessages(t *testing.T) {
	t.Parallel()
	for _, most := range []int32{8 << 10, 64 << 10} {
		s := newSiteOn(t, testkit.NewSmallHub(t, most), nil)
		long := `{"text":"` + strings.Repeat("0123456789abcdef", 16<<10) + `"}`
		s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", long) })
		if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeOK || got.Body != long {
			t.Errorf("messages of %d bytes: %v, %d bytes of %d", most, got.End.Code, len(got.Body), len(long))
		}
		s.idle()
	}
}

func TestWholeAnswersBeyondTheBound(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	long := `{"text":"` + strings.Repeat("0123456789abcdef", 5<<16) + `"}`
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", long) })
	if got := s.ask(prefix.Chat, whole).Wait(); got.Body != long || got.End.Code != wire.CodeOK {
		t.Errorf("got %v, %d bytes of %d", got.End.Code, len(got.Body), len(long))
	}
	// A connection that broke late once made a truncated answer look whole.
	s.engine.Answer(func(x *testkit.Exchange) {
		x.W.Header().Set("Content-Length", fmt.Sprint(len(long)))
		x.Reply(200, "application/json", long[:len(long)-1000])
		x.Break()
	})
	if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeEngineBroke {
		t.Errorf("truncated: %v", got.End.Code)
	}
	s.idle()
}

// A stream's connection is used again, as that of a whole answer is.
func TestConnectionsToTheEngineAreReused(t *testing.T) {
	t.Parallel()
	s := newSite(t, cacheReport)
	s.engine.Answer(func(x *testkit.Exchange) { x.Stream(first, last, usage) })
	for range 5 {
		s.ask(prefix.Chat, stream).Wait()
		s.idle() // the one before is over
	}
	from := make(map[string]bool)
	for _, x := range s.engine.Requests() {
		from[x.R.RemoteAddr] = true
	}
	if len(from) != 1 {
		t.Errorf("5 streams in turn used %d connections", len(from))
	}
}

func TestHeadersToTheEngine(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.EngineKey = "the engine's" })
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	st := s.gateway.NewStream("w", s.now, prefix.Chat, whole)
	st.Headers = []wire.Header{
		{Name: "Content-Type", Value: "text/plain"}, {Name: "Authorization", Value: "Bearer client"}, {Name: "Cookie", Value: "c"}, {Name: "Host", Value: "evil"},
		{Name: "Transfer-Encoding", Value: "x"}, {Name: "X-Request-Id", Value: "mine"}, {Name: "Traceparent", Value: "00-1\r\nX: y"}, {Name: "Bad Name", Value: "x"},
	}
	st.Send()
	if got := st.Wait(); got.End.Code != wire.CodeOK {
		t.Fatalf("got %+v", got.End)
	}
	h := s.engine.Requests()[0].R.Header
	for name, want := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer the engine's", "X-Request-Id": "mine", "Cookie": "", "Traceparent": "", "X": ""} {
		if h.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, h.Get(name), want)
		}
	}
	if s.engine.Requests()[0].R.Method != http.MethodPost {
		t.Error("not a POST")
	}
	s.idle()
}
