package prefix

import "github.com/radixbus/radixbus/internal/jsonscan"

// renderResponses writes a body of /v1/responses in the order in which the engine's template gets it: the tools, the
// instructions as a first message, the items of the input, each as a message. The engine joins the items of one turn
// of the assistant and may move system messages to the front; here every item stays where it is.
func (w *writer) renderResponses() {
	if !w.noTools {
		w.write([]byte{markField, fieldTools})
		for _, at := range w.doc.Elems(w.doc.Field("tools").Root) {
			if w.namedTool && string(w.text(w.member(at, "name"))) != w.onlyTool {
				continue
			}
			switch w.responseTool(at) {
			case knownTool:
				w.renderObject(at, responseToolMember)
			case otherTool:
				w.renderJSON(at)
			}
		}
	}
	if f := w.given("instructions"); f != nil && f.End-f.Start > 2 {
		w.writeString("\xf8system\xf9c")
		w.renderText(f.Escaped, f.Raw(w.body))
	}
	f := w.doc.Field("input")
	if f.Kind == jsonscan.String {
		w.writeString("\xf8user\xf9c")
		w.renderText(f.Escaped, f.Raw(w.body))
		return
	}
	for _, at := range w.doc.Elems(f.Root) {
		w.renderItem(at)
	}
}

func (w *writer) renderItem(at int) {
	switch it := w.item(at); it.kind {
	case messageItem:
		w.renderMessage(at)
	case callItem:
		w.writeString("\xf8assistant\xf9t")
		w.renderObject(at, callMember)
		w.renderField(fieldToolCallID, w.either(it.callID, it.id))
	case outputItem:
		w.writeString("\xf8tool\xf9c")
		w.renderContent(it.output)
		w.renderField(fieldToolCallID, it.callID)
	case reasoningItem:
		w.renderReasoning(it)
	default:
		w.write([]byte{markMessage, markPart, partJSON})
		w.renderJSON(at)
	}
}

// renderReasoning writes a summary, without one the reasoning itself, and without that what only the engine can read.
func (w *writer) renderReasoning(it item) {
	switch {
	case w.renderReasons(it.summary), w.renderReasons(it.content):
	case w.says(it.encrypted):
		w.writeString("\xf8assistant\xf9r\xfaj")
		w.renderJSON(it.encrypted)
	}
}

// renderReasons writes the texts of a list as the reasoning of the assistant, and reports whether there are any.
func (w *writer) renderReasons(list int) bool {
	between := false
	if list < 0 || w.doc.Nodes[list].Kind != jsonscan.Array {
		return false
	}
	for _, at := range w.doc.Elems(list) {
		if w.doc.Nodes[at].Kind != jsonscan.Object {
			continue
		}
		if text := w.member(at, "text"); w.says(text) {
			if !between {
				w.writeString("\xf8assistant\xf9r")
			}
			w.line(&between)
			w.renderString(text)
		}
	}
	return between
}

// shapeResponses writes what shapes a whole prompt of /v1/responses. Reasoning without an effort has one of "medium", as in
// the engine; null is no effort.
func (w *writer) shapeResponses() {
	if f := w.given("chat_template_kwargs"); f != nil && !w.hollow(f.Root) {
		w.writeString("\xf9chat_template_kwargs\xfb")
		w.renderJSON(f.Root)
	}
	if f := w.given("reasoning"); f != nil {
		switch at := w.doc.Member(w.body, f.Root, "effort"); {
		case at < 0:
			w.writeString("\xf9effort\xfb\xfbmedium\xfb")
		case w.says(at):
			w.writeString("\xf9effort\xfb")
			w.renderJSON(at)
		}
	}
	if w.PreviousResponse != "" {
		w.writeString("\xf9previous_response_id\xfb")
		w.writeString(w.PreviousResponse)
	}
}

// responseToolMember selects what the engine passes on of a tool of /v1/responses.
func responseToolMember(r *Request, key []byte, value int) bool {
	kind := r.doc.Nodes[value].Kind
	switch string(key) {
	case "type", "name", "description", "parameters", "tools", "defer_loading":
		return kind != jsonscan.Null
	case "format": // text is as good as none
		return kind != jsonscan.Null && (kind != jsonscan.Object || string(r.text(r.member(value, "type"))) != "text")
	case "strict":
		return kind == jsonscan.True
	}
	return false
}

// callMember selects what the engine passes on of a call, besides its id.
func callMember(r *Request, key []byte, value int) bool {
	switch string(key) {
	case "name", "namespace", "arguments", "input":
		return r.doc.Nodes[value].Kind != jsonscan.Null
	}
	return false
}

// imageMember selects what the engine passes on of an input_image.
func imageMember(r *Request, key []byte, value int) bool {
	switch string(key) {
	case "image_url", "min_dynamic_patch", "max_dynamic_patch", "max_long_side_pixel":
		return r.doc.Nodes[value].Kind != jsonscan.Null
	case "detail": // "auto" is as good as none
		return r.doc.Nodes[value].Kind != jsonscan.Null && string(r.text(value)) != "auto"
	}
	return false
}
