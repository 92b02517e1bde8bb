package simengine

import (
	"bytes"
	"encoding/json"
)

// A schema is what a sample of JSON takes note of in a JSON Schema.
type schema struct {
	Type       json.RawMessage            `json:"type"`
	Const      json.RawMessage            `json:"const"`
	Enum       []json.RawMessage          `json:"enum"`
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
	Items      json.RawMessage            `json:"items"`
	MinItems   int                        `json:"minItems"`
	AnyOf      []json.RawMessage          `json:"anyOf"`
	OneOf      []json.RawMessage          `json:"oneOf"`
	Minimum    *json.Number               `json:"minimum"`
}

// sampleDepth and sampleItems bound what a schema can ask for.
const (
	sampleDepth = 12
	sampleItems = 16
	sampleBytes = 16 << 10
)

// sample writes a small value that a simple schema admits: an object with what it requires, the first of an
// enumeration, ones and empty lists. What it does not understand becomes an empty object.
func sample(raw json.RawMessage) string {
	return string(appendSample(nil, raw, sampleDepth))
}

func appendSample(b []byte, raw json.RawMessage, depth int) []byte {
	var s schema
	if depth == 0 || len(b) > sampleBytes || json.Unmarshal(raw, &s) != nil {
		return append(b, "null"...)
	}
	switch {
	case s.Const != nil:
		return append(b, compact(s.Const)...)
	case len(s.Enum) > 0:
		return append(b, compact(s.Enum[0])...)
	case len(s.AnyOf) > 0:
		return appendSample(b, s.AnyOf[0], depth-1)
	case len(s.OneOf) > 0:
		return appendSample(b, s.OneOf[0], depth-1)
	}
	switch s.kind() {
	case "string":
		return append(b, `"word"`...)
	case "integer", "number":
		if s.Minimum != nil {
			return append(b, *s.Minimum...)
		}
		return append(b, '1')
	case "boolean":
		return append(b, "true"...)
	case "null":
		return append(b, "null"...)
	case "array":
		return s.appendItems(b, depth)
	}
	return s.appendProperties(b, depth)
}

// kind is the type, the first of several, or what the other fields hint at.
func (s *schema) kind() string {
	var one string
	var many []string
	switch {
	case json.Unmarshal(s.Type, &one) == nil && one != "":
		return one
	case json.Unmarshal(s.Type, &many) == nil && len(many) > 0:
		return many[0]
	case s.Items != nil:
		return "array"
	}
	return "object"
}

func (s *schema) appendItems(b []byte, depth int) []byte {
	b = append(b, '[')
	for i := range min(s.MinItems, sampleItems) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendSample(b, s.Items, depth-1)
	}
	return append(b, ']')
}

func (s *schema) appendProperties(b []byte, depth int) []byte {
	b = append(b, '{')
	for i, name := range s.Required[:min(len(s.Required), sampleItems)] {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(appendJSON(b, name), ": "...)
		b = appendSample(b, s.Properties[name], depth-1)
	}
	return append(b, '}')
}

// openObject is the schema of any JSON object.
var openObject = json.RawMessage(`{"type": "object"}`)

// isSchema says whether a text can be one.
func isSchema(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return json.Valid(raw) && raw[0] == '{'
}
