package simengine

import (
	"encoding/json"
	"net/http"
)

func (e *Engine) tokenize(w http.ResponseWriter, r *http.Request, f *fields) {
	hasPrompt, hasMessages := !isNull(f.values["prompt"]), !isNull(f.values["messages"])
	var texts names
	set(f, "prompt", asNames, &texts)
	addOpening := true
	set(f, "add_generation_prompt", asBool, &addOpening)
	var c *chat
	err := f.err()
	if err == nil && hasPrompt == hasMessages {
		err = invalid("value_error", "Value error, Exactly one of 'prompt' or 'messages' must be provided.", f.raw, "'body'")
	}
	if err == nil && hasMessages {
		if c, err = readChat(f); err == nil {
			err = c.check(&e.told)
		}
	}
	if err != nil {
		refuseFlat(w, r, err)
		return
	}
	answer := struct {
		Tokens any `json:"tokens"`
		Count  any `json:"count"`
		Length int `json:"max_model_len"`
	}{Length: e.cfg.ContextLength}
	switch {
	case hasMessages:
		tokens := e.chatPrompt(c).tokens
		if !addOpening && !c.goOn {
			tokens = tokens[:len(tokens)-len(open(nil, "assistant"))]
		}
		answer.Tokens, answer.Count = tokens, len(tokens)
	case !texts.list:
		tokens := e.noteTokens(texts.at(0))
		answer.Tokens, answer.Count = tokens, len(tokens)
	default:
		all, counts := [][]int32{}, []int{}
		for i := range texts.all {
			tokens := e.noteTokens(texts.at(i))
			all, counts = append(all, tokens), append(counts, len(tokens))
		}
		answer.Tokens, answer.Count = all, counts
		if len(all) == 0 {
			answer.Tokens = []int32{}
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// noteTokens are a text's tokens, whose pieces are remembered to be given back.
func (e *Engine) noteTokens(text string) []int32 {
	e.mu.Lock()
	e.pieces.remember(text)
	e.mu.Unlock()
	return appendTokens([]int32{}, text)
}

func (e *Engine) detokenize(w http.ResponseWriter, r *http.Request, f *fields) {
	type lists struct {
		all  [][]int
		many bool
	}
	l := must(f, "tokens", oneOf(
		fitting[lists]{"list[int]", convert(listOf(asInt), func(ids []int) lists { return lists{all: [][]int{ids}} })},
		fitting[lists]{"list[list[int]]", convert(listOf(listOf(asInt)), func(all [][]int) lists { return lists{all, true} })}))
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	texts := []string{}
	for _, ids := range l.all {
		for _, id := range ids {
			if id < 0 {
				writeFlat(w, "Internal server error during detokenization: out of range integral type conversion attempted",
					"InternalServerError", http.StatusInternalServerError)
				return
			}
		}
		texts = append(texts, e.echo(prompt{tokens: idPrompt(ids).tokens}))
	}
	var text any = texts
	if !l.many {
		text = texts[0]
	}
	raw := appendJSON(nil, text)
	writeJSON(w, http.StatusOK, map[string]json.RawMessage{"text": raw})
}
