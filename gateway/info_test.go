package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// fleet is two engines of one model, the first with two ranks, and one of another.
func fleet(t *testing.T) (*edge, []*testkit.Worker) {
	t.Helper()
	hub := testkit.NewHub(t)
	of := func(engine string, rank, size int) func(*wire.WorkerInfo) {
		return func(i *wire.WorkerInfo) {
			i.Engine, i.URL, i.DPRank, i.DPSize = engine, "http://"+engine, rank, size
			i.EngineVersion, i.WeightVersion, i.EvictionPolicy = "0.5.23", "v1", "lru"
			i.ModelInfo = json.RawMessage(`{"model_path":"/models/llama","weight_version":"v1"}`)
		}
	}
	workers := []*testkit.Worker{
		testkit.NewWorkerOf(t, hub, "a-r0", of("10.0.0.1:30000", 0, 2), "llama", "sql"), testkit.NewWorkerOf(t, hub, "a-r1", of("10.0.0.1:30000", 1, 2), "llama", "sql"),
		testkit.NewWorkerOf(t, hub, "b", of("10.0.0.2:30000", 0, 1), "llama"),
		testkit.NewWorkerOf(t, hub, "c", func(i *wire.WorkerInfo) {
			i.Engine, i.EngineKind, i.URL = "10.0.0.3:8000", "vllm", "https://10.0.0.3:8000"
		}, "qwen"),
	}
	e := newEdgeOn(t, hub, 0, nil)
	testkit.Eventually(t, "all workers are known", func() bool { return strings.Contains(e.do(e.request("GET", "/workers", "")).body, `"total":4`) })
	return e, workers
}

func decode[T any](t *testing.T, got answer, status int) (v T) {
	t.Helper()
	if got.status != status {
		t.Fatalf("%d %s, want %d", got.status, got.body, status)
	}
	if err := json.Unmarshal([]byte(got.body), &v); err != nil {
		t.Fatalf("%s: %v", got.body, err)
	}
	return v
}

func TestInfoOfModelsAndServers(t *testing.T) {
	t.Parallel()
	e, _ := fleet(t)
	for _, path := range []string{"/model_info", "/get_model_info"} {
		for _, query := range []string{"?model=llama", "?model=sql"} {
			if v := decode[map[string]any](t, e.do(e.request("GET", path+query, "")), 200); v["model_path"] != "/models/llama" || v["weight_version"] != "v1" {
				t.Errorf("%s%s = %v", path, query, v)
			}
		}
		if v := decode[map[string]any](t, e.do(e.request("GET", path, "", "X-Radixbus-Model", "qwen")), 200); v["model_path"] != "qwen" {
			t.Errorf("%s of an engine that tells nothing = %v", path, v)
		}
	}
	for _, path := range []string{"/server_info", "/get_server_info"} {
		v := decode[struct {
			Version string `json:"version"`
			Page    int    `json:"page_size"`
			States  []struct {
				Worker string `json:"worker"`
				Rank   int    `json:"dp_rank"`
				Weight string `json:"weight_version"`
			} `json:"internal_states"`
		}](t, e.do(e.request("GET", path+"?model=llama", "")), 200)
		if v.Version != "0.5.23" || v.Page != 16 || len(v.States) != 3 || v.States[1].Worker != "a-r1" || v.States[1].Rank != 1 || v.States[1].Weight != "v1" {
			t.Errorf("%s = %+v", path, v)
		}
	}
	for _, tt := range []struct {
		path   string
		status int
	}{{"/model_info", 400}, {"/server_info", 400}, {"/model_info?model=nope", 404}, {"/server_info?model=nope", 404}} {
		if got := e.do(e.request("GET", tt.path, "")); got.status != tt.status {
			t.Errorf("%s = %d %s, want %d", tt.path, got.status, got.body, tt.status)
		}
	}
}

// load is what the test's engines say of a rank.
func load(rank, running, waiting int) func(*wire.Ask) *wire.Told {
	return func(*wire.Ask) *wire.Told {
		return &wire.Told{OK: true, Body: fmt.Appendf(nil, `{"dp_rank":%d,"num_running_reqs":%d,"num_waiting_reqs":%d,"num_used_tokens":100,"worker":"a lie"}`, rank, running, waiting)}
	}
}

