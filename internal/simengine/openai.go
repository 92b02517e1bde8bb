package simengine

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// openAI is how chats and completions answer.
type openAI struct {
	e    *Engine
	chat bool
	echo bool
}

func (d openAI) refuse(w http.ResponseWriter, r *http.Request, err error) { refuseFlat(w, r, err) }

type openAIAnswer struct {
	ID       string   `json:"id"`
	Object   string   `json:"object"`
	Created  int64    `json:"created"`
	Model    string   `json:"model"`
	Choices  []any    `json:"choices"`
	Usage    *usage   `json:"usage"`
	Metadata metadata `json:"metadata"`
	Ext      *sglext  `json:"sglext,omitempty"`
}

type metadata struct {
	Version  string  `json:"weight_version"`
	Versions rawJSON `json:"weight_versions"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      chatMessage `json:"message"`
	Logprobs     rawJSON     `json:"logprobs"`
	FinishReason string      `json:"finish_reason"`
	MatchedStop  any         `json:"matched_stop"`
	PromptIDs    []int32     `json:"prompt_token_ids,omitempty"`
	OutputIDs    []int32     `json:"response_token_ids,omitempty"`
	Meta         rawJSON     `json:"meta_info,omitempty"`
}

type chatMessage struct {
	Role      string      `json:"role"`
	Content   string      `json:"content"`
	Reasoning *string     `json:"reasoning_content"`
	ToolCalls []callDelta `json:"tool_calls,omitempty"`
}

// callDelta is a tool call, or what a stream's event adds to one.
type callDelta struct {
	ID       *string      `json:"id"`
	Index    int          `json:"index"`
	Type     string       `json:"type"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      *string `json:"name"`
	Arguments string  `json:"arguments"`
}

