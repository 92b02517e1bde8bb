package prefix

import (
	"cmp"
	"fmt"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// readMessages checks the types of what reaches the prompt of /v1/messages.
func (p *parser) readMessages() *FieldError {
	f := p.given("messages")
	if f == nil {
		return missing("messages")
	}
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, "an array of objects", f.Kind)
	}
	system := p.given("system")
	if system != nil {
		if err := p.checkContent(place{list: system.Key, item: -1, part: -1, inner: -1}, system.Root); err != nil {
			return err
		}
		p.PromptBytes += system.End - system.Start
	}
	if p.doc.Nodes[f.Root].Next == uint32(f.Root+1) && (system == nil || !p.saysSystem(system.Root)) {
		return empty(f.Key)
	}
	for i, at := range p.doc.Elems(f.Root) {
		if err := p.checkTurn(i, at); err != nil {
			return err
		}
	}
	if err := p.readCustomTools(); err != nil {
		return err
	}
	if err := p.readMetadata(); err != nil {
		return err
	}
	if err := p.readThinking(); err != nil {
		return err
	}
	p.PromptBytes += f.End - f.Start
	p.prompts = append(p.prompts, prompt{kind: messagesPrompt, start: f.Start, end: f.End})
	return nil
}

func (p *parser) readMetadata() *FieldError {
	f := p.given("metadata")
	if f == nil {
		return nil
	}
	if f.Kind != jsonscan.Object {
		return wrongType(f.Key, "an object", f.Kind)
	}
	at := p.member(f.Root, "user_id")
	if at < 0 {
		return nil
	}
	n := p.doc.Nodes[at]
	if n.Kind != jsonscan.String {
		return wrongType("metadata.user_id", "a string", n.Kind)
	}
	id := n.Text(p.body)
	if len(id) > MaxName {
		return tooLong("metadata.user_id", len(id))
	}
	p.User = cmp.Or(p.User, string(id))
	return nil
}

// readThinking checks what [writer.shapeMessages] writes.
func (p *parser) readThinking() *FieldError {
	if f := p.given("thinking"); f != nil && f.Kind != jsonscan.Object {
		return wrongType(f.Key, "an object", f.Kind)
	}
	f := p.given("output_config")
	if f == nil {
		return nil
	}
	if f.Kind != jsonscan.Object {
		return wrongType(f.Key, "an object", f.Kind)
	}
	if at := p.member(f.Root, "effort"); at >= 0 && p.doc.Nodes[at].Kind != jsonscan.String {
		return wrongType("output_config.effort", "a string", p.doc.Nodes[at].Kind)
	}
	p.Structured = p.member(f.Root, "format") >= 0
	return nil
}

// checkTurn checks one message.
func (p *parser) checkTurn(i, at int) *FieldError {
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
	if m.content < 0 {
		return missing(fmt.Sprintf("messages[%d].content", i))
	}
	return p.checkContent(place{"messages", i, "content", -1, -1}, m.content)
}

// checkContent checks a string or a list of blocks, and counts the images.
func (p *parser) checkContent(where place, content int) *FieldError {
	switch kind := p.doc.Nodes[content].Kind; kind {
	case jsonscan.String:
		return nil
	case jsonscan.Array:
	default:
		field := where.String()
		if where.part >= 0 {
			field += ".content"
		}
		return wrongType(field, "one of a string or array of objects", kind)
	}
	for i, at := range p.doc.Elems(content) {
		where := where.at(i)
		if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
			return wrongType(where.String(), "an object", kind)
		}
		switch b := p.block(at); b.kind {
		case textBlock:
			if b.text < 0 {
				return missing(where.String() + ".text")
			}
			if kind := p.doc.Nodes[b.text].Kind; kind != jsonscan.String {
				return wrongType(where.String()+".text", "a string", kind)
			}
		case imageBlock:
			if where.item >= 0 && p.shows(b) {
				p.Media++
			}
		case toolResultBlock:
			if b.content < 0 || where.inner >= 0 { // a result in a result reaches nothing
				continue
			}
			if err := p.checkContent(where, b.content); err != nil {
				return err
			}
		}
	}
	return nil
}

// readCustomTools checks the tools of /v1/messages and finds out which of them are rendered.
func (p *parser) readCustomTools() *FieldError {
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
			p.noTools = p.noTools && p.customTool(at) == noTool
		}
	}
	choice := p.given("tool_choice")
	if choice != nil {
		if choice.Kind != jsonscan.Object {
			return wrongType(choice.Key, "an object", choice.Kind)
		}
		switch string(p.text(p.member(choice.Root, "type"))) {
		case "none":
			p.noTools = true
		case "tool":
			p.onlyTool, p.namedTool = string(p.text(p.member(choice.Root, "name"))), true
		}
	}
	if p.Tools = !p.noTools; p.Tools {
		p.PromptBytes += f.End - f.Start
	}
	return nil
}

// toolKind is how a tool is rendered.
type toolKind uint8

const (
	noTool    toolKind = iota // not at all
	knownTool                 // by the members that the engine passes on
	otherTool                 // as canonical JSON
)

