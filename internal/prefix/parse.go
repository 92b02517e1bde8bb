package prefix

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// Bounds of what Parse takes.
const (
	MaxPrompts = 1 << 16 // in a batch
	MaxName    = 4096    // bytes of a model name, salt, session, user and the like
	MaxN       = 1024    // completions of each prompt: an engine multiplies its prompts by it before it looks
)

// Parse reads a request's body, and keeps a reference to it. It is as lenient as the engine about what
// does not concern routing: unknown members pass, and null is as good as absent. Every error is a
// *[FieldError].
func Parse(route Route, body []byte) (*Request, error) {
	if !route.known() {
		return nil, &FieldError{"", fmt.Sprintf("Requests to %v cannot be read.", route)}
	}
	r := &Request{Route: route, N: 1, Prompts: 1, body: body}
	r.doc.Fields, r.doc.Nodes, r.prompts = r.fieldRoom[:0], r.nodeRoom[:0], r.promptRoom[:0]
	if per := routes[route].perNode; per > 0 && len(body)/per > len(r.nodeRoom) {
		r.doc.Nodes = make([]jsonscan.Node, 0, min(len(body)/per, 8192))
	}
	if err := jsonscan.Scan(&r.doc, body, routes[route].want); err != nil {
		return nil, bodyError(err)
	}
	p := parser{Request: r}
	for i := range r.doc.Fields {
		if f := &r.doc.Fields[i]; f.Kind != jsonscan.Null {
			if err := p.take(f); err != nil {
				return nil, err
			}
		}
	}
	p.settle()
	if err := p.readPrompts(); err != nil {
		return nil, err
	}
	if p.loraList && !r.Batch && !route.ByLoad() { // an engine with adapters dies of it
		return nil, &FieldError{"lora_path", "Invalid 'lora_path': expected a string for a single prompt, but got an array instead."}
	}
	r.Points = r.doc.Points(Editable)
	return r, nil
}

// A parser holds what only together with other members becomes a field of the Request.
type parser struct {
	*Request
	maxTokens, maxCompletionTokens  int
	cacheSalt, extraKey             string
	sessionID, inParams, inDialogue string
	oldRank                         int
	hasOldRank                      bool
	blankQuery                      bool // of /v1/score
	loraList                        bool // lora_path is a list
}

// take reads one member that is not null, unless it is part of the prompt.
func (p *parser) take(f *jsonscan.Field) (err *FieldError) {
	switch f.Key {
	case "model":
		p.Model, err = p.name(f)
	case "stream":
		p.Stream, err = boolean(f.Key, f.Kind)
	case "stream_options":
		return p.takeStreamOptions(f)
	case "rid":
		p.Rids, err = p.names(f)
	case "lora_path":
		return p.takeLoRA(f)
	case "cache_salt":
		p.cacheSalt, err = p.salt(f)
	case "extra_key":
		p.extraKey, err = p.salt(f)
	case "user":
		p.User, err = p.name(f)
	case "routing_key":
		p.RoutingKey, err = p.name(f)
	case "session_id":
		p.sessionID, err = p.name(f)
	case "conversation_id":
		p.inDialogue, err = p.name(f)
	case "session_params":
		return p.takeSession(f)
	case "priority":
		p.HasPriority = true
		p.Priority, err = p.integer(f, math.MinInt32)
	case "routed_dp_rank":
		p.HasDPRank = true
		p.DPRank, err = p.integer(f, 0)
	case "data_parallel_rank":
		p.hasOldRank = true
		p.oldRank, err = p.integer(f, 0)
	case "n":
		p.N, err = count(f.Key, f.Kind, f.Raw(p.body))
	case "max_tokens":
		switch p.Route {
		case Chat, Completions:
			p.HasMaxTokens = true
			p.maxTokens, err = p.integer(f, 0)
		case Messages:
			p.HasMaxTokens = true
			p.maxTokens, err = p.integer(f, 1)
		}
	case "max_output_tokens":
		if p.Route == Responses {
			p.HasMaxTokens = true
			p.maxTokens, err = p.integer(f, 1)
		}
	case "max_completion_tokens":
		if p.Route == Chat {
			p.HasMaxTokens = true
			p.maxCompletionTokens, err = p.integer(f, 0)
		}
	case "min_tokens":
		if p.Route == Chat || p.Route == Completions {
			p.MinTokens, err = p.integer(f, 0)
		}
	case "sampling_params":
		if p.Route == Generate {
			return p.takeSampling(f)
		}
	case "previous_response_id":
		if p.Route == Responses {
			p.PreviousResponse, err = p.name(f)
		}
	case "request_id":
		if p.Route == Responses {
			p.ResponseID, err = p.name(f)
		}
	case "response_format":
		return p.takeResponseFormat(f)
	case "json_schema", "regex", "ebnf", "structural_tag":
		p.Structured = p.Structured || constrains(f.Kind, f.Raw(p.body))
	case "logprobs", "return_logprob":
		p.Logprobs = p.Logprobs || f.Kind != jsonscan.False
	case "top_logprobs":
		p.Logprobs = p.Logprobs || string(f.Raw(p.body)) != "0"
	default:
		p.takeFlag(f)
	}
	return err
}

