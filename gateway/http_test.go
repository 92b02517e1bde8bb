package gateway_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

func TestClientMistakesAreToldInTheEnvelope(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, func(c *gateway.Config) { c.MaxBody = 2000 })
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, `{}`) })
	long := strings.Repeat("x", wire.MaxName+1)
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code, param, says        string
	}{
		{"no JSON", "POST", chatPath, `{"model":`, nil, 400, "invalid_request", "", "parse"},
		{"no JSON at all", "POST", chatPath, ``, nil, 400, "invalid_request", "", "parse"},
		{"an array", "POST", chatPath, `[]`, nil, 400, "invalid_request", "", "expected an object"},
		{"messages of the wrong type", "POST", chatPath, `{"model":"llama","messages":"hi"}`, nil, 400, "invalid_request", "messages", ""},
		{"content of the wrong type", "POST", chatPath, `{"model":"llama","messages":[{"role":"user","content":5}]}`, nil, 400, "invalid_request", "messages[0].content", ""},
		{"model of the wrong type", "POST", chatPath, `{"model":7,"messages":[]}`, nil, 400, "invalid_request", "model", ""},
		{"stream of the wrong type", "POST", "/v1/completions", `{"model":"llama","prompt":"x","stream":"yes"}`, nil, 400, "invalid_request", "stream", ""},
		{"duplicate key", "POST", chatPath, `{"model":"llama","model":"other","messages":[]}`, nil, 400, "invalid_request", "model", "Duplicate"},
		{"unknown model", "POST", chatPath, `{"model":"nope","messages":[{"role":"user","content":"x"}]}`, nil, 404, "model_not_found", "model", "the models are llama"},
		{"too large, announced", "POST", chatPath, padded(4000), nil, 413, "request_too_large", "", "2000 bytes"},
		{"unknown path", "GET", "/v1/nothing", ``, nil, 404, "unknown_route", "", "/v1/nothing"},
		{"abort of nothing", "POST", "/abort_request", `{"rid":""}`, nil, 400, "invalid_request", "rid", ""},
		{"root", "GET", "/", ``, nil, 404, "unknown_route", "", ""},
		{"unknown model card", "GET", "/v1/models/nope", ``, nil, 404, "model_not_found", "model", "llama"},
		{"deadline that is no number", "POST", chatPath, chat(false), []string{"X-Radixbus-Deadline-Ms", "soon"}, 400, "invalid_request", "x-radixbus-deadline-ms", ""},
		{"deadline of zero", "POST", chatPath, chat(false), []string{"X-Radixbus-Deadline-Ms", "0"}, 400, "invalid_request", "x-radixbus-deadline-ms", ""},
		{"negative deadline", "POST", chatPath, chat(false), []string{"X-Radixbus-Deadline-Ms", "-5"}, 400, "invalid_request", "x-radixbus-deadline-ms", ""},
		{"unknown priority", "POST", chatPath, chat(false), []string{"X-Radixbus-Priority", "urgent"}, 400, "invalid_request", "x-radixbus-priority", ""},
		{"long session", "POST", chatPath, chat(false), []string{"X-Radixbus-Session", long}, 400, "invalid_request", "x-radixbus-session", ""},
		{"long request id", "POST", chatPath, chat(false), []string{"X-Request-Id", long}, 400, "invalid_request", "x-request-id", ""},
		{"request id that is no ASCII", "POST", chatPath, chat(false), []string{"X-Request-Id", "\u00e4"}, 400, "invalid_request", "x-request-id", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := e.do(e.request(tt.method, tt.path, tt.body, tt.headers...))
			if got.status != tt.status {
				t.Fatalf("status = %d, want %d: %s", got.status, tt.status, got.body)
			}
			f := failureIn(t, got.body)
			param := ""
			if f.Param != nil {
				param = *f.Param
			}
			if f.Code != tt.code || param != tt.param || f.Type != "invalid_request_error" || !strings.Contains(f.Message, tt.says) {
				t.Errorf("got %+v (param %q), want code %q, param %q, a message with %q", f, param, tt.code, tt.param, tt.says)
			}
			// Every answer has both names, and neither grows with what a client sends.
			if l := got.header.Get("X-Request-Id"); l == "" || len(l) > wire.MaxName {
				t.Errorf("x-request-id = %q", l)
			}
			if _, err := wire.ParseRequestID(got.header.Get("X-Radixbus-Request")); err != nil {
				t.Errorf("x-radixbus-request: %v", err)
			}
			if ct := got.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("content type = %q", ct)
			}
		})
	}
	if n := len(e.workers[0].Jobs()); n != 0 {
		t.Errorf("%d requests reached the worker", n)
	}
}