// customTool classifies a tool of /v1/messages. Those that Anthropic's servers would run have no schema; SGLang accepts
// some families, drops them, and refuses the others.
func (r *Request) customTool(object int) toolKind {
	kind := r.text(r.member(object, "type"))
	if len(kind) == 0 || string(kind) == "custom" {
		return knownTool
	}
	for _, family := range [...]string{"web_search_", "computer_", "bash_", "text_editor_"} {
		if len(kind) >= len(family) && string(kind[:len(family)]) == family {
			return noTool
		}
	}
	return otherTool
}

// A place names a part of the prompt in errors: list[item].member[part].content[inner], as far as it goes.
type place struct {
	list   string
	item   int // -1: the list is the content
	member string
	part   int // -1: all of them
	inner  int // -1: not inside a part
}

// at is the place of an element.
func (a place) at(i int) place {
	if a.part < 0 {
		a.part = i
	} else {
		a.inner = i
	}
	return a
}

func (a place) String() string {
	s := a.list
	if a.item >= 0 {
		s = fmt.Sprintf("%s[%d].%s", s, a.item, a.member)
	}
	if a.part >= 0 {
		s = fmt.Sprintf("%s[%d]", s, a.part)
	}
	if a.inner >= 0 {
		s = fmt.Sprintf("%s.content[%d]", s, a.inner)
	}
	return s
}

// blockKind is how a content block is rendered.
type blockKind uint8

const (
	otherBlock      blockKind = iota // as canonical JSON
	textBlock                        // as its text
	imageBlock                       // as a hash of its source
	searchBlock                      // as the text that the engine makes of it
	toolUseBlock                     // among the tool calls of its message
	toolResultBlock                  // as a message
	thinkingBlock                    // in front of the content of its message
	referenceBlock                   // within a tool result, as the name of the tool
	redactedBlock                    // not at all: the engine refuses it or passes over it
)

// A block is where the parts of a content block that may reach the prompt are on the tape; -1 if absent or null.
type block struct {
	kind                                   blockKind
	text, thinking, source, title, content int
	id, toolUseID, name, toolName          int
}

// block looks into the object at a node. Of duplicate members the last one counts.
func (r *Request) block(object int) block {
	b := block{text: -1, thinking: -1, source: -1, title: -1, content: -1, id: -1, toolUseID: -1, name: -1, toolName: -1}
	kind := -1
	for k, v := range r.doc.Pairs(object) {
		at := v
		if r.doc.Nodes[v].Kind == jsonscan.Null {
			at = -1
		}
		switch string(r.doc.Nodes[k].Text(r.body)) {
		case "type":
			kind = at
		case "text":
			b.text = at
		case "thinking":
			b.thinking = at
		case "source":
			b.source = at
		case "title":
			b.title = at
		case "content":
			b.content = at
		case "id":
			b.id = at
		case "tool_use_id":
			b.toolUseID = at
		case "name":
			b.name = at
		case "tool_name":
			b.toolName = at
		}
	}
	switch string(r.text(kind)) {
	case "text":
		b.kind = textBlock
	case "image":
		b.kind = imageBlock
	case "search_result":
		b.kind = searchBlock
	case "tool_use":
		b.kind = toolUseBlock
	case "tool_result":
		b.kind = toolResultBlock
	case "thinking":
		b.kind = thinkingBlock
	case "redacted_thinking":
		b.kind = redactedBlock
	case "tool_reference":
		b.kind = referenceBlock
	}
	return b
}

// shows reports whether the engine finds an image in the source of an image block: otherwise it drops the block.
func (r *Request) shows(b block) bool {
	if b.source < 0 || r.doc.Nodes[b.source].Kind != jsonscan.Object {
		return false
	}
	if string(r.text(r.member(b.source, "type"))) == "base64" {
		return r.says(r.member(b.source, "data"))
	}
	return r.says(r.member(b.source, "url"))
}

// member is [jsonscan.Doc.Member], but -1 for null as well.
func (r *Request) member(object int, key string) int {
	at := r.doc.Member(r.body, object, key)
	if at >= 0 && r.doc.Nodes[at].Kind == jsonscan.Null {
		return -1
	}
	return at
}

// text returns a string's content, and nothing for anything else.
func (r *Request) text(at int) []byte {
	if at < 0 || r.doc.Nodes[at].Kind != jsonscan.String {
		return nil
	}
	return r.doc.Nodes[at].Text(r.body)
}

// says reports whether a node is a string that is not empty.
func (r *Request) says(at int) bool {
	if at < 0 {
		return false
	}
	n := r.doc.Nodes[at]
	return n.Kind == jsonscan.String && n.End-n.Start > 2
}

// either returns the first node of two that is a string that is not empty, or -1.
func (r *Request) either(a, b int) int {
	switch {
	case r.says(a):
		return a
	case r.says(b):
		return b
	}
	return -1
}

// saysSystem reports whether there is text in a system prompt.
func (r *Request) saysSystem(content int) bool {
	for _, at := range r.doc.Elems(content) {
		if b := r.block(at); b.kind == textBlock && r.says(b.text) {
			return true
		}
	}
	return r.says(content)
}
