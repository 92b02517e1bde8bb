package prefix

import "github.com/radixbus/radixbus/internal/jsonscan"

// renderMessages writes a body of /v1/messages in the order in which the engine's template gets it: the tools, the
// system prompt as a first message, the messages. What Claude Code puts into the first block of its system prompt and
// changes with each request (a billing header) reaches the engine's prompt, and so it stands here.
//
// System messages between the others stand where they are, as a template that takes them renders them. For others
// the engine moves them to the front, and no longer holds then what the digest says it does.
func (w *writer) renderMessages() {
	if !w.noTools {
		w.write([]byte{markField, fieldTools})
		for _, at := range w.doc.Elems(w.doc.Field("tools").Root) {
			if w.namedTool && string(w.text(w.member(at, "name"))) != w.onlyTool {
				continue
			}
			switch w.customTool(at) {
			case knownTool:
				w.renderObject(at, customToolMember)
			case otherTool:
				w.renderObject(at, uncached)
			}
		}
	}
	if f := w.given("system"); f != nil && w.saysSystem(f.Root) {
		w.writeString("\xf8system\xf9c")
		w.renderSystem(f.Root)
	}
	for _, at := range w.doc.Elems(w.doc.Field("messages").Root) {
		w.renderTurn(at)
	}
}

// renderSystem writes the text blocks that are not empty, a line break between them.
func (w *writer) renderSystem(content int) {
	if w.doc.Nodes[content].Kind == jsonscan.String {
		w.renderString(content)
		return
	}
	between := false
	for _, at := range w.doc.Elems(content) {
		if b := w.block(at); b.kind == textBlock && w.says(b.text) {
			w.line(&between)
			w.renderString(b.text)
		}
	}
}

// line ends a line, unless none has been written.
func (w *writer) line(between *bool) {
	if *between {
		w.write([]byte{'\n'})
	}
	*between = true
}

// renderTurn writes one message. A tool's result in a user's message becomes a message of its own, and what follows it
// another one.
func (w *writer) renderTurn(at int) {
	m := w.message(at)
	role := w.text(m.role)
	if w.doc.Nodes[m.content].Kind == jsonscan.String {
		w.beginTurn(role)
		w.write([]byte{markField, fieldContent})
		w.renderString(m.content)
		return
	}
	user := string(role) == "user"
	open, calls := !user, false
	if open {
		w.beginTurn(role)
		if string(role) == "assistant" {
			w.renderThinking(m.content)
		}
		w.write([]byte{markField, fieldContent})
	}
	for _, at := range w.doc.Elems(m.content) {
		b := w.block(at)
		switch {
		case b.kind == toolResultBlock && user:
			w.renderToolResult(b)
			open = false
			continue
		case b.kind == toolUseBlock:
			calls = !user
			continue
		case !w.reaches(b) || b.kind == referenceBlock:
			continue
		case !open:
			w.beginTurn(role)
			w.write([]byte{markField, fieldContent})
			open = true
		}
		w.renderBlock(at, b)
	}
	if calls {
		w.renderToolUses(m.content)
	}
}

func (w *writer) beginTurn(role []byte) {
	w.write([]byte{markMessage})
	w.write(role)
}

// renderThinking writes what an assistant thought before it answered, without signatures.
func (w *writer) renderThinking(content int) {
	between := false
	for _, at := range w.doc.Elems(content) {
		if b := w.block(at); b.kind == thinkingBlock && w.says(b.thinking) {
			if !between {
				w.write([]byte{markField, fieldReasoning})
			}
			w.line(&between)
			w.renderString(b.thinking)
		}
	}
}

func (w *writer) renderToolUses(content int) {
	w.write([]byte{markField, fieldToolCalls})
	for _, at := range w.doc.Elems(content) {
		if w.block(at).kind == toolUseBlock {
			w.renderObject(at, toolUseMember)
		}
	}
}

// renderToolResult writes a tool's result as the message that the engine makes of it. Whether it is an error does not
// reach the prompt.
func (w *writer) renderToolResult(b block) {
	w.writeString("\xf8tool\xf9c")
	if b.content >= 0 {
		if w.doc.Nodes[b.content].Kind == jsonscan.String {
			w.renderString(b.content)
		}
		for _, at := range w.doc.Elems(b.content) {
			if inner := w.block(at); inner.kind != toolResultBlock && w.reaches(inner) {
				w.renderBlock(at, inner)
			}
		}
	}
	if id := w.either(b.toolUseID, b.id); id >= 0 {
		w.write([]byte{markField, fieldToolCallID})
		w.renderString(id)
	}
}

// reaches reports whether anything of a block is rendered in the place where it stands.
func (w *writer) reaches(b block) bool {
	switch b.kind {
	case imageBlock:
		return w.shows(b)
	case searchBlock:
		title, source, content := w.found(b)
		return title >= 0 || source >= 0 || content >= 0
	case referenceBlock:
		return w.either(b.toolName, b.name) >= 0
	case toolUseBlock, thinkingBlock, redactedBlock:
		return false
	}
	return true
}

