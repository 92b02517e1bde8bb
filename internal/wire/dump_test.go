package wire_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// Wire types, as the protocol-buffer documentation numbers them.
const (
	wireVarint = 0
	wireFix64  = 1
	wireBytes  = 2
	wireFix32  = 5
)

// A node is one field of an encoded message. Tests read messages as nodes to see what is really on the wire, and write
// them again to see what a decoder makes of messages from older and newer encoders.
type node struct {
	field    schemaField
	parent   string // the message type that it is a field of
	wire     int
	num      uint64 // of a varint, fix64 or fix32
	data     []byte // of bytes
	children []node // of a nested message, instead of data
	nested   bool
}

// readNodes splits the fields of a message of the named type. It shares no code with the package under test.
func readNodes(t testing.TB, s schema, message string, b []byte) []node {
	t.Helper()
	var nodes []node
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("%s: bad tag in % x", message, b)
		}
		b = b[n:]
		x := node{field: s.field(message, int(tag>>3)), parent: message, wire: int(tag & 7)}
		switch x.wire {
		case wireVarint:
			x.num, n = binary.Uvarint(b)
			b = b[n:]
		case wireFix64:
			x.num, b = binary.LittleEndian.Uint64(b), b[8:]
		case wireFix32:
			x.num, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case wireBytes:
			size, n := binary.Uvarint(b)
			x.data, b = b[n:n+int(size)], b[n+int(size):]
			if x.nested = s.isMessage(x.field); x.nested {
				x.children, x.data = readNodes(t, s, x.field.typ, x.data), nil
			}
		default:
			t.Fatalf("%s: wire type %d of field %d", message, x.wire, x.field.number)
		}
		nodes = append(nodes, x)
	}
	return nodes
}

// head encodes the tag of x and what stands between it and the payload: a length, or nothing.
func (x node) head() []byte {
	b := binary.AppendUvarint(nil, uint64(x.field.number)<<3|uint64(x.wire))
	if x.wire == wireBytes {
		b = binary.AppendUvarint(b, uint64(len(x.payload())))
	}
	return b
}

func (x node) payload() []byte {
	switch {
	case x.nested:
		return writeNodes(nil, x.children)
	case x.wire == wireVarint:
		return binary.AppendUvarint(nil, x.num)
	case x.wire == wireFix64:
		return binary.LittleEndian.AppendUint64(nil, x.num)
	case x.wire == wireFix32:
		return binary.LittleEndian.AppendUint32(nil, uint32(x.num))
	}
	return x.data
}

// writeNodes is the opposite of readNodes.
func writeNodes(dst []byte, nodes []node) []byte {
	for _, x := range nodes {
		dst = append(append(dst, x.head()...), x.payload()...)
	}
	return dst
}

// message encodes a whole bus message.
func (k kindCase) message(nodes []node) []byte { return writeNodes([]byte{1, byte(k.kind)}, nodes) }

// nodes reads the fields of an encoded message of this kind.
func (k kindCase) nodes(t testing.TB, s schema, msg []byte) []node {
	t.Helper()
	return readNodes(t, s, k.name, msg[2:])
}

// walk visits all nodes of a tree, parents first.
func walk(nodes []node, visit func(node)) {
	for _, x := range nodes {
		visit(x)
		walk(x.children, visit)
	}
}

// edits yields every tree that edit makes of nodes by changing one list of siblings in it: the list itself, and then
// each nested one. edit gets the type of the message that the list is of and returns the lists to put in its place.
func edits(message string, nodes []node, edit func(message string, siblings []node) [][]node, yield func([]node)) {
	for _, changed := range edit(message, nodes) {
		yield(changed)
	}
	for i, x := range nodes {
		if !x.nested {
			continue
		}
		edits(x.field.typ, x.children, edit, func(children []node) {
			changed := slices.Clone(nodes)
			changed[i].children = children
			yield(changed)
		})
	}
}

// dump writes an encoded message for people: offset, bytes, and what they say.
func (k kindCase) dump(t testing.TB, s schema, msg []byte) string {
	t.Helper()
	d := &dumper{}
	fmt.Fprintf(&d.out, "# %s, %d bytes\n", k.name, len(msg))
	d.line(msg[:1], fmt.Sprintf("version %d", msg[0]))
	d.line(msg[1:2], fmt.Sprintf("kind %d", msg[1]))
	d.nodes(k.nodes(t, s, msg), "")
	return d.out.String()
}

type dumper struct {
	out strings.Builder
	at  int
}

func (d *dumper) nodes(nodes []node, indent string) {
	for _, x := range nodes {
		says := fmt.Sprintf("%s%d %s: %s", indent, x.field.number, x.field.name, x.value())
		if x.nested {
			d.line(x.head(), says)
			d.nodes(x.children, indent+"  ")
			continue
		}
		d.line(append(x.head(), x.payload()...), says)
	}
}

// line writes bytes, 16 to a line, the first with its annotation.
func (d *dumper) line(b []byte, says string) {
	for chunk := range slices.Chunk(b, 16) {
		text := fmt.Sprintf("%04x  % -47x  %s", d.at, chunk, says)
		d.out.WriteString(strings.TrimRight(text, " ") + "\n")
		d.at, says = d.at+len(chunk), ""
	}
}

// value tells the wire type and the value.
func (x node) value() string {
	switch {
	case x.nested:
		return fmt.Sprintf("message of %d bytes", len(x.payload()))
	case x.wire == wireVarint:
		return fmt.Sprintf("varint %d", x.num)
	case x.wire == wireFix64:
		return fmt.Sprintf("fixed64 %#016x", x.num)
	case x.wire == wireFix32:
		return fmt.Sprintf("fixed32 %#08x", x.num)
	case x.field.typ == "fixed64":
		var run []string
		for h := range slices.Chunk(x.data, 8) {
			run = append(run, fmt.Sprintf("%#016x", binary.LittleEndian.Uint64(h)))
		}
		return "packed fixed64 " + strings.Join(run, " ")
	case strings.ContainsFunc(string(x.data), func(r rune) bool { return r == unicode.ReplacementChar }):
		return fmt.Sprintf("bytes %x", x.data)
	}
	return fmt.Sprintf("bytes %q", x.data)
}
