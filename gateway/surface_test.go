package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"mime/multipart"
	"strconv"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// samples are the least bodies that the routes take.
var samples = map[string]string{
	"/v1/chat/completions":      chat(false),
	"/v1/completions":           `{"model":"llama","prompt":"x"}`,
	"/generate":                 `{"text":"x"}`,
	"/v1/messages":              `{"model":"llama","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`,
	"/v1/responses":             `{"model":"llama","input":"x"}`,
	"/v1/messages/count_tokens": `{"model":"llama","messages":[{"role":"user","content":"x"}]}`,
	"/v1/embeddings":            `{"model":"llama","input":"x"}`,
	"/v1/rerank":                `{"model":"llama","query":"q","documents":["a","b"]}`,
	"/rerank":                   `{"model":"llama","query":"q","documents":["a","b"]}`,
	"/v1/score":                 `{"model":"llama","query":"q","items":["a"],"label_token_ids":[1]}`,
	"/v1/classify":              `{"model":"llama","input":"x"}`,
	"/v1/tokenize":              `{"model":"llama","prompt":"x"}`,
	"/tokenize":                 `{"model":"llama","prompt":"x"}`,
	"/v1/detokenize":            `{"model":"llama","tokens":[1,2]}`,
	"/detokenize":               `{"model":"llama","tokens":[1,2]}`,
	"/encode":                   `{"text":"x"}`,
	"/classify":                 `{"text":"x"}`,
	"/parse_function_call":      `{"text":"x","tools":[]}`,
	"/separate_reasoning":       `{"text":"x"}`,
	"/open_session":             `{"capacity_of_str_len":10}`,
}

// form is a multipart body with a model and a file.
func form(t *testing.T, model string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	f, err := m.CreateFormFile("file", "a.wav")
	if err == nil {
		_, err = f.Write([]byte("RIFF\x00\xff\r\n--"))
	}
	if err == nil && model != "" {
		err = m.WriteField("model", model)
	}
	if err == nil {
		err = m.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.FormDataContentType(), b.String()
}

// Every route on the list reaches a worker as engines call it, with its body as it came, and a scheduler is told how to
// choose.
func TestEveryRouteReachesItsWorker(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, `{"ok":true}`) })
	for route := range surface.Routes() {
		if route.Kind == surface.Kept {
			continue // see the test of what is kept
		}
		for _, method := range route.Methods {
			t.Run(method+route.Path, func(t *testing.T) {
				body, headers := samples[route.Path], []string{"Content-Type", "application/json"}
				switch {
				case route.Opaque:
					headers[1], body = form(t, model)
				case body == "" && !route.Empty:
					t.Fatal("no sample of a body")
				}
				if got := e.do(e.request(method, route.Path, body, headers...)); got.status != 200 || got.body != `{"ok":true}` {
					t.Fatalf("%d %s", got.status, got.body)
				}
				jobs, asked := e.workers[0].Jobs(), e.sched.Requests()
				j, a := jobs[len(jobs)-1], asked[len(asked)-1]
				if j.Path != route.Called() || j.Method != method || string(j.Body()) != body {
					t.Errorf("the worker got %s %s with %d bytes", j.Method, j.Path, len(j.Body()))
				}
				if got := headerOf(j, "Content-Type"); got != headers[1] && !route.Empty {
					t.Errorf("content type %q, want %q", got, headers[1])
				}
				if byLoad := a.Flags&wire.FlagByLoad != 0; byLoad != (route.Kind == surface.ByLoad) {
					t.Errorf("by load: %v", byLoad)
				}
				if native := a.Flags&wire.FlagNative != 0; native != route.SGLang {
					t.Errorf("an SGLang is demanded: %v", native)
				}
				if (len(a.Digests) > 0) != (route.Kind == surface.ByPrefix) {
					t.Errorf("%d digests", len(a.Digests))
				}
				if a.Pool != model || a.N != 1 {
					t.Errorf("assigned as %+v", a)
				}
			})
		}
	}
}

