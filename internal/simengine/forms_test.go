package simengine_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

// blank takes out what differs from one request to the next.
func blank(body string) string {
	for _, r := range []struct{ find, put string }{
		{`[0-9a-f]{32}`, "ID"},
		{`"(created|created_at|completed_at|[a-z_]*_ts|[a-z_]*_time)":[0-9.]{9,}`, `"$1":T`},
		{`"(queue_time|e2e_latency|first_token_latency|decode_throughput|prefill_waiting_latency)":[0-9.e-]+`, `"$1":S`},
		{`"(text|content|delta)":" ?[a-z][a-z ]*"`, `"$1":"W"`},
		{`"output_ids":\[[0-9][0-9,]+\]`, `"output_ids":[N]`},
	} {
		body = regexp.MustCompile(r.find).ReplaceAllString(body, r.put)
	}
	return body
}

const (
	metaHead = `{"id":"ID","finish_reason":{"type":"length","length":1},"prompt_tokens":2,"weight_version":"default","num_retractions":0,` +
		`"storage_prefetch_wait":0.0,"storage_staging_wait":0.0,"forward_entry_time":T,"prefill_finished_time":T,"queue_time":S,`
	metaTail = `"dp_rank":null,"e2e_latency":S,"request_received_ts":T,"first_token_latency":S,"api_server_dispatch_finish_ts":T,` +
		`"request_finished_ts":T,"response_sent_to_client_ts":T}`
	usageOf2 = `"usage":{"prompt_tokens":2,"total_tokens":3,"completion_tokens":1,"prompt_tokens_details":`
	weights  = `"metadata":{"weight_version":"default","weight_versions":[{"version":"default","start":0,"end":1}]}`
)

// The wanted forms are a real engine's, key by key: clients and routers read them as text.
func TestAnswersHaveTheirVeryForm(t *testing.T) {
	r := start(t, simengine.Config{Model: "m", Profile: "instant", CacheReport: true})
	chat := func(more string) string { return chatBody("hi", `,"max_tokens":1`+more) }
	chunk := func(choice, rest string) string {
		return `data: {"id":"ID","object":"chat.completion.chunk","created":T,"model":"m","choices":[` + choice + `]` + rest + "}\n\n"
	}
	choice := func(delta, reason string) string {
		return `{"index":0,"delta":{"reasoning_content":null` + delta + `},"logprobs":null,"finish_reason":` + reason + `,"matched_stop":null}`
	}
	const usageOfChat = `{"prompt_tokens":10,"total_tokens":11,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9},` +
		`"reasoning_tokens":0,"completion_tokens_details":null}`
	text := func(choices, rest string) string {
		return `data: {"id":"ID","object":"text_completion","created":T,"model":"m","choices":[` + choices + `],` + rest + "}\n\n"
	}
	const textChoice = `{"index":0,"text":"W","logprobs":null,"finish_reason":"length","matched_stop":null}`
	for _, tt := range []struct{ name, path, body, want string }{
		{
			"generate", "/generate", `{"text":"hello world","sampling_params":{"max_new_tokens":1}}`,
			`{"text":"W","output_ids":[N],"meta_info":` + metaHead + `"reasoning_tokens":0,"completion_tokens":1,"cached_tokens":0,` +
				`"weight_versions":[{"version":"default","start":0,"end":1}],"cached_tokens_details":null,` + metaTail + `}`,
		},
		{
			"generate streamed, found in the cache", "/generate", `{"text":"hello world","stream":true,"sampling_params":{"max_new_tokens":1}}`,
			`data: {"text":"W","output_ids":[N],"meta_info":` + metaHead + `"reasoning_tokens":0,"completion_tokens":1,"cached_tokens":1,` +
				`"weight_versions":[{"version":"default","start":0,"end":1}],"cached_tokens_details":{"device":1,"host":0},` + metaTail + "}\n\ndata: [DONE]\n\n",
		},
		{
			"chat", "/v1/chat/completions", chat(""),
			`{"id":"ID","object":"chat.completion","created":T,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"W",` +
				`"reasoning_content":null},"logprobs":null,"finish_reason":"length","matched_stop":null}],` +
				strings.Replace(`"usage":`+usageOfChat, `ens":9`, `ens":0`, 1) + `,` + weights + `}`,
		},
		{
			"chat streamed, with usage", "/v1/chat/completions", chat(`,"stream":true,"stream_options":{"include_usage":true}`),
			chunk(choice(`,"role":"assistant","content":""`, "null"), "") + chunk(choice(`,"content":"W"`, "null"), "") +
				chunk(choice("", `"length"`), "") + chunk("", `,"usage":`+usageOfChat) + "data: [DONE]\n\n",
		},
		{
			"chat streamed, with usage all along", "/v1/chat/completions",
			chat(`,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`),
			chunk(choice(`,"role":"assistant","content":""`, "null"), "") + chunk(choice(`,"content":"W"`, "null"), `,"usage":`+usageOfChat) +
				chunk(choice("", `"length"`), "") + chunk("", `,"usage":`+usageOfChat) + "data: [DONE]\n\n",
		},
		{
			"chat without tokens", "/v1/chat/completions", chatBody("hi", `,"max_tokens":0`),
			`{"id":"ID","object":"chat.completion","created":T,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"",` +
				`"reasoning_content":null},"logprobs":null,"finish_reason":"length","matched_stop":null}],"usage":{"prompt_tokens":10,"total_tokens":10,` +
				`"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":9},"reasoning_tokens":0,"completion_tokens_details":null},` +
				strings.Replace(weights, `"end":1`, `"end":0`, 1) + `}`,
		},
		{
			"completion", "/v1/completions", `{"model":"m","prompt":"one two","max_tokens":1}`,
			`{"id":"ID","object":"text_completion","created":T,"model":"m","choices":[` + textChoice + `],` + usageOf2 +
				`{"cached_tokens":0},"reasoning_tokens":0,"completion_tokens_details":null},` + weights + `}`,
		},
		{
			"completion, with details", "/v1/completions", `{"model":"m","prompt":"one two","max_tokens":1,"return_cached_tokens_details":true}`,
			`{"id":"ID","object":"text_completion","created":T,"model":"m","choices":[` + textChoice + `],` + usageOf2 +
				`{"cached_tokens":1},"reasoning_tokens":0,"completion_tokens_details":null},` + weights +
				`,"sglext":{"cached_tokens_details":{"device":1,"host":0}}}`,
		},
		{
			"completion streamed, with usage all along and details", "/v1/completions", `{"model":"m","prompt":"one two","max_tokens":1,"stream":true,` +
				`"stream_options":{"include_usage":true,"continuous_usage_stats":true},"return_cached_tokens_details":true}`,
			text(textChoice, usageOf2+`null,"reasoning_tokens":0,"completion_tokens_details":null}`) +
				text("", `"usage":null,"sglext":{"cached_tokens_details":{"device":1,"host":0}}`) +
				text("", usageOf2+`{"cached_tokens":1},"reasoning_tokens":0}`) + "data: [DONE]\n\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, body := r.post(tt.path, tt.body); code != 200 || blank(body) != tt.want {
				t.Errorf("%d\n%s\nwant\n%s", code, blank(body), tt.want)
			}
		})
	}
}

