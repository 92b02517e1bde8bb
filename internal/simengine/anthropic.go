package simengine

import (
	"encoding/json"
	"net/http"
	"strings"
)

// anthropic is how /v1/messages answers.
type anthropic struct{ e *Engine }

// refuse hides what goes wrong inside, and passes on the kinds of error that the chat beneath it names.
func (d anthropic) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, kind, text := http.StatusBadRequest, "invalid_request_error", err.Error()
	switch err := err.(type) {
	case *invalidError:
		text = err.short()
	case *refusedError:
		status = err.status
	case *valueError:
		kind = "BadRequestError"
	case *rejection:
		if status = err.status; status == http.StatusBadRequest {
			kind = "BadRequestError"
		} else {
			kind, text = "overloaded_error", "Internal server error"
		}
	case *bugError:
		status, kind, text = http.StatusInternalServerError, "api_error", "Internal server error"
	}
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	writeJSON(w, status, anthropicError(kind, text))
}

type anthropicFailure struct {
	Type  string           `json:"type"`
	Error anthropicMessage `json:"error"`
}

type anthropicMessage struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func anthropicError(kind, text string) anthropicFailure {
	return anthropicFailure{"error", anthropicMessage{kind, text}}
}

type anthropicAnswer struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Role       string          `json:"role"`
	Content    []any           `json:"content"`
	Model      string          `json:"model"`
	StopReason string          `json:"stop_reason,omitempty"`
	Usage      *anthropicUsage `json:"usage,omitempty"`
}

type anthropicUsage struct {
	Input  *int `json:"input_tokens,omitempty"`
	Output int  `json:"output_tokens"`
	Cached int  `json:"cache_read_input_tokens,omitempty"`
}

type textBlock struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type jsonDelta struct {
	Type string `json:"type"`
	JSON string `json:"partial_json"`
}

type toolUse struct {
	Type  string          `json:"type"`
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
}

func newMessageID() string { return "msg_" + newRID() }

// usageOf tells cached tokens apart from the others, where the engine reports them.
func (d anthropic) usageOf(u *usage) *anthropicUsage {
	input := u.PromptTokens
	a := &anthropicUsage{Input: &input, Output: u.CompletionTokens}
	if u.Details != nil {
		a.Cached = u.Details.CachedTokens
		input = max(input-a.Cached, 0)
	}
	return a
}

func stopReason(s *sequence, how Ending) string {
	switch {
	case s.call(how) != nil:
		return "tool_use"
	case s.reason(how) == "length":
		return "max_tokens"
	}
	return "end_turn"
}

func (d anthropic) whole(q *request) any {
	s := q.seqs[0]
	n, how := s.progress()
	a := anthropicAnswer{ID: newMessageID(), Type: "message", Role: "assistant", Model: q.model, StopReason: stopReason(s, how),
		Usage: d.usageOf(q.wholeUsage())}
	if call := s.call(how); call != nil {
		a.Content = []any{toolUse{"tool_use", newCallID(), call.name, json.RawMessage(call.arguments)}}
	} else {
		a.Content = []any{textBlock{"text", s.text(n)}}
	}
	return a
}

// anthropicEvents writes the events of a stream.
type anthropicEvents struct {
	anthropic
	q       *request
	started bool
	blocks  int // begun
	open    bool
}

func (d anthropic) events(q *request) eventWriter { return &anthropicEvents{anthropic: d, q: q} }

func (o *anthropicEvents) early() bool { return true }

func (o *anthropicEvents) begin(b []byte) []byte { return b }

func namedEvent(b []byte, name string, v any) []byte {
	b = append(append(b, "event: "...), name...)
	return appendEvent(append(b, '\n'), v)
}

func (o *anthropicEvents) start(b []byte, u *anthropicUsage) []byte {
	if o.started {
		return b
	}
	o.started = true
	return namedEvent(b, "message_start", struct {
		Type    string          `json:"type"`
		Message anthropicAnswer `json:"message"`
	}{"message_start", anthropicAnswer{ID: newMessageID(), Type: "message", Role: "assistant", Content: []any{}, Model: o.q.model, Usage: u}})
}

func noUsage() *anthropicUsage { return &anthropicUsage{Input: new(0)} }

func (o *anthropicEvents) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	text, named, arguments := s.text(n)[len(s.text(s.sent)):], false, ""
	call := o.q.sampling[s.prompt].call
	if call != nil {
		named, arguments = call.between(len(s.text(s.sent)), len(s.text(n)))
		text = ""
	}
	if text == "" && !named && arguments == "" {
		return b
	}
	if !o.started {
		prompt, cached := s.counts(n, how)
		u := o.usageOf(o.q.newUsage(prompt, cached, 0))
		b = o.start(b, u)
	}
	if named {
		b = o.block(b, toolUse{"tool_use", newCallID(), call.name, json.RawMessage("{}")})
	}
	if arguments != "" {
		b = o.delta(b, jsonDelta{"input_json_delta", arguments})
	}
	if text != "" {
		if !o.open {
			b = o.block(b, textBlock{Type: "text"})
		}
		b = o.delta(b, textBlock{"text_delta", text})
	}
	return b
}

func (o *anthropicEvents) block(b []byte, v any) []byte {
	o.open = true
	o.blocks++
	return namedEvent(b, "content_block_start", struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
		Block any    `json:"content_block"`
	}{"content_block_start", o.blocks - 1, v})
}

func (o *anthropicEvents) delta(b []byte, v any) []byte {
	return namedEvent(b, "content_block_delta", struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
		Delta any    `json:"delta"`
	}{"content_block_delta", o.blocks - 1, v})
}

func (o *anthropicEvents) closeBlock(b []byte) []byte {
	if !o.open {
		return b
	}
	o.open = false
	return namedEvent(b, "content_block_stop", struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}{"content_block_stop", o.blocks - 1})
}

func (o *anthropicEvents) stop(b []byte) []byte {
	return namedEvent(b, "message_stop", map[string]string{"type": "message_stop"})
}

func (o *anthropicEvents) tail(b []byte) []byte {
	s := o.q.seqs[0]
	n, how := s.progress()
	b = o.closeBlock(o.start(b, noUsage()))
	b = namedEvent(b, "message_delta", struct {
		Type  string            `json:"type"`
		Delta map[string]string `json:"delta"`
		Usage anthropicUsage    `json:"usage"`
	}{"message_delta", map[string]string{"stop_reason": stopReason(s, how)}, anthropicUsage{Output: n}})
	return o.stop(b)
}

// fail closes what is open and tells the error.
func (o *anthropicEvents) fail(b []byte, err error) []byte {
	kind := "invalid_request_error"
	if no, ok := err.(*rejection); ok && no.status != http.StatusBadRequest {
		kind = "overloaded_error"
	}
	b = o.closeBlock(o.start(b, noUsage()))
	return o.stop(namedEvent(b, "error", anthropicError(kind, err.Error())))
}

func (o *anthropicEvents) reject(b []byte, s *sequence) ([]byte, bool) {
	return o.fail(b, s.refused), true
}