// HEAD was passed on to engines, which have no such method, and the client got 502.
func TestHeadIsAskedForAsGet(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	const doc = `{"id":"resp_1234"}`
	for _, tt := range []struct {
		path   string
		status int
	}{{"/v1/responses/resp_1234", 200}, {"/health_generate", 200}, {"/v1/responses/resp_1234", 404}, {"/health_generate", 503}} {
		e.workers[0].Answer(func(j *testkit.Job) { j.Reply(tt.status, doc) })
		got := e.do(e.request("HEAD", tt.path, ""))
		if got.status != tt.status || got.body != "" {
			t.Errorf("HEAD %s = %d %q, want %d", tt.path, got.status, got.body, tt.status)
		}
		if n := got.header.Get("Content-Length"); got.status == 200 && n != strconv.Itoa(len(doc)) {
			t.Errorf("HEAD %s: length %q, want that of the document", tt.path, n)
		}
		jobs := e.workers[0].Jobs()
		if j := jobs[len(jobs)-1]; j.Method != "GET" || j.Path != tt.path {
			t.Errorf("HEAD %s: the engine is asked %s %s", tt.path, j.Method, j.Path)
		}
	}
}

func headerOf(j *testkit.Job, name string) string {
	for _, h := range j.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// What is not on the list does not exist, and what controls an engine is not on it.
func TestNothingElseReachesAnEngine(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	for _, path := range []string{
		"/flush_cache", "/update_weights_from_disk", "/update_weights_from_distributed", "/update_weights_from_tensor", "/init_weights_update_group",
		"/begin_weight_update", "/end_weight_update", "/pause_generation", "/continue_generation", "/release_memory_occupation", "/resume_memory_occupation",
		"/start_profile", "/stop_profile", "/set_internal_state", "/configure_logging", "/slow_down", "/freeze_gc", "/scale_elastic_ep", "/pd_role_switch",
		"/load_lora_adapter", "/unload_lora_adapter", "/start_expert_distribution_record", "/invocations", "/vertex_generate", "/api/generate", "/api/chat",
		"/get_weights_by_name", "/drain", "/undrain", "/workers/w0/drain", "/metrics", "/debug/pprof/", "/v1/loads/x", "/v1/nothing", "/",
		"/generate/../flush_cache", "/generate/%2e%2e/flush_cache", "/v1/responses/../../flush_cache", "/v1/responses/..%2f..%2fflush_cache",
		"/v1/responses/x/../../../flush_cache", "/generate%2f..%2fflush_cache", "//flush_cache", "/generate;/flush_cache", "/v1/chat/completions/flush_cache",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			got := e.do(e.request(method, path, `{}`))
			if got.status != 404 && got.status != 405 && got.status != 400 || got.status == 400 && !strings.HasPrefix(path, "/v1/responses/") {
				t.Errorf("%s %s = %d %s", method, path, got.status, got.body)
			}
			failureIn(t, got.body)
		}
	}
	if n := len(e.workers[0].Jobs()); n != 0 {
		t.Errorf("%d requests reached the worker", n)
	}
}

func TestWhatIsKnownAndNotHereSaysSo(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	for _, tt := range []struct{ method, path, says string }{
		{"POST", "/v1/files", "Files"}, {"GET", "/v1/files/file-1/content", "Files"}, {"DELETE", "/v1/files/file-1", "Files"},
		{"POST", "/v1/batches", "Batches"}, {"POST", "/v1/batches/b/cancel", "Batches"},
		{"GET", "/v1/realtime?model=x", "WebSocket"}, {"POST", "/v1/realtime/sessions", "WebSocket"},
		{"POST", "/v1/conversations", "Conversations"}, {"GET", "/v1/conversations/c/items", "Conversations"},
		{"POST", "/v1/responses/input_tokens", "/v1/messages/count_tokens"}, {"POST", "/v1/responses/compact", "Compaction"},
	} {
		got := e.do(e.request(tt.method, tt.path, "", "Connection", "Upgrade", "Upgrade", "websocket"))
		if f := failureIn(t, got.body); got.status != 501 || f.Code != "not_implemented" || !strings.Contains(f.Message, tt.says) {
			t.Errorf("%s %s = %d %s", tt.method, tt.path, got.status, got.body)
		}
		if got.header.Get("X-Should-Retry") != "false" { // official SDKs tried three times, as they do after any other 5xx
			t.Errorf("%s %s invites to try again: %v", tt.method, tt.path, got.header)
		}
	}
	for _, path := range []string{"/v1/messages/batches", "/v1/messages/batches/b/results"} {
		got := e.do(e.request("GET", path, ""))
		if got.status != 501 || !strings.Contains(got.body, `"type":"error"`) || !strings.Contains(got.body, "Batches") {
			t.Errorf("%s = %d %s", path, got.status, got.body)
		}
	}
}

