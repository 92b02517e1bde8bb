package replay

import (
	"bytes"
	"cmp"
)

// A chunk is what matters of one JSON document that an engine answers with: an event of a stream or a whole
// reply, of /v1/chat/completions or of /generate. Its memory is reused.
type chunk struct {
	text   []byte // output text, unescaped; all so far if /generate streams cumulatively
	hidden int    // bytes of output that is not text: reasoning, tool calls
	native bool   // text came from /generate

	failed  bool   // an error object, or a generation that was aborted
	message []byte // what the error says, unescaped

	usage usage
}

// usage holds token counts; -1 is "not reported".
type usage struct {
	prompt, output, cached int64
}

var noUsage = usage{prompt: -1, output: -1, cached: -1}

// merge takes from u what later reports: counts are cumulative, so the last report is the truest.
func (u *usage) merge(later usage) {
	if later.prompt >= 0 {
		u.prompt = later.prompt
	}
	if later.output >= 0 {
		u.output = later.output
	}
	if later.cached >= 0 {
		u.cached = later.cached
	}
}

// parse reads one document. Of several choices it reads the first.
func (c *chunk) parse(doc []byte) error {
	*c = chunk{text: c.text[:0], message: c.message[:0], usage: noUsage}
	s := scanner{b: doc}
	if s.peek() != '{' {
		return errMalformed
	}
	details := int64(-1)
	s.at++
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		switch string(key) {
		case "choices":
			c.choices(&s)
		case "text":
			c.native = s.peek() == '"'
			c.text = s.text(c.text)
		case "usage", "meta_info":
			c.counts(&s)
		case "sglext":
			details = sglext(&s)
		case "error":
			c.errorValue(&s)
		case "object": // SGLang's flat errors: {"object":"error","message":…}
			if raw, _ := s.strOrSkip(); string(raw) == "error" {
				c.failed = true
			}
		case "message":
			c.message = s.text(c.message)
		default:
			s.skip()
		}
	}
	if c.usage.cached < 0 {
		c.usage.cached = details
	}
	if s.peek() != 0 {
		s.fail()
	}
	return s.err
}

func (c *chunk) choices(s *scanner) {
	if !s.enter('[') {
		return
	}
	for first := true; s.element(first, ']'); first = false {
		if !first {
			s.skip()
			continue
		}
		if !s.enter('{') {
			continue
		}
		for key, ok := s.member(true); ok; key, ok = s.member(false) {
			switch string(key) {
			case "delta", "message":
				c.delta(s)
			case "finish_reason":
				c.finishReason(s)
			default:
				s.skip()
			}
		}
	}
}

func (c *chunk) delta(s *scanner) {
	if !s.enter('{') {
		return
	}
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		switch string(key) {
		case "content":
			c.text = s.text(c.text)
		case "reasoning_content", "tool_calls":
			// Not null, not "", not []: something was generated.
			s.peek()
			start := s.at
			s.skip()
			if size := s.at - start; size > len(`""`) && s.b[start] != 'n' {
				c.hidden += size
			}
		default:
			s.skip()
		}
	}
}

// counts reads an OpenAI usage object or SGLang's meta_info: they share the names.
func (c *chunk) counts(s *scanner) {
	if !s.enter('{') {
		return
	}
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		switch string(key) {
		case "prompt_tokens":
			c.usage.prompt = s.count()
		case "completion_tokens":
			c.usage.output = s.count()
		case "cached_tokens":
			c.usage.cached = s.count()
		case "prompt_tokens_details":
			if !s.enter('{') {
				continue
			}
			for key, ok := s.member(true); ok; key, ok = s.member(false) {
				if string(key) == "cached_tokens" {
					c.usage.cached = s.count()
				} else {
					s.skip()
				}
			}
		case "finish_reason":
			c.finishReason(s)
		default:
			s.skip()
		}
	}
}

// finishReason reads a string (chat) or an object with a type (/generate). "abort" is how SGLang says that
// a generation was ended from outside, or refused after the stream had begun.
func (c *chunk) finishReason(s *scanner) {
	var kind []byte
	if s.peek() != '{' {
		kind, _ = s.strOrSkip()
	} else {
		s.at++
		for key, ok := s.member(true); ok; key, ok = s.member(false) {
			switch string(key) {
			case "type":
				kind, _ = s.strOrSkip()
			case "message":
				c.message = s.text(c.message[:0])
			default:
				s.skip()
			}
		}
	}
	if string(kind) == "abort" {
		c.failed = true
		if len(c.message) == 0 {
			c.message = append(c.message, "aborted"...)
		}
	}
}

// errorValue reads the shapes that engines use: an object with a message, or a string.
func (c *chunk) errorValue(s *scanner) {
	switch s.peek() {
	case '"':
		c.failed = true
		c.message = s.text(c.message[:0])
	case '{':
		c.failed = true
		s.at++
		for key, ok := s.member(true); ok; key, ok = s.member(false) {
			if string(key) == "message" {
				c.message = s.text(c.message[:0])
			} else {
				s.skip()
			}
		}
	default: // null: no error
		s.skip()
	}
}

// sglext sums SGLang's cached tokens by tier, which it reports on request even where usage has no details.
func sglext(s *scanner) int64 {
	total := int64(-1)
	if !s.enter('{') {
		return total
	}
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		if string(key) != "cached_tokens_details" {
			s.skip()
			continue
		}
		if !s.enter('{') {
			continue
		}
		for key, ok := s.member(true); ok; key, ok = s.member(false) {
			switch string(key) {
			case "device", "host", "storage":
				if n := s.count(); n >= 0 {
					total = max(total, 0) + n
				}
			default:
				s.skip()
			}
		}
	}
	return total
}

// count reads a number, or -1 if there is none.
func (s *scanner) count() int64 {
	if n, ok := s.number(); ok {
		return n
	}
	return -1
}

// strOrSkip reads a string, or skips what is none and returns nil.
func (s *scanner) strOrSkip() (raw []byte, escaped bool) {
	if s.peek() != '"' {
		s.skip()
		return nil, false
	}
	return s.str()
}

// errorText finds the words in an error body: what its JSON says, else its beginning.
func (c *chunk) errorText(body []byte) string {
	said := body
	if c.parse(body) == nil && len(c.message) > 0 {
		said = c.message
	}
	said = bytes.TrimSpace(said)
	return string(bytes.ToValidUTF8(said[:min(len(said), maxMessage)], nil))
}

// maxMessage bounds the part of an error's text that is kept, in bytes.
const maxMessage = 200

// sample is the text kept for a failed chunk.
func (c *chunk) sample() string {
	said := c.message[:min(len(c.message), maxMessage)]
	return cmp.Or(string(bytes.ToValidUTF8(said, nil)), "no message")
}
