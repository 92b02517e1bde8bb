package replay

import (
	"fmt"
	"unicode/utf8"
)

// minisweCall is one recorded call: its input is the first Keep characters (code points) of the previous
// input, then Add.
type minisweCall struct {
	Keep int    `json:"keep"`
	Add  string `json:"add"`
	Out  string `json:"out"`
}

// A deltaSession keeps its inputs as differences, already escaped for JSON.
type deltaSession struct{ calls []deltaCall }

type deltaCall struct {
	keep      int // bytes of the previous escaped input
	add       string
	maxTokens int
}

func newDeltaSession(calls []minisweCall) (*deltaSession, error) {
	s := &deltaSession{calls: make([]deltaCall, 0, len(calls))}
	var input []byte
	for i, call := range calls {
		keep, ok := escapedPrefix(input, call.Keep)
		if !ok {
			return nil, fmt.Errorf("call %d keeps %d characters, more than the input before it has", i, call.Keep)
		}
		add := string(appendEscaped(nil, call.Add))
		input = append(input[:keep], add...)
		if len(input) > maxPromptBytes {
			return nil, fmt.Errorf("call %d: %w: its input passes %d bytes", i, ErrTraceTooLarge, maxPromptBytes)
		}
		s.calls = append(s.calls, deltaCall{keep: keep, add: add, maxTokens: tokensIn(len(call.Out))})
	}
	return s, nil
}

// escapedPrefix returns how many bytes of text, escaped by appendEscaped, hold its first n characters.
func escapedPrefix(text []byte, n int) (int, bool) {
	at := 0
	for ; n > 0 && at < len(text); n-- {
		switch {
		case text[at] == '\\' && text[at+1] == 'u':
			at += len(`\u0000`)
		case text[at] == '\\':
			at += 2
		default:
			_, size := utf8.DecodeRune(text[at:])
			at += size
		}
	}
	return at, n == 0
}

func (s *deltaSession) requests() int             { return len(s.calls) }
func (s *deltaSession) start(uint64) Conversation { return &deltaReplay{deltaSession: s} }

func (s *deltaSession) bytes() int {
	total := 0
	for _, call := range s.calls {
		total += len(call.add) + 32
	}
	return total
}

type deltaReplay struct {
	*deltaSession
	next  int
	input []byte
}

func (r *deltaReplay) Next(Reply) (Turn, bool) {
	if r.next == len(r.calls) {
		return Turn{}, false
	}
	call := r.calls[r.next]
	r.next++
	r.input = append(r.input[:call.keep], call.add...)
	return Turn{Text: r.input, MaxTokens: call.maxTokens}, true
}
