package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A trajectory is one recorded message list: one call per assistant message, its prompt being all messages
// before it, as recorded.
type trajectory struct {
	messages []byte // all messages, comma-separated
	calls    []trajectoryCall
}

type trajectoryCall struct {
	end       int // the prompt is messages[:end]
	maxTokens int
}

func newTrajectory(messages []json.RawMessage) (*trajectory, error) {
	var t trajectory
	var buf bytes.Buffer
	for i, raw := range messages {
		var m struct {
			Role      string          `json:"role"`
			Content   json.RawMessage `json:"content"`
			ToolCalls json.RawMessage `json:"tool_calls"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		if m.Role == "" {
			return nil, fmt.Errorf("message %d: %w", i, errors.New("no role"))
		}
		// An assistant message at the very start answers nothing: there was no call.
		if m.Role == "assistant" && buf.Len() > 0 {
			t.calls = append(t.calls, trajectoryCall{end: buf.Len(), maxTokens: tokensIn(recorded(m.Content) + recorded(m.ToolCalls))})
		}
		if buf.Len() > 0 {
			buf.WriteByte(',')
		}
		if err := json.Compact(&buf, raw); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	if len(t.calls) > 0 {
		t.messages = bytes.Clone(buf.Bytes()[:t.calls[len(t.calls)-1].end])
	}
	return &t, nil
}

// recorded is the size of a recorded output: of the text if it is one, else of its JSON; null is nothing.
func recorded(raw json.RawMessage) int {
	var text *string
	if json.Unmarshal(raw, &text) == nil {
		if text == nil {
			return 0
		}
		return len(*text)
	}
	return len(raw)
}

func (t *trajectory) requests() int             { return len(t.calls) }
func (t *trajectory) bytes() int                { return len(t.messages) + 16*len(t.calls) }
func (t *trajectory) start(uint64) Conversation { return &trajectoryReplay{trajectory: t} }

type trajectoryReplay struct {
	*trajectory
	next int
}

func (r *trajectoryReplay) Next(Reply) (Turn, bool) {
	if r.next == len(r.calls) {
		return Turn{}, false
	}
	call := r.calls[r.next]
	r.next++
	return Turn{Messages: r.messages[:call.end], MaxTokens: call.maxTokens}, true
}
