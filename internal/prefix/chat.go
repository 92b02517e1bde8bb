package prefix

import (
	"fmt"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

func (p *parser) readChat() *FieldError {
	f := p.given("messages")
	if f == nil {
		return missing("messages")
	}
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, "an array of objects", f.Kind)
	}
	if p.doc.Nodes[f.Root].Next == uint32(f.Root+1) {
		return empty(f.Key)
	}
	for i, at := range p.doc.Elems(f.Root) {
		if err := p.checkMessage(i, at); err != nil {
			return err
		}
	}
	if err := p.readTools(); err != nil {
		return err
	}
	if ids := p.given("input_ids"); ids != nil {
		return p.readChatIDs(ids)
	}
	p.PromptBytes += f.End - f.Start
	p.prompts = append(p.prompts, prompt{kind: chatPrompt, start: f.Start, end: f.End})
	return nil
}

// readChatIDs takes the token ids that replace the rendered messages, media included.
func (p *parser) readChatIDs(f *jsonscan.Field) *FieldError {
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, "an array of integers", f.Kind)
	}
	ids := prompt{kind: idsPrompt, start: f.Start, end: f.End}
	err := p.countIDs(&ids, f.Key, -1)
	p.prompts, p.PromptBytes, p.Media = append(p.prompts, ids), f.End-f.Start, 0
	return err
}

// checkMessage checks the types of what is rendered, as far as the engine insists on them.
func (p *parser) checkMessage(i, at int) *FieldError {
	if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
		return wrongType(fmt.Sprintf("messages[%d]", i), "an object", kind)
	}
	m := p.message(at)
	if m.role < 0 {
		return missing(fmt.Sprintf("messages[%d].role", i))
	}
	if kind := p.doc.Nodes[m.role].Kind; kind != jsonscan.String {
		return wrongType(fmt.Sprintf("messages[%d].role", i), "a string", kind)
	}
	if m.toolCalls >= 0 {
		if kind := p.doc.Nodes[m.toolCalls].Kind; kind != jsonscan.Array {
			return wrongType(fmt.Sprintf("messages[%d].tool_calls", i), "an array", kind)
		}
	}
	if m.content < 0 {
		return nil
	}
	switch kind := p.doc.Nodes[m.content].Kind; kind {
	case jsonscan.String:
		return nil
	case jsonscan.Array:
		return p.checkParts(place{"messages", i, "content", -1, -1}, m.content)
	default:
		return wrongType(fmt.Sprintf("messages[%d].content", i), "one of a string or array of objects", kind)
	}
}

// checkParts checks the parts of a content, and counts the media.
func (p *parser) checkParts(where place, content int) *FieldError {
	for i, at := range p.doc.Elems(content) {
		if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
			return wrongType(where.at(i).String(), "an object", kind)
		}
		kind, value := p.part(at)
		switch kind {
		case mediaPart:
			p.Media++
		case textPart:
			if value < 0 {
				return missing(where.at(i).String() + ".text")
			}
			if kind := p.doc.Nodes[value].Kind; kind != jsonscan.String {
				return wrongType(where.at(i).String()+".text", "a string", kind)
			}
		}
	}
	return nil
}

// readTools checks the tools and finds out which of them the engine's template is given: all, none
// (tool_choice "none"), or the one that tool_choice names.
func (p *parser) readTools() *FieldError {
	f := p.given("tools")
	if f == nil {
		p.noTools = true
		return nil
	}
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, "an array of objects", f.Kind)
	}
	for i, at := range p.doc.Elems(f.Root) {
		if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
			return wrongType(fmt.Sprintf("tools[%d]", i), "an object", kind)
		}
	}
	p.noTools = p.doc.Nodes[f.Root].Next == uint32(f.Root+1)
	if choice := p.given("tool_choice"); choice != nil {
		switch choice.Kind {
		case jsonscan.String:
			p.noTools = p.noTools || string(choice.Text(p.body)) == "none"
		case jsonscan.Object:
			p.onlyTool, p.namedTool = p.functionName(choice.Root)
		default:
			return wrongType(choice.Key, "one of a string or object", choice.Kind)
		}
	}
	if p.Tools = !p.noTools; p.Tools {
		p.PromptBytes += f.End - f.Start
	}
	return nil
}

// functionName returns function.name of a tool, or of a tool choice.
func (r *Request) functionName(object int) (name string, ok bool) {
	function := r.doc.Member(r.body, object, "function")
	if function < 0 || r.doc.Nodes[function].Kind != jsonscan.Object {
		return "", false
	}
	at := r.doc.Member(r.body, function, "name")
	if at < 0 || r.doc.Nodes[at].Kind != jsonscan.String {
		return "", false
	}
	return string(r.doc.Nodes[at].Text(r.body)), true
}

// A message is where the parts of one that reach the prompt are on the tape; -1 if absent or null.
type message struct {
	role, name, reasoning, content, tools, toolCalls, toolCallID int
}

// message looks into the object at a node. Of duplicate members the last one counts.
func (r *Request) message(object int) message {
	m := message{-1, -1, -1, -1, -1, -1, -1}
	for k, v := range r.doc.Pairs(object) {
		at := v
		if r.doc.Nodes[v].Kind == jsonscan.Null {
			at = -1
		}
		switch string(r.doc.Nodes[k].Text(r.body)) {
		case "role":
			m.role = at
		case "name":
			m.name = at
		case "reasoning_content":
			m.reasoning = at
		case "content":
			m.content = at
		case "tools":
			m.tools = at
		case "tool_calls":
			m.toolCalls = at
		case "tool_call_id":
			m.toolCallID = at
		}
	}
	return m
}

// partKind is how a content part is rendered.
type partKind uint8

const (
	otherPart partKind = iota // as canonical JSON
	textPart                  // as its text
	mediaPart                 // as a hash of its value
)

// part classifies a content part, and returns the node of the text or of the media reference.
func (r *Request) part(object int) (kind partKind, value int) {
	at := r.doc.Member(r.body, object, "type")
	if at < 0 {
		return otherPart, -1
	}
	switch t := string(r.doc.Nodes[at].Text(r.body)); t {
	case "text":
		return textPart, r.doc.Member(r.body, object, "text")
	case "image_url", "video_url", "audio_url", "input_audio":
		if value = r.doc.Member(r.body, object, t); value >= 0 {
			return mediaPart, value
		}
	case "input_text", "output_text":
		if r.Route == Responses {
			return textPart, r.doc.Member(r.body, object, "text")
		}
	case "input_image":
		if value = r.member(object, "image_url"); value >= 0 && r.Route == Responses {
			return mediaPart, value
		}
	}
	return otherPart, -1
}
