package simengine_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

const weatherTools = `,"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{` +
	`"city":{"type":"string"},"days":{"type":"integer"}},"required":["city","days"]}}},{"type":"function","function":{"name":"clock"}}]`

type toolCall struct {
	Index    int
	ID       string
	Type     string
	Function struct{ Name, Arguments string }
}

func TestToolCalls(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	type answer struct {
		Choices []struct {
			Message struct {
				Content string
				Calls   []toolCall `json:"tool_calls"`
			}
			Delta struct {
				Calls []toolCall `json:"tool_calls"`
			}
			Reason string `json:"finish_reason"`
		}
	}
	fits := func(t *testing.T, c toolCall, name string) {
		t.Helper()
		var args struct {
			City *string
			Days *int
		}
		if err := json.Unmarshal([]byte(c.Function.Arguments), &args); err != nil || c.Function.Name != name || name == "weather" && (args.City == nil || args.Days == nil) {
			t.Errorf("call %+v (%v), want %s with its arguments", c, err, name)
		}
		if !strings.HasPrefix(c.ID, "call_") || c.Type != "function" {
			t.Errorf("call %+v has no identity", c)
		}
	}
	for choice, name := range map[string]string{`"required"`: "weather", `{"type":"function","function":{"name":"clock"}}`: "clock"} {
		body := chatBody("what is it like?", weatherTools+`,"tool_choice":`+choice)
		got := parse[answer](t, second(r.post(onChat, body))).Choices[0]
		if len(got.Message.Calls) != 1 || got.Message.Content != "" || got.Reason != "tool_calls" {
			t.Fatalf("%s: %+v", choice, got)
		}
		fits(t, got.Message.Calls[0], name)

		var streamed toolCall
		reason := ""
		all := events(second(r.post(onChat, strings.Replace(body, `"messages"`, `"stream":true,"messages"`, 1))))
		for _, e := range all[:len(all)-1] {
			for _, c := range parse[answer](t, e).Choices {
				reason += c.Reason
				for _, call := range c.Delta.Calls {
					if call.Function.Name != "" {
						streamed = call
						continue
					}
					streamed.Function.Arguments += call.Function.Arguments
				}
			}
		}
		if reason != "tool_calls" {
			t.Errorf("%s, streamed: finish_reason %q", choice, reason)
		}
		fits(t, streamed, name)
	}
	for _, more := range []string{weatherTools, weatherTools + `,"tool_choice":"none"`} {
		if _, body := r.post(onChat, chatBody("a", `,"max_tokens":2`+more)); strings.Contains(body, "tool_calls") {
			t.Errorf("%s: a call that nothing demands: %s", more, body)
		}
	}
}

func TestResponseFormats(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	for _, tt := range []struct {
		name, format string
		check        func(v any) bool
	}{
		{"object", `{"type":"json_object"}`, func(v any) bool { _, ok := v.(map[string]any); return ok }},
		{"schema", `{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"n":{"type":"integer"},` +
			`"kind":{"enum":["big","small"]},"tags":{"type":"array","items":{"type":"string"},"minItems":2}},"required":["n","kind","tags"]}}}`, func(v any) bool {
			o, _ := v.(map[string]any)
			_, number := o["n"].(float64)
			tags, _ := o["tags"].([]any)
			return number && (o["kind"] == "big" || o["kind"] == "small") && len(tags) >= 2
		}},
	} {
		_, body := r.post(onChat, chatBody("a", `,"response_format":`+tt.format))
		text := parse[chatChunk](t, body).Choices[0].Message.Content
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil || !tt.check(v) {
			t.Errorf("%s: %q (%v)", tt.name, text, err)
		}
	}
	if code, body := r.post(onChat, chatBody("a", `,"response_format":{"type":"verse"}`)); code != 400 || !strings.Contains(body, "response_format") {
		t.Errorf("no such format: %d %s", code, body)
	}
}

func TestLogprobs(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	type token struct {
		Token   string
		Logprob float64
		Bytes   []int
		Top     []struct{ Token string } `json:"top_logprobs"`
	}
	type answer struct {
		Choices []struct {
			Message  struct{ Content string }
			Text     string
			Logprobs *struct {
				Content []token
				Tokens  []string
				Top     []map[string]float64 `json:"top_logprobs"`
			}
		}
	}
	chat := parse[answer](t, second(r.post(onChat, chatBody("a", `,"max_tokens":3,"logprobs":true,"top_logprobs":2`)))).Choices[0]
	text := ""
	for _, c := range chat.Logprobs.Content {
		text += c.Token
		if c.Logprob > 0 || len(c.Bytes) != len(c.Token) || len(c.Top) != 2 || c.Top[0].Token != c.Token {
			t.Errorf("token %+v", c)
		}
	}
	if len(chat.Logprobs.Content) != 3 || text != chat.Message.Content {
		t.Errorf("the tokens say %q, the message %q", text, chat.Message.Content)
	}
	old := parse[answer](t, second(r.post(onCompletions, `{"prompt":"a","max_tokens":3,"logprobs":1}`))).Choices[0]
	if l := old.Logprobs; len(l.Tokens) != 3 || len(l.Top) != 3 || strings.Join(l.Tokens, "") != old.Text {
		t.Errorf("completion %+v", old)
	}
	if _, body := r.post(onGenerate, `{"text":"a","return_logprob":true,"sampling_params":{"max_new_tokens":2}}`); !strings.Contains(body, `"output_token_logprobs":[[-`) {
		t.Errorf("native: %s", body)
	}
}