func TestLoads(t *testing.T) {
	t.Parallel()
	e, w := fleet(t)
	w[0].Obey(load(0, 3, 1))
	w[1].Obey(load(1, 2, 0))
	w[2].Obey(load(0, 5, 5))
	w[3].Obey(func(*wire.Ask) *wire.Told { return &wire.Told{Message: "The engine did not answer."} })
	type loads struct {
		Loads []struct {
			Worker  string `json:"worker"`
			Model   string `json:"model"`
			Rank    int    `json:"dp_rank"`
			Running int    `json:"num_running_reqs"`
		} `json:"loads"`
		Failed []struct{ Worker, Error string } `json:"failed"`
	}
	all := decode[loads](t, e.do(e.request("GET", "/v1/loads", "")), 200)
	if len(all.Loads) != 3 || all.Loads[0].Worker != "a-r0" || all.Loads[0].Running != 3 || all.Loads[1].Rank != 1 || all.Loads[2].Model != "llama" {
		t.Errorf("loads = %+v", all)
	}
	if len(all.Failed) != 1 || all.Failed[0].Worker != "c" || all.Failed[0].Error != "The engine did not answer." {
		t.Errorf("failed = %+v", all.Failed)
	}
	for query, want := range map[string]int{"dp_rank=1": 1, "dp_rank=0": 2, "worker=b": 1, "model=llama": 3, "model=qwen": 0, "model=sql&dp_rank=1": 1, "worker=nobody": 0, "format=json": 3} {
		if got := decode[loads](t, e.do(e.request("GET", "/v1/loads?"+query, "")), 200); len(got.Loads) != want {
			t.Errorf("%s: %+v, want %d loads", query, got, want)
		}
	}
	for _, query := range []string{"dp_rank=x", "dp_rank=-1", "format=prometheus"} {
		if got := e.do(e.request("GET", "/v1/loads?"+query, "")); got.status != 400 {
			t.Errorf("%s = %d %s", query, got.status, got.body)
		}
	}
	if asked := len(w[0].Asked()); asked > 6 {
		t.Errorf("an engine was asked %d times for answers of one moment", asked)
	}
	old := decode[[]map[string]any](t, e.do(e.request("GET", "/get_load", "")), 200)
	if len(old) != 3 || old[0]["num_reqs"] != 4.0 || old[0]["num_waiting_reqs"] != 1.0 || old[0]["num_tokens"] != 100.0 {
		t.Errorf("/get_load = %v", old)
	}
	smg := decode[struct {
		Workers []struct {
			Worker string `json:"worker"`
			Load   int    `json:"load"`
		} `json:"workers"`
		Total, Successful, Failed int
	}](t, e.do(e.request("GET", "/get_loads", "")), 200)
	if len(smg.Workers) != 4 || smg.Workers[0].Load != 4 || smg.Workers[3].Load != -1 || smg.Successful != 3 || smg.Failed != 1 {
		t.Errorf("/get_loads = %+v", smg)
	}
}

func TestWorkersAreListedInSMGsShape(t *testing.T) {
	t.Parallel()
	e, _ := fleet(t)
	type list struct {
		Workers []struct {
			ID, URL, Status, Engine string
			ModelID                 string   `json:"model_id"`
			Models                  []string `json:"models"`
			Runtime                 string   `json:"runtime_type"`
			Healthy                 bool     `json:"is_healthy"`
			Rank                    int      `json:"dp_rank"`
			Size                    int      `json:"dp_size"`
		} `json:"workers"`
		Total int
		Stats struct {
			Healthy int `json:"healthy_workers"`
			Models  int `json:"total_models"`
		}
	}
	v := decode[list](t, e.do(e.request("GET", "/workers", "")), 200)
	if v.Total != 4 || v.Stats.Healthy != 4 || v.Stats.Models != 3 || len(v.Workers) != 4 {
		t.Fatalf("%+v", v)
	}
	if w := v.Workers[1]; w.ID != "a-r1" || w.ModelID != "llama" || !slices.Equal(w.Models, []string{"llama", "sql"}) || w.Runtime != "sglang" || !w.Healthy || w.Status != "ready" || w.Rank != 1 || w.Size != 2 {
		t.Errorf("%+v", w)
	}
	for _, w := range v.Workers {
		if w.URL != "" || w.Engine != "" {
			t.Errorf("the public list tells where engines are: %+v", w)
		}
	}
	admin := httptest.NewServer(e.gw.Admin())
	defer admin.Close()
	r := e.request("GET", "/workers", "")
	r.URL.Host, r.Host = admin.Listener.Addr().String(), ""
	if v := decode[list](t, e.do(r), 200); v.Workers[3].URL != "https://10.0.0.3:8000" || v.Workers[3].Engine != "10.0.0.3:8000" {
		t.Errorf("for operators: %+v", v.Workers[3])
	}
}

