package simengine

import "net/http"

// completionLimit is the default of max_tokens.
const completionLimit = 16

func (e *Engine) completions(w http.ResponseWriter, r *http.Request, f *fields) {
	d := openAI{e: e}
	p := must(f, "prompt", asPrompts)
	a := readOpenAI(f)
	s := openAISampling(f, false)
	limit := completionLimit
	if may(f, "max_tokens", asInt, &limit); limit <= 0 {
		f.complaints = append(f.complaints, complaint{"value_error", []string{"'max_tokens'"}, "Value error, max_tokens must be positive", f.values["max_tokens"]})
	}
	s.limit = &limit
	may(f, "echo", asBool, &d.echo)
	if a.logprobs = maybe(f, "logprobs", asInt); a.logprobs != nil {
		a.logprobs = new(max(*a.logprobs, 0))
	}
	if text := maybe(f, "json_schema", asText); text != nil {
		s.schema, s.grammars = []byte(*text), s.grammars+1
	}
	format, schema := readFormat(f, "response_format")
	err := f.err()
	if err == nil {
		err = a.headerRank(r)
	}
	empty := true
	for _, one := range p.all {
		empty = empty && len(one.tokens) == 0
	}
	switch {
	case err != nil:
	case empty:
		err = refusef("Prompt cannot be empty")
	case format == "json_schema" && schema == nil:
		err = &refusedError{"schema_ is required for json_schema response format request.", "BadRequest", http.StatusBadRequest}
	case format == "json_schema":
		s.schema, s.grammars = schema, s.grammars+1
	case format == "json_object":
		s.schema, s.grammars = openObject, s.grammars+1
	case s.n == 0:
		err = &refusedError{"range() arg 3 must not be zero", "BadRequest", http.StatusBadRequest}
	}
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	s.n = max(s.n, 1)
	if name := e.adapterOf(a.model); name != "" {
		a.lora = new(oneName(name))
	}
	e.serve(w, r, d, e.newRequest(a, p, s))
}

// echo is a prompt's text.
func (e *Engine) echo(p prompt) string {
	if p.text != "" {
		return p.text
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pieces.text(e.voice, p.tokens)
}
