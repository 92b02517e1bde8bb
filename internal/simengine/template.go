package simengine

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A part is a piece of a message's content. Of anything but text only its bytes matter.
type part struct {
	kind string
	text string
	raw  json.RawMessage
}

// asPart reads a part of a chat's content.
func asPart(raw json.RawMessage) (p part, _ []complaint) {
	raw, bad := asObject(raw)
	if bad != nil {
		return p, bad
	}
	f := readFields(raw)
	p.raw = raw
	p.kind = must(f, "type", asChoice("text", "thinking", "reasoning", "image_url", "video_url", "audio_url", "input_audio", "tool_reference"))
	if p.kind == "text" {
		p.text = must(f, "text", asText)
	}
	return p, f.complaints
}

// render appends the tokens of a chat, as a ChatML template writes it: the tools, then every message between
// its own marks, then the opening of the answer; or, to continue the assistant's last message, nothing after
// its text.
func (e *Engine) render(dst []int32, tools json.RawMessage, messages []message, continued bool) []int32 {
	if text := compact(tools); text != "" && text != "null" && text != "[]" {
		dst = open(dst, "system")
		dst = appendTokens(dst, "# Tools\n")
		dst = appendTokens(dst, text)
		dst = closeMessage(dst)
	}
	for i, m := range messages {
		dst = open(dst, m.role)
		dst = e.appendContent(dst, m.content)
		for _, call := range m.calls {
			dst = appendTokens(dst, "\n<tool_call>\n"+call.name+"\n")
			dst = appendTokens(dst, call.arguments)
			dst = appendTokens(dst, "\n</tool_call>")
		}
		if continued && i == len(messages)-1 && m.role == "assistant" {
			return dst
		}
		dst = closeMessage(dst)
	}
	return open(dst, "assistant")
}

func open(dst []int32, role string) []int32 {
	dst = append(dst, tokenStart)
	dst = appendTokens(dst, role)
	return appendTokens(dst, "\n")
}

func closeMessage(dst []int32) []int32 {
	return appendTokens(append(dst, tokenEnd), "\n")
}

// appendContent appends a content that was read before: a text, a list of parts, or nothing.
func (e *Engine) appendContent(dst []int32, content json.RawMessage) []int32 {
	if isNull(content) {
		return dst
	}
	if text, bad := asText(content); bad == nil {
		return appendTokens(dst, text)
	}
	parts, _ := listOf(asPart)(content)
	for _, p := range parts {
		if p.kind == "text" {
			dst = appendTokens(dst, p.text)
			continue
		}
		dst = e.appendAttachment(dst, compact(p.raw))
	}
	return dst
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
