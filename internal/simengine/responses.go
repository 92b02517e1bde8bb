package simengine

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// A responsesError is an error in the words of /v1/responses.
type responsesError struct {
	text   string
	param  string
	status int
}

func (e *responsesError) Error() string { return e.text }

func responsesf(param, text string) error { return &responsesError{text, param, http.StatusBadRequest} }

const storeDisabled = "Response store is disabled. Stateful Responses require --enable-response-store on a standalone server; " +
	"response storage is unavailable in PD mode."

// A responsesAsk is what a request to /v1/responses asks.
type responsesAsk struct {
	chat
	id         string
	background bool
	store      bool
	previous   *string
	input      []message
	echo       response // the fields of the answer that repeat the request
}

// createResponse answers POST /v1/responses.
func (e *Engine) createResponse(w http.ResponseWriter, r *http.Request, f *fields) {
	c, err := e.readResponses(f)
	if err == nil {
		err = c.headerRank(r)
	}
	if err == nil {
		err = e.checkResponses(c)
	}
	var history []message
	if err == nil {
		history, err = e.history(c)
	}
	var q *request
	if err == nil {
		q, err = e.newResponse(c, history)
	}
	d := responder{e: e, ask: c, history: history}
	switch {
	case err != nil:
		d.refuse(w, r, err)
	case c.background && !c.stream:
		e.runBehind(w, r, d, q)
	default:
		e.serve(w, r, d, q)
	}
}

// newResponse makes a request of the conversation.
func (e *Engine) newResponse(c *responsesAsk, history []message) (*request, error) {
	messages := slices.Concat(c.messages, history)
	if len(messages) == 0 {
		return nil, responsesf("", "Cannot apply chat template to an empty conversation. Provide at least one message. None")
	}
	c.messages = mergeAssistant(messages)
	call, err := c.choice.forced(c.tools)
	if err != nil {
		return nil, responsesf("tool_choice", err.Error())
	}
	if call != nil && c.sampling.grammars > 0 {
		return nil, responsesf("", "Cannot combine tool calls with constrained decoding (text.format / regex / ebnf / structural_tag / json_schema). Remove one.")
	}
	c.sampling.call = call
	q := e.newRequest(c.ask, prompts{all: []prompt{e.chatPrompt(&c.chat)}}, c.sampling)
	q.report = true // whatever the other routes tell of cached tokens
	return q, nil
}

// runBehind answers at once that the response is queued, and computes it without its client.
func (e *Engine) runBehind(w http.ResponseWriter, r *http.Request, d responder, q *request) {
	queued := d.response(q, nil, "queued", nil, "")
	e.mu.Lock()
	runs := e.state == starting || e.state == serving || e.state == draining
	if runs {
		e.responses.put(d.ask.id, &stored{queued, d.history})
		e.tasks.Add(1)
	}
	e.mu.Unlock()
	if !runs {
		breakOff(w)
		return
	}
	q.detached = true
	go func() {
		defer e.tasks.Done()
		d.compute(context.WithoutCancel(r.Context()), q)
	}()
	writeJSON(w, http.StatusOK, queued)
}

// compute brings a response to its end and stores it.
func (d responder) compute(ctx context.Context, q *request) {
	e := d.e
	e.responses.status(&e.mu, d.ask.id, "in_progress")
	if e.start(ctx, q) != nil || !e.wait(ctx, q, q.seqs) || q.refusal() != nil {
		e.responses.status(&e.mu, d.ask.id, "failed")
		return
	}
	d.whole(q) // which stores it
}

func (e *Engine) retrieveResponse(w http.ResponseWriter, r *http.Request) {
	e.findResponse(w, r, false)
}

// cancelResponse ends a response that is computed in the background; one that has ended stays as it is.
func (e *Engine) cancelResponse(w http.ResponseWriter, r *http.Request) {
	e.findResponse(w, r, true)
}

