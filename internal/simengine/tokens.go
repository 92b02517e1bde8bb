package simengine

import "unicode/utf8"

// The vocabulary: special tokens first, then the ids that pieces of text hash to.
const (
	vocabulary = 128_000

	tokenStart int32 = 1 // opens a message
	tokenEnd   int32 = 2 // closes it; also the model's end of sequence
	tokenImage int32 = 3 // opens an image

	firstPiece = 256
)

// Bounds of a piece, in bytes. With these, English prose comes to about four bytes a token, source code to two
// and a half.
const (
	maxLetters = 6
	maxDigits  = 3
	maxOther   = 4
	maxSpaces  = 16
)

// appendTokens cuts text into word-like pieces and appends their ids.
//
// A piece is a run of letters, digits, line breaks or other marks with at most one space before it, or a run
// of spaces. Pieces are cut from the left with bounded look-ahead, so the tokens of a longer text begin with
// those of a shorter one, except perhaps the shorter one's last.
func appendTokens(dst []int32, text string) []int32 {
	for len(text) > 0 {
		n := pieceLen(text)
		dst = append(dst, pieceID(text[:n]))
		text = text[n:]
	}
	return dst
}

// pieceID hashes a piece into the vocabulary (FNV-1a, then SplitMix64's finaliser). No piece is the end.
func pieceID(piece string) int32 {
	if piece == "" {
		return tokenEnd
	}
	h := uint64(14695981039346656037)
	for i := range len(piece) {
		h = (h ^ uint64(piece[i])) * 1099511628211
	}
	return firstPiece + int32(mix(h)%(vocabulary-firstPiece))
}

type class uint8

const (
	space class = iota
	newline
	letter
	digit
	other
)

// pieceLen is the length of the first piece of text; 0 when it is empty.
func pieceLen(text string) int {
	if text == "" {
		return 0
	}
	i := 0
	for i < len(text) && i <= maxSpaces && text[i] == ' ' {
		i++
	}
	switch {
	case i == len(text) || i > maxSpaces:
		return min(i, maxSpaces)
	case i > 1:
		return i - 1 // the last space belongs to what follows
	}
	kind, size := classify(text[i:])
	limit := maxOther
	switch kind {
	case letter:
		limit = maxLetters
	case digit:
		limit = maxDigits
	case newline:
		if i > 0 {
			return i
		}
	}
	end := i + size
	for end < len(text) {
		k, size := classify(text[end:])
		if k != kind || end+size-i > limit {
			break
		}
		end += size
	}
	return end
}

// classify returns the class and the length of the first character. Invalid UTF-8 counts byte by byte.
func classify(text string) (class, int) {
	switch b := text[0]; {
	case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z':
		return letter, 1
	case '0' <= b && b <= '9':
		return digit, 1
	case b == ' ':
		return space, 1
	case b == '\n' || b == '\r' || b == '\t':
		return newline, 1
	case b < utf8.RuneSelf:
		return other, 1
	}
	_, size := utf8.DecodeRuneInString(text)
	return letter, size
}
