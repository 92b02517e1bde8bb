package simengine

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// ask is what the bodies of all generating routes have in common.
type ask struct {
	model     string
	stream    bool
	rid       *names
	extraKey  *names
	salt      *names
	lora      *names
	priority  int64
	rank      *int        // the DP rank that the client chose
	session   *turnParams // the session that the prompt continues
	logprobs  *int        // the top tokens to tell with each token's own; nil: none
	textAsked bool        // logprobs carry the tokens' text
	promptIDs bool        // the answer carries the prompt's tokens
	outputIDs bool        // and its own
	metaInfo  bool        // choices carry meta_info
	details   bool        // cached tokens by tier
	usage     streamUsage
	fault     error // what is wrong with it, to be told when the request is looked at
}

type streamUsage struct{ include, continuous bool }

// names is a field of one text or of a list of them, one a prompt; a list may hold nulls.
type names struct {
	list bool
	all  []*string
}

// at is the name of prompt i.
func (n *names) at(i int) string {
	switch {
	case n == nil:
		return ""
	case !n.list:
		i = 0
	}
	if i >= len(n.all) || n.all[i] == nil {
		return ""
	}
	return *n.all[i]
}

func (n *names) first() string {
	for _, one := range n.all {
		if one != nil {
			return *one
		}
	}
	return ""
}

func oneName(s string) names { return names{all: []*string{&s}} }

func manyNames(all []*string) names { return names{list: true, all: all} }

func asNullable(raw json.RawMessage) (*string, []complaint) {
	if isNull(raw) {
		return nil, nil
	}
	s, bad := asText(raw)
	return &s, bad
}

func asNames(raw json.RawMessage) (names, []complaint) {
	return oneOf(fitting[names]{"str", convert(asText, oneName)}, fitting[names]{"list[str]", convert(listOf(asNullable), manyNames)})(raw)
}

// readAsk reads the common fields.
func readAsk(f *fields) ask {
	a := ask{model: "default"}
	may(f, "stream", asBool, &a.stream)
	a.rid = maybe(f, "rid", asNames)
	a.extraKey = maybe(f, "extra_key", asNames)
	a.salt = maybe(f, "cache_salt", asNames)
	a.lora = maybe(f, "lora_path", asNames)
	set(f, "priority", convert(asInt, func(n int) int64 { return int64(n) }), &a.priority)
	if a.rank = maybe(f, "routed_dp_rank", asInt); a.rank == nil {
		a.rank = maybe(f, "data_parallel_rank", asInt)
	}
	return a
}

// readOpenAI reads the common fields of chats and completions.
func readOpenAI(f *fields) ask {
	a := readAsk(f)
	may(f, "model", asText, &a.model)
	may(f, "return_cached_tokens_details", asBool, &a.details)
	if may(f, "return_token_ids", asBool, &a.outputIDs); a.outputIDs {
		a.promptIDs = true
	}
	if options := maybe(f, "stream_options", asObject); options != nil {
		o := readFields(*options)
		may(o, "include_usage", asBool, &a.usage.include)
		may(o, "continuous_usage_stats", asBool, &a.usage.continuous)
		f.complaints = append(f.complaints, inside("'stream_options'", o.complaints)...)
	}
	return a
}

// A headerError is a X-Data-Parallel-Rank that is no number.
type headerError struct{ text string }

func (e *headerError) Error() string { return e.text }

// headerRank lets the request's header choose the rank. /generate does not look at it.
func (a *ask) headerRank(r *http.Request) error {
	values := r.Header.Values("X-Data-Parallel-Rank")
	if len(values) == 0 {
		return nil
	}
	rank, err := strconv.Atoi(strings.TrimSpace(values[0]))
	if err != nil {
		return &headerError{"Invalid X-Data-Parallel-Rank header: must be an integer, got '" + values[0] + "'"}
	}
	a.rank = &rank
	return nil
}

// A prompt is one sequence's input.
type prompt struct {
	tokens []int32
	text   string // for echo; unknown for tokens
	poison string // why computing it would kill a real engine
}

// prompts are a request's, and whether they came as a list.
type prompts struct {
	all   []prompt
	batch bool
}

func textPrompt(text string) prompt {
	p := prompt{tokens: appendTokens(nil, text), text: text}
	if len(p.tokens) == 0 {
		p.poison = "prompt is empty."
	}
	return p
}

func idPrompt(ids []int) prompt {
	p := prompt{tokens: make([]int32, len(ids))}
	if len(ids) == 0 {
		p.poison = "prompt is empty."
	}
	for i, id := range ids {
		if id < 0 || id >= vocabulary {
			p.poison = "token id " + strconv.Itoa(id) + " is outside the vocabulary of " + strconv.Itoa(vocabulary) + "."
		}
		p.tokens[i] = int32(min(max(id, 0), math.MaxInt32))
	}
	return p
}

func onePrompt[T any](of func(T) prompt) func(T) prompts {
	return func(v T) prompts { return prompts{all: []prompt{of(v)}} }
}

func manyPrompts[T any](of func(T) prompt) func([]T) prompts {
	return func(all []T) prompts {
		out := prompts{batch: true}
		for _, v := range all {
			out.all = append(out.all, of(v))
		}
		return out
	}
}

// asPrompts reads a text, tokens, or a list of either.
func asPrompts(raw json.RawMessage) (prompts, []complaint) {
	return oneOf(
		fitting[prompts]{"list[int]", convert(listOf(asInt), onePrompt(idPrompt))},
		fitting[prompts]{"list[list[int]]", convert(listOf(listOf(asInt)), manyPrompts(idPrompt))},
		fitting[prompts]{"str", convert(asText, onePrompt(textPrompt))},
		fitting[prompts]{"list[str]", convert(listOf(asText), manyPrompts(textPrompt))},
	)(raw)
}
