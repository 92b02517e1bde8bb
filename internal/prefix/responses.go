package prefix

import (
	"fmt"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// readResponses checks the types of what reaches the prompt of /v1/responses.
func (p *parser) readResponses() *FieldError {
	f, instructions := p.given("input"), p.given("instructions")
	if f == nil {
		return missing("input")
	}
	said := false
	if instructions != nil {
		if instructions.Kind != jsonscan.String {
			return wrongType(instructions.Key, "a string", instructions.Kind)
		}
		p.PromptBytes += instructions.End - instructions.Start
		said = instructions.End-instructions.Start > 2
	}
	switch f.Kind {
	case jsonscan.String:
	case jsonscan.Array:
		if p.doc.Nodes[f.Root].Next == uint32(f.Root+1) && !said && p.PreviousResponse == "" {
			return empty(f.Key)
		}
		for i, at := range p.doc.Elems(f.Root) {
			if err := p.checkItem(i, at); err != nil {
				return err
			}
		}
	default:
		return wrongType(f.Key, "one of a string or array of objects", f.Kind)
	}
	if err := p.readResponseTools(); err != nil {
		return err
	}
	if err := p.readResponseOptions(); err != nil {
		return err
	}
	p.PromptBytes += f.End - f.Start
	p.prompts = append(p.prompts, prompt{kind: responsesPrompt, start: f.Start, end: f.End})
	return nil
}

// readResponseOptions reads what says how to answer.
func (p *parser) readResponseOptions() (err *FieldError) {
	p.Store = true
	if f := p.doc.Field("store"); f != nil { // the one member for which null is not as good as absent: the engine takes it for false
		if p.Store, err = boolean(f.Key, f.Kind); err != nil {
			return err
		}
	}
	if f := p.given("background"); f != nil {
		if p.Background, err = boolean(f.Key, f.Kind); err != nil {
			return err
		}
	}
	if f := p.given("reasoning"); f != nil {
		if f.Kind != jsonscan.Object {
			return wrongType(f.Key, "an object", f.Kind)
		}
		if at := p.member(f.Root, "effort"); at >= 0 && p.doc.Nodes[at].Kind != jsonscan.String {
			return wrongType("reasoning.effort", "a string", p.doc.Nodes[at].Kind)
		}
	}
	if f := p.given("text"); f != nil {
		if f.Kind != jsonscan.Object {
			return wrongType(f.Key, "an object", f.Kind)
		}
		if at := p.member(f.Root, "format"); at >= 0 {
			if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
				return wrongType("text.format", "an object", kind)
			}
			p.Structured = string(p.text(p.member(at, "type"))) != "text"
		}
	}
	if f := p.given("include"); f != nil {
		if f.Kind != jsonscan.Array {
			return wrongType(f.Key, "an array of strings", f.Kind)
		}
		for _, at := range p.doc.Elems(f.Root) {
			p.Logprobs = p.Logprobs || string(p.text(at)) == "message.output_text.logprobs"
		}
	}
	return nil
}

// checkItem checks one item of the input.
func (p *parser) checkItem(i, at int) *FieldError {
	if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
		return wrongType(fmt.Sprintf("input[%d]", i), "an object", kind)
	}
	switch item := p.item(at); item.kind {
	case messageItem:
		m := p.message(at)
		if m.role < 0 {
			return missing(fmt.Sprintf("input[%d].role", i))
		}
		if kind := p.doc.Nodes[m.role].Kind; kind != jsonscan.String {
			return wrongType(fmt.Sprintf("input[%d].role", i), "a string", kind)
		}
		return p.checkText(place{"input", i, "content", -1, -1}, m.content)
	case outputItem:
		return p.checkText(place{"input", i, "output", -1, -1}, item.output)
	}
	return nil
}

