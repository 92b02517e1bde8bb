package simengine

import (
	"encoding/json"
	"net/http"
	"strconv"
)

type chatBody struct {
	common
	openAISampling
	Messages             []message       `json:"messages"`
	Tools                json.RawMessage `json:"tools"`
	InputIDs             []int64         `json:"input_ids"`
	ContinueFinalMessage bool            `json:"continue_final_message"`
	ToolChoice           json.RawMessage `json:"tool_choice"`
}

// chatPrompt returns the prompt's tokens: the client's own if it sends any, else the rendered messages.
func (e *Engine) chatPrompt(b *chatBody) ([]int32, error) {
	if len(b.Messages) == 0 {
		return nil, &badRequest{errNoMessages.Error()}
	}
	if len(b.InputIDs) > 0 {
		return e.checkIDs(b.InputIDs)
	}
	if b.ContinueFinalMessage && b.Messages[len(b.Messages)-1].Role != "assistant" {
		return nil, badf("continue_final_message is set, but the last message is not the assistant's.")
	}
	tools := b.Tools
	if string(b.ToolChoice) == `"none"` {
		tools = nil
	}
	prompt, err := e.render(nil, tools, b.Messages, b.ContinueFinalMessage)
	if err != nil {
		return nil, &badRequest{err.Error()}
	}
	return prompt, nil
}

func (e *Engine) chat(w http.ResponseWriter, r *http.Request, raw []byte) {
	var body chatBody
	req, err := func() (*request, error) {
		if err := decode(raw, &body); err != nil {
			return nil, err
		}
		if err := e.checkModel(body.Model); err != nil {
			return nil, err
		}
		s, err := body.sampling()
		if err != nil {
			return nil, err
		}
		prompt, err := e.chatPrompt(&body)
		if err != nil {
			return nil, err
		}
		return e.newRequest(&body.common, s, [][]int32{prompt})
	}()
	e.answerOpenAI(w, r, req, err, body.Stream, true, nil)
}

// answerOpenAI queues a request of an OpenAI route and writes its answer, or the error that stopped it.
func (e *Engine) answerOpenAI(w http.ResponseWriter, r *http.Request, req *request, err error, stream, chat bool, echo []string) {
	if err == nil {
		err = e.start(r.Context(), req)
	}
	switch {
	case r.Context().Err() != nil && err != nil:
		return
	case e.gone(w, err):
		return
	case err != nil:
		f := explain(err)
		if stream && (f.pool || f.status == http.StatusServiceUnavailable) {
			inStream(w, map[string]any{"error": f.flat()}) // found out by the scheduler, after the 200
			return
		}
		writeFlat(w, f)
		return
	}
	if stream {
		startStream(w)
		e.stream(w, r, req, newOpenAIEvents(req, chat, echo))
		return
	}
	if !e.wait(r.Context(), req) || e.dies(req.completion()) > 0 {
		breakOff(w)
		return
	}
	writeJSON(w, http.StatusOK, req.openAIAnswer(chat, echo))
}

