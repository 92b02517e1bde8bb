package simengine

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
)

// responder is how /v1/responses answers one request.
type responder struct {
	e       *Engine
	ask     *responsesAsk
	history []message
}

func (d responder) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, kind, text := http.StatusBadRequest, "invalid_request_error", err.Error()
	var param *string
	switch err := err.(type) {
	case *invalidError:
		kind, text = "Bad Request", err.message(r)
	case *headerError:
		kind = "Bad Request"
	case *responsesError:
		status = err.status
		if err.param != "" {
			param = &err.param
		}
	case *refusedError:
		status = err.status
	case *rejection:
		if err.status != http.StatusBadRequest {
			text = "503: " + err.text // an exception of another kind, put into words
		}
	case *bugError:
		internalError(w)
		return
	}
	writeJSON(w, status, map[string]any{"error": struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    int     `json:"code"`
	}{text, kind, param, status}})
}

// A response is the object that the route answers with, stores and puts into events.
type response struct {
	ID          string            `json:"id"`
	Object      string            `json:"object"`
	Created     int64             `json:"created_at"`
	Model       *string           `json:"model"`
	Output      []any             `json:"output"`
	Status      string            `json:"status"`
	Usage       *responseUsage    `json:"usage"`
	Parallel    bool              `json:"parallel_tool_calls"`
	ToolChoice  json.RawMessage   `json:"tool_choice"`
	Tools       []json.RawMessage `json:"tools"`
	Error       *responseFault    `json:"error"`
	Incomplete  map[string]string `json:"incomplete_details"`
	Instruction *string           `json:"instructions"`
	MaxOutput   *int              `json:"max_output_tokens"`
	Previous    *string           `json:"previous_response_id"`
	Reasoning   json.RawMessage   `json:"reasoning"`
	Store       bool              `json:"store"`
	Temperature json.RawMessage   `json:"temperature"`
	Text        json.RawMessage   `json:"text"`
	TopP        json.RawMessage   `json:"top_p"`
	Truncation  string            `json:"truncation"`
	User        *string           `json:"user"`
	Metadata    json.RawMessage   `json:"metadata"`
}

type responseFault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type responseUsage struct {
	Input        int            `json:"input_tokens"`
	InputDetails map[string]int `json:"input_tokens_details"`
	Output       int            `json:"output_tokens"`
	Details      map[string]int `json:"output_tokens_details"`
	Total        int            `json:"total_tokens"`
}

func newResponseUsage(prompt, cached, output int) *responseUsage {
	return &responseUsage{prompt, map[string]int{"cached_tokens": cached, "cache_write_tokens": 0}, output,
		map[string]int{"reasoning_tokens": 0}, prompt + output}
}

// newEcho reads what the answer repeats.
func newEcho(f *fields) response {
	null := json.RawMessage("null")
	o := response{Object: "response", Parallel: true, Store: true, ToolChoice: json.RawMessage(`"auto"`), Tools: []json.RawMessage{}, Reasoning: json.RawMessage(`{"effort":null,"summary":null}`),
		Temperature: null, Text: null, TopP: null, Truncation: "disabled", Metadata: json.RawMessage("{}"), Output: []any{}}
	o.Model, o.Instruction, o.User = maybe(f, "model", asText), maybe(f, "instructions", asText), maybe(f, "user", asText)
	o.MaxOutput, o.Previous = maybe(f, "max_output_tokens", asInt), maybe(f, "previous_response_id", asText)
	set(f, "parallel_tool_calls", asBool, &o.Parallel)
	set(f, "store", asBool, &o.Store)
	shown := convert(asNumber, func(n number) json.RawMessage { return json.RawMessage(n.shown) })
	set(f, "temperature", shown, &o.Temperature)
	set(f, "top_p", shown, &o.TopP)
	set(f, "metadata", asObject, &o.Metadata)
	set(f, "text", asObject, &o.Text)
	if raw := f.values["tool_choice"]; !isNull(raw) {
		o.ToolChoice = raw
	}
	if tools := maybe(f, "tools", listOf(asObject)); tools != nil {
		for _, t := range *tools {
			o.Tools = append(o.Tools, echoTool(t))
		}
	}
	return o
}

