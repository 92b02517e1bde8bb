package simengine

import (
	"encoding/json"
	"math"
	"net/http"
)

// score tells how likely labels are to follow a query and each of its items. Like any prompt these are read,
// and cached.
func (e *Engine) score(w http.ResponseWriter, r *http.Request, f *fields) {
	query, items := scored{}, []scored{}
	ids := convert(listOf(asInt), func(ids []int) scored { return scored{ids: ids} })
	text := convert(asText, func(s string) scored { return scored{text: s} })
	set(f, "query", oneOf(fitting[scored]{"str", text}, fitting[scored]{"list[int]", ids}), &query)
	set(f, "items", oneOf(
		fitting[[]scored]{"str", convert(text, func(s scored) []scored { return []scored{s} })},
		fitting[[]scored]{"list[str]", listOf(text)}, fitting[[]scored]{"list[list[int]]", listOf(ids)}), &items)
	labels := maybe(f, "label_token_ids", listOf(asInt))
	softmax, itemFirst, model := false, false, "default"
	may(f, "apply_softmax", asBool, &softmax)
	may(f, "item_first", asBool, &itemFirst)
	may(f, "model", asText, &model)
	err := f.err()
	switch {
	case err != nil:
	case labels == nil && !e.cfg.Embedding:
		err = refusef("label_token_ids is required for generation (CausalLM) models.")
	case labels != nil:
		for _, id := range *labels {
			if id < 0 || id >= vocabulary {
				err = refusef("Token ID %d is out of vocabulary (vocab size: %d)", id, vocabulary)
			}
		}
	}
	if err != nil {
		refuseFlat(w, r, err)
		return
	}
	pairs := prompts{batch: true}
	for _, item := range items {
		if itemFirst {
			pairs.all = append(pairs.all, item.before(query))
		} else {
			pairs.all = append(pairs.all, query.before(item))
		}
	}
	e.read(w, r, ask{model: model}, pairs, true, embedder{refuseFlat, func(q *request) any {
		scores := []floats{}
		for _, s := range q.seqs {
			if e.cfg.Embedding {
				scores = append(scores, embed(s.history, embedSize))
			} else {
				scores = append(scores, labelScores(s.history, *labels, softmax))
			}
		}
		return struct {
			Scores   []floats        `json:"scores"`
			Pooled   json.RawMessage `json:"pooled_hidden_states"`
			Logprobs json.RawMessage `json:"token_logprobs"`
			Model    string          `json:"model"`
			Usage    *usage          `json:"usage"`
			Object   string          `json:"object"`
		}{scores, json.RawMessage("null"), json.RawMessage("null"), model, q.promptUsage(), "scoring"}
	}})
}

// scored is a text, or its tokens.
type scored struct {
	text string
	ids  []int
}

// before puts one before another; texts are read as one.
func (s scored) before(o scored) prompt {
	if s.ids == nil && o.ids == nil {
		return textPrompt(s.text + o.text)
	}
	return idPrompt(append(s.tokens(), o.tokens()...))
}

func (s scored) tokens() []int {
	ids := append([]int{}, s.ids...)
	for _, t := range appendTokens(nil, s.text) {
		ids = append(ids, int(t))
	}
	return ids
}

// labelScores are the labels' probabilities after the tokens, together at most one; with softmax exactly.
func labelScores(tokens []int32, labels []int, softmax bool) floats {
	state := uint64(0)
	for _, t := range tokens {
		state = listen(state, t)
	}
	out, sum := make(floats, len(labels)), 0.0
	for i, id := range labels {
		out[i] = float64(1+mix(state^uint64(id))%1000) / 1000 / vocabulary
		sum += out[i]
	}
	for i := range out {
		if softmax {
			out[i] /= math.Max(sum, math.SmallestNonzeroFloat64)
		}
	}
	return out
}