func TestFormsNameTheirModel(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	workers := []*testkit.Worker{testkit.NewWorker(t, hub, "w0", "llama"), testkit.NewWorker(t, hub, "w1", "whisper")}
	for _, w := range workers {
		w.Answer(func(j *testkit.Job) { j.Reply(200, `{"text":"`+w.Name+`"}`) })
	}
	e := newEdgeOn(t, hub, 0, nil)
	e.sched.Decide(func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
		if r.Pool == "whisper" {
			return testkit.Placed(workers[1]), nil
		}
		return testkit.Placed(workers[0]), nil
	})
	testkit.Eventually(t, "both models are there", func() bool { return e.gw.Ready(t.Context()) == nil })
	const path = "/v1/audio/transcriptions"
	kind, body := form(t, "whisper")
	if got := e.post(path, body, "Content-Type", kind); got.status != 200 || got.body != `{"text":"w1"}` {
		t.Errorf("model in the form: %d %s", got.status, got.body)
	}
	kind, body = form(t, "")
	if got := e.post(path, body, "Content-Type", kind, "X-Radixbus-Model", "whisper"); got.status != 200 || got.body != `{"text":"w1"}` {
		t.Errorf("model in the header: %d %s", got.status, got.body)
	}
	for _, tt := range []struct {
		name, kind, body string
		status           int
		code             string
	}{
		{"no model, of two", kind, body, 400, "invalid_request"},
		{"no form", "application/json", `{"model":"whisper"}`, 415, "unsupported_content_type"},
		{"no boundary", "multipart/form-data", body, 415, "unsupported_content_type"},
		{"cut off", kind, body[:20], 400, "invalid_request"},
	} {
		if got := e.post(path, tt.body, "Content-Type", tt.kind); got.status != tt.status || failureIn(t, got.body).Code != tt.code {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
	}
	kind, body = form(t, strings.Repeat("m", 4000))
	if got := e.post(path, body, "Content-Type", kind); got.status != 400 {
		t.Errorf("a model of 4000 bytes: %d %s", got.status, got.body)
	}
}

// What kills an engine, or what it answers with another model, does not reach it.
func TestModelsAreNotAskedForWhatTheyCannotDo(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	testkit.NewWorkerOf(t, hub, "e", func(i *wire.WorkerInfo) { i.Embeds = true }, "embedder")
	testkit.NewWorkerOf(t, hub, "t", func(i *wire.WorkerInfo) { i.NoAudio = true }, "llama", "sql")
	testkit.NewWorkerOf(t, hub, "v", func(i *wire.WorkerInfo) { i.EngineKind = "vllm" }, "qwen")
	e := newEdgeOn(t, hub, 0, nil)
	e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) {
		return testkit.Refused(wire.CodeOverloaded, 0, ""), nil
	})
	testkit.Eventually(t, "all are there", func() bool { return strings.Contains(e.do(e.request("GET", "/workers", "")).body, `"total":3`) })
	kind, body := form(t, "llama")
	for _, tt := range []struct {
		path, body, kind string
		status           int
	}{
		{chatPath, `{"model":"embedder","messages":[{"role":"user","content":"x"}]}`, "", 400},
		{"/v1/completions", `{"model":"embedder","prompt":"x"}`, "", 400},
		{"/v1/embeddings", `{"model":"embedder","input":"x"}`, "", 429},
		{"/v1/audio/transcriptions", body, kind, 400},
		{"/v1/responses", `{"model":"sql","input":"x"}`, "", 400},
		{"/v1/responses", `{"model":"llama:sql","input":"x"}`, "", 400},
		{"/v1/responses", `{"model":"llama","input":"x"}`, "", 429},
		{"/v1/responses", `{"model":"qwen","input":"x"}`, "", 429},
		{"/v1/score", `{"model":"qwen","query":"x","items":["a"],"label_token_ids":[1]}`, "", 429},
		{"/parse_function_call", `{"model":"qwen","text":"x","tools":[]}`, "", 501},
		{chatPath, `{"model":"sql","messages":[{"role":"user","content":"x"}]}`, "", 429},
	} {
		if got := e.post(tt.path, tt.body, "Content-Type", cmp.Or(tt.kind, "application/json")); got.status != tt.status || failureIn(t, got.body).Message == "" {
			t.Errorf("%s %.60q = %d %s, want %d", tt.path, tt.body, got.status, got.body, tt.status)
		}
	}
}

