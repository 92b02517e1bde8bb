package prefix

import (
	"fmt"
	"math"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// readPrompts finds the prompts, checks their types and counts what can be counted.
func (p *parser) readPrompts() error {
	var err *FieldError
	switch p.Route {
	case Chat:
		err = p.readChat()
	case Completions:
		err = p.readCompletions()
	case Generate:
		err = p.readGenerate()
	case Messages:
		err = p.readMessages()
	case Responses:
		err = p.readResponses()
	default:
		err = p.readByLoad()
	}
	if err != nil {
		return err
	}
	return nil
}

// given returns a member unless it is absent or null.
func (r *Request) given(key string) *jsonscan.Field {
	if f := r.doc.Field(key); f != nil && f.Kind != jsonscan.Null {
		return f
	}
	return nil
}

func (p *parser) readCompletions() *FieldError {
	f := p.given("prompt")
	if f == nil {
		return missing("prompt")
	}
	return p.readPrompt(f, "a string, an array of strings, or an array of integers")
}

func (p *parser) readGenerate() *FieldError {
	for _, key := range [...]string{"image_data", "video_data", "audio_data"} {
		if f := p.given(key); f != nil {
			p.Media += p.countMedia(f.Root)
		}
	}
	if f := p.given("input_embeds"); f != nil {
		return p.readEmbeds(f)
	}
	if f := p.given("input_ids"); f != nil {
		if f.Kind != jsonscan.Array {
			return wrongType(f.Key, "an array of integers", f.Kind)
		}
		return p.readPrompt(f, "an array of integers")
	}
	f := p.given("text")
	if f == nil {
		return missing("text")
	}
	return p.readPrompt(f, "a string or an array of strings")
}

// countMedia counts the leaves of a media member: it is one reference, a list, or a list for each prompt.
func (p *parser) countMedia(at int) int {
	switch n := p.doc.Nodes[at]; n.Kind {
	case jsonscan.Null:
		return 0
	case jsonscan.Array:
		count := 0
		for _, e := range p.doc.Elems(at) {
			count += p.countMedia(e)
		}
		return count
	}
	return 1
}

// readEmbeds takes prompts that came as vectors: one is a list of lists of numbers, a batch one level deeper.
func (p *parser) readEmbeds(f *jsonscan.Field) *FieldError {
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, "an array", f.Kind)
	}
	p.Embeds = true
	p.PromptBytes = f.End - f.Start
	for first := range jsonscan.Elements(p.body, f.Start) {
		if first.Kind != jsonscan.Array {
			return wrongType(f.Key+"[0]", "an array", first.Kind)
		}
		for inner := range jsonscan.Elements(p.body, int(first.Start)) {
			p.Batch = inner.Kind == jsonscan.Array
			break
		}
		break
	}
	if !p.Batch {
		p.prompts = append(p.prompts, prompt{kind: embedsPrompt, start: f.Start, end: f.End})
		return nil
	}
	p.Prompts = 0
	for n := range jsonscan.Elements(p.body, f.Start) {
		if err := p.add(f.Key, prompt{kind: embedsPrompt, start: int(n.Start), end: int(n.End)}); err != nil {
			return err
		}
	}
	return nil
}

// readPrompt takes a prompt of text or token ids, or a batch of one of them.
func (p *parser) readPrompt(f *jsonscan.Field, want string) *FieldError {
	p.PromptBytes = f.End - f.Start
	if f.Kind == jsonscan.String {
		if f.End-f.Start == 2 {
			return emptyText(f.Key)
		}
		p.prompts = append(p.prompts, prompt{kind: textPrompt, escaped: f.Escaped, start: f.Start + 1, end: f.End - 1})
		return nil
	}
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, want, f.Kind)
	}
	var kind jsonscan.Kind
	for n := range jsonscan.Elements(p.body, f.Start) {
		kind = n.Kind
		break
	}
	switch {
	case kind == 0:
		return empty(f.Key)
	case kind == jsonscan.Number && f.Key != "text":
		ids := prompt{kind: idsPrompt, start: f.Start, end: f.End}
		err := p.countIDs(&ids, f.Key, -1)
		p.prompts = append(p.prompts, ids)
		return err
	case kind == jsonscan.String && f.Key != "input_ids":
	case kind == jsonscan.Array && f.Key != "text":
	default:
		return wrongType(f.Key+"[0]", want, kind)
	}
	p.Batch, p.Prompts = true, 0
	for n := range jsonscan.Elements(p.body, f.Start) {
		if n.Kind != kind {
			return wrongType(fmt.Sprintf("%s[%d]", f.Key, p.Prompts), "elements of one type", n.Kind)
		}
		one := prompt{kind: textPrompt, escaped: n.Escaped, start: int(n.Start) + 1, end: int(n.End) - 1}
		if kind == jsonscan.Array {
			one = prompt{kind: idsPrompt, start: int(n.Start), end: int(n.End)}
			if err := p.countIDs(&one, f.Key, p.Prompts); err != nil {
				return err
			}
		} else if one.start == one.end {
			return emptyText(fmt.Sprintf("%s[%d]", f.Key, p.Prompts))
		}
		if err := p.add(f.Key, one); err != nil {
			return err
		}
	}
	return nil
}

// add takes one prompt of a batch.
func (p *parser) add(field string, one prompt) *FieldError {
	if p.Prompts == MaxPrompts {
		return tooMany(field)
	}
	if p.Prompts++; len(p.prompts) < MaxDigests {
		p.prompts = append(p.prompts, one)
	}
	return nil
}

// countIDs checks and counts the token ids of one prompt: the one at an index of field's batch, or of field
// itself if that is negative.
func (p *parser) countIDs(ids *prompt, field string, index int) *FieldError {
	it := idReader{b: p.body[ids.start+1 : ids.end-1]}
	for {
		id, ok := it.next()
		if !ok {
			break
		}
		p.MaxTokenID = max(p.MaxTokenID, int(id))
		ids.tokens++
	}
	p.InputTokens += ids.tokens
	if it.done() && ids.tokens > 0 {
		return nil
	}
	if index >= 0 {
		field = fmt.Sprintf("%s[%d]", field, index)
	}
	if it.done() {
		return empty(field)
	}
	field = fmt.Sprintf("%s[%d]", field, ids.tokens)
	return &FieldError{field, fmt.Sprintf("Invalid type for '%s': expected an integer between 0 and %d.", field, math.MaxInt32)}
}

// An idReader reads token ids from the inside of an array that is known to be valid JSON.
type idReader struct {
	b []byte
	i int
}

// next returns the next id. It stops at the end, and at an element that is no id.
func (r *idReader) next() (id uint32, ok bool) {
	for r.i < len(r.b) && (r.b[r.i] <= ' ' || r.b[r.i] == ',') {
		r.i++
	}
	start := r.i
	var x uint64
	for ; r.i < len(r.b) && r.b[r.i]-'0' <= 9; r.i++ {
		if x = x*10 + uint64(r.b[r.i]-'0'); x > math.MaxInt32 {
			return 0, false
		}
	}
	if r.i < len(r.b) && r.b[r.i] != ',' && r.b[r.i] > ' ' {
		return 0, false // a fraction, an exponent, or no number at all
	}
	return uint32(x), r.i > start
}

// done reports whether everything was read.
func (r *idReader) done() bool { return r.i == len(r.b) }