// echoTool repeats a tool with the fields that it left out.
func echoTool(raw json.RawMessage) json.RawMessage {
	f := readFields(raw)
	b := []byte{'{'}
	for _, field := range [][2]string{{"type", "null"}, {"name", "null"}, {"description", "null"}, {"parameters", "null"},
		{"strict", "false"}, {"tools", "null"}, {"defer_loading", "null"}, {"format", "null"}} {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"`+field[0]+`":`...)
		if value := f.values[field[0]]; value != nil {
			b = append(b, value...)
		} else {
			b = append(b, field[1]...)
		}
	}
	return append(b, '}')
}

// response is the answer in a status, with what it has said.
func (d responder) response(q *request, output []any, status string, u *responseUsage, fault string) response {
	o := d.ask.echo
	o.ID, o.Created, o.Status, o.Usage = d.ask.id, q.created, status, u
	if output != nil {
		o.Output = output
	}
	if fault != "" {
		o.Error = &responseFault{"server_error", fault}
	}
	if status == "incomplete" {
		o.Incomplete = map[string]string{"reason": "max_output_tokens"}
	}
	if _, isText := first(o.Output).(outputMessage); isText && string(o.Text) == "null" {
		o.Text = json.RawMessage(`{"format":{"type":"text"}}`)
	}
	return o
}

func first(all []any) any {
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

type outputMessage struct {
	ID      string       `json:"id"`
	Content []outputText `json:"content"`
	Role    string       `json:"role"`
	Status  string       `json:"status"`
	Type    string       `json:"type"`
	Phase   string       `json:"phase"`
}

type outputText struct {
	Annotations []any  `json:"annotations"`
	Text        string `json:"text"`
	Type        string `json:"type"`
	Logprobs    any    `json:"logprobs"`
}

type outputCall struct {
	Arguments string `json:"arguments"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Type      string `json:"type"`
	ID        string `json:"id"`
	Status    string `json:"status"`
}

func newOutputText(text string) outputText { return outputText{[]any{}, text, "output_text", nil} }

func newOutputMessage(id, status string, content ...outputText) outputMessage {
	return outputMessage{id, append([]outputText{}, content...), "assistant", status, "message", "final_answer"}
}

func newOutputCall(c *toolCall) outputCall {
	return outputCall{c.arguments, newCallID(), c.name, "function_call", "fc_" + newRID()[:8], "completed"}
}

// ending is an answer's status, its usage and what went wrong.
func (d responder) ending(q *request) (status string, u *responseUsage, fault string) {
	s := q.seqs[0]
	n, how := s.progress()
	prompt, cached := s.counts(n, how)
	u = newResponseUsage(prompt, cached, n)
	switch s.reason(how) {
	case "length":
		return "incomplete", u, ""
	case "abort":
		fault = "Aborted"
		if !s.admitted(n, how) {
			fault = "Abort in waiting queue"
		}
		return "failed", u, fault
	}
	return "completed", u, ""
}

func (d responder) whole(q *request) any {
	s := q.seqs[0]
	n, how := s.progress()
	var output []any
	if call := s.call(how); call != nil {
		output = []any{newOutputCall(call)}
	} else if text := s.text(n); text != "" {
		output = []any{newOutputMessage(newMessageID(), "completed", newOutputText(text))}
	}
	return d.keep(q, output)
}

// keep makes the final answer and stores it, unless it was cancelled meanwhile.
func (d responder) keep(q *request, output []any) response {
	status, u, fault := d.ending(q)
	o := d.response(q, output, status, u, fault)
	if !d.e.cfg.ResponseStore || !d.ask.store {
		return o
	}
	said := message{role: "assistant"}
	switch one := first(output).(type) {
	case outputMessage:
		said.content = appendJSON(nil, one.Content[0].Text)
	case outputCall:
		said.calls = []pastCall{{one.Name, one.Arguments}}
	}
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	if old := d.e.responses.byID[o.ID]; old == nil || old.response.Status != "cancelled" {
		d.e.responses.put(o.ID, &stored{o, append(append([]message{}, d.history...), said)})
	}
	return o
}

// responses keeps the latest so many answers. The engine's mutex guards it.
type responses struct {
	bound int
	byID  map[string]*stored
	order []string
}

type stored struct {
	response response
	history  []message // of the conversation, with this answer
}

func newResponses(bound int) *responses {
	return &responses{bound: bound, byID: map[string]*stored{}}
}

func (s *responses) put(id string, one *stored) {
	if s.byID[id] == nil {
		s.order = append(s.order, id)
	}
	s.byID[id] = one
	for len(s.order) > s.bound {
		delete(s.byID, s.order[0])
		s.order = s.order[1:]
	}
}

// status changes that of a response which has not ended.
func (s *responses) status(mu *sync.Mutex, id, status string) {
	mu.Lock()
	defer mu.Unlock()
	if one := s.byID[id]; one != nil && strings.Contains("queued in_progress", one.response.Status) {
		one.response.Status = status
	}
}