// What one engine keeps is asked for there, whoever else has room.
func TestWhatIsKeptIsAskedForWhereItIs(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	on := func(engine string, rank int) func(*wire.WorkerInfo) {
		return func(i *wire.WorkerInfo) { i.Engine, i.DPRank, i.DPSize = engine, rank, 2 }
	}
	for i, engine := range []string{"e0", "e1"} {
		for rank := range 2 {
			w := testkit.NewWorkerOf(t, hub, fmt.Sprintf("w%d-r%d", i, rank), on(engine, rank), model)
			w.Answer(func(j *testkit.Job) { j.Reply(200, `{"worker":"`+w.Name+`"}`) })
		}
	}
	e := newEdgeOn(t, hub, 0, nil)
	e.sched.Decide(func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
		return testkit.Refused(wire.CodeOverloaded, 0, ""), nil // only what it is asked for matters
	})
	testkit.Eventually(t, "all are there", func() bool {
		return e.gw.Ready(t.Context()) == nil && strings.Count(e.do(e.request("GET", "/workers", "")).body, `"w`) >= 4
	})
	at := wire.Reference{Engine: wire.EngineHash("e1"), Rank: 1}
	response, session := at.Response(strings.Repeat("ab", 16)), at.Name(strings.Repeat("cd", 16))
	gone := wire.Reference{Engine: wire.EngineHash("e7")}.Response(strings.Repeat("ab", 16))
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int // 429: the scheduler was asked
		param                    string
		engine                   string
		rank                     uint32 // plus 1
		session                  string
		bound                    bool
	}{
		{name: "a response", method: "GET", path: "/v1/responses/" + response, status: 429, engine: "e1"},
		{name: "its cancel", method: "POST", path: "/v1/responses/" + response + "/cancel", status: 429, engine: "e1"},
		{name: "what follows it", method: "POST", path: "/v1/responses", body: `{"model":"llama","input":"x","previous_response_id":"` + response + `"}`, status: 429, engine: "e1"},
		{name: "a response of an engine that left", method: "GET", path: "/v1/responses/" + gone, status: 404, param: "response_id"},
		{name: "what follows such a one", method: "POST", path: "/v1/responses", body: `{"model":"llama","input":"x","previous_response_id":"` + gone + `"}`, status: 404, param: "previous_response_id"},
		{name: "a response of somewhere else", method: "GET", path: "/v1/responses/resp_1234", status: 404, param: "response_id"},
		{name: "no response at all", method: "GET", path: "/v1/responses/a.b", status: 400, param: "response_id"},
		{name: "a session", method: "POST", path: "/generate", body: `{"text":"x","session_params":{"id":"` + session + `"}}`, status: 429, engine: "e1", rank: 2},
		{name: "a session under a name of its client's", method: "POST", path: "/generate", body: `{"text":"x","session_params":{"id":"mine"}}`, status: 429, session: "mine", bound: true},
		{name: "the opening of one", method: "POST", path: "/open_session", body: `{"capacity_of_str_len":10,"session_id":"mine"}`, status: 429, session: "mine"},
		{name: "its end", method: "POST", path: "/close_session", body: `{"session_id":"` + session + `"}`, status: 429, engine: "e1", rank: 2},
		{name: "a rank", method: "POST", path: chatPath, body: chat(false), headers: []string{"X-Data-Parallel-Rank", "1"}, status: 429, rank: 2},
		{name: "a rank in the body", method: "POST", path: "/generate", body: `{"text":"x","routed_dp_rank":0}`, status: 429, rank: 1},
		{name: "a rank that nobody has", method: "POST", path: chatPath, body: chat(false), headers: []string{"X-Data-Parallel-Rank", "2"}, status: 400, param: "routed_dp_rank"},
		{name: "a rank that is no number", method: "POST", path: chatPath, body: chat(false), headers: []string{"X-Data-Parallel-Rank", "-1"}, status: 400, param: "x-data-parallel-rank"},
		{name: "a session key", method: "POST", path: chatPath, body: chat(false), headers: []string{"X-Radixbus-Session", "s"}, status: 429, session: "s"},
		{name: "SMG's key", method: "POST", path: chatPath, body: chat(false), headers: []string{"X-Smg-Routing-Key", "s"}, status: 429, session: "s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(e.sched.Requests())
			got := e.do(e.request(tt.method, tt.path, tt.body, tt.headers...))
			if got.status != tt.status {
				t.Fatalf("%d %s, want %d", got.status, got.body, tt.status)
			}
			if got.status != 429 {
				if f := failureIn(t, got.body); f.Param == nil || *f.Param != tt.param {
					t.Errorf("told of %s, want param %q", got.body, tt.param)
				}
				if len(e.sched.Requests()) != before {
					t.Error("a scheduler was asked")
				}
				return
			}
			a := e.sched.Requests()[before]
			if a.Engine != tt.engine || a.RankPlus1 != tt.rank || a.Session != tt.session || (a.Flags&wire.FlagBound != 0) != tt.bound {
				t.Errorf("asked for engine %q, rank+1 %d, session %q, bound %v", a.Engine, a.RankPlus1, a.Session, a.Flags&wire.FlagBound != 0)
			}
		})
	}
}

