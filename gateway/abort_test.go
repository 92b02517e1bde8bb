package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// abortable is a worker whose engine ends what is aborted in its own words.
func abortable(j *testkit.Job) {
	j.Accept()
	<-j.Cancelled()
	if _, code := j.CancelledAs(); code == wire.CodeAborted {
		j.Reply(200, `{"finish_reason":"abort"}`)
		return
	}
	j.End(wire.CodeCancelled, "")
}

// flight is a request under way.
type flight struct {
	job    *testkit.Job
	id     string // minted by the gateway
	answer <-chan answer
}

// begin sends a request and waits until its worker has it.
func (e *edge) begin(path, body string, headers ...string) flight {
	e.t.Helper()
	before, got := len(e.workers[0].Jobs()), make(chan answer, 1)
	r := e.request("POST", path, body, headers...)
	go func() { got <- e.do(r) }()
	j := firstJob(e.t, e.workers[0], before+1)
	return flight{j, j.Request.String(), got}
}

func aborted(t *testing.T, got answer) int {
	t.Helper()
	var n struct {
		Aborted *int `json:"aborted"`
	}
	if err := json.Unmarshal([]byte(got.body), &n); err != nil || n.Aborted == nil || got.status != 200 {
		t.Fatalf("abort = %d %s", got.status, got.body)
	}
	return *n.Aborted
}

func TestAbortEndsExactlyWhatIsNamed(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(abortable)
	const responses = `{"model":"llama","input":"x"}`
	for _, tt := range []struct {
		name, path, body string
		headers          []string
		by               func(f flight) string // the name; "": the request's id
	}{
		{"its id", chatPath, chat(false), nil, func(f flight) string { return f.id }},
		{"its x-request-id", chatPath, chat(true), []string{"X-Request-Id", "mine-1"}, func(flight) string { return "mine-1" }},
		{"its rid", "/generate", `{"text":"x","rid":"mine-2"}`, nil, func(flight) string { return "mine-2" }},
		{"one rid of a batch", "/generate", `{"text":["x","y"],"rid":["rid-a","rid-b"]}`, nil, func(flight) string { return "rid-b" }},
		{"the engine's rid", chatPath, chat(false), nil, func(f flight) string { return wire.RidOf(f.job.Request, 1, 0) }},
		{"the id of the response", "/v1/responses", responses, nil, func(f flight) string {
			return wire.Reference{Engine: 7}.Response(wire.RidOf(f.job.Request, 1, 0))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other := e.begin(chatPath, chat(false), "X-Request-Id", "other-1")
			f := e.begin(tt.path, tt.body, tt.headers...)
			name := tt.by(f)
			for _, wrong := range []string{name[:len(name)-1], name + "0", "x" + name} { // the engine's own abort takes prefixes
				if n := aborted(t, e.post("/abort_request", fmt.Sprintf(`{"rid":%q}`, wrong))); n != 0 {
					t.Errorf("%q aborted %d", wrong, n)
				}
			}
			if n := aborted(t, e.post("/abort_request", fmt.Sprintf(`{"rid":%q}`, name))); n != 1 {
				t.Errorf("%q aborted %d requests, want 1", name, n)
			}
			if got := testkit.Receive(t, "the answer", f.answer); got.status != 200 || got.body != `{"finish_reason":"abort"}` {
				t.Errorf("the aborted request: %d %s", got.status, got.body)
			}
			select {
			case <-other.job.Cancelled():
				t.Error("another request was ended too")
			default:
			}
			if n := aborted(t, e.post("/abort_request", `{"rid":["other-1","nothing"]}`)); n != 1 {
				t.Errorf("the other one: %d", n)
			}
			testkit.Receive(t, "the other answer", other.answer)
		})
	}
}

func TestAbortIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(abortable)
	mine := e.begin(chatPath, chat(false), "Authorization", "Bearer a", "X-Request-Id", "r")
	yours := e.begin(chatPath, chat(false), "Authorization", "Bearer b", "X-Request-Id", "r")
	anthropic := e.begin(chatPath, chat(false), "X-Api-Key", "a", "X-Request-Id", "r")
	nobodys := e.begin(chatPath, chat(false), "X-Request-Id", "r")
	for _, headers := range [][]string{{"Authorization", "Bearer c"}, {"X-Api-Key", "b"}} {
		for _, body := range []string{`{"rid":"r"}`, `{"abort_all":true}`, `{"rid":"` + yours.id + `"}`} {
			if n := aborted(t, e.post("/abort_request", body, headers...)); n != 0 {
				t.Errorf("%s as %v ended %d of others", body, headers, n)
			}
		}
	}
	for _, tt := range []struct {
		f       flight
		headers []string
		body    string
	}{
		{mine, []string{"Authorization", "Bearer a"}, `{"rid":"r"}`},
		{yours, []string{"Authorization", "Bearer b"}, `{"rid":"","abort_all":true}`},
		{anthropic, []string{"X-Api-Key", "a"}, `{"abort_all":true}`},
		{nobodys, nil, `{"abort_all":true}`},
	} {
		if n := aborted(t, e.post("/abort_request", tt.body, tt.headers...)); n != 1 {
			t.Errorf("%s as %v ended %d, want 1", tt.body, tt.headers, n)
		}
		testkit.Receive(t, "the answer", tt.f.answer)
	}
}