func TestHealthGenerateAsksAnEngineOfEachModel(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	kind := func(kind string) func(*wire.WorkerInfo) {
		return func(i *wire.WorkerInfo) { i.EngineKind = kind }
	}
	w := []*testkit.Worker{
		testkit.NewWorkerOf(t, hub, "a", kind("sglang"), "llama"),
		testkit.NewWorkerOf(t, hub, "b", kind("sglang"), "qwen"),
		testkit.NewWorkerOf(t, hub, "c", kind("vllm"), "mistral"),
	}
	e := newEdgeOn(t, hub, 0, nil)
	testkit.Eventually(t, "all are there", func() bool { return strings.Contains(e.do(e.request("GET", "/workers", "")).body, `"total":3`) })
	e.sched.Decide(placeByPool(map[string]*testkit.Worker{"llama": w[0], "qwen": w[1]}))
	w[0].Answer(func(j *testkit.Job) { j.Reply(200, "") })
	w[1].Answer(func(j *testkit.Job) { j.Reply(200, "") })
	if got := e.do(e.request("GET", "/health_generate", "")); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if len(w[0].Jobs()) != 1 || len(w[1].Jobs()) != 1 || w[0].Jobs()[0].Path != "/health_generate" {
		t.Errorf("%d and %d engines were asked", len(w[0].Jobs()), len(w[1].Jobs()))
	}
	w[1].Answer(func(j *testkit.Job) { j.Reply(503, "") })
	if got := e.do(e.request("GET", "/health_generate", "")); got.status != 503 {
		t.Errorf("one model's engine is ill: %d %s", got.status, got.body)
	}
	if got := e.do(e.request("GET", "/health_generate", "", "X-Radixbus-Model", "llama")); got.status != 200 {
		t.Errorf("the other one's is well: %d %s", got.status, got.body)
	}
	if got := e.do(e.request("GET", "/health_generate", "", "X-Radixbus-Model", "mistral")); got.status != 501 {
		t.Errorf("no SGLang: %d %s", got.status, got.body)
	}
}