// Schedulers that have restarted know no session; the adapter beside the engine that holds it does.
func TestASessionThatSchedulersForgotIsFound(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	var workers []*testkit.Worker
	for i := range 3 {
		w := testkit.NewWorkerOf(t, hub, fmt.Sprint("w", i), func(in *wire.WorkerInfo) { in.Engine, in.DPRank, in.DPSize = fmt.Sprint("e", i/2), i%2, 2 }, model)
		w.Answer(func(j *testkit.Job) { j.Reply(200, "{}") })
		w.Obey(func(q *wire.Ask) *wire.Told {
			return &wire.Told{OK: q.Op == wire.OpSession && q.ID == "mine" && i == 1}
		})
		workers = append(workers, w)
	}
	e := newEdgeOn(t, hub, 0, nil)
	testkit.Eventually(t, "all are there", func() bool { return strings.Contains(e.do(e.request("GET", "/workers", "")).body, `"total":3`) })
	e.sched.Decide(func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
		switch {
		case r.Flags&wire.FlagBound == 0 || r.Session == "":
			return nil, fmt.Errorf("asked for %+v", r)
		case r.Engine == "":
			return testkit.Refused(wire.CodeNoSession, 0, ""), nil
		case r.Engine == "e0" && r.RankPlus1 == 2:
			return testkit.Placed(workers[1]), nil
		}
		return testkit.Refused(wire.CodeNoWorker, 0, ""), nil
	})
	if got := e.post("/generate", `{"text":"x","session_params":{"id":"mine"}}`); got.status != 200 {
		t.Errorf("a session that is open: %d %s", got.status, got.body)
	}
	if got := e.post("/close_session", `{"session_id":"mine"}`); got.status != 200 {
		t.Errorf("closing it: %d %s", got.status, got.body)
	}
	if got := e.post("/generate", `{"text":"x","session_params":{"id":"another"}}`); got.status != 404 || failureIn(t, got.body).Code != "session_not_found" {
		t.Errorf("a session that nobody has opened: %d %s", got.status, got.body)
	}
}

