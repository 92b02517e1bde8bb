package simengine

// responsesEvents writes the events of a stream.
type responsesEvents struct {
	responder
	q      *request
	number int           // of the next event
	item   outputMessage // being written
	call   outputCall
	open   bool
}

func (d responder) events(q *request) eventWriter { return &responsesEvents{responder: d, q: q} }

func (o *responsesEvents) early() bool { return true }

func (o *responsesEvents) begin(b []byte) []byte {
	first := o.response(o.q, nil, "in_progress", nil, "")
	return o.lifecycle(o.lifecycle(b, "created", first), "in_progress", first)
}

func (o *responsesEvents) lifecycle(b []byte, name string, r response) []byte {
	o.number++
	return namedEvent(b, "response."+name, struct {
		Type     string   `json:"type"`
		Response response `json:"response"`
		Number   int      `json:"sequence_number"`
	}{"response." + name, r, o.number - 1})
}

// itemEvent is an event about the answer's item; what a kind of event lacks is left out.
type itemEvent struct {
	Arguments *string `json:"arguments,omitempty"`
	Content   *int    `json:"content_index,omitempty"`
	Delta     *string `json:"delta,omitempty"`
	Item      any     `json:"item,omitempty"`
	ItemID    string  `json:"item_id,omitempty"`
	Logprobs  *[]any  `json:"logprobs,omitempty"`
	Name      string  `json:"name,omitempty"`
	Output    int     `json:"output_index"`
	Part      any     `json:"part,omitempty"`
	Number    int     `json:"sequence_number"`
	Text      *string `json:"text,omitempty"`
	Type      string  `json:"type"`
}

func (o *responsesEvents) event(b []byte, name string, v itemEvent) []byte {
	v.Type, v.Number = "response."+name, o.number
	o.number++
	return namedEvent(b, v.Type, v)
}

func (o *responsesEvents) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	from, to := len(s.text(s.sent)), len(s.text(n))
	if call := o.q.sampling[s.prompt].call; call != nil {
		named, arguments := call.between(from, to)
		if named {
			o.open, o.call = true, newOutputCall(call)
			begun := o.call
			begun.Arguments, begun.Status = "", "in_progress"
			b = o.event(b, "output_item.added", itemEvent{Item: begun})
		}
		if arguments != "" {
			b = o.event(b, "function_call_arguments.delta", itemEvent{Delta: &arguments, ItemID: o.call.ID})
		}
		return b
	}
	if from == to {
		return b
	}
	if !o.open {
		o.open, o.item = true, newOutputMessage(newMessageID(), "in_progress")
		b = o.event(b, "output_item.added", itemEvent{Item: o.item})
		b = o.event(b, "content_part.added", itemEvent{Content: new(0), ItemID: o.item.ID, Part: newOutputText("")})
	}
	delta := s.text(n)[from:]
	return o.event(b, "output_text.delta", itemEvent{Content: new(0), Delta: &delta, ItemID: o.item.ID, Logprobs: &[]any{}})
}

func (o *responsesEvents) tail(b []byte) []byte {
	s := o.q.seqs[0]
	n, how := s.progress()
	var output []any
	switch {
	case !o.open:
	case o.q.sampling[s.prompt].call != nil:
		if s.call(how) == nil {
			o.call.Status = "incomplete"
		}
		b = o.event(b, "function_call_arguments.done", itemEvent{Arguments: &o.call.Arguments, ItemID: o.call.ID, Name: o.call.Name})
		b = o.event(b, "output_item.done", itemEvent{Item: o.call})
		output = []any{o.call}
	default:
		text := s.text(n)
		b = o.event(b, "output_text.done", itemEvent{Content: new(0), ItemID: o.item.ID, Logprobs: &[]any{}, Text: &text})
		b = o.event(b, "content_part.done", itemEvent{Content: new(0), ItemID: o.item.ID, Part: newOutputText(text)})
		o.item = newOutputMessage(o.item.ID, "completed", newOutputText(text))
		b = o.event(b, "output_item.done", itemEvent{Item: o.item})
		output = []any{o.item}
	}
	final := o.keep(o.q, output)
	return o.lifecycle(b, final.Status, final)
}

func (o *responsesEvents) fail(b []byte, err error) []byte {
	return o.lifecycle(b, "failed", o.response(o.q, nil, "failed", nil, err.Error()))
}

func (o *responsesEvents) reject(b []byte, s *sequence) ([]byte, bool) {
	return o.lifecycle(b, "failed", o.response(o.q, nil, "failed", newResponseUsage(0, 0, 0), s.refused.text)), true
}