func TestWrongMethodsAreToldTheRightOne(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	for _, tt := range []struct{ method, path, allow string }{
		{"GET", chatPath, "POST"}, {"DELETE", "/generate", "POST, PUT"}, {"GET", "/v1/embeddings", "POST"}, {"POST", "/v1/responses/x", "GET, HEAD"}, {"DELETE", "/v1/completions", "POST"},
		{"POST", "/v1/models", "GET, HEAD"}, {"POST", "/livez", "GET, HEAD"}, {"PATCH", "/readyz", "GET, HEAD"},
	} {
		got := e.do(e.request(tt.method, tt.path, ""))
		if got.status != 405 || got.header.Get("Allow") != tt.allow || failureIn(t, got.body).Code != "method_not_allowed" {
			t.Errorf("%s %s = %d, Allow %q, %s; want 405, Allow %q", tt.method, tt.path, got.status, got.header.Get("Allow"), got.body, tt.allow)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/readiness", "/health", "/v1/models", "/v1/models/llama", "//v1/models", "/v1//models/llama", "/v1/./models"} {
		if got := e.do(e.request("HEAD", path, "")); got.status != 200 {
			t.Errorf("HEAD %s = %d", path, got.status)
		}
	}
}

func TestModelsAreListed(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	testkit.NewWorker(t, hub, "w", "llama", "org/lora")
	e := newEdgeOn(t, hub, 0, nil)
	got := e.do(e.request("GET", "/v1/models", ""))
	if got.status != 200 || !strings.Contains(got.body, `"id":"llama"`) || !strings.Contains(got.body, `"id":"org/lora"`) || !strings.Contains(got.body, `"max_model_len":4096`) {
		t.Errorf("models = %d %s", got.status, got.body)
	}
	if got := e.do(e.request("GET", "/v1/models/org/lora", "")); got.status != 200 || !strings.Contains(got.body, `"parent":"llama"`) {
		t.Errorf("model = %d %s", got.status, got.body)
	}
}

func TestNoModelNamedIsTheOneThereIs(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	w := testkit.NewWorker(t, hub, "w", "llama", "lora")
	w.Answer(func(j *testkit.Job) { j.Reply(200, `{"text":"x"}`) })
	e := newEdgeOn(t, hub, 0, nil)
	e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) { return testkit.Placed(w), nil })
	for _, tt := range []struct {
		body, header string
		model, lora  string
	}{
		{`{"text":"x"}`, "", "llama", ""}, // adapters are not meant by saying nothing
		{`{"text":"x"}`, "lora", "lora", "lora"},
		{`{"text":"x"}`, "llama:lora", "lora", "lora"},
		{`{"text":"x","lora_path":"lora"}`, "", "lora", "lora"},
	} {
		if got := e.post("/generate", tt.body, "X-Radixbus-Model", tt.header); got.status != 200 {
			t.Fatalf("%s, model %q in the header: %d %s", tt.body, tt.header, got.status, got.body)
		}
		requests := e.sched.Requests()
		if r := requests[len(requests)-1]; r.Model != tt.model || r.LoRA != tt.lora || r.Pool != "llama" {
			t.Errorf("%s, model %q in the header: assigned as model %q, adapter %q, pool %q", tt.body, tt.header, r.Model, r.LoRA, r.Pool)
		}
	}
	testkit.NewWorker(t, hub, "v", "qwen")
	testkit.Eventually(t, "two models are there", func() bool {
		return strings.Contains(e.do(e.request("GET", "/v1/models", "")).body, "qwen")
	})
	if got := e.post("/generate", `{"text":"x"}`); got.status != 400 || *failureIn(t, got.body).Param != "model" {
		t.Errorf("two models and none named: %d %s", got.status, got.body)
	}
}

