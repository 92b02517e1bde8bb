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
		{"messages", prefix.Messages, `{"model":"m","max_tokens":9,"stream":true,` + hello + `}`, prefix.Request{Model: "m", MaxTokens: 9, HasMaxTokens: true, Stream: true}},
		{"user of messages", prefix.Messages, `{"metadata":{"user_id":"u","x":1},` + hello + `}`, prefix.Request{User: "u"}},
		{"user beside metadata", prefix.Messages, `{"metadata":{"user_id":"u"},"user":"v",` + hello + `}`, prefix.Request{User: "v"}},
		{"null is absent from messages", prefix.Messages, `{"system":null,"tools":null,"tool_choice":null,"thinking":null,"output_config":null,"metadata":null,"max_tokens":null,"messages":[{"role":"user","content":[{"type":"tool_result","content":null},{"type":"tool_use","input":null}]}]}`, prefix.Request{}},
		{"a system prompt alone", prefix.Messages, `{"system":[{"type":"text","text":"s"}],"messages":[]}`, prefix.Request{}},
		{"tools of messages", prefix.Messages, `{"tools":[{"name":"f","input_schema":{}},{"type":"bash_20250124","name":"bash"}],"tool_choice":{"type":"any"},` + hello + `}`, prefix.Request{Tools: true}},
		{"tools that the engine drops", prefix.Messages, `{"tools":[{"type":"web_search_20250305","name":"web_search"}],` + hello + `}`, prefix.Request{}},
		{"tools of messages switched off", prefix.Messages, `{"tools":[{"name":"f"}],"tool_choice":{"type":"none"},` + hello + `}`, prefix.Request{}},
		{"images", prefix.Messages, `{"system":[{"type":"text","text":"s"},{"type":"image","source":{"url":"u"}}],"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"AA"}},{"type":"image","source":{"type":"base64","data":""}},{"type":"image","source":{"type":"file","file_id":"f"}},{"type":"image"},{"type":"tool_result","content":[{"type":"image","source":{"type":"url","url":"u"}}]}]}]}`, prefix.Request{Media: 2}},
		{"a schema for messages", prefix.Messages, `{"output_config":{"effort":"low","format":{"type":"json_schema"}},"thinking":{"type":"enabled","budget_tokens":2000},` + hello + `}`, prefix.Request{Structured: true}},
		{"a response", prefix.Responses, `{"model":"m","input":"x","max_output_tokens":9,"user":"u","session_id":"s"}`, prefix.Request{Model: "m", MaxTokens: 9, HasMaxTokens: true, User: "u", Session: "s", Store: true}},
		{"null is absent from responses", prefix.Responses, `{"input":"x","instructions":null,"tools":null,"tool_choice":null,"reasoning":null,"text":null,"include":null,"background":null,"previous_response_id":null,"request_id":null,"max_output_tokens":null}`, prefix.Request{Store: true}},
		{"but for store", prefix.Responses, `{"input":"x","store":null}`, prefix.Request{}},
		{"not stored", prefix.Responses, `{"input":"x","store":false,"background":false}`, prefix.Request{}},
		{"in the background", prefix.Responses, `{"input":"x","background":true,"request_id":"resp_2"}`, prefix.Request{Store: true, Background: true, ResponseID: "resp_2"}},
		{"an answer to a response", prefix.Responses, `{"input":[],"previous_response_id":"resp_1"}`, prefix.Request{Store: true, PreviousResponse: "resp_1"}},
		{"instructions alone", prefix.Responses, `{"input":[],"instructions":"i"}`, prefix.Request{Store: true}},
		{"a format", prefix.Responses, `{"input":"x","text":{"format":{"type":"json_object"}},"include":["x","message.output_text.logprobs"]}`, prefix.Request{Store: true, Structured: true, Logprobs: true}},
		{"no format", prefix.Responses, `{"input":"x","text":{"verbosity":"low","format":{"type":"text"}},"top_logprobs":3,"include":[]}`, prefix.Request{Store: true}},
		{"tools of responses", prefix.Responses, `{"input":"x","tools":[{"type":"web_search"},{"type":"custom","name":"f"}]}`, prefix.Request{Store: true, Tools: true}},
		{"tools of OpenAI's servers", prefix.Responses, `{"input":"x","tools":[{"type":"web_search"},{"type":"mcp"}]}`, prefix.Request{Store: true}},
		{"tools of responses switched off", prefix.Responses, `{"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":"none"}`, prefix.Request{Store: true}},
		{"items", prefix.Responses, `{"input":[{"role":"user","content":[{"type":"input_image","image_url":"u"},{"type":"input_text","text":"x"}]},{"type":"function_call_output","output":[{"type":"input_image","image_url":"u"}]},{"type":"function_call_output"},{"id":"x"},{"type":"reasoning","summary":"odd"}]}`, prefix.Request{Store: true, Media: 2}},
		{"counting", prefix.CountTokens, `{"model":"m","system":"s","messages":"the engine's to judge","tools":[{}],"max_tokens":"x"}`, prefix.Request{Model: "m"}},
		{"embeddings", prefix.Embeddings, `{"model":"m","input":["a",""],"user":"u","rid":["r","s"],"priority":2,"lora_path":"l"}`, prefix.Request{Model: "m", User: "u", Rids: []string{"r", "s"}, Priority: 2, HasPriority: true, LoRA: "l"}},
		{"embeddings of ids", prefix.Embeddings, `{"input":[[1,70000],[3]]}`, prefix.Request{InputTokens: 3, MaxTokenID: 70000}},
		{"embeddings of images", prefix.Embeddings, `{"input":[{"text":"t","image":"u"}]}`, prefix.Request{}},
		{"ranks", prefix.Rerank, `{"query":"q","documents":["d",[{"type":"text"}]]}`, prefix.Request{}},
		{"scores", prefix.Score, `{"query":"q","items":["","x"]}`, prefix.Request{}},
		{"scores of ids", prefix.Score, `{"query":[1,9],"items":[[2],[],[70000]]}`, prefix.Request{MaxTokenID: 70000}},
		{"scores of nothing", prefix.Score, `{"query":"","items":""}`, prefix.Request{}},
		{"classes", prefix.Classify, `{"input":[5,6]}`, prefix.Request{InputTokens: 2, MaxTokenID: 6}},
		{"tokens", prefix.Tokenize, `{"prompt":["","x"],"tools":[]}`, prefix.Request{}},
		{"text of tokens", prefix.Detokenize, `{"tokens":[1,-5,99999999999]}`, prefix.Request{}},
		{"encoding", prefix.Encode, `{"text":[["q","d"]],"routed_dp_rank":1,"routing_key":"k"}`, prefix.Request{DPRank: 1, HasDPRank: true, RoutingKey: "k"}},
		{"encoding an image", prefix.Encode, `{"text":"","image_data":"u"}`, prefix.Request{}},
		{"encoding ids", prefix.NativeClassify, `{"input_ids":[8]}`, prefix.Request{InputTokens: 1, MaxTokenID: 8}},
		{"a session is opened", prefix.OpenSession, `{"capacity_of_str_len":7,"session_id":"s"}`, prefix.Request{Session: "s", SessionID: "s"}},
		{"a session without a name", prefix.OpenSession, `{"capacity_of_str_len":7,"session_id":null}`, prefix.Request{}},
		{"a session is closed", prefix.CloseSession, `{"session_id":"s"}`, prefix.Request{Session: "s", SessionID: "s"}},
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
			if got.PromptBytes <= 0 || got.PromptBytes > len(tt.body) || got.PromptBytes == len(tt.body) && tt.route < prefix.OpenSession {
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
		{prefix.Chat, chat(`"lora_path":["a"]`), "lora_path", "expected a string for a single prompt"},
		{prefix.Generate, `{"text":"x","lora_path":["a"]}`, "lora_path", "expected a string for a single prompt"},
		{prefix.Completions, `{"prompt":"x","lora_path":[null]}`, "lora_path", "expected a string for a single prompt"},
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
		{prefix.Messages, chat(`"max_tokens":0`), "max_tokens", "below minimum value"},
		{prefix.Messages, chat(`"max_tokens":"5"`), "max_tokens", "expected an integer, but got a string"},
		{prefix.Messages, chat(`"stream":1`), "stream", "boolean"},
		{prefix.Messages, chat(`"system":7`), "system", "one of a string or array of objects, but got a number"},
		{prefix.Messages, chat(`"system":["x"]`), "system[0]", "object"},
		{prefix.Messages, chat(`"system":[{"type":"text","text":"x"},{"type":"text"}]`), "system[1].text", "Missing"},
		{prefix.Messages, chat(`"system":[],"system":[]`), "system", "Duplicate"},
		{prefix.Messages, chat(`"tools":{}`), "tools", "array of objects"},
		{prefix.Messages, chat(`"tools":["f"]`), "tools[0]", "object"},
		{prefix.Messages, chat(`"tool_choice":"none"`), "tool_choice", "object"},
		{prefix.Messages, chat(`"thinking":true`), "thinking", "object"},
		{prefix.Messages, chat(`"output_config":"high"`), "output_config", "object"},
		{prefix.Messages, chat(`"output_config":{"effort":3}`), "output_config.effort", "string"},
		{prefix.Messages, chat(`"metadata":"u"`), "metadata", "object"},
		{prefix.Messages, chat(`"metadata":{"user_id":7}`), "metadata.user_id", "string"},
		{prefix.Messages, chat(`"metadata":{"user_id":"` + strings.Repeat("u", prefix.MaxName+1) + `"}`), "metadata.user_id", "too long"},
		{prefix.Messages, `{}`, "messages", "Missing"},
		{prefix.Messages, `{"messages":{}}`, "messages", "array of objects"},
		{prefix.Messages, `{"messages":[]}`, "messages", "empty array"},
		{prefix.Messages, `{"messages":[],"system":[{"type":"text","text":""}]}`, "messages", "empty array"},
		{prefix.Messages, `{"messages":[7]}`, "messages[0]", "object"},
		{prefix.Messages, `{"messages":[{"content":"x"}]}`, "messages[0].role", "Missing"},
		{prefix.Messages, `{"messages":[{"role":1,"content":"x"}]}`, "messages[0].role", "string"},
		{prefix.Messages, `{"messages":[{"role":"user"}]}`, "messages[0].content", "Missing"},
		{prefix.Messages, `{"messages":[{"role":"user","content":{}}]}`, "messages[0].content", "string or array"},
		{prefix.Messages, `{"messages":[{"role":"user","content":["x"]}]}`, "messages[0].content[0]", "object"},
		{prefix.Messages, `{"messages":[{"role":"user","content":[{"type":"text","text":7}]}]}`, "messages[0].content[0].text", "string"},
		{prefix.Messages, `{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"tool_result","content":7}]}]}`, "messages[0].content[1].content", "string or array"},
		{prefix.Messages, `{"messages":[{"role":"user","content":[{"type":"tool_result","content":[7]}]}]}`, "messages[0].content[0].content[0]", "object"},
		{prefix.Messages, `{"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text"}]}]}]}`, "messages[0].content[0].content[0].text", "Missing"},
		{prefix.Responses, `{}`, "input", "Missing"},
		{prefix.Responses, `{"input":7}`, "input", "one of a string or array of objects, but got a number"},
		{prefix.Responses, `{"input":[],"instructions":""}`, "input", "empty array"},
		{prefix.Responses, `{"input":["x"]}`, "input[0]", "object"},
		{prefix.Responses, `{"input":[{"type":"message","content":"x"}]}`, "input[0].role", "Missing"},
		{prefix.Responses, `{"input":[{"role":7,"content":"x"}]}`, "input[0].role", "string"},
		{prefix.Responses, `{"input":[{"role":"user","content":7}]}`, "input[0].content", "string or array"},
		{prefix.Responses, `{"input":[{"role":"user","content":[7]}]}`, "input[0].content[0]", "object"},
		{prefix.Responses, `{"input":[{"role":"user","content":[{"type":"input_text"}]}]}`, "input[0].content[0].text", "Missing"},
		{prefix.Responses, `{"input":[{"type":"function_call_output","output":{}}]}`, "input[0].output", "string or array"},
		{prefix.Responses, `{"input":[{"type":"function_call_output","output":[{"type":"output_text","text":1}]}]}`, "input[0].output[0].text", "string"},
		{prefix.Responses, `{"input":"x","instructions":[]}`, "instructions", "string"},
		{prefix.Responses, `{"input":"x","tools":{}}`, "tools", "array of objects"},
		{prefix.Responses, `{"input":"x","tools":[1]}`, "tools[0]", "object"},
		{prefix.Responses, `{"input":"x","tool_choice":1}`, "tool_choice", "string or object"},
		{prefix.Responses, `{"input":"x","reasoning":"high"}`, "reasoning", "object"},
		{prefix.Responses, `{"input":"x","reasoning":{"effort":0.5}}`, "reasoning.effort", "string"},
		{prefix.Responses, `{"input":"x","text":"x"}`, "text", "object"},
		{prefix.Responses, `{"input":"x","text":{"format":"json"}}`, "text.format", "object"},
		{prefix.Responses, `{"input":"x","include":"x"}`, "include", "array of strings"},
		{prefix.Responses, `{"input":"x","store":"x"}`, "store", "boolean"},
		{prefix.Responses, `{"input":"x","background":1}`, "background", "boolean"},
		{prefix.Responses, `{"input":"x","max_output_tokens":0}`, "max_output_tokens", "below"},
		{prefix.Responses, `{"input":"x","previous_response_id":7}`, "previous_response_id", "string"},
		{prefix.Responses, `{"input":"x","request_id":[]}`, "request_id", "string"},
		{prefix.Embeddings, `[]`, "", "expected an object"},
		{prefix.Embeddings, `{"input":"x","input":"y"}`, "input", "Duplicate"},
		{prefix.Embeddings, `{"input":"x","model":7}`, "model", "string"},
		{prefix.Embeddings, `{"input":"x","priority":"high"}`, "priority", "integer"},
		{prefix.Embeddings, `{"input":[1,2.0]}`, "input[1]", "integer"},
		{prefix.Embeddings, `{"input":[[1],[]]}`, "input[1]", "empty array"},
		{prefix.Embeddings, `{"input":[]}`, "input", "empty array"},
		{prefix.Encode, `{"text":""}`, "text", "empty string"},
		{prefix.Encode, `{"text":["x",""]}`, "text[1]", "empty string"},
		{prefix.Encode, `{"text":["x",[]]}`, "text[1]", "empty array"},
		{prefix.NativeClassify, `{"input_ids":[[1],[4294967296]]}`, "input_ids[1][0]", "integer"},
		{prefix.Score, `{"query":"","items":["x",""]}`, "items[1]", "empty string"},
		{prefix.Score, `{"items":[[1],[]]}`, "items[1]", "empty array"},
		{prefix.Score, `{"query":[1],"items":[[-1]]}`, "items[0][0]", "integer"},
		{prefix.CloseSession, `{"session_id":7}`, "session_id", "string"},
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
	keys := []string{"rid", "request_id", "model", "lora_path", "priority", "routed_dp_rank", "data_parallel_rank", "extra_key", "cache_salt",
		"session_id", "session_params", "conversation_id", "previous_response_id", "routing_key", "user", "stream", "stream_options",
		"return_cached_tokens_details", "messages", "prompt", "text", "input_ids", "continue_final_message", "add_generation_prompt",
		"max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens", "sampling_params"}
	for _, route := range every {
		values := map[string]string{"messages": `[{"role":"user","content":"x"}]`, "prompt": `"x"`, "text": `"x"`}
		if route == prefix.Responses {
			values["text"] = `{}`
		}
		body := `{"input":"x"`
		for _, key := range keys {
			if !prefix.Editable(key) {
				t.Errorf("%s is not editable", key)
			}
			value := values[key]
			if value == "" {
				value = "null"
			}
			body += fmt.Sprintf(",%q:%s", key, value)
		}
		r, err := prefix.Parse(route, []byte(body+"}"))
		if err != nil {
			t.Fatalf("%v: %v", route, err)
		}
		var got []string
		for _, m := range r.Points.Members {
			got = append(got, m.Key)
		}
		if d := cmp.Diff(keys, got); d != "" {
			t.Errorf("%v (-want +got)\n%s", route, d)
		}
	}
	for _, key := range []string{"tools", "temperature", "input", "store", ""} {
		if prefix.Editable(key) {
			t.Errorf("%q is editable", key)
		}
	}
}

