package simengine

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A tool is a function that a request offers to the model.
type tool struct {
	name       string
	parameters json.RawMessage
}

// A toolCall is a call that the model has to make. It is said as the list of calls that a real engine's
// grammar forces, and parsed out of it again, as an engine with a tool call parser does.
type toolCall struct {
	name      string
	arguments string
}

func newToolCall(t tool) *toolCall {
	arguments := "{}"
	if !isNull(t.parameters) {
		arguments = sample(t.parameters)
	}
	return &toolCall{t.name, arguments}
}

func (c *toolCall) head() string {
	return `[{"name": ` + string(appendJSON(nil, c.name)) + `, "parameters": `
}

func (c *toolCall) script() string { return c.head() + c.arguments + "}]" }

// between is what the text from one length to another adds to the call: whether its name became known, and
// which of its arguments.
func (c *toolCall) between(from, to int) (named bool, arguments string) {
	head := len(c.head())
	at := func(n int) int { return min(max(n-head, 0), len(c.arguments)) }
	return from < head && to >= head, c.arguments[at(from):at(to)]
}

// call is the tool call of a sequence that has to make one and did.
func (s *sequence) call(how Ending) *toolCall {
	if s.reason(how) != "stop" {
		return nil
	}
	return s.request.sampling[s.prompt].call
}

func newCallID() string { return "call_" + newRID()[:24] }

// readTools reads the tools of a chat.
func readTools(f *fields) (tools []tool, raw json.RawMessage) {
	list := maybe(f, "tools", listOf(asObject))
	if list == nil {
		return nil, nil
	}
	for i, one := range *list {
		t, function := tool{}, readFields(one)
		if inner := must(function, "function", asObject); inner != nil {
			g := readFields(inner)
			t.name = must(g, "name", asText)
			set(g, "parameters", asAny, &t.parameters)
			function.complaints = append(function.complaints, inside("'function'", g.complaints)...)
		}
		f.complaints = append(f.complaints, inside("'tools'", inside(strconv.Itoa(i), function.complaints))...)
		tools = append(tools, t)
	}
	return tools, f.values["tools"]
}

// A toolChoice is "auto", "none", "required", or the name of a tool.
type toolChoice struct {
	mode string
	name string
}

// asToolChoice reads a chat's tool_choice.
func asToolChoice(raw json.RawMessage) (toolChoice, []complaint) {
	named := func(raw json.RawMessage) (toolChoice, []complaint) {
		if raw[0] != '{' {
			return toolChoice{}, wrong("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", raw)
		}
		f := readFields(raw)
		inner := must(f, "function", asObject)
		if inner == nil {
			return toolChoice{}, f.complaints
		}
		c := toolChoice{mode: "function"}
		set(readFields(inner), "name", asText, &c.name)
		return c, f.complaints
	}
	mode := convert(asChoice("auto", "required", "none"), func(s string) toolChoice { return toolChoice{mode: s} })
	return oneOf(fitting[toolChoice]{"ToolChoice", named}, fitting[toolChoice]{"literal['auto','required','none']", mode})(raw)
}

// forced is the call that the choice forces, if any.
func (c toolChoice) forced(tools []tool) (*toolCall, error) {
	switch c.mode {
	case "required":
		if len(tools) == 0 {
			return nil, refusef("Tools cannot be empty if tool choice is set to required.")
		}
		return newToolCall(tools[0]), nil
	case "function":
		if len(tools) == 0 {
			return nil, refusef("Tools cannot be empty if tool choice is set to a specific tool.")
		}
		for _, t := range tools {
			if t.name == c.name {
				return newToolCall(t), nil
			}
		}
		return nil, refusef("Tool '%s' not found in tools list.", c.name)
	}
	return nil, nil
}

// checkTools refuses parameters that are no schema.
func checkTools(tools []tool) error {
	for i, t := range tools {
		var s schema
		if isNull(t.parameters) {
			continue
		}
		kinds := "object array string number integer boolean null"
		if err := json.Unmarshal(t.parameters, &s); err != nil || !strings.Contains(kinds, s.kind()) {
			return refusef("Tool %d function has invalid 'parameters' schema: %s is not valid under any of the given schemas", i, pyText(s.kind()))
		}
	}
	return nil
}