func TestRefusalsHaveTheirVeryForm(t *testing.T) {
	full := start(t, simengine.Config{Model: "m", MaxRunning: 1, MaxQueued: 1})
	answers := make(chan string, 2)
	for i, rid := range []string{"runs", "waits"} {
		go func() {
			answers <- second(full.post("/generate", `{"text":"a b","rid":"`+rid+`","sampling_params":{"max_new_tokens":100000,"ignore_eos":true}}`))
		}()
		full.until(rid, func(s simengine.Stats) bool { return s.Running == 1 && s.Waiting == i })
	}
	small := start(t, simengine.Config{Model: "m", Profile: "instant", Capacity: 100, ContextLength: 600})
	const (
		never = `"weight_version":"default","e2e_latency":S,"weight_versions":[{"version":"default","start":0,"end":0}],"completion_tokens":0,"response_sent_to_client_ts":T}`
		limit = `"Input length (200 tokens) exceeds the maximum allowed length (94 tokens). Use a shorter input or enable --allow-auto-truncate."`
	)
	long := strings.TrimSpace(strings.Repeat("word ", 200))
	for _, tt := range []struct {
		name, path, body string
		on               *rig
		code             int
		want             string
	}{
		{
			"queue full", "/v1/completions", `{"prompt":"a"}`, full, 503,
			`{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}`,
		},
		{
			"queue full, generate streamed", "/generate", `{"text":"a","stream":true}`, full, 200,
			`data: {"text":"","output_ids":[],"meta_info":{"id":"ID","finish_reason":{"type":"abort","status_code":503,"message":"The request queue is full."},` +
				never + "}\n\ndata: [DONE]\n\n",
		},
		{
			"queue full, chat streamed", "/v1/chat/completions", chatBody("a", `,"stream":true`), full, 200,
			`data: {"error": {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", "param": null, "code": 503}}` + "\n\ndata: [DONE]\n\n",
		},
		{
			"queue full, messages", "/v1/messages", `{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]}`, full, 503,
			`{"type":"error","error":{"type":"overloaded_error","message":"Internal server error"}}`,
		},
		{
			"over the pool", "/generate", `{"text":"` + long + `"}`, small, 400, `{"error":{"message":` + limit + `}}`,
		},
		{
			"over the pool, generate streamed", "/generate", `{"text":"` + long + `","stream":true}`, small, 200,
			`data: {"text":"","output_ids":[0],"meta_info":{"id":"ID","finish_reason":{"type":"abort","message":` + limit +
				`,"status_code":400,"err_type":"BadRequestError"},"prompt_tokens":1,"weight_version":"default","num_retractions":0,"storage_prefetch_wait":0.0,` +
				`"storage_staging_wait":0.0,"forward_entry_time":T,"prefill_finished_time":T,"queue_time":S,"reasoning_tokens":0,"completion_tokens":1,` +
				`"cached_tokens":0,"weight_versions":[{"version":"default","start":0,"end":1}],"cached_tokens_details":null,` + metaTail + "}\n\ndata: [DONE]\n\n",
		},
		{"no such path", "/v1/nothing", `{}`, small, 404, `{"detail":"Not Found"}`},
		{"two slashes", "//v1/completions", `{}`, small, 404, `{"detail":"Not Found"}`},
		{"no such method", "/health", `{}`, small, 405, `{"detail":"Method Not Allowed"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, body := tt.on.post(tt.path, tt.body); code != tt.code || blank(body) != tt.want {
				t.Errorf("%d\n%s\nwant %d\n%s", code, blank(body), tt.code, tt.want)
			}
		})
	}
	full.post("/abort_request", `{"rid":"waits"}`)
	want := `{"text":"","output_ids":[],"meta_info":{"id":"waits","finish_reason":{"type":"abort","message":"Abort in waiting queue"},` + never + `}`
	if body := blank(<-answers); body != want {
		t.Errorf("aborted while it waits:\n%s\nwant\n%s", body, want)
	}
	full.post("/abort_request", `{"rid":"runs"}`)
	<-answers
	if _, body := full.get("/v1/models/other"); body != `{"error":{"message":"The model 'other' does not exist","type":"invalid_request_error","param":"model","code":"model_not_found"}}` {
		t.Error(body)
	}
}
