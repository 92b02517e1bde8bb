package simengine

import (
	"encoding/json"
	"math"
	"strconv"
)

// sampling holds what the routes have in common, whatever they call it.
type sampling struct {
	limit       *int // most output tokens; nil: as many as fit
	minimum     int
	temperature number
	topP, minP  number
	topK        int
	frequency   number
	presence    number
	repetition  number
	seed        *int
	n           int
	stops       []string
	stopIDs     []int32
	ignoreEOS   bool
	keepStop    bool // no_stop_trim: the answer ends with the stop, not before it
	grammars    int  // constraints on the output; of these only a schema is kept
	schema      json.RawMessage
	call        *toolCall // the model is to call this tool and say nothing else
}

func newSampling() sampling {
	one := number{1, "1.0"}
	return sampling{temperature: one, topP: one, repetition: one, topK: -1, n: 1}
}

func asStops(raw json.RawMessage) ([]string, []complaint) {
	return oneOf(fitting[[]string]{"list[str]", listOf(asText)}, fitting[[]string]{"str", convert(asText, func(s string) []string { return []string{s} })})(raw)
}

func asTokens(raw json.RawMessage) ([]int32, []complaint) {
	return convert(listOf(asInt), func(ids []int) []int32 {
		out := make([]int32, len(ids))
		for i, id := range ids {
			out[i] = int32(min(max(id, math.MinInt32), math.MaxInt32))
		}
		return out
	})(raw)
}

// openAISampling reads the sampling fields that chats and completions share. A chat's may be null where a
// completion's may not.
func openAISampling(f *fields, chat bool) sampling {
	s := newSampling()
	for _, p := range []struct {
		name string
		v    *number
	}{{"temperature", &s.temperature}, {"top_p", &s.topP}, {"min_p", &s.minP}, {"repetition_penalty", &s.repetition}} {
		if chat {
			set(f, p.name, asNumber, p.v)
		} else {
			may(f, p.name, asNumber, p.v)
		}
	}
	if !chat || !isNull(f.values["top_k"]) {
		may(f, "top_k", asInt, &s.topK)
	}
	may(f, "frequency_penalty", asNumber, &s.frequency)
	may(f, "presence_penalty", asNumber, &s.presence)
	may(f, "n", asInt, &s.n)
	may(f, "min_tokens", asInt, &s.minimum)
	may(f, "ignore_eos", asBool, &s.ignoreEOS)
	may(f, "no_stop_trim", asBool, &s.keepStop)
	s.seed = maybe(f, "seed", asInt)
	set(f, "stop", asStops, &s.stops)
	set(f, "stop_token_ids", asTokens, &s.stopIDs)
	for _, name := range []string{"regex", "ebnf"} {
		if maybe(f, name, asText) != nil {
			s.grammars++
		}
	}
	return s
}

// nativeLimit is SamplingParams' default of max_new_tokens.
const nativeLimit = 128

// nativeSampling reads sampling_params that agree with the contract.
func nativeSampling(object map[string]json.RawMessage) sampling {
	s := newSampling()
	s.limit = new(nativeLimit)
	f := &fields{values: map[string]json.RawMessage{}}
	for name, raw := range object {
		if !isNull(raw) {
			f.values[name] = raw
		} else if name == "max_new_tokens" {
			s.limit = nil
		}
	}
	for name, v := range map[string]*number{"temperature": &s.temperature, "top_p": &s.topP, "min_p": &s.minP,
		"frequency_penalty": &s.frequency, "presence_penalty": &s.presence, "repetition_penalty": &s.repetition} {
		if may(f, name, asNumber, v); f.values[name] != nil {
			v.shown = string(f.values[name])
		}
	}
	if limit := maybe(f, "max_new_tokens", asInt); limit != nil {
		s.limit = limit
	}
	may(f, "top_k", asInt, &s.topK)
	may(f, "n", asInt, &s.n)
	may(f, "min_new_tokens", asInt, &s.minimum)
	may(f, "ignore_eos", asBool, &s.ignoreEOS)
	may(f, "no_stop_trim", asBool, &s.keepStop)
	may(f, "stop", asStops, &s.stops)
	may(f, "stop_token_ids", asTokens, &s.stopIDs)
	s.seed = maybe(f, "sampling_seed", asInt)
	for _, name := range []string{"json_schema", "regex", "ebnf", "structural_tag"} {
		if text := maybe(f, name, asText); text != nil {
			s.grammars++
			if name == "json_schema" {
				s.schema = json.RawMessage(*text)
			}
		}
	}
	s.n = max(s.n, 1)
	return s
}

