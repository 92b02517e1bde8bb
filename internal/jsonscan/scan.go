package jsonscan

import (
	"fmt"
	"iter"
)

// Code is what is wrong with a document.
type Code uint8

// What can be wrong with a document.
const (
	Syntax    Code = iota + 1 // a byte that cannot stand here
	Truncated                 // the body ends too early
	Trailing                  // something follows the value
	BadUTF8                   // a string is not valid UTF-8
	TooDeep                   // more than MaxDepth nested values
	TooLong                   // more than MaxLen bytes
	TooMany                   // more than MaxNodes values on the tape
	NotObject                 // valid or not, the body is no object
	Duplicate                 // a key that was asked for appears twice
)

// An Error says why a document was refused. It holds no more of the document than one key.
type Error struct {
	Code   Code
	Offset int    // of the byte in question
	Key    string // the key, if Code is Duplicate
}

func (e *Error) Error() string {
	what := "invalid character"
	switch e.Code {
	case Truncated:
		what = "unexpected end"
	case Trailing:
		what = "unexpected data after the value"
	case BadUTF8:
		what = "invalid UTF-8 in a string"
	case TooDeep:
		what = fmt.Sprintf("nested deeper than %d", MaxDepth)
	case TooLong:
		what = fmt.Sprintf("longer than %d bytes", MaxLen)
	case TooMany:
		what = fmt.Sprintf("more than %d values", MaxNodes)
	case NotObject:
		what = "not an object"
	case Duplicate:
		what = fmt.Sprintf("duplicate key %q", e.Key)
	}
	return fmt.Sprintf("json: %s at byte %d", what, e.Offset)
}

// Mode is what a caller wants to know of a top-level member.
type Mode uint8

// What a caller may want of a member.
const (
	Skip Mode = iota // validate it
	Note             // and record where it is
	Tape             // and record its structure
)

// Want says what to record of the member with the given decoded key, and under which name. It is called
// once per top-level member, must not keep key, and usually is a switch over string(key), which
// allocates nothing.
type Want func(key []byte) (name string, mode Mode)

// Scan validates body, which must be one JSON object, and fills d with the members that want asks
// for. d's former content is overwritten; after an error it is undefined. Errors are of type *[Error].
func Scan(d *Doc, body []byte, want Want) error {
	d.Fields = d.Fields[:0]
	s := scanner{b: body, nodes: d.Nodes[:0]}
	end := s.top(d, want)
	d.Nodes = s.nodes
	return s.finish(end)
}

// ScanValue validates data, one JSON value of any kind, and puts all of it on d's tape: its node is the
// first. Errors are of type *[Error].
func ScanValue(d *Doc, data []byte) error {
	d.Open, d.Empty, d.Fields = 0, false, d.Fields[:0]
	s := scanner{b: data, nodes: d.Nodes[:0], tape: true}
	var end int
	if len(data) > MaxLen {
		end = s.fail(TooLong, MaxLen)
	} else {
		end = s.value(s.space(0), 1)
	}
	d.Nodes = s.nodes
	return s.finish(end)
}

// Valid validates data, one JSON value of any kind, and records nothing.
func Valid(data []byte) error {
	s := scanner{b: data}
	if len(data) > MaxLen {
		return s.finish(s.fail(TooLong, MaxLen))
	}
	return s.finish(s.value(s.space(0), 1))
}

// Elements yields the elements of the array that starts at body[start], which a scan has accepted, for
// arrays that are better not put on a tape. A node's Next is not set. Of an array that no scan has
// accepted, it yields what comes before the first mistake.
func Elements(body []byte, start int) iter.Seq[Node] {
	return func(yield func(Node) bool) {
		if start < 0 || start >= len(body) || body[start] != '[' {
			return
		}
		s := scanner{b: body}
		i := s.space(start + 1)
		if i < len(body) && body[i] == ']' {
			return
		}
		for more := true; more; {
			kind, escaped, end := s.scan(i, 2)
			if end < 0 || !yield(Node{Start: uint32(i), End: uint32(end), Kind: kind, Escaped: escaped}) {
				return
			}
			i, more = s.comma(end, ']')
		}
	}
}

// A scanner walks b. Its methods take the offset at which they start and return the one at which they
// stop, or -1 once err is set.
type scanner struct {
	b     []byte
	nodes []Node
	tape  bool // values go to nodes
	err   *Error
}

func (s *scanner) fail(code Code, i int) int {
	s.err = &Error{Code: code, Offset: i}
	return -1
}

// bad reports the byte at i, or that there is none.
func (s *scanner) bad(i int) int {
	if i >= len(s.b) {
		return s.fail(Truncated, len(s.b))
	}
	return s.fail(Syntax, i)
}

// finish turns the end of the outermost value into Scan's result.
func (s *scanner) finish(end int) error {
	if end >= 0 {
		if end = s.space(end); end == len(s.b) {
			return nil
		}
		s.fail(Trailing, end)
	}
	return s.err
}