// takeFlag reads the members that count as set when they are neither null nor false.
func (p *parser) takeFlag(f *jsonscan.Field) {
	on := f.Kind != jsonscan.False
	switch f.Key {
	case "return_cached_tokens_details":
		p.CachedDetails = on
	case "return_hidden_states":
		p.HiddenStates = on
	case "bootstrap_host":
		p.Disaggregated = on
	case "continue_final_message":
		p.ContinueFinal = on && p.Route == Chat
	case "echo":
		p.Echo = on
	case "ignore_eos":
		p.IgnoreEOS = on
	}
}

// settle decides between members that mean the same, as the engine does.
func (p *parser) settle() {
	if p.Route != Generate {
		p.MaxTokens = cmp.Or(p.maxCompletionTokens, p.maxTokens)
	}
	if p.cacheSalt != "" || p.extraKey != "" {
		p.Salt = fmt.Sprintf("%d:%s%s", len(p.cacheSalt), p.cacheSalt, p.extraKey)
	}
	p.Session = cmp.Or(p.sessionID, p.inParams, p.inDialogue)
	if !p.HasDPRank {
		p.DPRank, p.HasDPRank = p.oldRank, p.hasOldRank
	}
}

func (p *parser) takeStreamOptions(f *jsonscan.Field) (err *FieldError) {
	if f.Kind != jsonscan.Object {
		return wrongType(f.Key, "an object", f.Kind)
	}
	for k, v := range p.doc.Pairs(f.Root) {
		switch kind := p.doc.Nodes[v].Kind; string(p.doc.Nodes[k].Text(p.body)) {
		case "include_usage":
			p.IncludeUsage, err = boolean("stream_options.include_usage", kind)
		case "continuous_usage_stats":
			p.ContinuousUsage, err = boolean("stream_options.continuous_usage_stats", kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeLoRA reads the adapter's path. Of a list all must be the same one: a request goes to one worker, and
// its digests have one namespace.
func (p *parser) takeLoRA(f *jsonscan.Field) *FieldError {
	if f.Kind == jsonscan.String {
		var err *FieldError
		p.LoRA, err = p.name(f)
		return err
	}
	if f.Kind != jsonscan.Array {
		return wrongType(f.Key, "a string", f.Kind)
	}
	p.loraList = true
	for i, at := range p.doc.Elems(f.Root) {
		n := p.doc.Nodes[at]
		if n.Kind != jsonscan.String && n.Kind != jsonscan.Null {
			return wrongType(fmt.Sprintf("%s[%d]", f.Key, i), "a string", n.Kind)
		}
		path := ""
		if n.Kind == jsonscan.String {
			path = string(n.Text(p.body))
		}
		if len(path) > MaxName {
			return tooLong(fmt.Sprintf("%s[%d]", f.Key, i), len(path))
		}
		if i > 0 && path != p.LoRA {
			return &FieldError{f.Key, "Invalid 'lora_path': expected the same adapter for all prompts of a batch."}
		}
		p.LoRA = path
	}
	return nil
}

func (p *parser) takeSession(f *jsonscan.Field) *FieldError {
	object := f.Root
	if f.Kind == jsonscan.Array && p.doc.Nodes[f.Root].Next > uint32(f.Root+1) {
		object = f.Root + 1 // of a batch the first stands for all
	}
	if f.Kind != jsonscan.Object && f.Kind != jsonscan.Array {
		return wrongType(f.Key, "an object", f.Kind)
	}
	p.EngineSession = p.Route == Generate && p.doc.Nodes[f.Root].Next > uint32(f.Root+1)
	if p.doc.Nodes[object].Kind != jsonscan.Object {
		return nil
	}
	at := p.doc.Member(p.body, object, "id")
	if at < 0 || p.doc.Nodes[at].Kind != jsonscan.String {
		return nil
	}
	id := p.doc.Nodes[at].Text(p.body)
	if len(id) > MaxName {
		return tooLong("session_params.id", len(id))
	}
	p.inParams = string(id)
	if p.Route == Generate {
		p.SessionID = p.inParams
	}
	return nil
}

func (p *parser) takeResponseFormat(f *jsonscan.Field) *FieldError {
	if f.Kind != jsonscan.Object {
		return wrongType(f.Key, "an object", f.Kind)
	}
	at := p.doc.Member(p.body, f.Root, "type")
	p.Structured = p.Structured || at >= 0 && string(p.doc.Nodes[at].Text(p.body)) != "text"
	return nil
}

// takeSampling reads /generate's sampling_params: one object, or one for each prompt, of which the most
// demanding values count.
func (p *parser) takeSampling(f *jsonscan.Field) *FieldError {
	switch f.Kind {
	case jsonscan.Object:
		return p.takeSamplingOf(f.Key, f.Root)
	case jsonscan.Array:
		for i, at := range p.doc.Elems(f.Root) {
			field := fmt.Sprintf("%s[%d]", f.Key, i)
			if kind := p.doc.Nodes[at].Kind; kind != jsonscan.Object {
				return wrongType(field, "an object", kind)
			}
			if err := p.takeSamplingOf(field, at); err != nil {
				return err
			}
		}
		return nil
	}
	return wrongType(f.Key, "an object", f.Kind)
}

func (p *parser) takeSamplingOf(field string, object int) *FieldError {
	for k, v := range p.doc.Pairs(object) {
		n := p.doc.Nodes[v]
		if n.Kind == jsonscan.Null {
			continue
		}
		var err *FieldError
		var x int
		switch string(p.doc.Nodes[k].Text(p.body)) {
		case "max_new_tokens":
			p.HasMaxTokens = true
			x, err = integer(field+".max_new_tokens", n.Kind, n.Raw(p.body), 0)
			p.MaxTokens = max(p.MaxTokens, x)
		case "min_new_tokens":
			x, err = integer(field+".min_new_tokens", n.Kind, n.Raw(p.body), 0)
			p.MinTokens = max(p.MinTokens, x)
		case "n":
			x, err = count(field+".n", n.Kind, n.Raw(p.body))
			p.N = max(p.N, x)
		case "ignore_eos":
			p.IgnoreEOS = p.IgnoreEOS || n.Kind == jsonscan.True
		case "json_schema", "regex", "ebnf", "structural_tag":
			p.Structured = p.Structured || constrains(n.Kind, n.Raw(p.body))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func bodyError(err error) *FieldError {
	const lead = "We could not parse the JSON body of your request: "
	e, ok := errors.AsType[*jsonscan.Error](err)
	switch {
	case ok && e.Code == jsonscan.NotObject:
		return &FieldError{"", "Invalid type for the request body: expected an object."}
	case ok && e.Code == jsonscan.Duplicate:
		return &FieldError{e.Key, fmt.Sprintf("Duplicate parameter: '%s'.", e.Key)}
	}
	return &FieldError{"", lead + err.Error() + "."}
}
