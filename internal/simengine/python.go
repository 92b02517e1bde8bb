package simengine

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// Errors of a real engine quote values in Python's spelling; so do these.

func pyText(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte(quote)
	for _, r := range s {
		switch r {
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\\':
			b.WriteString(`\\`)
		case rune(quote):
			b.WriteByte('\\')
			b.WriteByte(quote)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}

func pyFloat(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e16 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// A float is a number that keeps its point, as Python's do: clients may rely on the type.
type float float64

// MarshalJSON writes the number.
func (v float) MarshalJSON() ([]byte, error) { return []byte(pyFloat(float64(v))), nil }

// floats are several.
type floats []float64

// MarshalJSON writes the numbers.
func (v floats) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, pyFloat(x)...)
	}
	return append(b, ']'), nil
}

// pyBound is the most bytes of a value that are quoted.
const pyBound = 512

// pyValue writes a JSON value as Python prints it.
func pyValue(raw json.RawMessage) string {
	switch {
	case isNull(raw):
		return "None"
	case len(raw) > pyBound:
		return "..."
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var b strings.Builder
	pyNext(d, &b)
	return b.String()
}

// pyNext writes the decoder's next value; what does not parse ends the text.
func pyNext(d *json.Decoder, b *strings.Builder) {
	token, err := d.Token()
	if err != nil {
		return
	}
	switch v := token.(type) {
	case json.Delim:
		b.WriteString(v.String())
		for first := true; d.More(); first = false {
			if !first {
				b.WriteString(", ")
			}
			pyNext(d, b)
			if v == '{' {
				b.WriteString(": ")
				pyNext(d, b)
			}
		}
		if end, err := d.Token(); err == nil {
			b.WriteString(end.(json.Delim).String())
		}
	case string:
		b.WriteString(pyText(v))
	case json.Number:
		b.WriteString(v.String())
	case bool:
		b.WriteString(strings.ToUpper(strconv.FormatBool(v)[:1]) + strconv.FormatBool(v)[1:])
	case nil:
		b.WriteString("None")
	}
}

// pyType names a JSON value's type.
func pyType(raw json.RawMessage) string {
	switch c := raw[0]; {
	case c == '"':
		return "str"
	case c == '[':
		return "list"
	case c == '{':
		return "dict"
	case c == 't' || c == 'f':
		return "bool"
	case c == 'n':
		return "NoneType"
	case bytes.ContainsAny(raw, ".eE"):
		return "float"
	}
	return "int"
}
