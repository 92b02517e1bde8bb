package simengine

import (
	"encoding/json"
	"net/http"
	"strings"
)

// A chat is what a chat request asks, however its route puts it.
type chat struct {
	ask
	sampling sampling
	messages []message
	tools    []tool
	rawTools json.RawMessage
	choice   toolChoice
	inputIDs *[]int // the client's own prompt
	goOn     bool   // the last message is continued
	format   string // of the output: "", "text", "json_object" or "json_schema"
	schema   json.RawMessage
}

// readChat reads a chat's body.
func readChat(f *fields) (*chat, error) {
	c := &chat{messages: must(f, "messages", listOf(asMessage)), ask: readOpenAI(f), sampling: openAISampling(f, true)}
	wanted := maybe(f, "max_completion_tokens", asInt)
	if limit := maybe(f, "max_tokens", asInt); wanted == nil || *wanted == 0 {
		wanted = limit
	}
	c.sampling.limit = wanted
	may(f, "return_prompt_token_ids", asBool, &c.promptIDs)
	may(f, "return_token_ids", asBool, &c.promptIDs)
	may(f, "return_meta_info", asBool, &c.metaInfo)
	may(f, "continue_final_message", asBool, &c.goOn)
	c.inputIDs = maybe(f, "input_ids", listOf(asInt))
	logprobs := false
	if may(f, "logprobs", asBool, &logprobs); logprobs {
		c.logprobs = new(0)
		set(f, "top_logprobs", convert(asInt, func(n int) int { return max(n, 0) }), c.logprobs)
	}
	c.tools, c.rawTools = readTools(f)
	set(f, "tool_choice", asToolChoice, &c.choice)
	c.format, c.schema = readFormat(f, "response_format")
	return c, f.err()
}

// readFormat reads a response_format.
func readFormat(f *fields, name string) (format string, schema json.RawMessage) {
	raw := maybe(f, name, asObject)
	if raw == nil {
		return "", nil
	}
	g := readFields(*raw)
	format = must(g, "type", asChoice("text", "json_object", "json_schema", "structural_tag"))
	if inner := maybe(g, "json_schema", asObject); inner != nil {
		set(readFields(*inner), "schema", asObject, &schema)
	} else {
		set(g, "schema", asObject, &schema)
	}
	f.complaints = append(f.complaints, inside(pyText(name), g.complaints)...)
	return format, schema
}

// check refuses what the route itself refuses, and settles what the answer is bound to be.
func (c *chat) check(told *Config) error {
	if len(c.messages) == 0 {
		return refusef("Messages cannot be empty.")
	}
	call, err := c.choice.forced(c.tools)
	if err != nil {
		return err
	}
	if err := checkTools(c.tools); err != nil {
		return err
	}
	if limit := c.sampling.limit; limit != nil && told.ContextLength > 0 && *limit > told.ContextLength {
		return refusef("max_completion_tokens is too large: %d.This model supports at most %d completion tokens.", *limit, told.ContextLength)
	}
	switch c.format {
	case "json_schema":
		if c.schema == nil {
			return refusef("schema_ is required for json_schema response format request.")
		}
		c.sampling.schema = c.schema
		c.sampling.grammars++
	case "json_object":
		c.sampling.schema = openObject
		c.sampling.grammars++
	}
	bad := func(text string) error { return &refusedError{text, "BadRequest", http.StatusBadRequest} }
	switch {
	case c.outputIDs && c.stream:
		return bad("return_token_ids is not supported with streaming on /v1/chat/completions. Please set stream=false when using return_token_ids=true.")
	case call != nil && c.sampling.grammars > 0:
		return bad("tool_choice 'required' or a named tool cannot be combined with response_format, regex, or ebnf: the tool-call " +
			"constraint and the output constraint cannot both be honored.")
	case c.sampling.n == 0:
		return bad("range() arg 3 must not be zero")
	}
	c.sampling.call = call
	c.sampling.n = max(c.sampling.n, 1)
	return nil
}

