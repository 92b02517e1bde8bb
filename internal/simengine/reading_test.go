package simengine_test

import (
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

const (
	onChat        = "/v1/chat/completions"
	onCompletions = "/v1/completions"
	onGenerate    = "/generate"
)

func TestBodiesAreReadAsPydanticDoes(t *testing.T) {
	r := start(t, simengine.Config{Model: "m", Profile: "instant"})
	for _, tt := range []struct {
		name, path, body string
		code             int
		want             string
	}{
		{"text for a truth", onChat, chatBody("a", `,"max_tokens":1,"stream":"true"`), 200, "data: "},
		{"number for a truth", onChat, chatBody("a", `,"max_tokens":1,"stream":1`), 200, "data: "},
		{"text for a number", onChat, chatBody("a", `,"max_tokens":1,"n":"2"`), 200, `"index":1`},
		{"whole float", onCompletions, `{"prompt":"a","max_tokens":2.0}`, 200, `"completion_tokens":2`},
		{"broken float", onCompletions, `{"prompt":"a","max_tokens":2.5}`, 400, "'type': 'int_from_float'"},
		{"text that is no number", onChat, chatBody("a", `,"n":"two"`), 400, "Input should be a valid integer, unable to parse string as an integer"},
		{"no such truth", onChat, chatBody("a", `,"stream":"maybe"`), 400, "'type': 'bool_parsing', 'loc': ('body', 'stream')"},
		{"no messages", onChat, `{"model":"m"}`, 400, "1 validation error:\\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'"},
		{"no prompt", onCompletions, `{"model":"m"}`, 400, "'type': 'missing', 'loc': ('body', 'prompt')"},
		{"every fault is told", onCompletions, `{"prompt":"a","n":"x","seed":[]}`, 400, "2 validation errors:"},
		{"an array for a chat", onChat, `[]`, 500, "Internal Server Error"},
		{"a text for a chat", onChat, `"x"`, 500, "Internal Server Error"},
		{"an array for a completion", onCompletions, `[]`, 400, `"object":"error"`},
		{"another media type, native", onGenerate, `{"text":`, 400, "json_invalid"},
		{"no media type, chat", onChat, `{`, 400, `"object":"error"`},
		{"sixteen tokens by default", onCompletions, `{"prompt":"a"}`, 200, `"completion_tokens":16`},
		{"no tokens", onCompletions, `{"prompt":"a","max_tokens":0}`, 400, "max_tokens must be positive"},
		{"fewer than no tokens", onChat, chatBody("a", `,"max_tokens":-1`), 400, `"object":"error"`},
		{"no choices", onChat, chatBody("a", `,"n":0`), 400, "range() arg 3 must not be zero"},
		{"no choices, native", onGenerate, `{"text":"a","sampling_params":{"n":0,"max_new_tokens":1}}`, 200, `"completion_tokens":1`},
		{"a list of parameters", onGenerate, `{"text":["a","b"],"sampling_params":[{"max_new_tokens":1},{"max_new_tokens":3}]}`, 200, `"completion_tokens":3`},
		{"the strict contract", onGenerate, `{"text":"a","sampling_params":{"max_new_tokens":"3"}}`, 400, `{"error":`},
		{"bad parameters, streamed", onGenerate, `{"text":"a","stream":true,"sampling_params":{"top_p":7}}`, 200, `"type":"invalid_request_error","code":400,"retryable":false}}`},
		{"bad parameters", onGenerate, `{"text":"a","sampling_params":{"top_p":7}}`, 400, `{"error":{"message":"top_p must be in (0, 1]`},
		{"nothing to go on from", onChat, chatBody("a", `,"continue_final_message":true`), 200, `"role":"assistant"`},
		{"a stop of nothing", onCompletions, `{"prompt":"a","stop":[""]}`, 200, `"text":"","logprobs":null,"finish_reason":"stop","matched_stop":""}`},
		{"probabilities, but of nothing", onChat, chatBody("a", `,"max_tokens":1,"top_logprobs":2`), 200, `"logprobs":null`},
		{"prompt ids", onGenerate, `{"input_ids":[300,301],"return_prompt_token_ids":true,"sampling_params":{"max_new_tokens":1}}`, 200, `"prompt_token_ids":[300,301]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, body := r.post(tt.path, tt.body); code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("%d %.600s, want %d with %s", code, body, tt.code, tt.want)
			}
		})
	}
}
