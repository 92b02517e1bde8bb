package simengine

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// A complaint says what is wrong with a field, in pydantic's words.
type complaint struct {
	kind  string
	where []string // from the field inwards, as Python literals
	text  string
	input json.RawMessage
}

// A reader turns a field's JSON into a value, or complains.
type reader[T any] func(raw json.RawMessage) (T, []complaint)

// fields reads the fields of a JSON object as pydantic does: leniently (a number may come as a string), and
// all of them, so that every complaint is told at once.
type fields struct {
	raw        json.RawMessage
	values     map[string]json.RawMessage
	complaints []complaint
}

func readFields(raw json.RawMessage) *fields {
	f := &fields{raw: raw}
	_ = json.Unmarshal(raw, &f.values) // an object: the caller has looked
	return f
}

// must reads a field that has to be there.
func must[T any](f *fields, name string, read reader[T]) (v T) {
	if _, ok := f.values[name]; !ok {
		f.complaints = append(f.complaints, complaint{"missing", []string{pyText(name)}, "Field required", f.raw})
		return v
	}
	may(f, name, read, &v)
	return v
}

// may reads a field into *v if it is there.
func may[T any](f *fields, name string, read reader[T], v *T) {
	raw, ok := f.values[name]
	if !ok {
		return
	}
	got, wrong := read(raw)
	if len(wrong) > 0 {
		f.complaints = append(f.complaints, inside(pyText(name), wrong)...)
		return
	}
	*v = got
}

// maybe reads a field that may be missing or null.
func maybe[T any](f *fields, name string, read reader[T]) *T {
	if isNull(f.values[name]) {
		return nil
	}
	var v T
	before := len(f.complaints)
	if may(f, name, read, &v); len(f.complaints) > before {
		return nil
	}
	return &v
}

// set reads a field into *v if it is there and not null.
func set[T any](f *fields, name string, read reader[T], v *T) {
	if got := maybe(f, name, read); got != nil {
		*v = *got
	}
}

// err is the complaints' error, if there are any.
func (f *fields) err() error {
	if len(f.complaints) == 0 {
		return nil
	}
	return &invalidError{inside("'body'", f.complaints)}
}

func inside(where string, all []complaint) []complaint {
	for i := range all {
		all[i].where = append([]string{where}, all[i].where...)
	}
	return all
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func wrong(kind, text string, raw json.RawMessage) []complaint {
	return []complaint{{kind: kind, text: text, input: raw}}
}

func asText(raw json.RawMessage) (s string, _ []complaint) {
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", wrong("string_type", "Input should be a valid string", raw)
	}
	return s, nil
}

// asBool takes what pydantic takes for a truth value.
func asBool(raw json.RawMessage) (bool, []complaint) {
	text := string(raw)
	if s, bad := asText(raw); bad == nil {
		text = strings.ToLower(s)
	} else if raw[0] == 'n' || raw[0] == '{' || raw[0] == '[' {
		return false, wrong("bool_type", "Input should be a valid boolean", raw)
	}
	switch text {
	case "true", "1", "yes", "on", "y", "t":
		return true, nil
	case "false", "0", "no", "off", "n", "f":
		return false, nil
	}
	return false, wrong("bool_parsing", "Input should be a valid boolean, unable to interpret input", raw)
}

// asInt takes whole numbers, also as 2.0, "2" and true.
func asInt(raw json.RawMessage) (int, []complaint) {
	switch c := raw[0]; {
	case c == 't':
		return 1, nil
	case c == 'f':
		return 0, nil
	case c == '"':
		s, _ := asText(raw)
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil {
			return 0, wrong("int_parsing", "Input should be a valid integer, unable to parse string as an integer", raw)
		}
		return n, nil
	case c != '-' && (c < '0' || c > '9'):
		return 0, wrong("int_type", "Input should be a valid integer", raw)
	}
	if n, err := strconv.Atoi(string(raw)); err == nil {
		return n, nil
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > 1<<53 {
		return 0, wrong("int_from_float", "Input should be a valid integer, got a number with a fractional part", raw)
	}
	return int(v), nil
}

// A number is a number as an engine prints it.
type number struct {
	value float64
	shown string
}

func asNumber(raw json.RawMessage) (number, []complaint) {
	text := string(raw)
	switch c := raw[0]; {
	case c == 't':
		text = "1"
	case c == 'f':
		text = "0"
	case c == '"':
		text, _ = asText(raw)
	case c != '-' && (c < '0' || c > '9'):
		return number{}, wrong("float_type", "Input should be a valid number", raw)
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return number{}, wrong("float_parsing", "Input should be a valid number, unable to parse string as a number", raw)
	}
	return number{v, pyFloat(v)}, nil
}

func asObject(raw json.RawMessage) (json.RawMessage, []complaint) {
	if raw[0] != '{' {
		return nil, wrong("dict_type", "Input should be a valid dictionary", raw)
	}
	return raw, nil
}

// asAny takes anything.
func asAny(raw json.RawMessage) (json.RawMessage, []complaint) { return raw, nil }

// listOf reads a list, each of whose elements read takes.
func listOf[T any](read reader[T]) reader[[]T] {
	return func(raw json.RawMessage) ([]T, []complaint) {
		var elements []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
			return nil, wrong("list_type", "Input should be a valid list", raw)
		}
		out := make([]T, 0, len(elements))
		var bad []complaint
		for i, e := range elements {
			v, no := read(bytes.TrimSpace(e))
			bad = append(bad, inside(strconv.Itoa(i), no)...)
			out = append(out, v)
		}
		return out, bad
	}
}

// A fitting is one way to read a field, under the name that a union gives it.
type fitting[T any] struct {
	name string
	read reader[T]
}

// oneOf reads with the first that takes the value; else all complain.
func oneOf[T any](ways ...fitting[T]) reader[T] {
	return func(raw json.RawMessage) (v T, bad []complaint) {
		for _, w := range ways {
			got, no := w.read(raw)
			if len(no) == 0 {
				return got, nil
			}
			bad = append(bad, inside(pyText(w.name), no)...)
		}
		return v, bad
	}
}

// convert lets a reader of one type serve for another.
func convert[A, B any](read reader[A], to func(A) B) reader[B] {
	return func(raw json.RawMessage) (b B, _ []complaint) {
		a, bad := read(raw)
		if len(bad) > 0 {
			return b, bad
		}
		return to(a), nil
	}
}

// asChoice takes one of the given words.
func asChoice(words ...string) reader[string] {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = pyText(w)
	}
	expected := strings.Join(quoted, ", ")
	if i := strings.LastIndex(expected, ", "); i >= 0 {
		expected = expected[:i] + " or " + expected[i+2:]
	}
	return func(raw json.RawMessage) (string, []complaint) {
		s, bad := asText(raw)
		if bad == nil {
			for _, w := range words {
				if s == w {
					return s, nil
				}
			}
		}
		return "", wrong("literal_error", "Input should be "+expected, raw)
	}
}