// Clients of Anthropic's look for errors in its shape.
func TestErrorsHaveTheShapeOfTheirRoute(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) {
		return testkit.Refused(wire.CodeOverloaded, 0, ""), nil
	})
	for _, tt := range []struct{ method, path, body, kind string }{
		{"POST", "/v1/messages", `{`, "invalid_request_error"},
		{"POST", "/v1/messages", `{"model":"nope","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`, "not_found_error"},
		{"POST", "/v1/messages", samples["/v1/messages"], "rate_limit_error"},
		{"POST", "/v1/messages/count_tokens", samples["/v1/messages/count_tokens"], "rate_limit_error"},
		{"GET", "/v1/messages", "", "invalid_request_error"},
		{"POST", "/v1/messages/drafts", "{}", "not_found_error"},
	} {
		got := e.do(e.request(tt.method, tt.path, tt.body))
		if !strings.HasPrefix(got.body, `{"type":"error","error":{"message":`) || !strings.Contains(got.body, `"type":"`+tt.kind+`"`) {
			t.Errorf("%s %s %s = %d %s", tt.method, tt.path, tt.body, got.status, got.body)
		}
		if name := got.header.Get("Request-Id"); name == "" || name != got.header.Get("X-Request-Id") { // the official SDK looks there
			t.Errorf("%s %s has the name %q", tt.method, tt.path, name)
		}
	}
}

// A stream that breaks ends with an error in the words of its dialect.
func TestAStreamThatBreaksSaysSoInItsDialect(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) {
		j.Accept()
		j.Head(200, testkit.EventStream)
		j.Data("event: a\ndata: {}\n\nevent: b\ndata: {}\n\n")
		j.End(wire.CodeEngineBroke, "")
	})
	for _, tt := range []struct{ path, body, want string }{
		{"/v1/messages", `{"model":"llama","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"x"}]}`,
			"event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"The engine broke off while it had the request.\",\"type\":\"api_error\",\"param\":null,\"code\":\"engine_broke\"}}\n\n"},
		{"/v1/responses", `{"model":"llama","input":"x","stream":true}`,
			"event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"The engine broke off while it had the request.\",\"type\":\"server_error\",\"param\":null,\"code\":\"engine_broke\"}," +
				"\"code\":\"engine_broke\",\"message\":\"The engine broke off while it had the request.\",\"param\":null,\"sequence_number\":2}\n\n"},
		{chatPath, chat(true), "data: {\"error\":{\"message\":\"The engine broke off while it had the request.\",\"type\":\"server_error\",\"param\":null,\"code\":\"engine_broke\"}}\n\n"},
	} {
		if got := e.post(tt.path, tt.body); got.status != 200 || got.body != "event: a\ndata: {}\n\nevent: b\ndata: {}\n\n"+tt.want {
			t.Errorf("%s: %d %q", tt.path, got.status, got.body)
		}
	}
}

// The engine's own priority is its order of eviction, which a scheduler has to know.
func TestTheEnginesPriorityIsTold(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, "{}") })
	for _, tt := range []struct {
		field string
		want  int32
	}{{"", 0}, {`,"priority":5`, 5}, {`,"priority":-7`, -7}, {`,"priority":-2147483648`, math.MinInt32}} {
		body := `{"model":"` + model + `","messages":[{"role":"user","content":"x"}]` + tt.field + `}`
		if got := e.post(chatPath, body); got.status != 200 {
			t.Fatalf("%s: %d %s", body, got.status, got.body)
		}
		asked, jobs := e.sched.Requests(), e.workers[0].Jobs()
		if got := asked[len(asked)-1].EnginePriority; got != tt.want || string(jobs[len(jobs)-1].Body()) != body {
			t.Errorf("%s: %d is told, and the engine gets %s", body, got, jobs[len(jobs)-1].Body())
		}
	}
}
