package workeradapter

import (
	"bufio"
	"bytes"
	"mime"
	"net/textproto"
	"strings"
)

// A span is body[start:end].
type span struct{ start, end int }

// A form is what is to be known of a multipart form whose parts stay where they are: they may be hundreds of megabytes.
type form struct {
	boundary string
	first    int    // where the first part's delimiter begins; -1: there is none
	values   []span // of the field that was looked for
}

// maxFormParts bounds the parts that are looked at: a form of megabytes may be nothing but parts. Gateways look no further.
const maxFormParts = 256

// readForm looks for a field in a form. What is no form has none.
func readForm(contentType string, body []byte, name string) form {
	kind, params, err := mime.ParseMediaType(contentType)
	f := form{boundary: params["boundary"], first: -1}
	if err != nil || kind != "multipart/form-data" || f.boundary == "" {
		return f
	}
	at, next := f.delimiter(body, 0)
	f.first = at
	for parts := 0; next >= 0 && parts < maxFormParts; parts++ {
		value := f.headed(body[next:], name)
		end, after := f.delimiter(body, next-len("\r\n"))
		if end < 0 {
			return f // cut off: the engine says so
		}
		if start := next + value; value >= 0 && start <= end-len("\r\n") {
			f.values = append(f.values, span{start, end - len("\r\n")})
		}
		next = after
	}
	return f
}

// delimiter finds the first delimiter at or after from: where its dashes begin, and where the part behind it does; -1 when there
// is none, and next -1 when it is the last one.
func (f *form) delimiter(body []byte, from int) (at, next int) {
	dashes := []byte("\r\n--" + f.boundary)
	for at = from; ; {
		if at == 0 && bytes.HasPrefix(body, dashes[2:]) {
			at = -2 // the line in front of the first one need not be there
		} else if i := bytes.Index(body[at:], dashes); i >= 0 {
			at += i
		} else {
			return -1, -1
		}
		rest := body[at+len(dashes):]
		line := bytes.TrimLeft(rest[:min(len(rest), 1<<10)], " \t")
		switch {
		case bytes.HasPrefix(rest, []byte("--")):
			return at + 2, -1
		case bytes.HasPrefix(line, []byte("\r\n")):
			return at + 2, len(body) - len(rest) + bytes.IndexByte(rest, '\n') + 1
		}
		at += len(dashes) // longer than ours: it belongs to the part
	}
}

// headed tells where the value of a part begins, if the part is the field; else -1.
func (f *form) headed(part []byte, name string) int {
	const bound = 16 << 10 // bytes of a part's header
	end := bytes.Index(part[:min(len(part), bound)], []byte("\r\n\r\n"))
	if end < 0 {
		return -1
	}
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(part[:end+4]))).ReadMIMEHeader()
	if err != nil {
		return -1
	}
	kind, params, err := mime.ParseMediaType(header.Get("Content-Disposition"))
	if err != nil || kind != "form-data" || params["name"] != name {
		return -1
	}
	return end + 4
}

// with is the form with another value of the field, in pieces: what stays is not copied. nil: it is so already.
func (f *form) with(body []byte, value string) (pieces [][]byte) {
	at := 0
	for _, v := range f.values { // all of them: engines take the last one, gateways the first
		if string(body[v.start:v.end]) != value {
			pieces = append(pieces, body[at:v.start], []byte(value))
			at = v.end
		}
	}
	if pieces == nil {
		return nil
	}
	return append(pieces, body[at:])
}

// led is the form with one more field in front.
func (f *form) led(body []byte, name, value string) [][]byte {
	part := "--" + f.boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	return [][]byte{body[:f.first], []byte(part), body[f.first:]}
}

// editForm is a form with the engine's own name of the model, in pieces. A form that names none means the base model to engines.
func (t *attempt) editForm(contentType string, body []byte, l *life) [][]byte {
	same := [][]byte{body}
	m := l.modelOf(t.d.Model)
	if m == nil {
		return same // a model that has gone meanwhile: the engine says so
	}
	key, name := t.modelName(m, l)
	if strings.ContainsAny(name, "\r\n") {
		return same
	}
	f := readForm(contentType, body, key)
	switch {
	case f.first < 0:
	case len(f.values) == 0 && lora(m) != "":
		return f.led(body, key, name)
	default:
		if pieces := f.with(body, name); pieces != nil {
			return pieces
		}
	}
	return same
}