func TestReadinessIsTheTruthOfThisMoment(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 2, nil)
	if got := e.do(e.request("GET", "/readyz", "")); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	smg := decode[map[string]any](t, e.do(e.request("GET", "/readiness", "")), 200) // in its own words, for scripts
	if smg["status"] != "ready" || smg["healthy_workers"] != 2.0 || smg["total_workers"] != 2.0 {
		t.Errorf("/readiness = %v", smg)
	}
	e.workers[0].Leave()
	if got := e.do(e.request("GET", "/readyz", "")); got.status != 200 {
		t.Errorf("one of two is gone: %d %s", got.status, got.body)
	}
	e.workers[1].Leave() // without a word: its last beat still says that it is ready
	if got := e.do(e.request("GET", "/readyz", "")); got.status != 503 || !strings.Contains(got.body, "no worker answers") {
		t.Errorf("both are gone: %d %s", got.status, got.body)
	}
	if got := e.do(e.request("GET", "/readiness", "")); got.status != 503 || failureIn(t, got.body).Code != "not_ready" {
		t.Errorf("both are gone: /readiness = %d %s", got.status, got.body)
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	e, w := fleet(t)
	admin := httptest.NewServer(e.gw.Admin())
	defer admin.Close()
	do := func(method, path, body string) answer {
		r := e.request(method, path, body)
		r.URL.Host, r.Host = admin.Listener.Addr().String(), ""
		return e.do(r)
	}
	type result struct {
		Status  string
		Flushed int      `json:"workers_flushed"`
		Total   int      `json:"total_workers"`
		Failed  []string `json:"failed"`
		Workers []struct {
			Worker, Message string
			OK              bool
			Status          int
		}
	}
	asked := func(op wire.Op) (workers []int) {
		for i := range w {
			for _, a := range w[i].Asked() {
				if a.Op == op {
					workers = append(workers, i)
				}
			}
		}
		return workers
	}
	if v := decode[result](t, do("POST", "/flush_cache", ""), 200); v.Status != "success" || v.Flushed != 4 || v.Total != 4 || len(v.Workers) != 4 {
		t.Errorf("flush of all = %+v", v)
	}
	if got := asked(wire.OpFlush); !slices.Equal(got, []int{0, 2, 3}) {
		t.Errorf("flush asked the workers %v: an engine has one cache to flush, whatever its ranks", got)
	}
	w[3].Obey(func(*wire.Ask) *wire.Told { return &wire.Told{Status: 400, Message: "requests run"} })
	v := decode[result](t, do("POST", "/flush_cache?timeout=2.5", ""), 206)
	if v.Status != "partial_success" || v.Flushed != 3 || !slices.Equal(v.Failed, []string{"c"}) || v.Workers[3].OK || v.Workers[3].Status != 400 || v.Workers[3].Message != "requests run" {
		t.Errorf("flush that one refuses = %+v", v)
	}
	if a := w[0].Asked(); a[len(a)-1].Millis != 7500 {
		t.Errorf("asked with %d ms, want the engine's 2.5 s and 5 s for its work", a[len(a)-1].Millis)
	}
	if v := decode[result](t, do("POST", "/flush_cache?worker=c", ""), 502); v.Status != "failed" || v.Total != 1 {
		t.Errorf("flush of one, which refuses = %+v", v)
	}
	decode[result](t, do("POST", "/workers/b/flush_cache", ""), 200)

	decode[result](t, do("POST", "/drain?worker=a-r1", ""), 200)
	decode[result](t, do("POST", "/workers/b/drain", ""), 200)
	if got := asked(wire.OpDrain); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("drained %v", got)
	}
	decode[result](t, do("POST", "/undrain", ""), 206)
	decode[result](t, do("POST", "/drain?worker=*", ""), 206)
	if got := asked(wire.OpDrain); len(got) != 6 {
		t.Errorf("drained %v: ranks drain one by one", got)
	}
	decode[result](t, do("POST", "/start_profile?worker=b", `{"num_steps":3}`), 200)
	if a := w[2].Asked(); string(a[len(a)-1].Body) != `{"num_steps":3}` {
		t.Errorf("the engine's own parameters: %s", a[len(a)-1].Body)
	}
	decode[result](t, do("POST", "/stop_profile?worker=b", ""), 200)

	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/drain", "", 400}, {"POST", "/drain?worker=nobody", "", 404}, {"POST", "/flush_cache?worker=nobody", "", 404},
		{"POST", "/flush_cache?timeout=soon", "", 400}, {"POST", "/flush_cache?timeout=NaN", "", 400}, {"POST", "/flush_cache?timeout=1e9", "", 400}, {"POST", "/flush_cache?timeout=-1", "", 400},
		{"POST", "/start_profile", "[]", 400}, {"POST", "/start_profile", strings.Repeat("x", 70000), 413},
		{"GET", "/flush_cache", "", 405}, {"PUT", "/workers/b", "", 405}, {"POST", "/workers", `{"url":"http://x"}`, 501},
		{"GET", "/workers/nobody", "", 404}, {"DELETE", "/workers/nobody", "", 404}, {"DELETE", "/workers/*", "", 404}, {"POST", chatPath, chat(false), 404},
	} {
		if got := do(tt.method, tt.path, tt.body); got.status != tt.status {
			t.Errorf("%s %s = %d %s, want %d", tt.method, tt.path, got.status, got.body, tt.status)
		} else {
			failureIn(t, got.body)
		}
	}
	if got := do("GET", "/workers/b", ""); got.status != 200 || !strings.Contains(got.body, `"id":"b"`) {
		t.Errorf("one worker = %d %s", got.status, got.body)
	}

	if got := do("DELETE", "/workers/b", ""); got.status != 202 || !slices.Equal(asked(wire.OpRemove), []int{2}) {
		t.Errorf("removal = %d %s", got.status, got.body)
	}
	w[0].Leave()
	if got := do("DELETE", "/workers/a-r0", ""); got.status != 202 || !strings.Contains(got.body, "told that it is gone") {
		t.Errorf("removal of one that is dead = %d %s", got.status, got.body)
	}
	testkit.Eventually(t, "it is no longer listed", func() bool { return do("GET", "/workers/a-r0", "").status == 404 })
}

func TestOrdersBeforeTheBusIsThere(t *testing.T) {
	gw, err := gateway.New(gateway.Config{Join: gateway.Parts{}.Join})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	gw.Admin().ServeHTTP(w, httptest.NewRequest("GET", "/workers", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "no_bus") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
