package simengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A message is one turn of a chat.
type message struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"` // a string, null, or a list of parts
	ToolCalls []toolCall      `json:"tool_calls"`
}

type toolCall struct {
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
}

// A part is a piece of a message's content. Of anything but text only its bytes matter.
type part struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

var errNoMessages = errors.New("messages must not be empty")

// render appends the tokens of a chat, as a ChatML template writes it: the tools, then every message between
// its own marks, then the opening of the answer; or, to continue the last message, nothing after its text.
func (e *Engine) render(dst []int32, tools json.RawMessage, messages []message, continued bool) ([]int32, error) {
	if len(messages) == 0 {
		return nil, errNoMessages
	}
	if text := compact(tools); text != "" && text != "null" && text != "[]" {
		dst = open(dst, "system")
		dst = appendTokens(dst, "# Tools\n")
		dst = appendTokens(dst, text)
		dst = closeMessage(dst)
	}
	for i, m := range messages {
		if m.Role == "" {
			return nil, fmt.Errorf("messages[%d] has no role", i)
		}
		dst = open(dst, m.Role)
		var err error
		if dst, err = e.appendContent(dst, m.Content); err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
		for _, call := range m.ToolCalls {
			dst = appendTokens(dst, "\n<tool_call>\n"+call.Function.Name+"\n")
			dst = appendTokens(dst, arguments(call.Function.Arguments))
			dst = appendTokens(dst, "\n</tool_call>")
		}
		if continued && i == len(messages)-1 {
			return dst, nil
		}
		dst = closeMessage(dst)
	}
	return open(dst, "assistant"), nil
}

func open(dst []int32, role string) []int32 {
	dst = append(dst, tokenStart)
	dst = appendTokens(dst, role)
	return appendTokens(dst, "\n")
}

func closeMessage(dst []int32) []int32 {
	return appendTokens(append(dst, tokenEnd), "\n")
}

func (e *Engine) appendContent(dst []int32, content json.RawMessage) ([]int32, error) {
	content = bytes.TrimSpace(content)
	if len(content) == 0 || string(content) == "null" {
		return dst, nil
	}
	if content[0] == '"' {
		var text string
		if err := json.Unmarshal(content, &text); err != nil {
			return nil, err
		}
		return appendTokens(dst, text), nil
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(content, &parts); err != nil {
		return nil, errors.New("content is neither a string nor a list of parts")
	}
	for _, raw := range parts {
		var p part
		if err := json.Unmarshal(raw, &p); err != nil || p.Type == "" {
			return nil, errors.New("a part of the content has no type")
		}
		if p.Type == "text" || p.Type == "input_text" {
			dst = appendTokens(dst, p.Text)
			continue
		}
		dst = e.appendAttachment(dst, compact(raw))
	}
	return dst, nil
}

// appendAttachment appends a fixed number of tokens that depend on all of the attachment's bytes, so that
// equal images share their cache and different ones part at once.
func (e *Engine) appendAttachment(dst []int32, data string) []int32 {
	dst = append(dst, tokenImage)
	state := uint64(14695981039346656037)
	for i := range len(data) {
		state = (state ^ uint64(data[i])) * 1099511628211
	}
	for range e.cfg.ImageTokens - 1 {
		state = mix(state)
		dst = append(dst, firstPiece+int32(state%(vocabulary-firstPiece)))
	}
	return dst
}

// arguments returns a call's arguments as text; OpenAI sends them as a string that holds JSON.
func arguments(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return compact(raw)
}

// compact removes the spacing, which templates do not see.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return strings.TrimSpace(string(raw))
	}
	return b.String()
}
