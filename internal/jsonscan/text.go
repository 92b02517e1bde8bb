package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str scans a string from behind its opening quote to behind its closing one.
func (s *scanner) str(i int) (end int, escaped bool) {
	b := s.b
	for {
		i = plain(b, i)
		switch {
		case i >= len(b):
			return s.bad(i), escaped
		case b[i] == '"':
			return i + 1, escaped
		case b[i] == '\\':
			escaped = true
			if i = s.escape(i + 1); i < 0 {
				return -1, true
			}
		case b[i] < ' ':
			return s.fail(Syntax, i), escaped
		default:
			if i = s.runes(i); i < 0 {
				return -1, escaped
			}
		}
	}
}

// plain returns the offset of the first byte from i on that is a quote, a backslash, a control character
// or not ASCII, or len(b).
func plain(b []byte, i int) int {
	for next := i + 128; len(b)-i >= 16; {
		w := b[i : i+16]
		m := special(binary.LittleEndian.Uint64(w)) & highs
		n := special(binary.LittleEndian.Uint64(w[8:])) & highs
		switch {
		case m != 0:
			return i + bits.TrailingZeros64(m)/8
		case n != 0:
			return i + 8 + bits.TrailingZeros64(n)/8
		}
		if i += 16; i >= next {
			i = longRun(b, i)
			next = i + 128
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' && b[i] < 0x80 {
		i++
	}
	return i
}

// special marks, in the high bit of each byte of w, the bytes that end a plain run. Only the lowest mark is
// exact: the subtractions may carry a false one into the bytes above it. The other bits mean nothing.
func special(w uint64) uint64 {
	quote, slash := (w^'"'*ones)-ones, (w^'\\'*ones)-ones
	return quote | slash | (w - ' '*ones) | w
}

// longRun skips whole windows of plain bytes. Three passes over a window in the cache, two of them
// by the vector code in package bytes, are faster than one pass by words (BenchmarkScan/text=plain).
func longRun(b []byte, i int) int {
	const window = 256
	for ; len(b)-i >= window; i += window {
		w := b[i : i+window]
		if bytes.IndexByte(w, '"') >= 0 || bytes.IndexByte(w, '\\') >= 0 {
			break
		}
		m := uint64(0)
		for ; len(w) >= 32; w = w[32:] {
			w0, w1 := binary.LittleEndian.Uint64(w), binary.LittleEndian.Uint64(w[8:])
			w2, w3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
			m |= w0 | (w0 - ' '*ones) | w1 | (w1 - ' '*ones)
			m |= w2 | (w2 - ' '*ones) | w3 | (w3 - ' '*ones)
		}
		if m&highs != 0 {
			break
		}
	}
	return i
}

// escape scans an escape sequence from behind its backslash.
func (s *scanner) escape(i int) int {
	if i >= len(s.b) {
		return s.bad(i)
	}
	switch s.b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		for k := i + 1; k <= i+4; k++ {
			if k >= len(s.b) || unhex(s.b[k]) < 0 {
				return s.bad(k)
			}
		}
		return i + 5
	}
	return s.bad(i)
}

// runes scans characters outside ASCII, by the table of well-formed UTF-8 sequences (Unicode 3.9, 3-7).
func (s *scanner) runes(i int) int {
	b := s.b
	for i < len(b) && b[i] >= 0x80 {
		c := b[i]
		if len(b)-i >= 4 { // most of the world's scripts, without their corner cases
			w := binary.LittleEndian.Uint32(b[i:])
			if c >= 0xE1 && c != 0xED && c <= 0xEF && w&0xC0C000 == 0x808000 {
				i += 3
				continue
			}
			if c >= 0xC2 && c <= 0xDF && w&0xC000 == 0x8000 {
				i += 2
				continue
			}
		}
		n, lo, hi := 2, byte(0x80), byte(0xBF)
		switch {
		case c < 0xC2:
			return s.fail(BadUTF8, i)
		case c < 0xE0:
		case c < 0xF0:
			n = 3
			if c == 0xE0 {
				lo = 0xA0
			} else if c == 0xED {
				hi = 0x9F
			}
		case c < 0xF5:
			n = 4
			if c == 0xF0 {
				lo = 0x90
			} else if c == 0xF4 {
				hi = 0x8F
			}
		default:
			return s.fail(BadUTF8, i)
		}
		if len(b)-i < n || b[i+1] < lo || b[i+1] > hi {
			return s.fail(BadUTF8, i)
		}
		if n > 2 && b[i+2]&0xC0 != 0x80 || n > 3 && b[i+3]&0xC0 != 0x80 {
			return s.fail(BadUTF8, i)
		}
		i += n
	}
	return i
}