func TestAbortReachesOtherGateways(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	w := testkit.NewWorker(t, hub, "w0", model)
	w.Answer(abortable)
	var edges [3]*edge
	for i := range edges {
		e := newEdgeOn(t, hub, 0, func(c *gateway.Config) { c.ID = fmt.Sprintf("g%d", i) })
		e.workers = []*testkit.Worker{w}
		e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) { return testkit.Placed(w), nil })
		edges[i] = e
	}
	first, second := edges[0].begin(chatPath, chat(false), "X-Request-Id", "r"), edges[1].begin(chatPath, chat(false), "X-Request-Id", "r")
	theirs := edges[1].begin(chatPath, chat(false), "X-Request-Id", "r", "Authorization", "Bearer b")
	if n := aborted(t, edges[2].post("/abort_request", `{"rid":"`+first.id+`"}`)); n != 1 {
		t.Errorf("aborted %d from another gateway, want 1", n)
	}
	testkit.Receive(t, "the answer", first.answer)
	if n := aborted(t, edges[2].post("/abort_request", `{"abort_all":true}`)); n != 1 {
		t.Errorf("aborted %d of all from another gateway, want 1", n)
	}
	testkit.Receive(t, "the answer", second.answer)
	if n := aborted(t, edges[0].post("/abort_request", `{"rid":"r"}`, "Authorization", "Bearer b")); n != 1 {
		t.Errorf("aborted %d, want 1", n)
	}
	testkit.Receive(t, "the answer", theirs.answer)

	for _, junk := range []string{"", "{", "[]", `{"names":["r"]}`, `{"all":true,"caller":"xyz"}`, "\x01\x02"} {
		if err := hub.Connect(t, "stranger", "s").Control.Publish(wire.Subjects{}.Abort(), []byte(junk)); err != nil {
			t.Fatal(err)
		}
	}
	f := edges[0].begin(chatPath, chat(false))
	if n := aborted(t, edges[1].post("/abort_request", `{"rid":"`+f.id+`"}`)); n != 1 {
		t.Errorf("aborted %d after nonsense, want 1", n)
	}
	testkit.Receive(t, "the answer", f.answer)
}

func TestAbortWhileAWorkerIsLookedFor(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	asked := make(chan struct{})
	e.sched.Decide(func(ctx context.Context, _ *wire.AssignRequest) (*wire.AssignReply, error) {
		close(asked)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	got := make(chan answer, 1)
	r := e.request("POST", chatPath, chat(false), "X-Request-Id", "r")
	go func() { got <- e.do(r) }()
	testkit.Receive(t, "the question", asked)
	if n := aborted(t, e.post("/abort_request", `{"rid":"r"}`)); n != 1 {
		t.Errorf("aborted %d", n)
	}
	if a := testkit.Receive(t, "the answer", got); a.status != 499 || failureIn(t, a.body).Code != "aborted" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := len(e.workers[0].Jobs()); n != 0 {
		t.Errorf("%d dispatches", n)
	}
}

// A request that was still being sent was not found, and ran.
func TestAbortWhileTheBodyIsSent(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, `{}`) })
	body := chat(false)
	for _, tt := range []struct{ name, sent, abort string }{
		{"by its x-request-id", body[:10], `{"rid":"mine"}`},
		{"before the first byte", "", `{"rid":"mine"}`},
		{"with all others", body[:10], `{"abort_all":true}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := e.dial("%s%s", head(len(body), "X-Request-Id: mine\r\n"), tt.sent)
			testkit.Eventually(t, "it is found", func() bool { return aborted(t, e.post("/abort_request", tt.abort)) == 1 })
			got := readAnswer(t, conn)
			if f := failureIn(t, got.body); got.status != 499 || f.Code != "aborted" || got.header.Get("Connection") != "close" {
				t.Errorf("%d %v %s", got.status, got.header, got.body)
			}
		})
	}
	if n := len(e.workers[0].Jobs()); n != 0 {
		t.Errorf("%d dispatches", n)
	}
}

func TestAbortTakesNoNonsense(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	many, err := json.Marshal(map[string][]string{"rid": make([]string, wire.MaxAborts+1)})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{``, `[]`, `{}`, `{"rid":7}`, `{"rid":""}`, `{"rid":[]}`, `{"rid":[7]}`, `{"rid":null}`, `{"abort_all":"yes"}`, string(many)} {
		if got := e.post("/abort_request", body); got.status != 400 {
			t.Errorf("%.40s = %d %s", body, got.status, got.body)
		}
	}
}

// Messages have no name by which an engine could be told to abort them; their clients know them by what their answer shows.
func TestTheIdOfAMessageAbortsIt(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	shown := make(chan struct{})
	e.workers[0].Answer(func(j *testkit.Job) {
		j.Accept()
		j.Head(200, "text/event-stream")
		j.Data("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"type\":\"message\",\"id\":\"msg_01ab\",\"role\":\"assistant\",\"content\":[]}}\n\n")
		close(shown)
		<-j.Cancelled()
		j.End(wire.CodeAborted, "")
	})
	f := e.begin("/v1/messages", `{"model":"llama","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"\"id\":\"msg_of_a_prompt\""}]}`)
	<-shown
	for _, wrong := range []string{"msg_01a", "msg_of_a_prompt"} {
		if n := aborted(t, e.post("/abort_request", fmt.Sprintf(`{"rid":%q}`, wrong))); n != 0 {
			t.Errorf("%q aborted %d", wrong, n)
		}
	}
	testkit.Eventually(t, "its id aborts it", func() bool { return aborted(t, e.post("/abort_request", `{"rid":"msg_01ab"}`)) == 1 })
	if got := <-f.answer; !strings.Contains(got.body, "aborted") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if n := aborted(t, e.post("/abort_request", `{"rid":"msg_01ab"}`)); n != 0 {
		t.Errorf("what is over was aborted: %d", n)
	}
}
