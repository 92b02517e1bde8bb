package gateway_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// twoBases is a gateway in front of two base models, each of one engine, that have an adapter of the same name. Its scheduler
// only notes what it is asked for.
func twoBases(t *testing.T) *edge {
	t.Helper()
	hub := testkit.NewHub(t)
	for _, n := range []string{"a", "b"} {
		testkit.NewWorkerOf(t, hub, n, func(i *wire.WorkerInfo) { i.Engine = "e-" + n }, "base-"+n, "sql")
	}
	e := newEdgeOn(t, hub, 0, nil)
	e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) {
		return testkit.Refused(wire.CodeOverloaded, 0, ""), nil
	})
	testkit.Eventually(t, "both are there", func() bool {
		return strings.Contains(e.do(e.request("GET", "/workers", "")).body, `"total":2`)
	})
	return e
}

// asked is what the scheduler was asked for last.
func (e *edge) asked() wire.AssignRequest {
	e.t.Helper()
	all := e.sched.Requests()
	if len(all) == 0 {
		e.t.Fatal("the scheduler was not asked")
	}
	return all[len(all)-1]
}

// The adapter of one of the bases was not to be had by base:adapter: it was looked for in the pool that has most workers.
func TestAnAdapterIsOfTheBaseThatIsNamed(t *testing.T) {
	t.Parallel()
	e := twoBases(t)
	for _, base := range []string{"base-a", "base-b"} {
		for _, tt := range []struct {
			name, path, body string
			headers          []string
		}{
			{"as base:adapter", chatPath, fmt.Sprintf(`{"model":"%s:sql","messages":[{"role":"user","content":"x"}]}`, base), nil},
			{"as base:adapter in the header", "/generate", `{"text":"x"}`, []string{"X-Radixbus-Model", base + ":sql"}},
			{"in a field of its own", "/generate", `{"text":"x","lora_path":"sql"}`, []string{"X-Radixbus-Model", base}},
		} {
			if got := e.post(tt.path, tt.body, tt.headers...); got.status != 429 {
				t.Errorf("%s of %s: %d %s", tt.name, base, got.status, got.body)
				continue
			}
			if r := e.asked(); r.Pool != base || r.Model != "sql" || r.LoRA != "sql" {
				t.Errorf("%s of %s: asked for pool %s, model %s, adapter %s", tt.name, base, r.Pool, r.Model, r.LoRA)
			}
		}
		if got := e.do(e.request("GET", "/v1/models/"+base+":sql", "")); got.status != 200 || !strings.Contains(got.body, `"parent":"`+base+`"`) {
			t.Errorf("the card of %s:sql: %d %s", base, got.status, got.body)
		}
	}
	for _, name := range []string{"base-a:base-b", "base-a:nope", "nope:sql"} {
		if got := e.do(e.request("GET", "/v1/models/"+name, "")); got.status != 404 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

// Closing a session took naming its model, and with another one it was looked for in that one's pool.
func TestASessionIsClosedWithoutItsModel(t *testing.T) {
	t.Parallel()
	e := twoBases(t)
	id := wire.Reference{Engine: wire.EngineHash("e-b"), Rank: 0}.Name(strings.Repeat("cd", 16))
	gone := wire.Reference{Engine: wire.EngineHash("e-c")}.Name(strings.Repeat("cd", 16))
	for _, tt := range []struct {
		name, path, body, model string
	}{
		{"without a model", "/close_session", `{"session_id":"` + id + `"}`, ""},
		{"with its own", "/close_session", `{"session_id":"` + id + `"}`, "base-b"},
		{"with another one", "/close_session", `{"session_id":"` + id + `"}`, "base-a"},
		{"with one that nobody serves", "/close_session", `{"session_id":"` + id + `"}`, "nope"},
		{"a request of it", "/generate", `{"text":"x","session_params":{"id":"` + id + `"}}`, ""},
	} {
		if got := e.post(tt.path, tt.body, "X-Radixbus-Model", tt.model); got.status != 429 {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
			continue
		}
		if r := e.asked(); r.Pool != "base-b" || r.Model != "base-b" || r.Engine != "e-b" || r.RankPlus1 != 1 {
			t.Errorf("%s: asked for pool %s, model %s, engine %s", tt.name, r.Pool, r.Model, r.Engine)
		}
	}
	if got := e.post("/close_session", `{"session_id":"`+gone+`"}`); got.status != 404 || failureIn(t, got.body).Code != "not_found" {
		t.Errorf("of an engine that left: %d %s", got.status, got.body)
	}
	if got := e.post("/open_session", `{"capacity_of_str_len":10,"session_id":"`+id+`"}`, "X-Radixbus-Model", "base-a"); got.status != 429 || e.asked().Pool != "base-a" {
		t.Errorf("the opening of one of that name: %d %s, asked for pool %s", got.status, got.body, e.asked().Pool)
	}
	if got := e.post("/close_session", `{"session_id":"mine"}`); got.status != 400 || *failureIn(t, got.body).Param != "model" {
		t.Errorf("under a name of its client's: %d %s", got.status, got.body)
	}
}
