package replay

import (
	"iter"
	"time"
	"unicode/utf8"
)

// A Workload is a numbered sequence of conversations. Its methods may be called concurrently.
type Workload interface {
	// Name is what reports call it.
	Name() string
	// Params are the settings that, with the seed, make it again.
	Params() map[string]any
	// Supports reports whether its turns can be sent to an API.
	Supports(API) bool
	// Size is one full run: conversations, and the requests in them. A workload that can go on beyond its
	// natural size does so if asked for more conversations.
	Size() (conversations, requests int)
	// Conversation starts the n-th conversation, counted from 0; false when there are no more. Equal
	// arguments give equal conversations.
	Conversation(n int, seed uint64, api API) (Conversation, bool)
}

// A Timed workload may know when its conversations began.
type Timed interface {
	Workload
	// Times yields conversations in the order in which they were recorded, each with its time from the first one on;
	// nil if none is known. Equal seeds give equal times.
	Times(seed uint64) iter.Seq2[int, time.Duration]
}

// A Conversation is a sequence of turns. It belongs to one user: calls do not overlap.
type Conversation interface {
	// Next returns the next turn given the outcome of the one before (the zero Reply at first); false
	// when the conversation is over.
	Next(Reply) (Turn, bool)
}

// A Turn is one request's prompt: either Messages or Text, valid until the conversation's next turn.
type Turn struct {
	// Messages holds the elements of a JSON array of chat messages: comma-separated, without brackets.
	Messages []byte
	// Text is the inside of a JSON string: escaped, without quotes. Chat sends it as one user message.
	Text []byte
	// MaxTokens is how many tokens the reply should have.
	MaxTokens int
	// Think is the pause after the reply before, if the workload knows it; otherwise [Config.Think] counts. Before a
	// conversation's first turn it means nothing.
	Think time.Duration
	// RoutingKey, if set, travels in the header x-smg-routing-key: what has the same key belongs to one worker.
	RoutingKey string
}

// A Reply is what became of a turn.
type Reply struct {
	// OK reports that the reply is complete.
	OK bool
	// Text is the model's output, valid until Next returns.
	Text []byte
}

// appendEscaped appends s as the inside of a JSON string. Every rune is escaped by itself, so the escaped
// form of a prefix is a prefix of the escaped form. Bytes that are not UTF-8 become U+FFFD.
func appendEscaped[S string | []byte](dst []byte, s S) []byte {
	const hex = "0123456789abcdef"
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := decodeRune(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i++
		start = i
	}
	return append(dst, s[start:]...)
}

// decodeRune lets appendEscaped take strings and byte slices without copying either.
func decodeRune[S string | []byte](s S) (rune, int) {
	var head [utf8.UTFMax]byte
	return utf8.DecodeRune(head[:copy(head[:], s)])
}

// tokensIn estimates tokens from bytes: about four a token in English text.
func tokensIn(bytes int) int { return max(1, (bytes+3)/4) }
