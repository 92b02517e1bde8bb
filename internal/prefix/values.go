package prefix

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// name reads a string of bounded length.
func (p *parser) name(f *jsonscan.Field) (string, *FieldError) {
	if f.Kind != jsonscan.String {
		return "", wrongType(f.Key, "a string", f.Kind)
	}
	if n := f.End - f.Start - 2; n > 6*MaxName { // no need to decode it
		return "", tooLong(f.Key, n)
	}
	text := f.Text(p.body)
	if len(text) > MaxName {
		return "", tooLong(f.Key, len(text))
	}
	return string(text), nil
}

// names reads a string or a list of strings.
func (p *parser) names(f *jsonscan.Field) ([]string, *FieldError) {
	switch f.Kind {
	case jsonscan.String:
		one, err := p.name(f)
		return []string{one}, err
	case jsonscan.Array:
		var names []string
		for i, at := range p.doc.Elems(f.Root) {
			n := p.doc.Nodes[at]
			if n.Kind != jsonscan.String {
				return nil, wrongType(fmt.Sprintf("%s[%d]", f.Key, i), "a string", n.Kind)
			}
			text := n.Text(p.body)
			if len(text) > MaxName {
				return nil, tooLong(fmt.Sprintf("%s[%d]", f.Key, i), len(text))
			}
			if i >= MaxPrompts {
				return nil, tooMany(f.Key)
			}
			names = append(names, string(text))
		}
		return names, nil
	}
	return nil, wrongType(f.Key, "a string", f.Kind)
}

// salt reads a string, or a list of one for each prompt, whose elements it joins: one namespace for all.
func (p *parser) salt(f *jsonscan.Field) (string, *FieldError) {
	list, err := p.names(f)
	if err != nil {
		return "", err
	}
	joined := strings.Join(list, "\x00")
	if len(joined) > MaxName {
		return "", tooLong(f.Key, len(joined))
	}
	return joined, nil
}

func (p *parser) integer(f *jsonscan.Field, least int) (int, *FieldError) {
	return integer(f.Key, f.Kind, f.Raw(p.body), least)
}

// integer reads a number that is whole, however it is written, and fits 32 bits.
func integer(field string, kind jsonscan.Kind, raw []byte, least int) (int, *FieldError) {
	if kind != jsonscan.Number {
		return 0, wrongType(field, "an integer", kind)
	}
	x, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || math.Abs(f) > math.MaxInt32 {
			return 0, &FieldError{field, fmt.Sprintf("Invalid '%s': integer out of range.", field)}
		}
		if f != math.Trunc(f) {
			return 0, &FieldError{field, fmt.Sprintf("Invalid type for '%s': expected an integer, but got a decimal number instead.", field)}
		}
		x = int64(f)
	}
	switch {
	case x < int64(least):
		return 0, &FieldError{field, fmt.Sprintf("Invalid '%s': integer below minimum value. Expected a value >= %d, but got %d instead.", field, least, x)}
	case x > math.MaxInt32:
		return 0, &FieldError{field, fmt.Sprintf("Invalid '%s': integer above maximum value. Expected a value <= %d, but got %d instead.", field, math.MaxInt32, x)}
	}
	return int(x), nil
}

// count reads n, the completions of each prompt.
func count(field string, kind jsonscan.Kind, raw []byte) (int, *FieldError) {
	n, err := integer(field, kind, raw, 1)
	if err == nil && n > MaxN {
		err = &FieldError{field, fmt.Sprintf("Invalid '%s': integer above maximum value. Expected a value <= %d, but got %d instead.", field, MaxN, n)}
	}
	return n, err
}

// boolean reads a boolean; null is false.
func boolean(field string, kind jsonscan.Kind) (bool, *FieldError) {
	switch kind {
	case jsonscan.True:
		return true, nil
	case jsonscan.False, jsonscan.Null:
		return false, nil
	}
	return false, wrongType(field, "a boolean", kind)
}

// constrains reports whether a schema, regex or grammar of this value binds the output: the engine takes
// an empty one for none.
func constrains(kind jsonscan.Kind, raw []byte) bool {
	return kind != jsonscan.Null && kind != jsonscan.False && (kind != jsonscan.String || len(raw) > 0)
}

func wrongType(field, want string, got jsonscan.Kind) *FieldError {
	what := "a " + got.String()
	switch got {
	case jsonscan.Null:
		what = "null"
	case jsonscan.Array, jsonscan.Object:
		what = "an " + got.String()
	}
	return &FieldError{field, fmt.Sprintf("Invalid type for '%s': expected %s, but got %s instead.", field, want, what)}
}

func missing(field string) *FieldError {
	return &FieldError{field, fmt.Sprintf("Missing required parameter: '%s'.", field)}
}

func empty(field string) *FieldError {
	return &FieldError{field, fmt.Sprintf("Invalid '%s': empty array. Expected an array with minimum length 1, but got an empty array instead.", field)}
}

// emptyText refuses a prompt without a byte: SGLang dies of one.
func emptyText(field string) *FieldError {
	return &FieldError{field, fmt.Sprintf("Invalid '%s': empty string. Expected a string with minimum length 1, but got an empty string instead.", field)}
}

func tooMany(field string) *FieldError {
	return &FieldError{field, fmt.Sprintf("Invalid '%s': array too long. Expected an array with maximum length %d.", field, MaxPrompts)}
}

func tooLong(field string, length int) *FieldError {
	return &FieldError{field, fmt.Sprintf("Invalid '%s': string too long. Expected a string with maximum length %d, but got a string with length %d instead.", field, MaxName, length)}
}