type openAIAnswer struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"`
	Created  int64             `json:"created"`
	Model    string            `json:"model"`
	Choices  []any             `json:"choices"`
	Usage    *usage            `json:"usage"`
	Metadata map[string]string `json:"metadata"`
	Ext      *sglext           `json:"sglext,omitempty"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      chatMessage `json:"message"`
	Logprobs     *struct{}   `json:"logprobs"`
	FinishReason string      `json:"finish_reason"`
	MatchedStop  any         `json:"matched_stop"`
}

type chatMessage struct {
	Role      string  `json:"role"`
	Content   string  `json:"content"`
	Reasoning *string `json:"reasoning_content"`
	ToolCalls []any   `json:"tool_calls"`
}

type textChoice struct {
	Index        int       `json:"index"`
	Text         string    `json:"text"`
	Logprobs     *struct{} `json:"logprobs"`
	FinishReason string    `json:"finish_reason"`
	MatchedStop  any       `json:"matched_stop"`
}

func (req *request) openAIAnswer(chat bool, echo []string) *openAIAnswer {
	a := &openAIAnswer{ID: req.id, Object: "text_completion", Created: req.created, Model: req.model,
		Usage: req.usage(req.completion()), Metadata: map[string]string{"weight_version": req.weights}, Ext: req.ext()}
	if chat {
		a.Object = "chat.completion"
	}
	for _, s := range req.seqs {
		n, how := s.progress()
		text, reason, matched := s.text(n), s.reason(how), s.matched(how)
		if chat {
			a.Choices = append(a.Choices, chatChoice{Index: s.index, Message: chatMessage{Role: "assistant", Content: text},
				FinishReason: reason, MatchedStop: matched})
			continue
		}
		if echo != nil {
			text = echo[s.index/req.n] + text
		}
		a.Choices = append(a.Choices, textChoice{Index: s.index, Text: text, FinishReason: reason, MatchedStop: matched})
	}
	return a
}

// openAIEvents writes the chunks of both OpenAI routes. They are put together by hand from parts encoded
// once: a chunk a token for every stream is what an engine's HTTP side mostly does.
type openAIEvents struct {
	req  *request
	chat bool
	echo []string
	head []byte // up to the choices
}

func newOpenAIEvents(req *request, chat bool, echo []string) *openAIEvents {
	object := "text_completion"
	if chat {
		object = "chat.completion.chunk"
	}
	head := append([]byte(`data: {"id":`), appendJSON(nil, req.id)...)
	head = append(head, `,"object":"`+object+`","created":`...)
	head = strconv.AppendInt(head, req.created, 10)
	head = append(appendJSON(append(head, `,"model":`...), req.model), `,"choices":[`...)
	return &openAIEvents{req: req, chat: chat, echo: echo, head: head}
}

func (o *openAIEvents) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	text := s.text(n)[len(s.text(s.sent)):]
	if !o.chat {
		return o.textChunk(b, s, text, n, how)
	}
	if s.sent == 0 {
		b = o.delta(b, s, `"assistant"`, `""`, n, Unended)
	}
	if text != "" {
		b = o.delta(b, s, "null", string(appendText(nil, text)), n, Unended)
	}
	if how != Unended {
		b = o.delta(b, s, "null", "null", n, how)
	}
	return b
}

func (o *openAIEvents) delta(b []byte, s *sequence, role, content string, n int, how Ending) []byte {
	b = append(append(b, o.head...), `{"index":`...)
	b = strconv.AppendInt(b, int64(s.index), 10)
	b = append(b, `,"delta":{"role":`+role+`,"content":`+content+`,"reasoning_content":null,"tool_calls":null}`...)
	return o.close(b, s, n, how)
}

func (o *openAIEvents) textChunk(b []byte, s *sequence, text string, n int, how Ending) []byte {
	b = append(append(b, o.head...), `{"index":`...)
	b = strconv.AppendInt(b, int64(s.index), 10)
	b = append(b, `,"text":`...)
	if s.sent == 0 && o.echo != nil {
		b = appendJSON(b, o.echo[s.index/o.req.n]+text)
	} else {
		b = appendText(b, text)
	}
	return o.close(b, s, n, how)
}

// close ends a choice and its chunk.
func (o *openAIEvents) close(b []byte, s *sequence, n int, how Ending) []byte {
	b = append(b, `,"logprobs":null,"finish_reason":`...)
	if how == Unended {
		b = append(b, `null,"matched_stop":null}],"usage":`...)
	} else {
		b = append(b, `"`+s.reason(how)+`","matched_stop":`...)
		b = append(appendJSON(b, s.matched(how)), `}],"usage":`...)
	}
	if o.req.stream.ContinuousUsageStats {
		b = appendJSON(b, o.req.newUsage(s.job.Prompt, s.job.Cached, n))
	} else {
		b = append(b, "null"...)
	}
	return append(b, "}\n\n"...)
}

func (o *openAIEvents) tail(b []byte) []byte {
	if ext := o.req.ext(); ext != nil {
		b = append(append(b, o.head...), `],"usage":null,"sglext":`...)
		b = append(appendJSON(b, ext), "}\n\n"...)
	}
	if o.req.stream.IncludeUsage {
		b = append(append(b, o.head...), `],"usage":`...)
		b = append(appendJSON(b, o.req.usage(o.req.completion())), "}\n\n"...)
	}
	return b
}