// An engine that is told no model answers as "default", and a client looks for the model that it was served by.
func TestTheWorkerIsToldTheModelThatWasMeant(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, `{}`) })
	for _, body := range []string{`{"messages":[{"role":"user","content":"x"}]}`, `{"model":"llama","messages":[{"role":"user","content":"x"}]}`} {
		if got := e.post(chatPath, body); got.status != 200 {
			t.Fatalf("%s: %d %s", body, got.status, got.body)
		}
		jobs := e.workers[0].Jobs()
		if got := jobs[len(jobs)-1].Model; got != "llama" {
			t.Errorf("%s: the worker was told the model %q", body, got)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	unavailable := func(t *testing.T, got answer, status int, code, retryAfter string) {
		t.Helper()
		if got.status != status || failureIn(t, got.body).Code != code || got.header.Get("Retry-After") != retryAfter {
			t.Errorf("got %d, Retry-After %q, %s; want %d, Retry-After %q, code %s", got.status, got.header.Get("Retry-After"), got.body, status, retryAfter, code)
		}
	}
	t.Run("no worker at all", func(t *testing.T) {
		e := newEdge(t, 0, nil)
		unavailable(t, e.post(chatPath, chat(false)), 503, "no_worker", "1")
		unavailable(t, e.do(e.request("GET", "/readyz", "")), 503, "not_ready", "1")
	})
	e := newEdge(t, 1, nil)
	decide := func(r *wire.AssignReply, err error) {
		e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) { return r, err })
	}
	t.Run("no worker says the scheduler", func(t *testing.T) {
		decide(testkit.Refused(wire.CodeNoWorker, 0, ""), nil)
		unavailable(t, e.post(chatPath, chat(true)), 503, "no_worker", "1")
	})
	t.Run("refused", func(t *testing.T) {
		decide(testkit.Refused(wire.CodeOverloaded, 2300*time.Millisecond, "Come back later."), nil)
		got := e.post(chatPath, chat(false))
		unavailable(t, got, 429, "overloaded", "3")
		if f := failureIn(t, got.body); f.Type != "rate_limit_error" || !strings.Contains(f.Message, "Come back later.") {
			t.Errorf("failure = %+v", f)
		}
	})
	t.Run("queue without a queue", func(t *testing.T) {
		// A verdict without a code once became a 200 with an error inside.
		decide(&wire.AssignReply{Verdict: wire.Queue}, nil)
		unavailable(t, e.post(chatPath, chat(false)), 429, "overloaded", "1")
	})
	t.Run("model unknown to the scheduler", func(t *testing.T) {
		decide(testkit.Refused(wire.CodeModelUnknown, 0, ""), nil)
		got := e.post(chatPath, chat(false))
		if f := failureIn(t, got.body); got.status != 404 || f.Type != "invalid_request_error" {
			t.Errorf("got %d %+v", got.status, f)
		}
	})
	t.Run("scheduler fails", func(t *testing.T) {
		decide(nil, fmt.Errorf("nonsense"))
		got := e.post(chatPath, chat(false))
		if got.status != 500 || strings.Contains(got.body, "nonsense") {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
	t.Run("no scheduler", func(t *testing.T) {
		decide(nil, &gateway.AssignError{Code: wire.CodeNoScheduler})
		began := time.Now()
		unavailable(t, e.post(chatPath, chat(false)), 503, "no_scheduler", "1")
		if waited := time.Since(began); waited < 3*time.Second {
			t.Errorf("gave up after %v: a scheduler that restarts should have been waited for", waited)
		}
		e.sched.SetAbsent(true)
		unavailable(t, e.do(e.request("GET", "/readyz", "")), 503, "not_ready", "1")
	})
	t.Run("scheduler comes back", func(t *testing.T) {
		e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, `{}`) })
		n := 0
		e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) {
			if n++; n < 4 {
				return nil, &gateway.AssignError{Code: wire.CodeNoScheduler}
			}
			return testkit.Placed(e.workers[0]), nil
		})
		if got := e.post(chatPath, chat(false)); got.status != 200 || n != 4 {
			t.Errorf("got %d after %d questions", got.status, n)
		}
	})
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, func(c *gateway.Config) { c.MaxBody, c.MaxInFlight = 3<<20, 4<<20 })
	release := make(chan struct{})
	e.workers[0].Answer(func(j *testkit.Job) { <-j.Whole(); <-release; j.Reply(200, `{}`) })

	// Chunked: nothing is announced, the bound is met on the way.
	r, err := http.NewRequestWithContext(t.Context(), "POST", e.gw.URL()+chatPath, io.MultiReader(strings.NewReader(padded(2<<20)), strings.NewReader(padded(2<<20))))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.do(r); got.status != 413 || !strings.Contains(got.body, "3145728 bytes (3 MiB)") {
		t.Errorf("chunked body over the bound: %d %s", got.status, got.body)
	}
	testkit.Eventually(t, "a refused body is given back", func() bool { return e.gw.InFlight() == 0 })

	held := make(chan answer, 1)
	go func() { held <- e.post(chatPath, padded(2<<20)) }()
	<-firstJob(t, e.workers[0], 1).Whole()
	if n, want := e.gw.InFlight(), int64(len(padded(2<<20))); n < want || n > want+want/2 {
		t.Errorf("%d bytes in flight for a body of %d", n, want)
	}
	got := e.post(chatPath, padded(2560<<10))
	if f := failureIn(t, got.body); got.status != 429 || f.Code != "bodies_in_flight" || got.header.Get("Retry-After") != "1" {
		t.Errorf("over the budget: %d %+v", got.status, f)
	}
	close(release)
	if got := testkit.Receive(t, "the held request", held); got.status != 200 {
		t.Errorf("held request = %d %s", got.status, got.body)
	}
	if got := e.post(chatPath, padded(2560<<10)); got.status != 200 {
		t.Errorf("after it: %d %s", got.status, got.body)
	}
}