// maxChoices is our own bound of n, and with the number of prompts of the sequences of one request.
const maxChoices = 128

// verify checks the ranges.
func (s *sampling) verify() error {
	out := func(v number, low, high float64) bool { return !(v.value >= low && v.value <= high) }
	switch {
	case out(s.temperature, 0, math.MaxFloat64):
		return valuef("temperature must be a non-negative finite number, got %s.", s.temperature.shown)
	case out(s.topP, math.SmallestNonzeroFloat64, 1):
		return valuef("top_p must be in (0, 1], got %s.", s.topP.shown)
	case out(s.minP, 0, 1):
		return valuef("min_p must be in [0, 1], got %s.", s.minP.shown)
	case s.topK < 1 && s.topK != -1:
		return valuef("top_k must be -1 (disable) or at least 1, got %d.", s.topK)
	case out(s.frequency, -2, 2):
		return valuef("frequency_penalty must be in [-2, 2], got %s.", s.frequency.shown)
	case out(s.presence, -2, 2):
		return valuef("presence_penalty must be in [-2, 2], got %s.", s.presence.shown)
	case out(s.repetition, math.SmallestNonzeroFloat64, 2):
		return valuef("repetition_penalty must be in (0, 2] (1.0 = no penalty), got %s.", s.repetition.shown)
	case s.minimum < 0:
		return valuef("min_new_tokens must be in [0, max_new_tokens], got %d.", s.minimum)
	case s.limit != nil && *s.limit < 0:
		return valuef("max_new_tokens must be at least 0, got %d.", *s.limit)
	case s.limit != nil && s.minimum > *s.limit:
		return valuef("min_new_tokens must be in [0, max_new_tokens(%d)], got %d.", *s.limit, s.minimum)
	case s.grammars > 1:
		return valuef("Only one of json_schema, regex, ebnf, or structural_tag can be set.")
	case s.n > maxChoices:
		return valuef("n must be in 1 to %s, got %d.", strconv.Itoa(maxChoices), s.n)
	}
	return nil
}

// speech is how an answer with these parameters is spoken, most being the most tokens that fit.
func (s *sampling) speech(most, usual int, nonce func() uint64) speech {
	sp := speech{limit: most, minimum: s.minimum, stops: s.stops, stopIDs: s.stopIDs, keepStop: s.keepStop, mean: usual}
	switch {
	case s.limit != nil: // who sets a limit gets so many: load generators count on it
		sp.limit, sp.mean = min(*s.limit, most), 0
	case s.ignoreEOS:
		sp.limit, sp.mean = min(4*usual, most), 0
	default:
		sp.limit = min(4*usual, most)
	}
	switch {
	case s.call != nil:
		sp.script = s.call.script()
	case s.schema != nil:
		sp.script = sample(s.schema)
	}
	if s.temperature.value > 0 {
		if s.seed != nil {
			sp.seed = mix(uint64(*s.seed)) | 1
		} else {
			sp.seed = nonce()
		}
	}
	return sp
}

// reserve is the output that the scheduler keeps memory for.
func (s *sampling) reserve(most int) int {
	if s.limit == nil {
		return most
	}
	return min(*s.limit, most)
}
