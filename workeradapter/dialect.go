package workeradapter

import (
	"bytes"
	"encoding/json"

	"github.com/radixbus/radixbus/internal/surface"
)

// What a stream's document is, as far as it matters here.
type documentKind uint8

const (
	plainDocument documentKind = iota
	preamble                   // comes before the engine knows whether it can answer: nothing is committed by it
	telling                    // may tell usage or an error: it is read
	closing                    // the last one; it is read too
)

// kindOf tells what a stream's document is, in the dialect of its route, without parsing what cannot be of interest.
func kindOf(dialect surface.Dialect, doc []byte) documentKind {
	switch dialect {
	case surface.Anthropic:
		return kindOfMessage(doc)
	case surface.Responses:
		return kindOfResponse(doc)
	}
	if string(doc) == "[DONE]" {
		return closing
	}
	if interesting(doc) {
		return telling
	}
	return plainDocument
}

// interesting tells whether a document of OpenAI's or SGLang's streams may hold more than text.
func interesting(doc []byte) bool {
	return bytes.Contains(doc[:min(len(doc), errorWithin)], []byte(`"error"`)) ||
		has(doc, `"usage":`, '{') || has(doc, `"finish_reason":`, '{', '"') || bytes.Contains(doc, []byte(`"sglext"`))
}

// errorWithin is how far into a document "error" stands, as a key or as the value of "object", if it reports one.
const errorWithin = 64

// has tells whether key is followed by a value that begins with one of the bytes.
func has(doc []byte, key string, begins ...byte) bool {
	for at := 0; ; {
		i := bytes.Index(doc[at:], []byte(key))
		if i < 0 {
			return false
		}
		at += i + len(key)
		rest := bytes.TrimLeft(doc[at:], " ")
		if len(rest) > 0 && bytes.IndexByte(begins, rest[0]) >= 0 {
			return true
		}
	}
}

func kindOfMessage(doc []byte) documentKind {
	if !mentions(doc, "message_start", "ping", "message_delta", "message_stop", "error") {
		return plainDocument
	}
	switch typeOf(doc) {
	case "message_start", "ping":
		return preamble
	case "message_delta", "error":
		return telling
	case "message_stop":
		return closing
	}
	return plainDocument
}

func kindOfResponse(doc []byte) documentKind {
	if string(doc) == "[DONE]" {
		return closing
	}
	if !mentions(doc, "response.created", "response.queued", "response.in_progress", "response.completed", "response.incomplete", "response.failed", "response.cancelled", "error") {
		return plainDocument
	}
	switch typeOf(doc) {
	case "response.created", "response.queued", "response.in_progress":
		return preamble
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled":
		return closing
	case "error":
		return telling
	}
	return plainDocument
}

// mentions tells whether one of the words stands in the document as a whole string.
func mentions(doc []byte, words ...string) bool {
	for _, word := range words {
		if i := bytes.Index(doc, []byte(word)); i > 0 && doc[i-1] == '"' {
			return true
		}
	}
	return false
}

func typeOf(doc []byte) string {
	var d struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(doc, &d) != nil {
		return ""
	}
	return d.Type
}