// A body of exactly the bound, with a budget of exactly the bound, once got 429: room was taken in whole mebibytes.
func TestABodyOfExactlyTheBoundFits(t *testing.T) {
	t.Parallel()
	body := chat(false)
	e := newEdge(t, 1, func(c *gateway.Config) { c.MaxBody, c.MaxInFlight = int64(len(body)), int64(len(body)) })
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, string(j.Body())) })
	if got := e.post(chatPath, body); got.status != 200 || got.body != body {
		t.Errorf("announced: %d %s", got.status, got.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", e.gw.URL()+chatPath, io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.do(r); got.status != 200 || got.body != body {
		t.Errorf("chunked: %d %s", got.status, got.body)
	}
}

// A client that trickles its body in once held its bytes for as long as it liked.
func TestABodyThatTricklesInIsOverAtTheDeadline(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	conn := e.dial("%s{\"model\":", head(100_000, "X-Radixbus-Deadline-Ms: 150\r\n"))
	if got := readAnswer(t, conn); got.status != 504 || failureIn(t, got.body).Code != "deadline_exceeded" {
		t.Errorf("got %d %s, want 504", got.status, got.body)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	t.Run("before the answer", func(t *testing.T) {
		e.workers[0].Answer(func(j *testkit.Job) { j.Accept() })
		got := e.post(chatPath, chat(true), "X-Radixbus-Deadline-Ms", "200")
		if got.header.Get("X-Should-Retry") != "false" { // or official SDKs ask three times, and wait three times as long as they said
			t.Errorf("a request whose time is over invites to try again: %v", got.header)
		}
		if f := failureIn(t, got.body); got.status != 504 || f.Code != "deadline_exceeded" || f.Type != "timeout_error" {
			t.Errorf("got %d %+v", got.status, f)
		}
		j := firstJob(t, e.workers[0], 1)
		testkit.Receive(t, "the cancel", j.Cancelled())
		if _, code := j.CancelledAs(); code != wire.CodeDeadline {
			t.Errorf("cancelled as %v", code)
		}
		if ms := j.RemainingMillis; ms < 1 || ms > 200 {
			t.Errorf("the worker was told %d ms", ms)
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		e.workers[0].Answer(func(j *testkit.Job) { j.Accept(); j.Head(200, testkit.EventStream); j.Data("data: {}\n\n") })
		got := e.post(chatPath, chat(true), "X-Radixbus-Deadline-Ms", "300")
		rest, ok := strings.CutPrefix(got.body, "data: {}\n\ndata: ")
		if !ok || failureIn(t, rest).Code != "deadline_exceeded" || strings.Contains(got.body, "[DONE]") {
			t.Errorf("got %q", got.body)
		}
	})
	t.Run("while a worker is looked for", func(t *testing.T) {
		e.sched.Decide(func(ctx context.Context, _ *wire.AssignRequest) (*wire.AssignReply, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		if got := e.post(chatPath, chat(false), "X-Radixbus-Deadline-Ms", "100"); got.status != 504 {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestNamesAndHeaders(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) { j.Answer(`{}`) })
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	got := e.post(chatPath, chat(true), "X-Request-Id", "mine", "Traceparent", parent, "Tracestate", "a=b", "Authorization", "Bearer secret",
		"Cookie", "c=1", "X-Api-Key", "secret", "X-Radixbus-Priority", "batch", "X-Smg-Routing-Key", "s1", "Content-Type", "application/json")
	if got.status != 200 || got.header.Get("X-Request-Id") != "mine" || got.header.Get("X-Radixbus-Worker") != "w0" {
		t.Errorf("got %d %v", got.status, got.header)
	}
	id, err := wire.ParseRequestID(got.header.Get("X-Radixbus-Request"))
	if err != nil {
		t.Fatal(err)
	}
	j, r := e.workers[0].Jobs()[0], e.sched.Requests()[0]
	if j.Request != id || r.Request != id || j.Label != "mine" || r.TraceParent != parent || r.TraceState != "a=b" || r.Priority != wire.Batch || r.Session != "s1" || len(r.Digests) != 1 {
		t.Errorf("dispatch %v %q, assign request %+v", j.Request, j.Label, r)
	}
	var names []string
	for _, h := range j.Headers {
		names = append(names, h.Name)
		if strings.Contains(h.Value, "secret") {
			t.Errorf("the worker was given %s: %s", h.Name, h.Value)
		}
	}
	slices.Sort(names)
	if want := []string{"Content-Type", "Traceparent", "Tracestate", "X-Request-Id"}; !slices.Equal(names, want) {
		t.Errorf("the worker was given %v, want %v", names, want)
	}
	if got := e.post(chatPath, chat(true)); got.header.Get("X-Request-Id") != got.header.Get("X-Radixbus-Request") {
		t.Errorf("without a label: %v", got.header)
	}
}

func TestARequestIsNamedByTheHeadersThatSMGReads(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	long := strings.Repeat("x", wire.MaxName+1)
	for _, tt := range []struct {
		name    string
		headers []string
		want    string // empty: the minted one
	}{
		{"correlation id", []string{"X-Correlation-Id", "c"}, "c"},
		{"trace id", []string{"X-Trace-Id", "t"}, "t"},
		{"request id without x", []string{"Request-Id", "r"}, "r"},
		{"the first of them", []string{"Request-Id", "r", "X-Trace-Id", "t", "X-Correlation-Id", "c"}, "c"},
		{"x-request-id before all", []string{"X-Correlation-Id", "c", "X-Request-Id", "mine"}, "mine"},
		{"one that cannot be carried is passed over", []string{"X-Correlation-Id", long, "Request-Id", "r"}, "r"},
		{"none that can be carried", []string{"X-Trace-Id", "\u00e4"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := e.do(e.request("GET", "/v1/models", "", tt.headers...))
			if want := cmp.Or(tt.want, got.header.Get("X-Radixbus-Request")); got.status != 200 || got.header.Get("X-Request-Id") != want {
				t.Errorf("status %d, x-request-id %q, want %q", got.status, got.header.Get("X-Request-Id"), want)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := gateway.New(gateway.Config{MaxBody: 5, MaxInFlight: 4, MaxAttempts: 99, AcceptTimeout: -1, ID: strings.Repeat("x", 300)})
	if err == nil {
		t.Fatal("no error")
	}
	for _, what := range []string{"nothing to stand on", "do not fit", "99 attempts", "negative timeout", "ID of more"} {
		if !strings.Contains(err.Error(), what) {
			t.Errorf("%q is not among %v", what, err)
		}
	}
}
