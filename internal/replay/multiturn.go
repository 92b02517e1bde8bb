package replay

// MultiturnConfig shapes generated conversations. The zero value of every field means its documented
// default, which is that of SGLang's benchmark/hicache/bench_multiturn.py unless said otherwise.
type MultiturnConfig struct {
	// Rounds is the number of turns of a conversation. Default 5.
	Rounds int
	// InputTokens is the length of each question, about four bytes a token. Default 512.
	InputTokens int
	// OutputTokens is the length asked of each reply. Default 64.
	OutputTokens int
	// SystemPrompts is the number of distinct system prompts; conversation n has prompt n modulo that.
	// Default 0: conversations share nothing.
	SystemPrompts int
	// SystemTokens is the length of each system prompt. Default 2048 when SystemPrompts is set, as in the
	// generated-shared-prefix workload of SGLang's bench_serving.
	SystemTokens int
}

// multiturnClients is the natural size of the workload: bench_multiturn's number of clients.
const multiturnClients = 256

// maxPromptBytes bounds what one generated conversation may grow to, replies aside.
const maxPromptBytes = 64 << 20

// Multiturn is a workload of generated conversations in the manner of SGLang's bench_multiturn: each turn is
// all that was said before, the model's real replies included, and a new question. It has no end; its
// natural size is 256 conversations. A conversation whose reply failed is over.
//
// With one infinite cache and replies of the length asked for, prior text is all that hits. At the defaults
// that is 5,760 of 8,320 tokens, or 69.2 %, before what a chat template adds.
type Multiturn struct{ cfg MultiturnConfig }

// NewMultiturn checks cfg and applies its defaults.
func NewMultiturn(cfg MultiturnConfig) (*Multiturn, error) {
	var s settings
	s.number("rounds", &cfg.Rounds, 5, 1<<16)
	s.number("input tokens", &cfg.InputTokens, 512, maxPromptBytes/wordBytes)
	s.number("output tokens", &cfg.OutputTokens, 64, maxPromptBytes/wordBytes)
	s.number("system prompts", &cfg.SystemPrompts, 0, 1<<30)
	systemDefault := 0
	if cfg.SystemPrompts > 0 {
		systemDefault = 2048
	}
	s.number("system tokens", &cfg.SystemTokens, systemDefault, maxPromptBytes/wordBytes)
	if cfg.SystemTokens > 0 && cfg.SystemPrompts == 0 {
		s.wrong("system tokens without system prompts")
	}
	if len(s.errs) == 0 && (cfg.Rounds*cfg.InputTokens+cfg.SystemTokens)*wordBytes > maxPromptBytes {
		s.wrong("a conversation would pass %d bytes", maxPromptBytes)
	}
	if err := s.err("multiturn"); err != nil {
		return nil, err
	}
	return &Multiturn{cfg: cfg}, nil
}

func (m *Multiturn) Name() string { return "multiturn" }

func (m *Multiturn) Params() map[string]any {
	return map[string]any{
		"rounds":         m.cfg.Rounds,
		"input_tokens":   m.cfg.InputTokens,
		"output_tokens":  m.cfg.OutputTokens,
		"system_prompts": m.cfg.SystemPrompts,
		"system_tokens":  m.cfg.SystemTokens,
	}
}

func (m *Multiturn) Supports(api API) bool { return api == Chat || api == Generate }

func (m *Multiturn) Size() (conversations, requests int) {
	return multiturnClients, multiturnClients * m.cfg.Rounds
}

func (m *Multiturn) Conversation(n int, seed uint64, api API) (Conversation, bool) {
	if n < 0 {
		return nil, false
	}
	d := dialogue{
		rng:       stream(seed, questionText, uint64(n)),
		chat:      api == Chat,
		turns:     m.cfg.Rounds,
		question:  exactly(m.cfg.InputTokens),
		maxTokens: m.cfg.OutputTokens,
	}
	if m.cfg.SystemPrompts > 0 {
		group := uint64(n % m.cfg.SystemPrompts)
		d.begin("system")
		d.history = appendWords(d.history, stream(seed, systemText, group), m.cfg.SystemTokens)
		d.end()
	}
	return &d, true
}
