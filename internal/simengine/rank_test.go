package simengine_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

type rankMeta struct {
	Meta struct {
		Rank   *int `json:"dp_rank"`
		Cached int  `json:"cached_tokens"`
	} `json:"meta_info"`
}

func TestRanks(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", DP: 2, MaxRunning: 4})
	ask := func(more string) rankMeta {
		return parse[rankMeta](t, second(r.post("/generate", `{"text":"one two three"`+more+`,"sampling_params":{"max_new_tokens":2}}`)))
	}
	for i, want := range []struct{ rank, cached int }{{0, 0}, {1, 0}, {0, 2}, {1, 2}} {
		if got := ask("").Meta; *got.Rank != want.rank || got.Cached != want.cached {
			t.Errorf("turn %d: rank %d, %d cached, want %+v", i, *got.Rank, got.Cached, want)
		}
	}
	for _, more := range []string{`,"routed_dp_rank":1`, `,"data_parallel_rank":1`} {
		if got := ask(more); *got.Meta.Rank != 1 {
			t.Errorf("%s: rank %d", more, *got.Meta.Rank)
		}
	}
	for _, m := range parse[[]rankMeta](t, second(r.post("/generate", `{"text":["a","b"],"routed_dp_rank":1,"sampling_params":{"max_new_tokens":1}}`))) {
		if *m.Meta.Rank != 1 {
			t.Errorf("a routed batch: rank %d", *m.Meta.Rank)
		}
	}
	loads := parse[struct {
		Timestamp string
		Loads     []struct {
			Rank     int `json:"dp_rank"`
			Capacity int `json:"max_total_num_tokens"`
		}
	}](t, second(r.get("/v1/loads")))
	if len(loads.Loads) != 2 || loads.Loads[1].Rank != 1 || loads.Loads[1].Capacity != 444500 || !strings.HasSuffix(loads.Timestamp, "+00:00") {
		t.Errorf("loads %+v", loads)
	}
	info := parse[struct {
		Ranks  int              `json:"dp_size"`
		Max    int              `json:"max_running_requests"`
		States []map[string]any `json:"internal_states"`
	}](t, second(r.get("/server_info")))
	if info.Ranks != 2 || info.Max != 4 || len(info.States) != 2 || info.States[1]["effective_max_running_requests_per_dp"] != 4.0 {
		t.Errorf("server_info %+v", info)
	}
	if r.post("/flush_cache", ""); r.Stats().Evictable != 0 {
		t.Errorf("after the flush: %+v", r.Stats().Load)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, `sglang:num_running_reqs{engine_type="unified",model_name="meta-llama/Llama-3.1-8B-Instruct",moe_ep_rank="0",pp_rank="0",tp_rank="0",dp_rank="1"} 0`) {
		t.Errorf("metrics: %.600s", body)
	}
}

func TestRankHeader(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", DP: 2, Model: "m"})
	bodies := map[string]string{"/v1/chat/completions": chatBody("a", `,"max_tokens":1`), "/v1/completions": `{"prompt":"a","max_tokens":1}`,
		"/v1/messages": messagesBody(""), "/v1/responses": responsesBody(""), "/generate": `{"text":"a","sampling_params":{"max_new_tokens":1}}`}
	for _, tt := range []struct {
		path, header string
		code         int
		want         string
	}{
		{"/v1/chat/completions", "1", 200, ""},
		{"/v1/chat/completions", "2", 400, `"message":"routed_dp_rank=2 out of range [0, 2)","type":"BadRequestError"`},
		{"/v1/chat/completions", "x", 400, `Invalid X-Data-Parallel-Rank header: must be an integer, got 'x'","type":"400"`},
		{"/v1/completions", "2", 400, "out of range"},
		{"/v1/messages", "2", 400, `"type":"BadRequestError","message":"routed_dp_rank=2`},
		{"/v1/messages", "x", 400, `"type":"invalid_request_error"`},
		{"/v1/responses", "2", 400, `"type":"invalid_request_error"`},
		{"/v1/responses", "x", 400, `"type":"Bad Request"`},
		{"/generate", "2", 200, ""}, // which does not look at it
	} {
		req, err := http.NewRequest(http.MethodPost, r.url+tt.path, strings.NewReader(bodies[tt.path]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Data-Parallel-Rank", tt.header)
		if code, body := r.do(req); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s with %s: %d %s, want %d with %s", tt.path, tt.header, code, body, tt.code, tt.want)
		}
	}
	for _, tt := range []struct{ path, body, want string }{
		{"/generate", `{"text":"a","routed_dp_rank":2}`, `{"error":{"message":"routed_dp_rank=2 out of range [0, 2)"}}`},
		{"/generate", `{"text":"a","routed_dp_rank":-1}`, "routed_dp_rank=-1 out of range"},
		{"/generate", `{"text":"a","routed_dp_rank":"1"}`, `{"error":"invalid type: string \"1\", expected i64"}`},
		{"/v1/chat/completions", chatBody("a", `,"routed_dp_rank":2,"stream":true`), "out of range"},
	} {
		if code, body := r.post(tt.path, tt.body); code != 400 || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %s, want %s", tt.path, tt.body, code, body, tt.want)
		}
	}
	alone := start(t, simengine.Config{Profile: "instant"})
	if _, body := alone.post("/generate", `{"text":"a","routed_dp_rank":0,"sampling_params":{"max_new_tokens":1}}`); parse[rankMeta](t, body).Meta.Rank != nil {
		t.Errorf("one rank alone is told: %s", body)
	}
}
