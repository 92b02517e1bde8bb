package replay

import (
	"errors"
	"fmt"
)

// UniqueConfig shapes prompts that share nothing. The zero value of every field means its documented default.
type UniqueConfig struct {
	// PromptBytes is the exact length of each prompt's text. Default: as InputTokens says.
	PromptBytes int
	// InputTokens is the length of each prompt in words, each about a token. Default 1024, if PromptBytes is not set.
	InputTokens int
	// OutputTokens is the length asked of each reply. Default 128.
	OutputTokens int
}

// uniqueRequests is the natural size of the workload, SGLang's bench_serving's number of prompts.
const uniqueRequests = 1000

// Unique is a workload of single prompts of one length that share nothing, so that no cache helps (but for what a chat
// template puts before every prompt). It has no end; its natural size is 1,000 requests.
type Unique struct{ cfg UniqueConfig }

// NewUnique checks cfg and applies its defaults.
func NewUnique(cfg UniqueConfig) (*Unique, error) {
	var s settings
	if cfg.PromptBytes != 0 && cfg.InputTokens != 0 {
		s.wrong("prompt bytes and input tokens are two ways to say one thing")
	}
	s.number("prompt bytes", &cfg.PromptBytes, 0, maxPromptBytes)
	if cfg.PromptBytes == 0 {
		s.number("input tokens", &cfg.InputTokens, 1024, maxPromptBytes/wordBytes)
	}
	s.number("output tokens", &cfg.OutputTokens, 128, maxPromptBytes/wordBytes)
	if err := s.err("unique"); err != nil {
		return nil, err
	}
	return &Unique{cfg: cfg}, nil
}

func (u *Unique) Name() string { return "unique" }

func (u *Unique) Params() map[string]any {
	p := map[string]any{"output_tokens": u.cfg.OutputTokens}
	if u.cfg.PromptBytes > 0 {
		p["prompt_bytes"] = u.cfg.PromptBytes
	} else {
		p["input_tokens"] = u.cfg.InputTokens
	}
	return p
}

func (u *Unique) Supports(api API) bool { return api == Chat || api == Generate }

func (u *Unique) Size() (conversations, requests int) { return uniqueRequests, uniqueRequests }

func (u *Unique) Conversation(n int, seed uint64, _ API) (Conversation, bool) {
	if n < 0 {
		return nil, false
	}
	rng := stream(seed, questionText, uint64(n))
	var text []byte
	if u.cfg.PromptBytes > 0 {
		text = appendText(nil, rng, u.cfg.PromptBytes)
	} else {
		text = appendWords(nil, rng, u.cfg.InputTokens)
	}
	return &single{Turn{Text: text, MaxTokens: u.cfg.OutputTokens}}, true
}

// A single is a conversation of one turn.
type single struct{ turn Turn }

func (s *single) Next(Reply) (Turn, bool) {
	turn := s.turn
	s.turn = Turn{}
	return turn, turn.Text != nil
}

// settings collects what is wrong with a generated workload's shape.
type settings struct{ errs []error }

func (s *settings) wrong(format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf(format, args...))
}

// number puts a default in place of zero and checks the bounds, 0 and most.
func (s *settings) number(name string, value *int, def, most int) {
	if *value == 0 {
		*value = def
	}
	if *value < 0 || *value > most {
		s.wrong("%s %d is not in 0..%d", name, *value, most)
	}
}

func (s *settings) err(workload string) error {
	if len(s.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrConfig, workload, errors.Join(s.errs...))
}