// top scans the outermost object.
func (s *scanner) top(d *Doc, want Want) int {
	if len(s.b) > MaxLen {
		return s.fail(TooLong, MaxLen)
	}
	i := s.space(0)
	if i == len(s.b) {
		return s.bad(i)
	}
	if s.b[i] != '{' {
		return s.fail(NotObject, i)
	}
	d.Open = i
	i = s.space(i + 1)
	d.Empty = i < len(s.b) && s.b[i] == '}'
	if d.Empty {
		return i + 1
	}
	for {
		keyStart := i
		keyEnd, escaped := s.key(i)
		if keyEnd < 0 {
			return -1
		}
		key := s.b[keyStart+1 : keyEnd-1]
		if escaped {
			key = AppendUnescaped(nil, key)
		}
		name, mode := want(key)
		if mode != Skip && d.Field(name) != nil {
			s.fail(Duplicate, keyStart)
			s.err.Key = name
			return -1
		}
		if i = s.colon(keyEnd); i < 0 {
			return -1
		}
		start, root := i, -1
		if s.tape = mode == Tape; s.tape {
			root = len(s.nodes)
		}
		var kind Kind
		kind, escaped, i = s.scan(i, 2)
		if i < 0 {
			return -1
		}
		if mode != Skip {
			d.Fields = append(d.Fields, Field{
				Member: Member{Key: name, KeyStart: keyStart, Start: start, End: i},
				Kind:   kind, Escaped: escaped, Root: root,
			})
		}
		more := false
		if i, more = s.comma(i, '}'); !more {
			return i
		}
	}
}

// value scans one value whose own level is depth.
func (s *scanner) value(i, depth int) int {
	_, _, i = s.scan(i, depth)
	return i
}

// scan is value, and also says what it was.
func (s *scanner) scan(i, depth int) (kind Kind, escaped bool, end int) {
	if i >= len(s.b) {
		return 0, false, s.bad(i)
	}
	at := len(s.nodes)
	if s.tape {
		if at >= MaxNodes {
			return 0, false, s.fail(TooMany, i)
		}
		s.nodes = append(s.nodes, Node{})
	}
	switch c := s.b[i]; c {
	case '"':
		kind = String
		end, escaped = s.str(i + 1)
	case '{':
		kind, end = Object, s.object(i, depth)
	case '[':
		kind, end = Array, s.array(i, depth)
	case 't':
		kind, end = True, s.word(i, "true")
	case 'f':
		kind, end = False, s.word(i, "false")
	case 'n':
		kind, end = Null, s.word(i, "null")
	default:
		kind, end = Number, s.number(i)
	}
	if s.tape && end >= 0 {
		s.nodes[at] = Node{Start: uint32(i), End: uint32(end), Next: uint32(len(s.nodes)), Kind: kind, Escaped: escaped}
	}
	return kind, escaped, end
}

func (s *scanner) object(i, depth int) int {
	if depth > MaxDepth {
		return s.fail(TooDeep, i)
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == '}' {
		return i + 1
	}
	for {
		end, escaped := s.key(i)
		if end < 0 {
			return -1
		}
		if s.tape {
			if len(s.nodes) >= MaxNodes {
				return s.fail(TooMany, i)
			}
			s.nodes = append(s.nodes, Node{Start: uint32(i), End: uint32(end), Next: uint32(len(s.nodes) + 1), Kind: String, Escaped: escaped})
		}
		if i = s.colon(end); i < 0 {
			return -1
		}
		if i = s.value(i, depth+1); i < 0 {
			return -1
		}
		more := false
		if i, more = s.comma(i, '}'); !more {
			return i
		}
	}
}

func (s *scanner) array(i, depth int) int {
	if depth > MaxDepth {
		return s.fail(TooDeep, i)
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == ']' {
		return i + 1
	}
	for {
		if i = s.value(i, depth+1); i < 0 {
			return -1
		}
		more := false
		if i, more = s.comma(i, ']'); !more {
			return i
		}
	}
}

// key scans a member's key with its quotes.
func (s *scanner) key(i int) (end int, escaped bool) {
	if i >= len(s.b) || s.b[i] != '"' {
		return s.bad(i), false
	}
	return s.str(i + 1)
}

// colon scans from a key's end to its value.
func (s *scanner) colon(i int) int {
	i = s.space(i)
	if i >= len(s.b) || s.b[i] != ':' {
		return s.bad(i)
	}
	return s.space(i + 1)
}

// comma scans from an element's end to the next one, or past the bracket that closes the list.
func (s *scanner) comma(i int, closing byte) (next int, more bool) {
	i = s.space(i)
	if i < len(s.b) {
		switch s.b[i] {
		case ',':
			return s.space(i + 1), true
		case closing:
			return i + 1, false
		}
	}
	return s.bad(i), false
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\n' || s.b[i] == '\t' || s.b[i] == '\r') {
		i++
	}
	return i
}

func (s *scanner) word(i int, word string) int {
	for k := range len(word) {
		if i+k >= len(s.b) || s.b[i+k] != word[k] {
			return s.bad(i + k)
		}
	}
	return i + len(word)
}

func (s *scanner) number(i int) int {
	if s.b[i] == '-' {
		i++
	}
	switch {
	case i < len(s.b) && s.b[i] == '0':
		i++
	default:
		if i = s.digits(i); i < 0 {
			return -1
		}
	}
	if i < len(s.b) && s.b[i] == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if i < len(s.b) && (s.b[i] == 'e' || s.b[i] == 'E') {
		if i++; i < len(s.b) && (s.b[i] == '+' || s.b[i] == '-') {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits scans one digit or more.
func (s *scanner) digits(i int) int {
	start := i
	for i < len(s.b) && s.b[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return s.bad(i)
	}
	return i
}
