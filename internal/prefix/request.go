package prefix

import "github.com/radixbus/radixbus/internal/jsonscan"

// A FieldError is a mistake of the client's, in words for the client.
type FieldError struct {
	Field   string // path of the field, as in "messages[2].content"; "" is the body itself
	Message string
}

func (e *FieldError) Error() string { return e.Message }

// A Request is what the gateway must know of a body. Fields the body leaves out, or sets to null,
// have their zero value unless said otherwise.
type Request struct {
	Route Route

	Model string // may be empty: the engine demands none, and /generate has no such field
	LoRA  string // lora_path; Model may name an adapter as "base:adapter" instead
	Salt  string // cache_salt and extra_key, told apart as the engine does; of a list, its elements joined by zero bytes

	Stream          bool
	IncludeUsage    bool // stream_options.include_usage
	ContinuousUsage bool // stream_options.continuous_usage_stats
	CachedDetails   bool // return_cached_tokens_details

	N            int  // completions of each prompt, at least 1; of several sampling_params the largest
	MaxTokens    int  // most output tokens of a completion; 0: unset, the engine has a default
	HasMaxTokens bool // tells an explicit 0 apart: prefill only in /generate, as good as unset in a chat
	MinTokens    int
	IgnoreEOS    bool // every completion has MaxTokens

	Rids        []string // the client's own request ids
	Session     string   // session_id, session_params.id or conversation_id, the first that is set: who shares it is better off on one worker
	SessionID   string   // of the session that one engine holds: of /generate the first session_params.id, of /open_session and /close_session session_id
	RoutingKey  string
	User        string // of /v1/messages also metadata.user_id
	Priority    int
	HasPriority bool
	DPRank      int // routed_dp_rank or data_parallel_rank
	HasDPRank   bool

	Prompts     int  // at least 1
	Batch       bool // the prompts came as a list, and so will the answer
	PromptBytes int  // length of the prompts' JSON, tools included; by load of what stands for the work, at most the body
	InputTokens int  // of all prompts, exact if they are token ids, otherwise 0
	MaxTokenID  int  // the largest id; an engine whose vocabulary ends below it may crash on it
	Media       int  // images, videos and sounds

	Structured    bool // the output is constrained: response_format, a schema, regex, grammar or structural tag
	Logprobs      bool
	HiddenStates  bool
	Tools         bool // the model may call tools
	Echo          bool
	Embeds        bool // the prompt is input_embeds: no digest
	ContinueFinal bool // continue_final_message
	EngineSession bool // session_params of /generate (elsewhere the engine ignores it): the prompt continues what one engine holds
	Disaggregated bool // bootstrap_host: the client pairs prefill and decode itself

	// Of /v1/responses.
	PreviousResponse string // previous_response_id: the prompt continues what one engine has stored
	ResponseID       string // request_id: the answer's id, if the client chooses it
	Store            bool   // unless switched off
	Background       bool

	// Points are where the body can be edited: the members for which [Editable] holds.
	Points jsonscan.Points

	body      []byte
	doc       jsonscan.Doc
	prompts   []prompt // the first MaxDigests
	onlyTool  string   // if namedTool: the name of the tool that is rendered, and no other
	namedTool bool
	noTools   bool

	// Where a small request's slices live, so that it is one allocation.
	fieldRoom  [12]jsonscan.Field
	nodeRoom   [32]jsonscan.Node
	promptRoom [1]prompt
}

// A prompt is one prompt's place in the body. Of a conversation that is its messages.
type prompt struct {
	kind       promptKind
	escaped    bool
	start, end int
	tokens     int
}

// promptKind is part of a digest's first value: prompts of different kinds share nothing.
type promptKind uint8

const (
	textPrompt promptKind = iota + 1
	idsPrompt
	chatPrompt
	embedsPrompt
	messagesPrompt
	responsesPrompt
)

// Multimodal reports whether the prompt holds more than text.
func (r *Request) Multimodal() bool { return r.Media > 0 }