func (e *Engine) findResponse(w http.ResponseWriter, r *http.Request, cancel bool) {
	id := r.PathValue("id")
	found, no := e.stored(id)
	switch {
	case no != nil:
		no.param = "response_id"
		responder{}.refuse(w, r, no)
		return
	case cancel && (found.response.Status == "queued" || found.response.Status == "in_progress"):
		found.response.Status = "cancelled"
		e.responses.status(&e.mu, id, found.response.Status)
		e.Abort(id)
	}
	writeJSON(w, http.StatusOK, found.response)
}

// stored finds a response.
func (e *Engine) stored(id string) (stored, *responsesError) {
	switch {
	case !e.cfg.ResponseStore:
		return stored{}, &responsesError{storeDisabled, "previous_response_id", http.StatusBadRequest}
	case !strings.HasPrefix(id, "resp_"):
		return stored{}, &responsesError{"Invalid 'response_id': '" + id + "'. Expected an ID that begins with 'resp'.", "response_id", http.StatusBadRequest}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.responses.byID[id]
	if s == nil {
		return stored{}, &responsesError{"Response with id '" + id + "' not found.", "response_id", http.StatusNotFound}
	}
	return *s, nil
}

// history is the conversation up to the request's input, and with it.
func (e *Engine) history(c *responsesAsk) ([]message, error) {
	if c.previous == nil {
		return c.input, nil
	}
	s, no := e.stored(*c.previous)
	if no != nil {
		return nil, no
	}
	return slices.Concat(s.history, c.input), nil
}

// checkResponses refuses what the route itself refuses.
func (e *Engine) checkResponses(c *responsesAsk) error {
	switch {
	case !e.cfg.ResponseStore && c.background:
		return responsesf("background", storeDisabled)
	case c.background && !c.store:
		return responsesf("store", "background=true requires store=true.")
	case c.echo.Model == nil:
		return responsesf("", "1 validation error for ChatCompletionRequest\nmodel\n  Input should be a valid string "+
			"[type=string_type, input_value=None, input_type=NoneType] None")
	}
	base, _, _ := strings.Cut(c.model, ":")
	cards := e.cards()
	if !slices.ContainsFunc(cards, func(m modelCard) bool { return m.ID == c.model || m.ID == base || strings.HasPrefix(c.model, m.ID+":") }) {
		return &responsesError{"The model '" + c.model + "' does not exist", "model", http.StatusNotFound}
	}
	switch {
	case c.choice.mode == "required" && len(c.tools) == 0:
		return responsesf("", `tool_choice="required" requires at least one tool with type="function" or type="custom"; `+
			`other built-in tool types cannot be forced.`)
	case c.choice.mode == "function" && !slices.ContainsFunc(c.tools, func(t tool) bool { return t.name == c.choice.name }):
		return responsesf("tool_choice", "Tool '"+c.choice.name+"' is not declared in tools")
	}
	return nil
}

// readResponses reads the body.
func (e *Engine) readResponses(f *fields) (*responsesAsk, error) {
	c := &responsesAsk{chat: chat{sampling: newSampling()}, id: "resp_" + newRID(), store: true}
	c.sampling.temperature = number{0.7, "0.7"}
	c.input = must(f, "input", oneOf(
		fitting[[]message]{"str", convert(asText, func(s string) []message {
			return []message{{role: "user", content: appendJSON(nil, s)}}
		})},
		fitting[[]message]{"list[dict[str,any]]", listOf(asItem)}))
	c.input = slices.DeleteFunc(c.input, func(m message) bool { return m.role == "" })
	set(f, "background", asBool, &c.background)
	set(f, "store", asBool, &c.store)
	set(f, "stream", asBool, &c.stream)
	c.previous = maybe(f, "previous_response_id", asText)
	may(f, "request_id", asText, &c.id)
	c.rid = new(oneName(c.id))
	c.extraKey, c.salt = maybe(f, "extra_key", asNames), maybe(f, "cache_salt", asNames)
	if c.rank = maybe(f, "routed_dp_rank", asInt); c.rank == nil {
		c.rank = maybe(f, "data_parallel_rank", asInt)
	}
	c.echo = newEcho(f)
	if c.echo.Model != nil {
		c.model = *c.echo.Model
	}
	c.readHow(f)
	return c, f.err()
}

// readHow reads how the answer is to be.
func (c *responsesAsk) readHow(f *fields) {
	if limit := maybe(f, "max_output_tokens", asInt); limit != nil {
		c.sampling.limit = new(*limit - 2) // a real engine keeps two back
	}
	set(f, "temperature", asNumber, &c.sampling.temperature)
	set(f, "top_p", asNumber, &c.sampling.topP)
	set(f, "stop", asStops, &c.sampling.stops)
	if text := maybe(f, "text", asObject); text != nil {
		if format := maybe(readFields(*text), "format", asObject); format != nil {
			g := readFields(*format)
			switch kind := must(g, "type", asText); kind {
			case "json_object":
				c.sampling.schema, c.sampling.grammars = openObject, 1
			case "json_schema":
				if schema := maybe(g, "schema", asObject); schema != nil {
					c.sampling.schema, c.sampling.grammars = *schema, 1
				}
			}
		}
	}
	if instructions := maybe(f, "instructions", asText); instructions != nil && *instructions != "" {
		c.messages = append(c.messages, message{role: "system", content: appendJSON(nil, *instructions)})
	}
	for _, raw := range c.echo.Tools {
		if g := readFields(raw); string(g.values["type"]) == `"function"` {
			c.tools = append(c.tools, tool{must(g, "name", asText), g.values["parameters"]})
		}
	}
	if len(c.tools) > 0 {
		c.rawTools = f.values["tools"]
	}
	if raw := f.values["tool_choice"]; !isNull(raw) {
		if mode, bad := asChoice("auto", "required", "none")(raw); bad == nil {
			c.choice.mode = mode
		} else if g := readFields(raw); string(g.values["type"]) == `"function"` {
			c.choice.mode = "function"
			set(g, "name", asText, &c.choice.name)
		}
	}
}

// asItem reads an item of the input; one that says nothing has no role.
func asItem(raw json.RawMessage) (m message, _ []complaint) {
	raw, bad := asObject(raw)
	if bad != nil {
		return m, bad
	}
	f := readFields(raw)
	kind := "message"
	set(f, "type", asText, &kind)
	switch kind {
	case "message":
		m.role = must(f, "role", asText)
		if m.role == "developer" {
			m.role = "system"
		}
		if raw := f.values["content"]; !isNull(raw) {
			m.content = itemContent(raw)
		}
	case "function_call":
		m.role = "assistant"
		call := pastCall{arguments: "{}"}
		set(f, "name", asText, &call.name)
		if a := maybe(f, "arguments", asAny); a != nil {
			call.arguments = arguments(*a)
		}
		m.calls = []pastCall{call}
	case "function_call_output":
		m.role, m.content = "tool", itemContent(f.values["output"])
	case "reasoning":
	default:
		return m, wrong("value_error", "Unsupported Responses API input item type: "+pyText(kind), raw)
	}
	return m, f.complaints
}

// itemContent turns an item's content into a chat's: parts have other names there.
func itemContent(raw json.RawMessage) json.RawMessage {
	var parts []json.RawMessage
	if isNull(raw) || raw[0] != '[' || json.Unmarshal(raw, &parts) != nil {
		return raw
	}
	blocks := make([]block, 0, len(parts))
	for _, p := range parts {
		g := readFields(p)
		if text := maybe(g, "text", asText); text != nil {
			blocks = append(blocks, block{kind: "text", text: *text})
		} else if url := g.values["image_url"]; url != nil {
			blocks = append(blocks, block{kind: "image", source: url})
		}
	}
	return content(blocks)
}

// mergeAssistant joins what one turn of the assistant left as several items.
func mergeAssistant(all []message) (out []message) {
	for _, m := range all {
		if n := len(out); n > 0 && m.role == "assistant" && out[n-1].role == "assistant" {
			last := &out[n-1]
			last.calls = slices.Concat(last.calls, m.calls)
			if isNull(last.content) {
				last.content = m.content
			}
			continue
		}
		out = append(out, m)
	}
	return out
}
