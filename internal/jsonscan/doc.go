// Package jsonscan reads a JSON object in one pass and edits it without writing it anew.
//
// [Scan] validates a body and notes where the top-level members its caller asked for lie; of chosen
// members it also keeps a tape, a flat list of [Node] in document order, so whoever needs their content
// touches only those bytes. [Unescape] decodes strings into a buffer of the caller's. [Points] are the
// places where a body can be edited: plain numbers that can be sent along with the body, so one process
// scans and another one edits.
//
// # Guarantees
//
// What is accepted is RFC 8259 JSON, and a subset of what encoding/json accepts. It is stricter in these
// points: strings must be valid UTF-8 (encoding/json replaces bad bytes, and the engine behind would
// refuse them), nesting ends at [MaxDepth], a body at [MaxLen], a tape at [MaxNodes], and a top-level
// key that the caller asked for may appear once only, or two readers could disagree on its value.
// Escaped lone surrogates are legal and decode to U+FFFD, as with encoding/json.
//
// An edit leaves every byte outside of the members it names as it was: unknown members, number
// spellings, spacing. Nothing here panics on any input, points included.
//
// # Concurrency
//
// A [Doc] belongs to one goroutine while it is scanned into, and may be shared for reading afterwards.
// Everything else is a function of its arguments.
package jsonscan

import "iter"

// Bounds of what is accepted. Beyond them the error says which one it was.
const (
	MaxDepth = 1024      // nested objects and arrays, the outermost being the first
	MaxLen   = 1<<31 - 1 // bytes of a body
	MaxNodes = 1 << 20   // values and keys on the tape of one document (16 MiB)
)

// Kind is the type of a JSON value. The zero Kind is no value at all.
type Kind uint8

// The kinds of JSON values.
const (
	Null Kind = iota + 1
	False
	True
	Number
	String
	Array
	Object
)

// String names the kind as an error message to a client would.
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case False, True:
		return "boolean"
	case Number:
		return "number"
	case String:
		return "string"
	case Array:
		return "array"
	case Object:
		return "object"
	}
	return "nothing"
}

// A Node is one value, or one object key, on the tape. The nodes of an array's elements, or of an object's
// keys and values in turn, follow their parent's.
type Node struct {
	Start, End uint32 // body[Start:End] is the value; a string's quotes are part of it
	Next       uint32 // index of the first node after this value and all it holds
	Kind       Kind
	Escaped    bool // a String that holds at least one backslash
}

// Raw returns the node's bytes, without the quotes if it is a string.
func (n Node) Raw(body []byte) []byte {
	if n.Kind == String {
		return body[n.Start+1 : n.End-1]
	}
	return body[n.Start:n.End]
}

// Text returns a string node's content, decoded. It aliases body unless the string has escapes.
func (n Node) Text(body []byte) []byte {
	raw := n.Raw(body)
	if n.Escaped {
		raw = AppendUnescaped(nil, raw)
	}
	return raw
}

// A Field is a top-level member that the caller of [Scan] asked for.
type Field struct {
	Member
	Kind    Kind
	Escaped bool // a String that holds at least one backslash
	Root    int  // index of the value's node on the tape, or -1 if none was asked for
}

// Raw returns the value's bytes, without the quotes if it is a string.
func (f Field) Raw(body []byte) []byte {
	if f.Kind == String {
		return body[f.Start+1 : f.End-1]
	}
	return body[f.Start:f.End]
}

// Text returns a string's content, decoded. It aliases body unless the string has escapes.
func (f Field) Text(body []byte) []byte {
	raw := f.Raw(body)
	if f.Escaped {
		raw = AppendUnescaped(nil, raw)
	}
	return raw
}

// A Doc is what [Scan] found. It may be reused; its slices keep their capacity.
type Doc struct {
	Open   int  // offset of the object's opening brace
	Empty  bool // the object has no members
	Fields []Field
	Nodes  []Node
}

// Field returns the member called key, or nil if the object has none or it was not asked for.
func (d *Doc) Field(key string) *Field {
	for i := range d.Fields {
		if d.Fields[i].Key == key {
			return &d.Fields[i]
		}
	}
	return nil
}

// Points returns the edit points of the fields whose key keep accepts; nil means all.
func (d *Doc) Points(keep func(key string) bool) Points {
	p := Points{Open: d.Open, Empty: d.Empty}
	n := 0
	for i := range d.Fields {
		if keep == nil || keep(d.Fields[i].Key) {
			n++
		}
	}
	if n == 0 {
		return p
	}
	p.Members = make([]Member, 0, n)
	for i := range d.Fields {
		if keep == nil || keep(d.Fields[i].Key) {
			p.Members = append(p.Members, d.Fields[i].Member)
		}
	}
	return p
}

// Elems yields position and node index of each element of the array at node index at.
func (d *Doc) Elems(at int) iter.Seq2[int, int] {
	return func(yield func(i, at int) bool) {
		end := int(d.Nodes[at].Next)
		for i, at := 0, at+1; at < end; i++ {
			if !yield(i, at) {
				return
			}
			at = int(d.Nodes[at].Next)
		}
	}
}

// Pairs yields the node indexes of key and value of each member of the object at node index at.
func (d *Doc) Pairs(at int) iter.Seq2[int, int] {
	return func(yield func(key, value int) bool) {
		end := int(d.Nodes[at].Next)
		for key := at + 1; key < end; {
			if !yield(key, key+1) {
				return
			}
			key = int(d.Nodes[key+1].Next)
		}
	}
}

// Member returns the node index of the value that an object on the tape holds under key, or -1. Of
// duplicates the last one counts, as with encoding/json and the engine.
func (d *Doc) Member(body []byte, object int, key string) int {
	found := -1
	for k, v := range d.Pairs(object) {
		if string(d.Nodes[k].Text(body)) == key {
			found = v
		}
	}
	return found
}
