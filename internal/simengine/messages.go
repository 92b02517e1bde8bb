package simengine

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// /v1/messages and its token count: Anthropic's words for a chat.

func (e *Engine) messages(w http.ResponseWriter, r *http.Request, f *fields) {
	d := anthropic{e}
	c, err := readMessages(f, true)
	if err == nil {
		if err = c.headerRank(r); err != nil && c.stream {
			err = &bugError{err.Error()} // which the streamed form is not prepared for
		}
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

func (e *Engine) countTokens(w http.ResponseWriter, r *http.Request, f *fields) {
	c, err := readMessages(f, false)
	if err == nil && len(c.messages) == 0 {
		err = refusef("Cannot apply chat template to an empty conversation. Provide at least one message.")
	}
	if err != nil {
		anthropic{e}.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]int{"input_tokens": len(e.chatPrompt(c).tokens)})
}

// readMessages reads a body, with what only an answer needs, and turns it into a chat.
func readMessages(f *fields, answered bool) (*chat, error) {
	c := &chat{sampling: newSampling()}
	c.model = must(f, "model", asText)
	if c.model == "" && f.values["model"] != nil && f.values["model"][0] == '"' {
		f.complaints = append(f.complaints, complaint{"value_error", []string{"'model'"}, "Value error, Model is required", f.values["model"]})
	}
	turns := must(f, "messages", listOf(asTurn))
	if answered {
		readMessagesAnswer(f, c)
	}
	system := maybe(f, "system", asBlocks)
	tools := maybe(f, "tools", listOf(asAnthropicTool))
	choice := maybe(f, "tool_choice", asObject)
	thinking := maybe(f, "thinking", asObject)
	if output := maybe(f, "output_config", asObject); output != nil {
		c.format, c.schema = readFormat(readFields(*output), "format")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if thinking != nil {
		if kind := maybe(readFields(*thinking), "type", asText); kind == nil || *kind != "disabled" {
			return nil, refusef("Anthropic thinking is not supported for models without a reasoning parser")
		}
	}
	if system != nil {
		if text := joinTexts(*system); strings.TrimSpace(text) != "" {
			c.messages = append(c.messages, message{role: "system", content: appendJSON(nil, text)})
		}
	}
	for _, t := range turns {
		c.messages = append(c.messages, t.chat()...)
	}
	if tools != nil {
		for _, t := range *tools {
			if t.name != "" {
				c.tools = append(c.tools, t)
			}
		}
		if len(c.tools) > 0 {
			c.rawTools = f.values["tools"]
		}
	}
	return c, c.choose(choice)
}

// readMessagesAnswer reads how the answer is to be.
func readMessagesAnswer(f *fields, c *chat) {
	limit := must(f, "max_tokens", asInt)
	if limit <= 0 && f.values["max_tokens"] != nil && f.values["max_tokens"][0] != 'n' {
		f.complaints = append(f.complaints, complaint{"value_error", []string{"'max_tokens'"}, "Value error, max_tokens must be positive", f.values["max_tokens"]})
	}
	c.sampling.limit = &limit
	c.rank = maybe(f, "routed_dp_rank", asInt)
	set(f, "stream", asBool, &c.stream)
	set(f, "temperature", asNumber, &c.sampling.temperature)
	set(f, "top_p", asNumber, &c.sampling.topP)
	set(f, "top_k", asInt, &c.sampling.topK)
	set(f, "stop_sequences", listOf(asText), &c.sampling.stops)
}

// choose settles the tool choice.
func (c *chat) choose(raw *json.RawMessage) error {
	if raw == nil {
		return nil
	}
	g := readFields(*raw)
	kind := must(g, "type", asChoice("auto", "any", "tool", "none"))
	if err := g.err(); err != nil {
		return err
	}
	name := ""
	may(g, "name", asText, &name)
	switch kind {
	case "none":
		c.choice = toolChoice{mode: "none"}
		return nil
	case "auto":
		return nil
	}
	if len(c.tools) == 0 {
		return refusef("tool_choice='%s' requires at least one custom tool; all supplied tools were server-side Anthropic built-ins "+
			"which the OpenAI-compatible backend cannot invoke", kind)
	}
	c.choice = toolChoice{mode: "required"}
	if kind == "tool" {
		c.choice = toolChoice{"function", name}
		if !slices.ContainsFunc(c.tools, func(t tool) bool { return t.name == name }) {
			return refusef("tool_choice references tool '%s' but it is not in the forwarded tools list "+
				"(server-side Anthropic tools cannot be selected)", name)
		}
	}
	return nil
}

// asAnthropicTool reads a tool; one that the vendor's servers would run stays nameless and is passed over.
func asAnthropicTool(raw json.RawMessage) (t tool, _ []complaint) {
	raw, bad := asObject(raw)
	if bad != nil {
		return t, bad
	}
	f := readFields(raw)
	if kind := maybe(f, "type", asText); kind != nil {
		for _, family := range []string{"web_search_", "computer_", "bash_", "text_editor_"} {
			if strings.HasPrefix(*kind, family) {
				return t, nil
			}
		}
	}
	t.name = must(f, "name", asText)
	t.parameters = must(f, "input_schema", asObject)
	return t, inside("'custom'", f.complaints)
}

// A block is a piece of a turn's content.
type block struct {
	kind   string
	text   string
	source json.RawMessage
	call   pastCall
	result []block
}

// A turnMessage is a message as Anthropic writes it.
type turnMessage struct {
	role   string
	blocks []block
}

func asTurn(raw json.RawMessage) (t turnMessage, _ []complaint) {
	raw, bad := asObject(raw)
	if bad != nil {
		return t, wrong("model_type", "Input should be a valid dictionary or instance of AnthropicMessage", raw)
	}
	f := readFields(raw)
	t.role = must(f, "role", asChoice("user", "assistant", "system"))
	t.blocks = must(f, "content", asBlocks)
	return t, f.complaints
}

// asBlocks reads a text or a list of blocks.
func asBlocks(raw json.RawMessage) ([]block, []complaint) {
	return oneOf(
		fitting[[]block]{"str", convert(asText, func(s string) []block { return []block{{kind: "text", text: s}} })},
		fitting[[]block]{"list[tagged-union[ContentBlock]]", listOf(asBlock)},
	)(raw)
}

func asBlock(raw json.RawMessage) (b block, _ []complaint) {
	raw, bad := asObject(raw)
	if bad != nil {
		return b, bad
	}
	f := readFields(raw)
	b.kind = must(f, "type", asText)
	if len(f.complaints) > 0 {
		return b, f.complaints
	}
	switch b.kind {
	case "text":
		b.text = must(f, "text", asText)
	case "image":
		b.source = f.values["source"]
	case "tool_use":
		must(f, "id", asText)
		b.call = pastCall{must(f, "name", asText), "{}"}
		set(f, "input", convert(asObject, compact), &b.call.arguments)
	case "tool_result":
		set(f, "content", asBlocks, &b.result)
	case "search_result", "tool_reference", "thinking", "redacted_thinking":
	default:
		return b, wrong("union_tag_invalid", "Input tag "+pyText(b.kind)+" found using 'type' does not match any of the expected tags: 'text', "+
			"'image', 'tool_use', 'tool_result', 'tool_reference', 'search_result', 'thinking', 'redacted_thinking'", raw)
	}
	return b, inside(pyText(b.kind), f.complaints)
}

func joinTexts(blocks []block) string {
	var all []string
	for _, b := range blocks {
		if b.kind == "text" && b.text != "" {
			all = append(all, b.text)
		}
	}
	return strings.Join(all, "\n")
}

// chat turns a turn into messages of a chat. What a tool returned becomes a message of its own, in the place
// where it stands.
func (t *turnMessage) chat() (out []message) {
	var parts []block
	var calls []pastCall
	say := func() {
		if len(parts) > 0 {
			out = append(out, message{role: t.role, content: content(parts), calls: calls})
		}
		parts, calls = nil, nil
	}
	for _, b := range t.blocks {
		switch b.kind {
		case "text", "image":
			parts = append(parts, b)
		case "tool_use":
			calls = append(calls, b.call)
		case "tool_result":
			if t.role == "user" {
				say()
				out = append(out, message{role: "tool", content: appendJSON(nil, joinTexts(b.result))})
			}
		}
	}
	if len(parts) == 0 && (len(calls) > 0 || t.role == "assistant") {
		return append(out, message{role: t.role, content: []byte(`""`), calls: calls})
	}
	say()
	return out
}

// content writes blocks as a chat's content: one text plainly, several as parts.
func content(blocks []block) json.RawMessage {
	if len(blocks) == 1 && blocks[0].kind == "text" {
		return appendJSON(nil, blocks[0].text)
	}
	b := []byte{'['}
	for i, one := range blocks {
		if i > 0 {
			b = append(b, ',')
		}
		if one.kind == "text" {
			b = append(appendJSON(append(b, `{"type":"text","text":`...), one.text), '}')
			continue
		}
		b = append(append(append(b, `{"type":"image_url","image_url":`...), compact(one.source)...), '}')
	}
	return append(b, ']')
}
