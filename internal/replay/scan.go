package replay

import (
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

var errMalformed = errors.New("malformed JSON")

// A scanner walks JSON without building values: a stream's events are most of a client's work, and of each
// only a few fields matter. It trusts the inside of numbers and literals, which it skips or reads digit by
// digit, and takes keys literally. After an error every method does nothing.
type scanner struct {
	b   []byte
	at  int
	err error
}

func (s *scanner) fail() { s.err = errMalformed }

// peek returns the next byte that is not space, or 0 at the end or after an error.
func (s *scanner) peek() byte {
	for s.err == nil && s.at < len(s.b) {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// enter consumes an opening bracket if it is next; otherwise it skips the value and reports false.
func (s *scanner) enter(bracket byte) bool {
	if s.peek() == bracket {
		s.at++
		return true
	}
	s.skip()
	return false
}

// member moves to an object's next member and returns its key; false at the closing brace, which it
// consumes. The caller must consume the value, by reading or by skip.
func (s *scanner) member(first bool) (key []byte, ok bool) {
	if !s.element(first, '}') {
		return nil, false
	}
	if key, _ = s.str(); s.peek() != ':' {
		s.fail()
		return nil, false
	}
	s.at++
	return key, s.err == nil
}

// element moves to an array's or object's next element; false at the closing bracket, which it consumes.
func (s *scanner) element(first bool, closing byte) bool {
	c := s.peek()
	switch {
	case c == closing:
		s.at++
		return false
	case first && c != 0:
		return true
	case !first && c == ',':
		s.at++
		if c = s.peek(); c != 0 && c != closing {
			return true
		}
	}
	s.fail()
	return false
}

// str consumes a string and returns what is between its quotes, and whether that holds escapes.
func (s *scanner) str() (raw []byte, escaped bool) {
	if s.peek() != '"' {
		s.fail()
		return nil, false
	}
	start := s.at + 1
	for i := start; i < len(s.b); i++ {
		switch s.b[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			s.at = i + 1
			return s.b[start:i], escaped
		}
	}
	s.fail()
	return nil, false
}

// text appends a string's value to dst; any other value is skipped and adds nothing.
func (s *scanner) text(dst []byte) []byte {
	if s.peek() != '"' {
		s.skip()
		return dst
	}
	raw, escaped := s.str()
	if !escaped {
		return append(dst, raw...)
	}
	dst, ok := appendUnescaped(dst, raw)
	if !ok {
		s.fail()
	}
	return dst
}

// number reads a count: the integer part of a number that is not negative. Of anything else, or beyond
// 18 digits, it reports false.
func (s *scanner) number() (n int64, ok bool) {
	c := s.peek()
	start := s.at
	for s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9' && s.at-start < 18 {
		n = n*10 + int64(s.b[s.at]-'0')
		s.at++
	}
	ok = s.at > start
	if ok && s.at < len(s.b) {
		s.literal() // a fraction or exponent
	} else if !ok && c != 0 {
		s.skip()
	} else if !ok {
		s.fail()
	}
	return n, ok && s.err == nil
}

// literal consumes the rest of a number, true, false or null.
func (s *scanner) literal() {
	for s.at < len(s.b) {
		c := s.b[s.at]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == 'E' || c == '+' || c == '-' || c == '.') {
			return
		}
		s.at++
	}
}

// skip consumes one value of any kind, without recursion.
func (s *scanner) skip() {
	for depth := 0; ; {
		c := s.peek()
		switch c {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.at++
		case '}', ']':
			depth--
			s.at++
		case ',', ':':
			if depth == 0 {
				s.fail()
			}
			s.at++
		default:
			start := s.at
			if s.literal(); s.at == start {
				s.fail() // the end, or a byte that starts no value
			}
		}
		if s.err != nil || depth < 0 {
			s.fail()
			return
		}
		if depth == 0 {
			return
		}
	}
}

// appendUnescaped appends the value of a string's inside to dst; false if an escape is none. A surrogate
// without its other half becomes U+FFFD.
func appendUnescaped(dst, raw []byte) ([]byte, bool) {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			dst = append(dst, raw[i])
			continue
		}
		if i++; i == len(raw) {
			return dst, false
		}
		switch c := raw[i]; c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(raw[i+1:])
			if !ok {
				return dst, false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if rest := raw[i+1:]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
					low, _ = hex4(rest[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			return dst, false
		}
	}
	return dst, true
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