// chatPrompt is the client's own prompt if it sends one, else the rendered messages.
func (e *Engine) chatPrompt(c *chat) prompt {
	if c.inputIDs != nil {
		return idPrompt(*c.inputIDs)
	}
	tools := c.rawTools
	if c.choice.mode == "none" {
		tools = nil
	}
	return prompt{tokens: e.render(nil, tools, c.messages, c.goOn)}
}

// newChat makes a request of a chat.
func (e *Engine) newChat(c *chat) (*request, error) {
	if err := c.check(&e.told); err != nil {
		return nil, err
	}
	if c.inputIDs != nil && len(*c.inputIDs) == 0 {
		return nil, valuef("input_ids cannot be empty.")
	}
	if name := e.adapterOf(c.model); name != "" {
		c.lora = new(oneName(name))
	}
	return e.newRequest(c.ask, prompts{all: []prompt{e.chatPrompt(c)}}, c.sampling), nil
}

func (e *Engine) chatCompletions(w http.ResponseWriter, r *http.Request, f *fields) {
	d := openAI{e: e, chat: true}
	c, err := readChat(f)
	if err == nil {
		err = c.headerRank(r)
	}
	var q *request
	if err == nil {
		q, err = e.newChat(c)
	}
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	e.serve(w, r, d, q)
}

// A message is one turn of a chat.
type message struct {
	role    string
	content json.RawMessage // a string, nothing, or a list of parts
	calls   []pastCall
}

// A pastCall is a tool call that the model made in an earlier turn.
type pastCall struct{ name, arguments string }

// asMessage reads a message. Pydantic tries two kinds, a user's and any other's, and tells of both.
func asMessage(raw json.RawMessage) (m message, _ []complaint) {
	const generic = "function-after[validate_thinking_parts_role(), ChatCompletionMessageGenericParam]"
	const user = "function-after[validate_thinking_parts_role(), ChatCompletionMessageUserParam]"
	if raw[0] != '{' {
		return m, wrong("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", raw)
	}
	f := readFields(raw)
	m.role = must(f, "role", asText)
	role := strings.ToLower(m.role)
	switch role {
	case "system", "assistant", "tool", "function", "developer", "latest_reminder", "root":
		m.role = role
		set(f, "content", asContent, &m.content)
	default:
		if len(f.complaints) == 0 && m.role != "user" {
			f.complaints = append(f.complaints, complaint{"value_error", []string{"'role'"}, "Value error, 'role' must be one of 'system', 'assistant', " +
				"'tool', 'function', 'developer', 'latest_reminder', 'root' (case-insensitive).", f.values["role"]})
		}
		m.content = must(f, "content", asContent)
	}
	set(f, "tool_calls", listOf(asPastCall), &m.calls)
	if len(f.complaints) == 0 {
		return m, nil
	}
	kind := generic
	if m.role == "user" {
		kind = user
	}
	return m, inside(pyText(kind), f.complaints)
}

// asContent reads a message's content.
func asContent(raw json.RawMessage) (json.RawMessage, []complaint) {
	return oneOf(
		fitting[json.RawMessage]{"str", func(raw json.RawMessage) (json.RawMessage, []complaint) { _, bad := asText(raw); return raw, bad }},
		fitting[json.RawMessage]{"list[ContentPart]", convert(listOf(asPart), func([]part) json.RawMessage { return raw })},
	)(raw)
}

func asPastCall(raw json.RawMessage) (c pastCall, _ []complaint) {
	raw, bad := asObject(raw)
	if bad != nil {
		return c, bad
	}
	f := readFields(raw)
	if inner := must(f, "function", asObject); inner != nil {
		g := readFields(inner)
		set(g, "name", asText, &c.name)
		set(g, "arguments", convert(asAny, arguments), &c.arguments)
	}
	return c, f.complaints
}
