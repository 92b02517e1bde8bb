package simengine

import (
	"encoding/json"
	"net/http"
	"strconv"
)

func (e *Engine) generate(w http.ResponseWriter, r *http.Request, f *fields) {
	a, p, params, err := readGenerate(f)
	if err != nil {
		refuseNative(w, r, err)
		return
	}
	e.serve(w, r, native{e}, e.newRequest(a, p, params...))
}

// readGenerate reads the body of /generate. What is wrong beyond its schema comes out when the request is
// looked at, and waits in the ask until then.
func readGenerate(f *fields) (a ask, p prompts, params []sampling, err error) {
	a = readAsk(f)
	texts := maybe(f, "text", oneOf(
		fitting[prompts]{"str", convert(asText, onePrompt(textPrompt))},
		fitting[prompts]{"list[str]", convert(listOf(asText), manyPrompts(textPrompt))}))
	ids := maybe(f, "input_ids", asIDs)
	one := func(raw json.RawMessage) []json.RawMessage { return []json.RawMessage{raw} }
	rawParams := maybe(f, "sampling_params", oneOf(
		fitting[[]json.RawMessage]{"list[dict[str,any]]", listOf(asObject)},
		fitting[[]json.RawMessage]{"dict[str,any]", convert(asObject, one)}))
	readLogprobs(f, &a)
	sessionID := maybe(f, "session_id", asText)
	session := maybe(f, "session_params", asObject)
	may(f, "return_prompt_token_ids", asBool, &a.promptIDs)
	if err = f.err(); err != nil {
		return a, p, nil, err
	}
	if err = agree(f.values, bodyKinds); err != nil {
		return a, p, nil, err
	}
	if rawParams == nil {
		rawParams = &[]json.RawMessage{json.RawMessage("{}")}
	}
	for _, raw := range *rawParams {
		object := readFields(raw).values
		if err = agreeSampling(object); err != nil {
			return a, p, nil, err
		}
		params = append(params, nativeSampling(object))
	}
	switch {
	case ids == nil && texts == nil:
		a.fault = valuef("Either text, input_ids or input_embeds should be provided.")
		return a, p, params, nil
	case texts != nil:
		p = *texts
	}
	if ids != nil { // they win over the text
		p = *ids
	}
	if session != nil {
		a.session, a.fault = readSession(*session)
	}
	list := f.values["sampling_params"] != nil && f.values["sampling_params"][0] == '['
	switch {
	case a.fault != nil:
	case ids != nil && a.session == nil && (len(p.all) == 0 || !p.batch && len(p.all[0].tokens) == 0):
		a.fault = valuef("input_ids cannot be empty.")
	case session != nil && sessionID != nil:
		a.fault = valuef("session_id and session_params cannot both be set.")
	case list && (!p.batch || len(params) != len(p.all)):
		a.fault = &bugError{"sampling_params are a list that does not fit the prompts"}
	}
	for !list && len(params) < len(p.all) {
		params = append(params, params[0])
	}
	return a, p, params, nil
}

// readLogprobs reads what /generate calls them.
func readLogprobs(f *fields, a *ask) {
	wanted, top := false, 0
	if raw := f.values["return_logprob"]; !isNull(raw) && raw[0] != '[' {
		may(f, "return_logprob", asBool, &wanted)
	}
	if raw := f.values["top_logprobs_num"]; !isNull(raw) && raw[0] != '[' {
		may(f, "top_logprobs_num", asInt, &top)
	}
	may(f, "return_text_in_logprobs", asBool, &a.textAsked)
	if wanted {
		a.logprobs = new(max(top, 0))
	}
}

// asIDs reads token ids, or a list of such lists.
func asIDs(raw json.RawMessage) (prompts, []complaint) {
	var flat []int
	var lists [][]int
	switch {
	case json.Unmarshal(raw, &flat) == nil:
		return onePrompt(idPrompt)(flat), nil
	case json.Unmarshal(raw, &lists) == nil:
		return manyPrompts(idPrompt)(lists), nil
	}
	return prompts{}, wrong("value_error", "Value error, "+wrongIDs(raw), raw)
}

func wrongIDs(raw json.RawMessage) string {
	var elements []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
		return "must be list or null; got " + pyType(raw)
	}
	rows := len(elements) > 0 && elements[0][0] == '['
	for i, e := range elements {
		switch kind := pyType(e); {
		case rows && kind != "list":
			return "row " + strconv.Itoa(i) + ": must be list; got " + kind
		case rows:
			var row []int
			if json.Unmarshal(e, &row) != nil {
				return "row " + strconv.Itoa(i) + ": elements must be int"
			}
		case kind != "int":
			return "elements must be int or list; got " + kind
		}
	}
	return "elements must be int or list"
}

// readSession reads session_params. Without an id they are none; an unknown key is a case that a real engine
// is not prepared for.
func readSession(raw json.RawMessage) (*turnParams, error) {
	f := readFields(raw)
	p := &turnParams{}
	id := maybe(f, "id", asText)
	p.rid = maybe(f, "rid", asText)
	set(f, "offset", asInt, &p.offset)
	set(f, "replace", asBool, &p.replace)
	set(f, "drop_previous_output", asBool, &p.dropOutput)
	for name := range f.values {
		switch name {
		case "id", "rid", "offset", "replace", "drop_previous_output":
		default:
			return nil, &bugError{"Unexpected keyword argument '" + name + "'"}
		}
	}
	if id == nil {
		return nil, nil
	}
	p.id = *id
	return p, nil
}
