package prefix

import (
	"fmt"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// readByLoad measures a body for which nothing is generated. Of what is in it, it refuses only what an engine may die
// of; the rest is the engine's to judge.
func (p *parser) readByLoad() *FieldError {
	for _, key := range routes[p.Route].work {
		f := p.given(key)
		if f == nil {
			continue
		}
		p.PromptBytes += f.End - f.Start
		if err := p.checkWork(f); err != nil {
			return err
		}
	}
	if p.PromptBytes == 0 {
		p.PromptBytes = len(p.body)
	}
	if p.Route == OpenSession || p.Route == CloseSession {
		p.SessionID = p.sessionID
	}
	return nil
}

// checkWork refuses empty prompts and things among token ids that are none, and finds the largest id: /v1/score,
// /v1/embeddings and /encode hand ids to the same scheduler as /generate, as unchecked.
func (p *parser) checkWork(f *jsonscan.Field) *FieldError {
	switch f.Key {
	case "input", "input_ids":
		return p.checkIDs(f)
	case "text":
		return p.checkTexts(f)
	case "query":
		p.blankQuery = p.blank(f.Kind, f.Start)
		return p.checkIDs(f)
	case "items": // each is a prompt together with the query
		if err := p.checkIDs(f); err != nil {
			return err
		}
		p.InputTokens = 0 // how often the query counts is not known here
		if p.blankQuery || p.given("query") == nil {
			return p.checkTexts(f)
		}
	}
	return nil
}

// checkIDs checks a list of token ids, or a list of such lists, and passes over anything else.
func (p *parser) checkIDs(f *jsonscan.Field) *FieldError {
	if f.Kind != jsonscan.Array {
		return nil
	}
	i := 0
	for n := range jsonscan.Elements(p.body, f.Start) {
		ids := prompt{start: int(n.Start), end: int(n.End)}
		switch n.Kind {
		case jsonscan.Number:
			ids.start, ids.end = f.Start, f.End
			return p.countIDs(&ids, f.Key, -1)
		case jsonscan.Array:
			if p.Route != Score || !p.blank(n.Kind, ids.start) {
				if err := p.countIDs(&ids, f.Key, i); err != nil {
					return err
				}
			}
		default:
			return nil
		}
		i++
	}
	if i == 0 && p.Route != Score {
		return empty(f.Key)
	}
	return nil
}

// checkTexts refuses a prompt that is empty, or an empty one in a list, unless media make up for it.
func (p *parser) checkTexts(f *jsonscan.Field) *FieldError {
	for _, key := range [...]string{"image_data", "video_data", "audio_data"} {
		if p.given(key) != nil {
			return nil
		}
	}
	if f.Kind == jsonscan.String && p.Route != Score && p.blank(f.Kind, f.Start) { // no items at all are no work
		return emptyText(f.Key)
	}
	i := 0
	for n := range jsonscan.Elements(p.body, f.Start) {
		if p.blank(n.Kind, int(n.Start)) {
			field := fmt.Sprintf("%s[%d]", f.Key, i)
			if n.Kind == jsonscan.Array {
				return empty(field)
			}
			return emptyText(field)
		}
		i++
	}
	return nil
}

// blank reports whether the value that starts at an offset is an empty string or list.
func (p *parser) blank(kind jsonscan.Kind, start int) bool {
	switch kind {
	case jsonscan.String:
		return p.body[start+1] == '"'
	case jsonscan.Array:
		for range jsonscan.Elements(p.body, start) {
			return false
		}
		return true
	}
	return false
}
