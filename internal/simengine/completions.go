package simengine

import (
	"encoding/json"
	"net/http"
)

type completionBody struct {
	common
	openAISampling
	Prompt json.RawMessage `json:"prompt"` // text, ids, or a list of either
	Echo   bool            `json:"echo"`
}

func (e *Engine) completions(w http.ResponseWriter, r *http.Request, raw []byte) {
	var body completionBody
	var echo []string
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
		prompts, texts, err := e.parsePrompts(body.Prompt)
		if err != nil {
			return nil, err
		}
		if body.Echo {
			echo = texts
		}
		return e.newRequest(&body.common, s, prompts)
	}()
	e.answerOpenAI(w, r, req, err, body.Stream, false, echo)
}

// parsePrompts takes a text, a list of texts, a list of ids or a list of such lists. The texts are empty
// for prompts of ids, whose text is unknown.
func (e *Engine) parsePrompts(raw json.RawMessage) (prompts [][]int32, texts []string, err error) {
	var text string
	var ids []int64
	var lists [][]int64
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil, nil, badf("prompt is missing.")
	case json.Unmarshal(raw, &text) == nil:
		texts = []string{text}
	case json.Unmarshal(raw, &texts) == nil:
	case json.Unmarshal(raw, &ids) == nil:
		lists = [][]int64{ids}
	case json.Unmarshal(raw, &lists) == nil:
	default:
		return nil, nil, badf("prompt must be text, token ids, or a list of either.")
	}
	if len(texts) == 0 && len(lists) == 0 {
		return nil, nil, badf("prompt is empty.")
	}
	if lists != nil {
		texts = make([]string, len(lists))
		for _, list := range lists {
			prompt, err := e.checkIDs(list)
			if err != nil {
				return nil, nil, err
			}
			prompts = append(prompts, prompt)
		}
	} else {
		for _, text := range texts {
			prompts = append(prompts, appendTokens(nil, text))
		}
	}
	for _, prompt := range prompts {
		if len(prompt) == 0 {
			return nil, nil, badf("prompt is empty.")
		}
	}
	return prompts, texts, nil
}
