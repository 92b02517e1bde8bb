package simengine

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// checkInputs refuses empty texts, in the order of a real engine's complaints.
func checkInputs(p prompts, ids bool) error {
	if len(p.all) == 0 || !p.batch && len(p.all[0].tokens) == 0 {
		return refusef("Input cannot be empty")
	}
	for i, one := range p.all {
		if !ids && strings.TrimSpace(one.text) == "" {
			if !p.batch {
				return refusef("Input cannot be empty or whitespace only")
			}
			return refusef("Input at index %d cannot be empty or whitespace only", i)
		}
	}
	return nil
}

// hasIDs says whether a field holds token ids and not texts.
func hasIDs(f *fields, name string) bool {
	_, bad := oneOf(fitting[int]{"", convert(listOf(asInt), func([]int) int { return 0 })},
		fitting[int]{"", convert(listOf(listOf(asInt)), func([][]int) int { return 0 })})(f.values[name])
	return bad == nil
}

func (e *Engine) embeddings(w http.ResponseWriter, r *http.Request, f *fields) {
	p := must(f, "input", asPrompts)
	a := readAsk(f)
	format, size := "float", embedSize
	may(f, "model", asText, &a.model)
	may(f, "encoding_format", asText, &format)
	set(f, "dimensions", asInt, &size)
	err := f.err()
	if err == nil {
		err = checkInputs(p, hasIDs(f, "input"))
	}
	switch {
	case err != nil:
	case format != "float" && format != "base64":
		err = refusef("encoding_format must be either 'float' or 'base64', got '%s'", format)
	case size < 1:
		err = refusef("Requested dimensions must be greater than 0")
	case size > embedSize:
		err = refusef("Provided dimensions are greater than max embedding dimension: %d", embedSize)
	}
	if err != nil {
		refuseFlat(w, r, err)
		return
	}
	type object struct {
		Embedding any    `json:"embedding"`
		Index     int    `json:"index"`
		Object    string `json:"object"`
	}
	e.read(w, r, a, p, false, embedder{refuseFlat, func(q *request) any {
		var data []object
		for i, s := range q.seqs {
			var v any = embed(s.history, size)
			if format == "base64" {
				v = base64Floats(embed(s.history, size))
			}
			data = append(data, object{v, i, "embedding"})
		}
		return struct {
			Data   []object `json:"data"`
			Model  string   `json:"model"`
			Object string   `json:"object"`
			Usage  *usage   `json:"usage"`
		}{data, e.servedModel(), "list", q.promptUsage()}
	}})
}

// classify answers /v1/classify. A model without labels has one, the default.
func (e *Engine) classify(w http.ResponseWriter, r *http.Request, f *fields) {
	p := must(f, "input", asPrompts)
	a := readAsk(f)
	may(f, "model", asText, &a.model)
	err := f.err()
	if err == nil {
		err = checkInputs(p, hasIDs(f, "input"))
	}
	if err != nil {
		refuseFlat(w, r, err)
		return
	}
	type label struct {
		Index   int    `json:"index"`
		Label   string `json:"label"`
		Probs   floats `json:"probs"`
		Classes int    `json:"num_classes"`
	}
	e.read(w, r, a, p, false, embedder{refuseFlat, func(q *request) any {
		var data []label
		for i := range q.seqs {
			data = append(data, label{i, "Default", floats{1}, 1})
		}
		return struct {
			ID      string  `json:"id"`
			Object  string  `json:"object"`
			Created int64   `json:"created"`
			Model   string  `json:"model"`
			Data    []label `json:"data"`
			Usage   *usage  `json:"usage"`
		}{"classify-" + newRID(), "list", q.created, q.model, data, q.promptUsage()}
	}})
}

// encode answers the native routes /encode and /classify.
func (e *Engine) encode(w http.ResponseWriter, r *http.Request, f *fields) {
	a := readAsk(f)
	texts := maybe(f, "text", oneOf(
		fitting[prompts]{"list[str]", convert(listOf(asText), manyPrompts(textPrompt))},
		fitting[prompts]{"str", convert(asText, onePrompt(textPrompt))}))
	ids := maybe(f, "input_ids", asIDs)
	err := f.err()
	switch {
	case err != nil:
	case texts == nil && ids == nil:
		err = valuef("At least one of text, input_ids, image, video, or audio should be provided")
	case texts != nil && ids != nil:
		err = valuef("text and input_ids cannot be provided at the same time")
	case texts == nil:
		texts = ids
	}
	if err == nil && texts.batch && a.rid != nil && !a.rid.list {
		err = &bugError{"The rid should be a list"}
	}
	if err != nil {
		refuseNative(w, r, err)
		return
	}
	type object struct {
		Embedding floats   `json:"embedding"`
		Meta      readMeta `json:"meta_info"`
	}
	e.read(w, r, a, *texts, false, embedder{refuseNative, func(q *request) any {
		var all []object
		for _, s := range q.seqs {
			all = append(all, object{embed(s.history, embedSize), s.readMeta()})
		}
		if !q.batch {
			return all[0]
		}
		return all
	}})
}

func (e *Engine) rerank(w http.ResponseWriter, r *http.Request, f *fields) {
	query, documents := must(f, "query", asText), must(f, "documents", listOf(asText))
	top, shown := len(documents), true
	if n := maybe(f, "top_n", asInt); n != nil {
		if top = min(top, *n); *n < 1 {
			f.complaints = append(f.complaints, complaint{"value_error", []string{"'top_n'"},
				"Value error, Value error, parameter top_n should be larger than 0.", f.values["top_n"]})
		}
	}
	may(f, "return_documents", asBool, &shown)
	err := f.err()
	switch {
	case err != nil:
	case query == "":
		err = refusef("Query cannot be empty")
	case strings.TrimSpace(query) == "":
		err = refusef("Query cannot be empty or whitespace only")
	case len(documents) == 0:
		err = refusef("Documents cannot be empty")
	case slices.Contains(documents, ""):
		err = refusef("Each document must be a non-empty string")
	case slices.ContainsFunc(documents, func(d string) bool { return strings.TrimSpace(d) == "" }):
		err = refusef("Each document cannot be empty or whitespace only")
	}
	if err != nil {
		refuseFlat(w, r, err)
		return
	}
	type rank struct {
		Score    float    `json:"score"`
		Document *string  `json:"document,omitempty"`
		Index    int      `json:"index"`
		Meta     readMeta `json:"meta_info"`
	}
	pairs := prompts{batch: true}
	for _, d := range documents {
		pairs.all = append(pairs.all, textPrompt(query+"\n"+d))
	}
	e.read(w, r, ask{}, pairs, false, embedder{refuseFlat, func(q *request) any {
		var ranks []rank
		asked := embed(appendTokens(nil, query), embedSize)
		for i, s := range q.seqs {
			one := rank{Score: float(dot(asked, embed(appendTokens(nil, documents[i]), embedSize))), Index: i, Meta: s.readMeta()}
			if shown {
				one.Document = &documents[i]
			}
			ranks = append(ranks, one)
		}
		slices.SortStableFunc(ranks, func(a, b rank) int { return cmp.Compare(b.Score, a.Score) })
		return ranks[:top]
	}})
}
