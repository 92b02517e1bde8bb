package sdk_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"
)

const (
	weatherSchema = `{"type":"object","properties":{"city":{"type":"string","description":"Zürich \"or\" so"}},"required":["city"]}`
	toolCall      = `{"id":"c1","object":"chat.completion","created":1,"model":"scripted","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_7","type":"function","function":{"name":"weather","arguments":"{\"city\": \"Zürich\"}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}`
	wantArguments = `{"city": "Zürich"}`
)

// toolEvents is the same call as a stream, its arguments cut in the middle.
var toolEvents = []string{
	chunk(`{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_7","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}`),
	chunk(`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\": \"Zü"}}]},"finish_reason":null}`),
	chunk(`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"rich\"}"}}]},"finish_reason":null}`),
	chunk(`{"index":0,"delta":{},"finish_reason":"tool_calls"}`),
	usage, "[DONE]",
}

// TestTools: tools reach the engine as the client wrote them, calls come back, and results go the same way.
func TestTools(t *testing.T) {
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request, body []byte) {
		if streams(body) {
			stream(w, toolEvents...)
			return
		}
		text(toolCall)(w, nil)
	})
	c := client(up(t, []string{e.url}))
	p := ask(scriptedModel, "What is the weather in Zürich?")
	var schema shared.FunctionParameters
	if err := json.Unmarshal([]byte(weatherSchema), &schema); err != nil {
		t.Fatal(err)
	}
	p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Description: openai.String("Tells the weather."), Parameters: schema, Strict: openai.Bool(true),
	})}
	p.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("required")}

	whole, err := c.Chat.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkCall(t, "whole", whole.Choices[0].Message.ToolCalls, whole.Choices[0].FinishReason)

	s := c.Chat.Completions.NewStreaming(t.Context(), p)
	defer s.Close()
	var acc openai.ChatCompletionAccumulator
	finished := 0
	for s.Next() {
		if !acc.AddChunk(s.Current()) {
			t.Fatalf("the accumulator does not take %s", s.Current().RawJSON())
		}
		if call, ok := acc.JustFinishedToolCall(); ok {
			finished++
			if call.ID != "call_7" || call.Arguments != wantArguments {
				t.Errorf("finished call: %+v", call)
			}
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if finished != 1 || len(acc.Choices) != 1 {
		t.Fatalf("%d finished calls, %d choices", finished, len(acc.Choices))
	}
	checkCall(t, "streamed", acc.Choices[0].Message.ToolCalls, acc.Choices[0].FinishReason)

	p.Messages = append(p.Messages, whole.Choices[0].Message.ToParam(), openai.ToolMessage("12 °C, rain", "call_7"))
	if _, err := c.Chat.Completions.New(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	checkBodies(t, e.requests(), p)
}

func checkCall(t *testing.T, how string, calls []openai.ChatCompletionMessageToolCallUnion, finish string) {
	t.Helper()
	if len(calls) != 1 || finish != "tool_calls" {
		t.Fatalf("%s: %d calls, finish reason %q", how, len(calls), finish)
	}
	if c := calls[0]; c.ID != "call_7" || c.Function.Name != "weather" || c.Function.Arguments != wantArguments {
		t.Errorf("%s: got call %s %s(%s)", how, c.ID, c.Function.Name, c.Function.Arguments)
	}
}

// checkBodies compares what reached the engine with what the client sends.
func checkBodies(t *testing.T, bodies [][]byte, last openai.ChatCompletionNewParams) {
	t.Helper()
	if len(bodies) != 3 {
		t.Fatalf("the engine got %d requests, want 3", len(bodies))
	}
	doc, err := json.Marshal(last)
	if err != nil {
		t.Fatal(err)
	}
	want := object(t, doc)
	for i, body := range bodies {
		got := object(t, body)
		for _, key := range []string{"tools", "tool_choice", "model", "max_tokens"} {
			if got[key] != want[key] {
				t.Errorf("request %d: %s reached the engine as %s, want %s", i, key, got[key], want[key])
			}
		}
	}
	if got := object(t, bodies[2])["messages"]; got != want["messages"] {
		t.Errorf("the conversation with the tool's result reached the engine as %s, want %s", got, want["messages"])
	}
}

// object is a document's members, each as compact JSON with its keys in order, so that they can be compared.
func object(t *testing.T, doc []byte) map[string]string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(doc, &members); err != nil {
		t.Fatalf("%v in %s", err, doc)
	}
	fields := make(map[string]string)
	for key, value := range members {
		canonical, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		fields[key] = string(canonical)
	}
	return fields
}