// renderBlock writes a block that reaches the prompt.
func (w *writer) renderBlock(at int, b block) {
	switch b.kind {
	case textBlock:
		w.renderString(b.text)
	case imageBlock:
		w.write([]byte{markPart, partMedia})
		w.renderMedia(at, b.source)
	case searchBlock:
		w.renderSearch(b)
	case referenceBlock:
		w.write([]byte{markPart, partReference, markString})
		w.renderString(w.either(b.toolName, b.name))
		w.write([]byte{markString})
	case toolResultBlock: // of an assistant
		w.renderOwnResult(b)
	default:
		w.write([]byte{markPart, partJSON})
		w.renderObject(at, uncached)
	}
}

// renderOwnResult writes a tool's result that stands in the message of an assistant: the engine makes text of it.
func (w *writer) renderOwnResult(b block) {
	w.writeString("Tool result: ")
	if b.content < 0 {
		return
	}
	if w.doc.Nodes[b.content].Kind == jsonscan.String {
		w.renderString(b.content)
	}
	between := false
	for _, at := range w.doc.Elems(b.content) {
		inner := w.block(at)
		if inner.kind == textBlock && w.says(inner.text) || inner.kind == searchBlock && w.reaches(inner) {
			w.line(&between)
			w.renderBlock(at, inner)
		}
	}
}

// found returns where the title and the source of a search result are, and the first text of its content; -1 for none.
func (w *writer) found(b block) (title, source, content int) {
	title, source, content = w.either(b.title, -1), w.either(b.source, -1), -1
	if source < 0 && b.source >= 0 && w.doc.Nodes[b.source].Kind == jsonscan.Object {
		source = w.either(w.member(b.source, "url"), w.member(b.source, "text"))
	}
	if b.content >= 0 && w.doc.Nodes[b.content].Kind == jsonscan.Array {
		for _, at := range w.doc.Elems(b.content) {
			if w.searchText(at) >= 0 {
				return title, source, w.searchText(at)
			}
		}
	}
	return title, source, content
}

// searchText returns the text of a part of a search result's content, or -1.
func (w *writer) searchText(part int) int {
	if w.doc.Nodes[part].Kind != jsonscan.Object {
		return -1
	}
	b := w.block(part)
	if b.kind != textBlock || !w.says(b.text) {
		return -1
	}
	return b.text
}

func (w *writer) renderSearch(b block) {
	between := false
	title, source, content := w.found(b)
	if title >= 0 {
		w.line(&between)
		w.writeString("Title: ")
		w.renderString(title)
	}
	if source >= 0 {
		w.line(&between)
		w.writeString("Source: ")
		w.renderString(source)
	}
	if content < 0 {
		return
	}
	w.line(&between)
	w.writeString("Content: ")
	between = false
	for _, at := range w.doc.Elems(b.content) {
		if text := w.searchText(at); text >= 0 {
			w.line(&between)
			w.renderString(text)
		}
	}
}

// shapeMessages writes what shapes a whole prompt of /v1/messages, as the engine takes it: thinking is on or off,
// whatever its budget, and xhigh is max.
func (w *writer) shapeMessages() {
	if f := w.given("thinking"); f != nil {
		switch string(w.text(w.member(f.Root, "type"))) {
		case "":
		case "disabled":
			w.writeString("\xf9thinking\xfb\xfbdisabled\xfb")
		default:
			w.writeString("\xf9thinking\xfb\xfbenabled\xfb")
		}
	}
	if f := w.given("output_config"); f != nil {
		at := w.member(f.Root, "effort")
		switch {
		case !w.says(at):
		case string(w.text(at)) == "xhigh":
			w.writeString("\xf9effort\xfb\xfbmax\xfb")
		default:
			w.writeString("\xf9effort\xfb")
			w.renderJSON(at)
		}
	}
}

// customToolMember selects what the engine passes on of a tool of /v1/messages.
func customToolMember(r *Request, key []byte, value int) bool {
	n := r.doc.Nodes[value]
	switch string(key) {
	case "description": // "" is as good as none
		return n.Kind != jsonscan.Null && (n.Kind != jsonscan.String || n.End-n.Start > 2)
	case "name", "input_schema", "defer_loading":
		return n.Kind != jsonscan.Null
	case "strict":
		return n.Kind == jsonscan.True
	}
	return false
}

// toolUseMember selects what the engine passes on of a tool_use block.
func toolUseMember(r *Request, key []byte, value int) bool {
	n := r.doc.Nodes[value]
	switch string(key) {
	case "id", "name":
		return n.Kind != jsonscan.Null
	case "input":
		return n.Kind != jsonscan.Null && (n.Kind != jsonscan.Object || !r.hollow(value))
	}
	return false
}

// uncached selects all but the marks that say how far a prompt shall be cached, which move from turn to turn.
func uncached(_ *Request, key []byte, _ int) bool { return string(key) != "cache_control" }
