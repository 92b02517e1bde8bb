package replay

import "math/rand/v2"

// A blockSource makes text of the block ids of a recording that has no text: equal ids, equal text, in words that stand
// for tokens.
type blockSource struct {
	seed      uint64
	namespace uint64 // ids mean nothing outside of it
	words     int    // of a block
}

// block is the source of one block's words.
func (b blockSource) block(id uint32) *rand.PCG {
	return stream(b.seed, blockText, mix(b.namespace)^uint64(id))
}

// A blockPrompt is a prompt made of blocks. What it has in common with the one before is not made again.
type blockPrompt struct {
	blockSource
	ids  []uint32
	text []byte // all words have a space behind them
}

// set makes the prompt of ids, of as many words as there are tokens: the last block may be cut, and what is beyond the
// blocks has no id, but words of rest. The result is valid until the next call.
func (p *blockPrompt) set(ids []uint32, tokens int, rest *rand.PCG) []byte {
	kept := 0
	for kept < min(len(ids), len(p.ids)) && ids[kept] == p.ids[kept] {
		kept++
	}
	p.ids = append(p.ids[:kept], ids[kept:]...)
	p.text = p.text[:min(len(p.text), kept*p.words*wordBytes)]
	for have := len(p.text) / wordBytes; have < tokens; have = len(p.text) / wordBytes {
		i := have / p.words
		if i >= len(ids) {
			p.text = appendSpacedWords(p.text, rest, tokens-have)
			break
		}
		p.text = p.text[:i*p.words*wordBytes] // a block that was cut is made again
		p.text = appendSpacedWords(p.text, p.block(ids[i]), min(p.words, tokens-i*p.words))
	}
	p.text = p.text[:tokens*wordBytes]
	return p.text[:tokens*wordBytes-1]
}

// blocksOf is how many blocks tokens take, the last one perhaps in part.
func blocksOf(tokens, words int) int { return (tokens + words - 1) / words }
