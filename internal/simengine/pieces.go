package simengine

import "strings"

// pieces remembers the text of tokens that clients sent to be tokenised, so that it can be given back: an id
// alone does not tell it. It is bounded, and forgets everything at once.
type pieces struct{ texts map[int32]string }

// maxPieces bounds what is remembered.
const maxPieces = 1 << 16

// remember notes the pieces of a text.
func (p *pieces) remember(text string) {
	for len(text) > 0 {
		piece := text[:pieceLen(text)]
		text = text[len(piece):]
		if p.texts == nil || len(p.texts) >= maxPieces {
			p.texts = map[int32]string{}
		}
		p.texts[pieceID(piece)] = piece
	}
}

// unknownText stands for a token whose text is not known.
const unknownText = "\uFFFD"

// text is the text of tokens, as far as it is known. Special tokens have none.
func (p *pieces) text(v *voice, tokens []int32) string {
	var b strings.Builder
	for _, t := range tokens {
		text, ok := v.text[t]
		if !ok {
			text, ok = p.texts[t]
		}
		if !ok && t >= firstPiece && t < vocabulary {
			text = unknownText
		}
		b.WriteString(text)
	}
	return b.String()
}
