package prefix_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/radixbus/radixbus/internal/jsonscan"
	"github.com/radixbus/radixbus/internal/prefix"
)

const hello = `"messages":[{"role":"user","content":"hello"}]`

func TestParse(t *testing.T) {
	tests := []struct {
		name  string
		route prefix.Route
		body  string
		want  prefix.Request // without Route and PromptBytes; 0 for N and Prompts means 1
	}{
		{"a chat", prefix.Chat, `{"model":"m",` + hello + `}`, prefix.Request{Model: "m"}},
		{"null is absent", prefix.Chat, `{"model":null,"stream":null,"n":null,"tools":null,"stream_options":null,"rid":null,"priority":null,"lora_path":null,"input_ids":null,"response_format":null,` + hello + `}`, prefix.Request{}},
		{"stream options", prefix.Chat, `{"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true},` + hello + `}`,
			prefix.Request{Stream: true, IncludeUsage: true, ContinuousUsage: true}},
		{"the newer limit wins", prefix.Chat, `{"max_tokens":5,"max_completion_tokens":7,` + hello + `}`, prefix.Request{MaxTokens: 7, HasMaxTokens: true}},
		{"unless it is 0", prefix.Chat, `{"max_tokens":5,"max_completion_tokens":0,` + hello + `}`, prefix.Request{MaxTokens: 5, HasMaxTokens: true}},
		{"whole numbers however spelt", prefix.Chat, `{"max_tokens":1.6e1,"n":2.0,"min_tokens":3,` + hello + `}`, prefix.Request{MaxTokens: 16, HasMaxTokens: true, N: 2, MinTokens: 3}},
		{"identity", prefix.Chat, `{"rid":"r","user":"u","routing_key":"k","session_id":"s","conversation_id":"c","priority":-3,"routed_dp_rank":0,"data_parallel_rank":4,` + hello + `}`,
			prefix.Request{Rids: []string{"r"}, User: "u", RoutingKey: "k", Session: "s", Priority: -3, HasPriority: true, HasDPRank: true}},
		{"older names", prefix.Chat, `{"conversation_id":"c","data_parallel_rank":4,` + hello + `}`, prefix.Request{Session: "c", DPRank: 4, HasDPRank: true}},
		{"an engine's session", prefix.Generate, `{"text":"x","session_params":{"id":"s","offset":1},"conversation_id":"c"}`, prefix.Request{Session: "s", SessionID: "s", EngineSession: true}},
		{"an engine's session in a chat", prefix.Chat, `{"session_params":{"id":"s"},` + hello + `}`, prefix.Request{Session: "s"}},
		{"namespace", prefix.Chat, `{"lora_path":"l","extra_key":"e","cache_salt":"c",` + hello + `}`, prefix.Request{LoRA: "l", Salt: "1:ce"}},
		{"escapes", prefix.Chat, `{"\u006dodel":"a\/b",` + hello + `}`, prefix.Request{Model: "a/b"}},
		{"constraints", prefix.Chat, `{"response_format":{"type":"json_object"},"top_logprobs":2,"return_hidden_states":true,"return_cached_tokens_details":true,` + hello + `}`,
			prefix.Request{Structured: true, Logprobs: true, HiddenStates: true, CachedDetails: true}},
		{"no constraints", prefix.Chat, `{"response_format":{"type":"text"},"top_logprobs":0,"logprobs":false,"regex":"","return_hidden_states":false,` + hello + `}`, prefix.Request{}},
		{"tools", prefix.Chat, `{"tools":[{"type":"function","function":{"name":"f"}}],` + hello + `}`, prefix.Request{Tools: true}},
		{"tools switched off", prefix.Chat, `{"tools":[{}],"tool_choice":"none",` + hello + `}`, prefix.Request{}},
		{"no tools", prefix.Chat, `{"tools":[],"tool_choice":"auto",` + hello + `}`, prefix.Request{}},
		{"resumed", prefix.Chat, `{"continue_final_message":true,"ignore_eos":true,"bootstrap_host":"h",` + hello + `}`, prefix.Request{ContinueFinal: true, IgnoreEOS: true, Disaggregated: true}},
		{"media", prefix.Chat, `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"t"},{"type":"input_audio","input_audio":{}}]}]}`, prefix.Request{Media: 2}},
		{"ids win over messages", prefix.Chat, `{"input_ids":[1, 70000 ,2],"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}`, prefix.Request{InputTokens: 3, MaxTokenID: 70000}},
		{"an assistant that called a tool", prefix.Chat, `{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},{"role":"tool"}]}`, prefix.Request{}},
		{"a completion", prefix.Completions, `{"prompt":"x","echo":true,"logprobs":0,"max_tokens":3,"n":4}`, prefix.Request{Echo: true, Logprobs: true, MaxTokens: 3, HasMaxTokens: true, N: 4}},
		{"a batch", prefix.Completions, `{"prompt":["x","y"],"rid":["a","b"]}`, prefix.Request{Batch: true, Prompts: 2, Rids: []string{"a", "b"}}},
		{"a batch of one", prefix.Completions, `{"prompt":["x"]}`, prefix.Request{Batch: true}},
		{"ids", prefix.Completions, `{"prompt":[0,9]}`, prefix.Request{InputTokens: 2, MaxTokenID: 9}},
		{"a batch of ids", prefix.Completions, `{"prompt":[[1],[2,3]]}`, prefix.Request{Batch: true, Prompts: 2, InputTokens: 3, MaxTokenID: 3}},
		{"one adapter for a batch", prefix.Completions, `{"prompt":["x","y"],"lora_path":["l","l"]}`, prefix.Request{Batch: true, Prompts: 2, LoRA: "l"}},
		{"a salt for each prompt", prefix.Completions, `{"prompt":["x","y"],"extra_key":["s", "t"]}`, prefix.Request{Batch: true, Prompts: 2, Salt: "0:s\x00t"}},
		{"generate", prefix.Generate, `{"text":"x","stream":true,"return_logprob":true,"max_tokens":"ignored","sampling_params":{"max_new_tokens":0,"min_new_tokens":2,"n":3,"json_schema":"{}","ignore_eos":true}}`,
			prefix.Request{Stream: true, Logprobs: true, HasMaxTokens: true, MinTokens: 2, N: 3, Structured: true, IgnoreEOS: true}},
		{"sampling for each prompt", prefix.Generate, `{"text":["x","y"],"sampling_params":[{"max_new_tokens":8},{"n":2,"max_new_tokens":4,"regex":null}]}`,
			prefix.Request{Batch: true, Prompts: 2, HasMaxTokens: true, MaxTokens: 8, N: 2}},
		{"ids win over text", prefix.Generate, `{"text":"x","input_ids":[7]}`, prefix.Request{InputTokens: 1, MaxTokenID: 7}},
		{"media of generate", prefix.Generate, `{"text":["x","y"],"image_data":["u",["v",null]],"audio_data":"a"}`, prefix.Request{Batch: true, Prompts: 2, Media: 3}},
		{"vectors", prefix.Generate, `{"input_embeds":[[0.5,1]]}`, prefix.Request{Embeds: true}},
		{"a batch of vectors", prefix.Generate, `{"input_embeds":[[[0.5]],[[1]]]}`, prefix.Request{Embeds: true, Batch: true, Prompts: 2}},
		{"what a route does not know passes", prefix.Completions, `{"prompt":"x","messages":7,"input_ids":"y","tools":"z"}`, prefix.Request{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := prefix.Parse(tt.route, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Route, tt.want.N, tt.want.Prompts = tt.route, max(tt.want.N, 1), max(tt.want.Prompts, 1)
			ignore := []cmp.Option{cmpopts.IgnoreUnexported(prefix.Request{}), cmpopts.IgnoreFields(prefix.Request{}, "Points", "PromptBytes")}
			if d := cmp.Diff(&tt.want, got, ignore...); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if got.PromptBytes <= 0 || got.PromptBytes >= len(tt.body) {
				t.Errorf("PromptBytes = %d of %d", got.PromptBytes, len(tt.body))
			}
			if got.Multimodal() != (tt.want.Media > 0) {
				t.Errorf("Multimodal() = %v", got.Multimodal())
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	chat := func(members string) string { return "{" + members + "," + hello + "}" }
	tests := []struct {
		route       prefix.Route
		body, field string
		message     string // a part of it
	}{
		{0, `{"text":"x"}`, "", "route 0"},
		{prefix.Chat, ``, "", "could not parse"},
		{prefix.Chat, `{"a":01}`, "", "at byte 6"},
		{prefix.Chat, `[]`, "", "expected an object"},
		{prefix.Chat, "{\"messages\":\"\xff\"}", "", "UTF-8"},
		{prefix.Chat, chat(`"model":"a","model":"b"`), "model", "Duplicate"},
		{prefix.Chat, chat(`"model":1`), "model", "expected a string, but got a number"},
		{prefix.Chat, chat(`"model":"` + strings.Repeat("m", prefix.MaxName+1) + `"`), "model", "too long"},
		{prefix.Chat, chat(`"user":"` + strings.Repeat("m", 7*prefix.MaxName) + `"`), "user", "too long"},
		{prefix.Chat, chat(`"stream":"true"`), "stream", "expected a boolean, but got a string"},
		{prefix.Chat, chat(`"stream_options":[]`), "stream_options", "expected an object, but got an array"},
		{prefix.Chat, chat(`"stream_options":{"include_usage":1}`), "stream_options.include_usage", "expected a boolean"},
		{prefix.Chat, chat(`"max_tokens":-1`), "max_tokens", "below minimum value"},
		{prefix.Chat, chat(`"max_tokens":1.5`), "max_tokens", "expected an integer, but got a decimal number"},
		{prefix.Chat, chat(`"max_tokens":"5"`), "max_tokens", "expected an integer, but got a string"},
		{prefix.Chat, chat(`"max_tokens":99999999999999999999`), "max_tokens", "out of range"},
		{prefix.Chat, chat(`"max_tokens":1e999`), "max_tokens", "out of range"},
		{prefix.Chat, chat(`"max_completion_tokens":4294967296`), "max_completion_tokens", "above maximum value"},
		{prefix.Chat, chat(`"n":0`), "n", "below minimum value"},
		{prefix.Chat, chat(`"n":1025`), "n", "above maximum value"},
		{prefix.Chat, chat(`"n":{}`), "n", "expected an integer, but got an object"},
		{prefix.Chat, chat(`"priority":true`), "priority", "expected an integer, but got a boolean"},
		{prefix.Chat, chat(`"routed_dp_rank":-1`), "routed_dp_rank", "below"},
		{prefix.Chat, chat(`"data_parallel_rank":"x"`), "data_parallel_rank", "integer"},
		{prefix.Chat, chat(`"rid":[1]`), "rid[0]", "string"},
		{prefix.Chat, chat(`"rid":{}`), "rid", "string"},
		{prefix.Chat, chat(`"lora_path":["a","b"]`), "lora_path", "same adapter"},
		{prefix.Chat, chat(`"lora_path":[7]`), "lora_path[0]", "string"},
		{prefix.Chat, chat(`"cache_salt":7`), "cache_salt", "string"},
		{prefix.Chat, chat(`"session_params":"x"`), "session_params", "object"},
		{prefix.Chat, chat(`"response_format":"json"`), "response_format", "object"},
		{prefix.Chat, chat(`"tools":{}`), "tools", "array of objects"},
		{prefix.Chat, chat(`"tools":["f"]`), "tools[0]", "object"},
		{prefix.Chat, chat(`"tools":[{}],"tool_choice":7`), "tool_choice", "string or object"},
		{prefix.Chat, chat(`"input_ids":[]`), "input_ids", "empty array"},
		{prefix.Chat, chat(`"input_ids":[[1]]`), "input_ids[0]", "integer"},
		{prefix.Chat, chat(`"input_ids":"x"`), "input_ids", "array of integers"},
		{prefix.Chat, chat(`"input_ids":[1,-2]`), "input_ids[1]", "integer between"},
		{prefix.Chat, chat(`"input_ids":[1,2,2147483648]`), "input_ids[2]", "integer between"},
		{prefix.Chat, chat(`"input_ids":[1.0]`), "input_ids[0]", "integer between"},
		{prefix.Chat, `{}`, "messages", "Missing required parameter"},
		{prefix.Chat, `{"messages":null}`, "messages", "Missing required parameter"},
		{prefix.Chat, `{"messages":7}`, "messages", "expected an array of objects, but got a number"},
		{prefix.Chat, `{"messages":[]}`, "messages", "empty array"},
		{prefix.Chat, `{"messages":["x"]}`, "messages[0]", "object"},
		{prefix.Chat, `{"messages":[{"content":"x"}]}`, "messages[0].role", "Missing"},
		{prefix.Chat, `{"messages":[{"role":7}]}`, "messages[0].role", "string"},
		{prefix.Chat, `{"messages":[{"role":"user"},{"role":"user"},{"role":"user","content":5}]}`, "messages[2].content", "one of a string or array of objects, but got a number"},
		{prefix.Chat, `{"messages":[{"role":"user","content":["x"]}]}`, "messages[0].content[0]", "object"},
		{prefix.Chat, `{"messages":[{"role":"user","content":[{"type":"text"}]}]}`, "messages[0].content[0].text", "Missing"},
		{prefix.Chat, `{"messages":[{"role":"user","content":[{"type":"text","text":7}]}]}`, "messages[0].content[0].text", "string"},
		{prefix.Chat, `{"messages":[{"role":"assistant","tool_calls":{}}]}`, "messages[0].tool_calls", "array"},
		{prefix.Completions, `{}`, "prompt", "Missing"},
		{prefix.Completions, `{"prompt":{}}`, "prompt", "got an object"},
		{prefix.Completions, `{"prompt":[]}`, "prompt", "empty array"},
		{prefix.Completions, `{"prompt":[null]}`, "prompt[0]", "null"},
		{prefix.Completions, `{"prompt":["x",7]}`, "prompt[1]", "one type"},
		{prefix.Completions, `{"prompt":[7,"x"]}`, "prompt[1]", "integer"},
		{prefix.Completions, `{"prompt":[[7],[]]}`, "prompt[1]", "empty array"},
		{prefix.Completions, `{"prompt":[[7],["x"]]}`, "prompt[1][0]", "integer"},
		{prefix.Completions, `{"prompt":[` + strings.Repeat(`"x",`, prefix.MaxPrompts) + `"x"]}`, "prompt", "too long"},
		{prefix.Completions, `{"prompt":""}`, "prompt", "empty string"},
		{prefix.Completions, `{"prompt":["a",""]}`, "prompt[1]", "empty string"}, // SGLang 0.5.23 dies of it
		{prefix.Generate, `{"text":""}`, "text", "empty string"},                 // and of this
		{prefix.Generate, `{"text":["a",""]}`, "text[1]", "empty string"},
		{prefix.Generate, `{}`, "text", "Missing"},
		{prefix.Generate, `{"text":7}`, "text", "string"},
		{prefix.Generate, `{"text":[7]}`, "text[0]", "string"},
		{prefix.Generate, `{"input_ids":"x"}`, "input_ids", "integers"},
		{prefix.Generate, `{"input_ids":["x"]}`, "input_ids[0]", "integers"},
		{prefix.Generate, `{"input_embeds":7}`, "input_embeds", "array"},
		{prefix.Generate, `{"input_embeds":[7]}`, "input_embeds[0]", "array"},
		{prefix.Generate, `{"text":"x","sampling_params":7}`, "sampling_params", "object"},
		{prefix.Generate, `{"text":"x","sampling_params":[7]}`, "sampling_params[0]", "object"},
		{prefix.Generate, `{"text":"x","sampling_params":{"max_new_tokens":-1}}`, "sampling_params.max_new_tokens", "below"},
		{prefix.Generate, `{"text":["x"],"sampling_params":[{"n":"2"}]}`, "sampling_params[0].n", "integer"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.60s", tt.body), func(t *testing.T) {
			_, err := prefix.Parse(tt.route, []byte(tt.body))
			e, ok := errors.AsType[*prefix.FieldError](err)
			if !ok {
				t.Fatalf("error %v, want a FieldError", err)
			}
			if e.Field != tt.field || !strings.Contains(e.Message, tt.message) {
				t.Errorf("field %q: %q, want field %q and %q", e.Field, e.Message, tt.field, tt.message)
			}
		})
	}
}

func TestPointsEditTheBody(t *testing.T) {
	body := []byte(`{"model":"m", "temperature":0.70, "rid":"mine", ` + hello + `, "stream":true}`)
	r, err := prefix.Parse(prefix.Chat, body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Points.Apply(body, []jsonscan.Set{
		{Key: "rid", Value: []byte(`"ours"`)},
		{Key: "stream_options", Value: []byte(`{"include_usage":true}`)},
	})
	want := `{"stream_options":{"include_usage":true},"model":"m", "temperature":0.70, "rid":"ours", ` + hello + `, "stream":true}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
}

// An editable member must be among the points wherever it can be in a body, or setting it would put it there twice.
func TestEveryEditableMemberIsAPointOnEveryRoute(t *testing.T) {
	keys := []string{"rid", "model", "lora_path", "priority", "routed_dp_rank", "data_parallel_rank", "extra_key", "cache_salt",
		"session_id", "conversation_id", "routing_key", "user", "stream", "stream_options", "return_cached_tokens_details",
		"messages", "prompt", "text", "input_ids", "continue_final_message", "add_generation_prompt", "max_tokens",
		"max_completion_tokens", "min_tokens", "sampling_params"}
	prompts := map[string]string{"messages": `[{"role":"user"}]`, "prompt": `"x"`, "text": `"x"`}
	body := "{"
	for i, key := range keys {
		if !prefix.Editable(key) {
			t.Errorf("%s is not editable", key)
		}
		if i > 0 {
			body += ","
		}
		value := prompts[key]
		if value == "" {
			value = "null"
		}
		body += fmt.Sprintf("%q:%s", key, value)
	}
	body += "}"
	for route := prefix.Chat; route <= prefix.Generate; route++ {
		r, err := prefix.Parse(route, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range r.Points.Members {
			got = append(got, m.Key)
		}
		if d := cmp.Diff(keys, got); d != "" {
			t.Errorf("%v (-want +got)\n%s", route, d)
		}
	}
	for _, key := range []string{"tools", "temperature", ""} {
		if prefix.Editable(key) {
			t.Errorf("%q is editable", key)
		}
	}
}

func TestRouteString(t *testing.T) {
	got := fmt.Sprint(prefix.Chat, prefix.Completions, prefix.Generate, prefix.Route(99))
	if want := "/v1/chat/completions /v1/completions /generate route 99"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