var every = []prefix.Route{prefix.Chat, prefix.Completions, prefix.Generate, prefix.Messages, prefix.Responses, prefix.CountTokens, prefix.Embeddings,
	prefix.Rerank, prefix.Score, prefix.Classify, prefix.Tokenize, prefix.Detokenize, prefix.Encode, prefix.NativeClassify, prefix.OpenSession, prefix.CloseSession}

func TestRoutes(t *testing.T) {
	var got []string
	for i, r := range every {
		if int(r) != i+1 {
			t.Errorf("%v is number %d", r, r)
		}
		got = append(got, fmt.Sprint(r, " ", r.ByLoad(), " ", r.Native()))
	}
	for _, r := range []prefix.Route{0, prefix.CloseSession + 1} {
		got = append(got, fmt.Sprint(r, " ", r.ByLoad(), " ", r.Native()))
	}
	want := []string{
		"/v1/chat/completions false false", "/v1/completions false false", "/generate false true", "/v1/messages false false", "/v1/responses false false",
		"/v1/messages/count_tokens true false", "/v1/embeddings true false", "/v1/rerank true false", "/v1/score true false", "/v1/classify true false",
		"/v1/tokenize true false", "/v1/detokenize true false", "/encode true true", "/classify true true", "/open_session true true", "/close_session true true",
		"route 0 false false", "route 17 false false",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
