package simengine

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// The second schema of /generate takes no number as a string and no unknown sampling parameter. Its errors
// read like those of a Rust parser.

// samplingKinds are SamplingParams' fields, in order, and what each must be.
var samplingKinds = [][2]string{
	{"max_new_tokens", "i64"}, {"stop", "StringOrList"}, {"stop_token_ids", "a sequence"}, {"stop_regex", "StringOrList"},
	{"temperature", "f64"}, {"top_p", "f64"}, {"top_k", "i64"}, {"min_p", "f64"}, {"frequency_penalty", "f64"},
	{"presence_penalty", "f64"}, {"repetition_penalty", "f64"}, {"min_new_tokens", "i64"}, {"n", "i64"},
	{"json_schema", "a string"}, {"regex", "a string"}, {"ebnf", "a string"}, {"structural_tag", "a string"},
	{"ignore_eos", "a boolean"}, {"skip_special_tokens", "a boolean"}, {"spaces_between_special_tokens", "a boolean"},
	{"no_stop_trim", "a boolean"}, {"stream_interval", "i64"}, {"logit_bias", "a map"}, {"sampling_seed", "i64"},
	{"custom_params", "a map"}, {"beam_width", "i64"}, {"watermark", "a map"}, {"choice", "a sequence"},
}

// bodyKinds are the fields of the body that matter here.
var bodyKinds = [][2]string{
	{"stream", "a boolean"}, {"routed_dp_rank", "i64"}, {"priority", "i64"}, {"session_id", "a string"},
	{"return_text_in_logprobs", "a boolean"},
}

// agree holds an object against the kinds of its fields.
func agree(object map[string]json.RawMessage, kinds [][2]string) error {
	for _, kind := range kinds {
		raw, ok := object[kind[0]]
		if !ok || isNull(raw) || isKind(raw, kind[1]) {
			continue
		}
		expected := kind[1]
		if expected == "StringOrList" {
			expected = "a value or an array of values for StringOrList"
		}
		return &contractError{"invalid type: " + unexpected(raw) + ", expected " + expected}
	}
	return nil
}

// agreeSampling does so for sampling parameters, which may have no other fields.
func agreeSampling(object map[string]json.RawMessage) error {
	names := make([]string, len(samplingKinds))
	for i, kind := range samplingKinds {
		names[i] = kind[0]
	}
	for name := range object {
		if !slices.Contains(names, name) {
			return &contractError{"unknown field `" + name + "`, expected one of `" + strings.Join(names, "`, `") + "`"}
		}
	}
	return agree(object, samplingKinds)
}

func isKind(raw json.RawMessage, kind string) bool {
	switch c := raw[0]; kind {
	case "i64":
		_, err := strconv.ParseInt(string(raw), 10, 64)
		return err == nil
	case "f64":
		return c == '-' || c >= '0' && c <= '9'
	case "a boolean":
		return c == 't' || c == 'f'
	case "a string":
		return c == '"'
	case "StringOrList":
		return c == '"' || c == '['
	case "a sequence":
		return c == '['
	default:
		return c == '{'
	}
}

// unexpected describes a value.
func unexpected(raw json.RawMessage) string {
	switch c := raw[0]; {
	case c == '"':
		s, _ := asText(raw)
		return `string "` + s + `"`
	case c == 't' || c == 'f':
		return "boolean `" + string(raw) + "`"
	case c == '[':
		return "sequence"
	case c == '{':
		return "map"
	case strings.ContainsAny(string(raw), ".eE"):
		return "floating point `" + string(raw) + "`"
	}
	return "integer `" + string(raw) + "`"
}
