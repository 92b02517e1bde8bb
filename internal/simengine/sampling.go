package simengine

import (
	"bytes"
	"encoding/json"
	"slices"
)

// sampling holds what the three request kinds have in common, whatever they call it.
type sampling struct {
	limit       *int // most output tokens
	minimum     int
	temperature *float64
	seed        *int64
	n           *int
	stops       stopList
	stopIDs     []int32
	ignoreEOS   bool
}

// openAISampling are the sampling fields of OpenAI bodies, including SGLang's own.
type openAISampling struct {
	MaxTokens           *int     `json:"max_tokens"`
	MaxCompletionTokens *int     `json:"max_completion_tokens"`
	MinTokens           int      `json:"min_tokens"`
	Temperature         *float64 `json:"temperature"`
	Seed                *int64   `json:"seed"`
	N                   *int     `json:"n"`
	Stop                stopList `json:"stop"`
	StopTokenIDs        []int32  `json:"stop_token_ids"`
	IgnoreEOS           bool     `json:"ignore_eos"`
}

func (o *openAISampling) sampling() (sampling, error) {
	s := sampling{limit: o.MaxCompletionTokens, minimum: o.MinTokens, temperature: o.Temperature, seed: o.Seed,
		n: o.N, stops: o.Stop, stopIDs: o.StopTokenIDs, ignoreEOS: o.IgnoreEOS}
	if s.limit == nil {
		s.limit = o.MaxTokens
	}
	if s.limit != nil && *s.limit < 1 {
		return s, badf("max_tokens must be at least 1, got %d.", *s.limit)
	}
	return s, s.check()
}

// nativeSampling are /generate's sampling_params.
type nativeSampling struct {
	MaxNewTokens *int     `json:"max_new_tokens"`
	MinNewTokens int      `json:"min_new_tokens"`
	Temperature  *float64 `json:"temperature"`
	SamplingSeed *int64   `json:"sampling_seed"`
	N            *int     `json:"n"`
	Stop         stopList `json:"stop"`
	StopTokenIDs []int32  `json:"stop_token_ids"`
	IgnoreEOS    bool     `json:"ignore_eos"`
}

// nativeKeys are the keys that SGLang's SamplingParams takes; any other is an error.
func nativeKeys() []string {
	return []string{"max_new_tokens", "min_new_tokens", "temperature", "sampling_seed", "n", "stop", "stop_token_ids",
		"stop_regex", "ignore_eos", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty",
		"repetition_penalty", "json_schema", "regex", "ebnf", "structural_tag", "skip_special_tokens",
		"spaces_between_special_tokens", "no_stop_trim", "logit_bias", "custom_params", "stream_interval"}
}

// unknownKey reports a sampling parameter that does not exist.
type unknownKey struct{ key string }

func (e *unknownKey) Error() string {
	return "SamplingParams got an unexpected keyword argument '" + e.key + "'"
}

func parseNative(raw json.RawMessage) (sampling, error) {
	var s sampling
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return s, nil
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) != nil {
		return s, badf("sampling_params must be an object.")
	}
	known := nativeKeys()
	for key := range keys {
		if !slices.Contains(known, key) {
			return s, &unknownKey{key}
		}
	}
	var p nativeSampling
	if err := json.Unmarshal(raw, &p); err != nil {
		return s, badf("sampling_params: %v", err)
	}
	s = sampling{limit: p.MaxNewTokens, minimum: p.MinNewTokens, temperature: p.Temperature, seed: p.SamplingSeed,
		n: p.N, stops: p.Stop, stopIDs: p.StopTokenIDs, ignoreEOS: p.IgnoreEOS}
	if s.limit != nil && *s.limit < 0 {
		return s, badf("max_new_tokens must be at least 0, got %d.", *s.limit)
	}
	return s, s.check()
}

// maxChoices bounds n, and with the number of prompts the sequences of one request.
const maxChoices = 128

func (s *sampling) check() error {
	if s.temperature != nil && !(*s.temperature >= 0) {
		return badf("temperature must be non-negative, got %v.", *s.temperature)
	}
	if s.n != nil && (*s.n < 1 || *s.n > maxChoices) {
		return badf("n must be in 1 to %d, got %d.", maxChoices, *s.n)
	}
	if s.minimum < 0 || s.limit != nil && s.minimum > *s.limit {
		return badf("min_new_tokens must be in 0 to max_new_tokens, got %d.", s.minimum)
	}
	for _, stop := range s.stops {
		if stop == "" {
			return badf("stop must not hold an empty string.")
		}
	}
	return nil
}

func (s *sampling) choices() int {
	if s.n == nil {
		return 1
	}
	return *s.n
}

// A stopList is a string or a list of strings.
type stopList []string

// UnmarshalJSON takes null for none.
func (l *stopList) UnmarshalJSON(raw []byte) error {
	*l = nil
	if string(raw) == "null" {
		return nil
	}
	if raw[0] == '"' {
		*l = make(stopList, 1)
		return json.Unmarshal(raw, &(*l)[0])
	}
	return json.Unmarshal(raw, (*[]string)(l))
}