type textChoice struct {
	Index        int     `json:"index"`
	Text         string  `json:"text"`
	Logprobs     rawJSON `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
	MatchedStop  any     `json:"matched_stop"`
	OutputIDs    []int32 `json:"token_ids,omitempty"`
	PromptIDs    []int32 `json:"prompt_token_ids,omitempty"`
}

func (d openAI) whole(q *request) any {
	first := q.seqs[0]
	n, how := first.progress()
	a := &openAIAnswer{ID: q.id, Object: "text_completion", Created: q.created, Model: q.model, Usage: q.wholeUsage(),
		Metadata: metadata{q.weights, append(first.appendVersion([]byte{'['}, n), ']')}}
	if _, cached := first.counts(n, how); q.details && cached > 0 {
		a.Ext = &sglext{tierDetails{Device: cached}}
	}
	if d.chat {
		a.Object = "chat.completion"
	}
	for _, s := range q.seqs {
		n, how := s.progress()
		if d.chat {
			a.Choices = append(a.Choices, d.chatChoice(s, n, how))
		} else {
			a.Choices = append(a.Choices, d.textChoice(s, n, how))
		}
	}
	return a
}

func (d openAI) chatChoice(s *sequence, n int, how Ending) chatChoice {
	q := s.request
	c := chatChoice{Index: s.index, Message: chatMessage{Role: "assistant", Content: s.text(n)}, FinishReason: s.reason(how),
		MatchedStop: s.matched(how), Logprobs: rawJSON("null")}
	if call := s.call(how); call != nil {
		c.FinishReason, c.MatchedStop, c.Message.Content = "tool_calls", nil, ""
		c.Message.ToolCalls = []callDelta{{new(newCallID()), 0, "function", functionCall{&call.name, call.arguments}}}
	}
	if q.logprobs != nil {
		c.Logprobs = d.e.appendChatLogprobs(nil, s, 0, n)
	}
	if q.promptIDs {
		c.PromptIDs = s.history
	}
	if q.outputIDs {
		c.OutputIDs = s.output(n)
	}
	if q.metaInfo {
		c.Meta = d.e.appendMeta(nil, s, n, how)
	}
	return c
}

func (d openAI) textChoice(s *sequence, n int, how Ending) textChoice {
	q := s.request
	c := textChoice{Index: s.index, Text: s.text(n), FinishReason: s.reason(how), MatchedStop: s.matched(how), Logprobs: rawJSON("null")}
	if d.echo {
		c.Text = d.e.echo(q.prompts[s.prompt]) + c.Text
	}
	if q.logprobs != nil {
		c.Logprobs = d.e.appendTextLogprobs(nil, s, 0, n)
	}
	if q.outputIDs {
		c.OutputIDs, c.PromptIDs = s.output(n), s.history
	}
	return c
}

// openAIEvents writes the chunks of both routes. They are put together by hand from parts encoded once: a
// chunk a token for every stream is what an engine's HTTP side mostly does.
type openAIEvents struct {
	openAI
	q     *request
	head  []byte // from behind the id up to the choices
	last  *sequence
	ended []*sequence
}

func (d openAI) events(q *request) eventWriter {
	object := "text_completion"
	if d.chat {
		object = "chat.completion.chunk"
	}
	head := strconv.AppendInt([]byte(`,"object":"`+object+`","created":`), q.created, 10)
	head = append(appendJSON(append(head, `,"model":`...), q.model), `,"choices":[`...)
	return &openAIEvents{openAI: d, q: q, head: head}
}

func (o *openAIEvents) early() bool { return false }

func (o *openAIEvents) begin(b []byte) []byte { return b }

// open appends a chunk's beginning; it has the id of whichever sequence was told of last.
func (o *openAIEvents) open(b []byte) []byte {
	return append(appendText(append(b, `data: {"id":`...), o.last.rid), o.head...)
}

func (o *openAIEvents) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	o.last = s
	if how != Unended {
		o.ended = append(o.ended, s)
	}
	if !o.chat {
		return o.textChunk(b, s, n, how)
	}
	if !s.opened {
		b = o.delta(b, s, `,"role":"assistant","content":""`, "null", nil)
	}
	if call := o.q.sampling[s.prompt].call; call != nil {
		return o.callChunks(b, s, call, n, how)
	}
	if text := s.text(n)[len(s.text(s.sent)):]; text != "" {
		logprobs := []byte("null")
		if o.q.logprobs != nil {
			logprobs = o.e.appendChatLogprobs(nil, s, s.sent, n)
		}
		b = o.delta(b, s, `,"content":`+string(appendText(nil, text)), string(logprobs), o.usageAt(s, n, how))
	}
	return b
}

func (o *openAIEvents) delta(b []byte, s *sequence, fields, logprobs string, u *usage) []byte {
	b = strconv.AppendInt(append(o.open(b), `{"index":`...), int64(s.index), 10)
	b = append(b, `,"delta":{"reasoning_content":null`+fields+`},"logprobs":`+logprobs+`,"finish_reason":null,"matched_stop":null}]`...)
	if u != nil {
		b = u.append(append(b, `,"usage":`...), true)
	}
	return append(b, "}\n\n"...)
}

// callChunks tells a tool call: its name first, then its arguments as they come.
func (o *openAIEvents) callChunks(b []byte, s *sequence, call *toolCall, n int, how Ending) []byte {
	named, arguments := call.between(len(s.text(s.sent)), len(s.text(n)))
	if named {
		b = o.callChunk(b, s, callDelta{new(newCallID()), 0, "function", functionCall{&call.name, ""}}, n, how)
	}
	if arguments != "" {
		b = o.callChunk(b, s, callDelta{nil, 0, "function", functionCall{nil, arguments}}, n, how)
	}
	return b
}

func (o *openAIEvents) callChunk(b []byte, s *sequence, d callDelta, n int, how Ending) []byte {
	b = strconv.AppendInt(append(o.open(b), `{"index":`...), int64(s.index), 10)
	b = append(b, `,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":[`...)
	b = append(appendJSON(b, d), `]},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":`...)
	return append(o.usageAt(s, n, how).append(b, true), "}\n\n"...)
}

func (o *openAIEvents) textChunk(b []byte, s *sequence, n int, how Ending) []byte {
	b = strconv.AppendInt(append(o.open(b), `{"index":`...), int64(s.index), 10)
	text := s.text(n)[len(s.text(s.sent)):]
	if !s.opened && o.echo {
		text = o.e.echo(o.q.prompts[s.prompt]) + text
	}
	b = append(appendText(append(b, `,"text":`...), text), `,"logprobs":`...)
	if o.q.logprobs != nil {
		b = o.e.appendTextLogprobs(b, s, s.sent, n)
	} else {
		b = append(b, "null"...)
	}
	if how == Unended {
		b = append(b, `,"finish_reason":null,"matched_stop":null`...)
	} else {
		b = append(b, `,"finish_reason":"`+s.reason(how)+`","matched_stop":`...)
		b = appendJSON(b, s.matched(how))
	}
	if o.q.outputIDs {
		b = appendInts(append(b, `,"token_ids":`...), s.output(n)[s.sent:])
		if !s.opened {
			b = appendInts(append(b, `,"prompt_token_ids":`...), s.history)
		}
	}
	u := o.usageAt(s, n, how)
	if u != nil {
		u.Details = nil
	}
	return append(u.append(append(b, `}],"usage":`...), true), "}\n\n"...)
}

// usageAt is what a chunk with text tells of usage, if it is to.
func (o *openAIEvents) usageAt(s *sequence, n int, how Ending) *usage {
	if !o.q.usage.continuous {
		return nil
	}
	prompt, cached := s.counts(n, how)
	return o.q.newUsage(prompt, cached, n)
}

// reject ends the stream: nothing of the other sequences is told either.
func (o *openAIEvents) reject(b []byte, s *sequence) ([]byte, bool) {
	kind := strings.ToUpper(strings.ReplaceAll(http.StatusText(s.refused.status), " ", "_"))
	b = fmt.Appendf(b, `data: {"error": {"object": "error", "message": %s, "type": %q, "param": null, "code": %d}}`+"\n\n",
		appendText(nil, s.refused.text), kind, s.refused.status)
	return append(b, done...), true
}

func (o *openAIEvents) fail(b []byte, _ error) []byte { return b } // the stream is never open by then

func (o *openAIEvents) tail(b []byte) []byte {
	for _, s := range o.ended {
		if !o.chat {
			break
		}
		_, how := s.progress()
		reason := s.reason(how)
		if s.call(how) != nil {
			reason = "tool_calls"
		}
		b = strconv.AppendInt(append(o.open(b), `{"index":`...), int64(s.index), 10)
		b = append(b, `,"delta":{"reasoning_content":null},"logprobs":null,"finish_reason":"`+reason+`","matched_stop":`...)
		b = append(appendJSON(b, s.matched(how)), "}]}\n\n"...)
	}
	if o.q.details {
		for _, s := range o.ended {
			n, how := s.progress()
			if _, cached := s.counts(n, how); cached > 0 {
				b = append(o.open(b), `],"usage":null,"sglext":`...)
				b = append(appendJSON(b, &sglext{tierDetails{Device: cached}}), "}\n\n"...)
				break
			}
		}
	}
	if o.q.usage.include {
		b = append(o.open(b), `],"usage":`...)
		b = append(o.q.wholeUsage().append(b, o.chat), "}\n\n"...)
	}
	return append(b, done...)
}