// checkText checks what is a string, or a list of parts, or absent.
func (p *parser) checkText(where place, content int) *FieldError {
	if content < 0 {
		return nil
	}
	switch kind := p.doc.Nodes[content].Kind; kind {
	case jsonscan.String:
		return nil
	case jsonscan.Array:
		return p.checkParts(where, content)
	default:
		return wrongType(where.String(), "one of a string or array of objects", kind)
	}
}

// readResponseTools checks the tools of /v1/responses and finds out which of them are rendered.
func (p *parser) readResponseTools() *FieldError {
	f := p.given("tools")
	p.noTools = true
	if f != nil {
		if f.Kind != jsonscan.Array {
			return wrongType(f.Key, "an array of objects", f.Kind)
		}
		for i, at := range p.doc.Elems(f.Root) {
			if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
				return wrongType(fmt.Sprintf("tools[%d]", i), "an object", kind)
			}
			p.noTools = p.noTools && p.responseTool(at) == noTool
		}
	}
	if choice := p.given("tool_choice"); choice != nil {
		switch choice.Kind {
		case jsonscan.String:
			p.noTools = p.noTools || string(choice.Text(p.body)) == "none"
		case jsonscan.Object:
			switch string(p.text(p.member(choice.Root, "type"))) {
			case "function", "custom":
				if at := p.member(choice.Root, "name"); p.says(at) {
					p.onlyTool, p.namedTool = string(p.text(at)), true
				} else {
					p.onlyTool, p.namedTool = p.functionName(choice.Root)
				}
			}
		default:
			return wrongType(choice.Key, "one of a string or object", choice.Kind)
		}
	}
	if p.Tools = !p.noTools; p.Tools {
		p.PromptBytes += f.End - f.Start
	}
	return nil
}

// responseTool classifies a tool of /v1/responses. Those that OpenAI's servers would run are not rendered (gpt-oss has
// its own words for two of them, if its engine has a tool server).
func (r *Request) responseTool(object int) toolKind {
	switch string(r.text(r.member(object, "type"))) {
	case "function", "custom", "namespace":
		return knownTool
	case "web_search", "web_search_preview", "code_interpreter", "file_search", "image_generation", "computer_use_preview",
		"local_shell", "shell", "mcp", "tool_search":
		return noTool
	}
	return otherTool
}

// itemKind is how an item of the input is rendered.
type itemKind uint8

const (
	otherItem     itemKind = iota // as canonical JSON
	messageItem                   // as a message of a chat
	callItem                      // as a message of the assistant with one tool call
	outputItem                    // as a message of the tool
	reasoningItem                 // as the reasoning of a message of the assistant
)

// An item is where the parts of an input item that is no message are on the tape; -1 if absent or null.
type item struct {
	kind                        itemKind
	id, callID, output          int
	summary, content, encrypted int
}

// item looks into the object at a node. Of duplicate members the last one counts.
func (r *Request) item(object int) item {
	it := item{id: -1, callID: -1, output: -1, summary: -1, content: -1, encrypted: -1}
	kind, role := -1, -1
	for k, v := range r.doc.Pairs(object) {
		at := v
		if r.doc.Nodes[v].Kind == jsonscan.Null {
			at = -1
		}
		switch string(r.doc.Nodes[k].Text(r.body)) {
		case "type":
			kind = at
		case "role":
			role = at
		case "id":
			it.id = at
		case "call_id":
			it.callID = at
		case "output":
			it.output = at
		case "summary":
			it.summary = at
		case "content":
			it.content = at
		case "encrypted_content":
			it.encrypted = at
		}
	}
	switch string(r.text(kind)) {
	case "message":
		it.kind = messageItem
	case "":
		if kind < 0 && role >= 0 {
			it.kind = messageItem
		}
	case "function_call", "custom_tool_call":
		it.kind = callItem
	case "function_call_output", "custom_tool_call_output":
		it.kind = outputItem
	case "reasoning":
		it.kind = reasoningItem
	}
	return it
}
