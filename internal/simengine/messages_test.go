package simengine_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

// names lists the events of a stream that names them.
func names(body string) string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^event: (\S+)$`).FindAllStringSubmatch(body, -1) {
		if len(all) == 0 || all[len(all)-1] != m[1] {
			all = append(all, m[1])
		}
	}
	return strings.Join(all, " ")
}

const weatherTool = `"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"enum":["Oslo"]},"days":{"type":"integer"}},"required":["city","days"]}}]`

func messagesBody(more string) string {
	return `{"model":"m","max_tokens":40,"temperature":0,"messages":[{"role":"user","content":"hello there"}]` + more + `}`
}

func TestMessages(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", CacheReport: true, ContextLength: 500})
	for _, tt := range []struct {
		name, body string
		code       int
		want       []string
	}{
		{"whole", messagesBody(`,"max_tokens":3`), 200, []string{`"type":"message","role":"assistant"`, `"stop_reason":"max_tokens","usage":{"input_tokens":11,"output_tokens":3}`}},
		{"again", messagesBody(`,"max_tokens":3`), 200, []string{`{"input_tokens":1,"output_tokens":3,"cache_read_input_tokens":10}`}},
		{"blocks", messagesBody(`,"max_tokens":3,"messages":[{"role":"user","content":[{"type":"text","text":"hello there"}]}]`), 200, []string{`"cache_read_input_tokens":10`}},
		{"a stop", messagesBody(`,"stop_sequences":["e"]`), 200, []string{`"stop_reason":"end_turn"`}},
		{"a tool", messagesBody(`,"tool_choice":{"type":"any"},` + weatherTool), 200,
			[]string{`{"type":"tool_use","id":"call_`, `"name":"weather","input":{"city":"Oslo","days":1}}]`, `"stop_reason":"tool_use"`}},
		{"a tool cut short", messagesBody(`,"max_tokens":5,"tool_choice":{"type":"tool","name":"weather"},` + weatherTool), 200,
			[]string{`{"type":"text","text":"[{\"name\": \"`, `"stop_reason":"max_tokens"`}},
		{"no limit", `{"model":"m","messages":[]}`, 400, []string{`{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}`}},
		{"no messages", messagesBody(`,"messages":[]`), 400, []string{`"invalid_request_error","message":"Messages cannot be empty."`}},
		{"no tools", messagesBody(`,"tool_choice":{"type":"any"}`), 400, []string{`tool_choice='any' requires at least one custom tool`}},
		{"a bad role", messagesBody(`,"messages":[{"role":"elf","content":"x"}]`), 400, []string{`messages.0.role: Input should be 'user', 'assistant' or 'system'`}},
		{"a bad number", messagesBody(`,"temperature":-1`), 400, []string{`{"type":"BadRequestError","message":"temperature must be a non-negative finite number, got -1.0."}`}},
		{"too long", messagesBody(`,"max_tokens":495`), 400, []string{`"type":"BadRequestError","message":"Requested token count exceeds`}},
		{"thinking", messagesBody(`,"thinking":{"type":"enabled","budget_tokens":1024}`), 400, []string{`thinking is not supported`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, body := r.post("/v1/messages", tt.body)
			for _, want := range tt.want {
				if code != tt.code || !strings.Contains(body, want) {
					t.Errorf("%d %s, want %d with %s", code, body, tt.code, want)
				}
			}
		})
	}
}

func TestMessagesStream(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", CacheReport: true})
	full := start(t, simengine.Config{MaxRunning: 1, MaxQueued: 1})
	var busy sync.WaitGroup
	defer busy.Wait()
	defer full.AbortAll()
	for i := range 2 {
		busy.Go(func() { full.post("/generate", `{"text":"a","sampling_params":{"max_new_tokens":100000}}`) })
		full.until("busy", func(s simengine.Stats) bool { return s.Running == 1 && s.Waiting == i })
	}
	r.post("/v1/messages", messagesBody(""))
	const text = "message_start content_block_start content_block_delta content_block_stop message_delta message_stop"
	for _, tt := range []struct {
		name, body, events, want string
		on                       *rig
	}{
		{"text", messagesBody(`,"stream":true`), text, `"usage":{"input_tokens":1,"output_tokens":0,"cache_read_input_tokens":10}}}`, r},
		{"text ends", messagesBody(`,"stream":true,"max_tokens":3`), text, `"delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":3}}`, r},
		{"tool", messagesBody(`,"stream":true,"tool_choice":{"type":"any"},` + weatherTool), text, `"content_block":{"type":"tool_use","id":"call_`, r},
		{"bad number", messagesBody(`,"stream":true,"temperature":-1`), "message_start error message_stop", `"invalid_request_error","message":"temperature`, r},
		{"full", messagesBody(`,"stream":true`), "message_start error message_stop", `{"type":"overloaded_error","message":"The request queue is full."}`, full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, body := tt.on.post("/v1/messages", tt.body)
			if got := names(body); code != 200 || got != tt.events || !strings.Contains(body, tt.want) {
				t.Errorf("%d, events %q, want %q and %s in %s", code, got, tt.events, tt.want, body)
			}
		})
	}
	if code, body := full.post("/v1/messages", messagesBody("")); code != 503 || !strings.Contains(body, `"overloaded_error","message":"Internal server error"`) {
		t.Errorf("full, whole: %d %s", code, body)
	}
}

func TestMessagesShareTheCacheWithChats(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", CacheReport: true})
	asked := chatBody("hello there", `,"max_tokens":3`)
	r.post("/v1/chat/completions", asked)
	if _, body := r.post("/v1/messages", messagesBody("")); !strings.Contains(body, `"cache_read_input_tokens":10`) {
		t.Errorf("after the same chat: %s", body)
	}
	if _, body := r.post("/v1/messages/count_tokens", `{"model":"m","system":"be","messages":[{"role":"user","content":"hello there"}]}`); body != `{"input_tokens":17}` {
		t.Errorf("count_tokens: %s", body)
	}
	history := `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hello there"},{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"weather","input":{"city":"Oslo"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"sunny"},{"type":"text","text":"so?"}]}]}`
	if code, body := r.post("/v1/messages", history); code != 200 || !strings.Contains(body, `"cache_read_input_tokens":11`) {
		t.Errorf("a tool's result: %d %s", code, body)
	}
}
