package prefix

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/minio/highwayhash"
)

// The canonical forms of /v1/messages and /v1/responses, written down a second time: see reference_test.go.

// pick is canonical JSON of the members of an object that keep lets pass. Null is as good as absent.
func pick(object map[string]any, keep func(key string, v any) bool) []byte {
	picked := map[string]any{}
	for key, v := range object {
		if v != nil && keep(key, v) {
			picked[key] = v
		}
	}
	return canonicalJSON(picked)
}

func says(v any) (string, bool) {
	s, _ := v.(string)
	return s, s != ""
}

func either(values ...any) (string, bool) {
	for _, v := range values {
		if s, ok := says(v); ok {
			return s, true
		}
	}
	return "", false
}

func media(k Key, canonical ...[]byte) []byte {
	h, err := highwayhash.New128(k.bytes[:])
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(h, "%-32s%s", "radixbus/prefix/media/1", bytes.Join(canonical, nil))
	return h.Sum([]byte("\xfam"))
}

func messages(k Key, v map[string]any) []byte {
	var b []byte
	choice, _ := v["tool_choice"].(map[string]any)
	var tools [][]byte
	all, _ := v["tools"].([]any)
	custom := false
	for _, tool := range all {
		tool := tool.(map[string]any)
		kind, _ := tool["type"].(string)
		if slices.ContainsFunc([]string{"web_search_", "computer_", "bash_", "text_editor_"}, func(family string) bool { return strings.HasPrefix(kind, family) }) {
			continue
		}
		custom = true
		name, _ := tool["name"].(string)
		only, _ := choice["name"].(string)
		switch {
		case choice["type"] == "tool" && name != only:
		case kind == "" || kind == "custom":
			tools = append(tools, pick(tool, func(key string, v any) bool {
				switch key {
				case "name", "input_schema", "defer_loading":
					return true
				case "description":
					return v != ""
				}
				return key == "strict" && v == true
			}))
		default:
			tools = append(tools, without(tool, "cache_control"))
		}
	}
	if custom && choice["type"] != "none" {
		b = append(b, "\xf9T"...)
		b = append(b, bytes.Join(tools, nil)...)
	}
	var system []string
	switch content := v["system"].(type) {
	case string:
		system = append(system, content)
	case []any:
		for _, block := range content {
			if block := block.(map[string]any); block["type"] == "text" && block["text"] != "" {
				system = append(system, block["text"].(string))
			}
		}
	}
	if s := strings.Join(system, "\n"); s != "" {
		b = append(b, "\xf8system\xf9c"+s...)
	}
	for _, m := range v["messages"].([]any) {
		m := m.(map[string]any)
		b = append(b, turn(k, m["role"].(string), m["content"])...)
	}
	return b
}

// without is canonical JSON of an object without one member.
func without(object map[string]any, member string) []byte {
	rest := map[string]any{}
	for key, v := range object {
		if key != member {
			rest[key] = v
		}
	}
	return canonicalJSON(rest)
}

func turn(k Key, role string, content any) []byte {
	if s, ok := content.(string); ok {
		return []byte("\xf8" + role + "\xf9c" + s)
	}
	var b, parts []byte
	said := false
	flush := func() {
		if said {
			b = append(b, "\xf8"+role+"\xf9c"...)
			b = append(b, parts...)
		}
		said, parts = false, nil
	}
	var thoughts []string
	var calls []byte
	for _, block := range content.([]any) {
		block := block.(map[string]any)
		switch block["type"] {
		case "thinking":
			if s, ok := says(block["thinking"]); ok {
				thoughts = append(thoughts, s)
			}
		case "redacted_thinking", "tool_reference":
		case "tool_use":
			calls = append(calls, pick(block, func(key string, v any) bool {
				object, isObject := v.(map[string]any)
				return key == "id" || key == "name" || key == "input" && !(isObject && len(object) == 0)
			})...)
		case "tool_result":
			if role != "user" {
				said = true
				parts = append(parts, "Tool result: "+ownResult(block["content"])...)
				continue
			}
			flush()
			b = append(b, "\xf8tool\xf9c"...)
			switch inner := block["content"].(type) {
			case string:
				b = append(b, inner...)
			case []any:
				for _, block := range inner {
					b = append(b, inResult(k, block.(map[string]any))...)
				}
			}
			if id, ok := either(block["tool_use_id"], block["id"]); ok {
				b = append(b, "\xf9i"+id...)
			}
		default:
			rendered, ok := plainBlock(k, block)
			said = said || ok
			parts = append(parts, rendered...)
		}
	}
	if role == "user" {
		flush()
		return b
	}
	b = append(b, "\xf8"+role...)
	if role == "assistant" && len(thoughts) > 0 {
		b = append(b, "\xf9r"+strings.Join(thoughts, "\n")...)
	}
	b = append(b, "\xf9c"...)
	b = append(b, parts...)
	if calls != nil {
		b = append(b, "\xf9t"...)
		b = append(b, calls...)
	}
	return b
}

// plainBlock renders a text, an image, a search result or something unknown, and says whether it is rendered.
func plainBlock(k Key, block map[string]any) ([]byte, bool) {
	switch block["type"] {
	case "text":
		return []byte(block["text"].(string)), true
	case "image":
		source, ok := block["source"].(map[string]any)
		if _, url := says(source["url"]); !ok || source["type"] != "base64" && !url {
			return nil, false
		}
		if _, data := says(source["data"]); source["type"] == "base64" && !data {
			return nil, false
		}
		return media(k, canonicalJSON("image"), canonicalJSON(source)), true
	case "search_result":
		found := search(block)
		return []byte(found), found != ""
	}
	return append([]byte("\xfaj"), without(block, "cache_control")...), true
}

func inResult(k Key, block map[string]any) []byte {
	switch block["type"] {
	case "tool_use", "tool_result", "thinking", "redacted_thinking":
		return nil
	case "tool_reference":
		if name, ok := either(block["tool_name"], block["name"]); ok {
			return []byte("\xfat\xfb" + name + "\xfb")
		}
		return nil
	}
	b, _ := plainBlock(k, block)
	return b
}

func ownResult(content any) string {
	if s, ok := content.(string); ok {
		return s
	}
	var lines []string
	list, _ := content.([]any)
	for _, block := range list {
		block := block.(map[string]any)
		line := ""
		switch block["type"] {
		case "text":
			line = block["text"].(string)
		case "search_result":
			line = search(block)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func search(block map[string]any) string {
	var lines []string
	if s, ok := says(block["title"]); ok {
		lines = append(lines, "Title: "+s)
	}
	source := block["source"]
	if object, ok := source.(map[string]any); ok {
		s, _ := either(object["url"], object["text"])
		source = s
	}
	if s, ok := says(source); ok {
		lines = append(lines, "Source: "+s)
	}
	var texts []string
	list, _ := block["content"].([]any)
	for _, part := range list {
		if part, ok := part.(map[string]any); ok && part["type"] == "text" {
			if s, ok := says(part["text"]); ok {
				texts = append(texts, s)
			}
		}
	}
	if texts != nil {
		lines = append(lines, "Content: "+strings.Join(texts, "\n"))
	}
	return strings.Join(lines, "\n")
}

func messagesShaping(v map[string]any) []byte {
	var b []byte
	if thinking, ok := v["thinking"].(map[string]any); ok {
		if kind, ok := says(thinking["type"]); ok {
			if kind != "disabled" {
				kind = "enabled"
			}
			b = append(b, shaping("thinking", kind)...)
		}
	}
	if config, ok := v["output_config"].(map[string]any); ok {
		if effort, ok := says(config["effort"]); ok {
			if effort == "xhigh" {
				effort = "max"
			}
			b = append(b, shaping("effort", effort)...)
		}
	}
	return b
}

func responses(k Key, v map[string]any) []byte {
	var b []byte
	var tools [][]byte
	rendered := false
	all, _ := v["tools"].([]any)
	for _, tool := range all {
		tool := tool.(map[string]any)
		kind, _ := tool["type"].(string)
		if slices.Contains(strings.Fields("web_search web_search_preview code_interpreter file_search image_generation computer_use_preview local_shell shell mcp tool_search"), kind) {
			continue
		}
		rendered = true
		if choice, ok := v["tool_choice"].(map[string]any); ok && (choice["type"] == "function" || choice["type"] == "custom") {
			function, _ := choice["function"].(map[string]any)
			only, named := says(choice["name"])
			if !named {
				only, named = function["name"].(string)
			}
			if name, _ := tool["name"].(string); named && name != only {
				continue
			}
		}
		switch kind {
		case "function", "custom", "namespace":
			tools = append(tools, pick(tool, func(key string, v any) bool {
				if format, ok := v.(map[string]any); ok && key == "format" && format["type"] == "text" {
					return false
				}
				return slices.Contains(strings.Fields("type name description parameters format tools defer_loading"), key) || key == "strict" && v == true
			}))
		default:
			tools = append(tools, canonicalJSON(tool))
		}
	}
	if rendered && v["tool_choice"] != "none" {
		b = append(b, "\xf9T"...)
		b = append(b, bytes.Join(tools, nil)...)
	}
	if s, ok := says(v["instructions"]); ok {
		b = append(b, "\xf8system\xf9c"+s...)
	}
	if s, ok := v["input"].(string); ok {
		return append(b, "\xf8user\xf9c"+s...)
	}
	for _, item := range v["input"].([]any) {
		b = append(b, responseItem(k, item.(map[string]any))...)
	}
	return b
}

func responseItem(k Key, item map[string]any) []byte {
	content := func(v any) []byte {
		if s, ok := v.(string); ok {
			return []byte(s)
		}
		var b []byte
		list, _ := v.([]any)
		for _, part := range list {
			part := part.(map[string]any)
			switch part["type"] {
			case "input_text", "output_text":
				b = append(b, part["text"].(string)...)
			case "input_image":
				if part["image_url"] == nil {
					b = append(b, contentPart(k, part)...)
					continue
				}
				b = append(b, media(k, canonicalJSON("input_image"), pick(part, func(key string, v any) bool {
					return slices.Contains(strings.Fields("image_url min_dynamic_patch max_dynamic_patch max_long_side_pixel"), key) || key == "detail" && v != "auto"
				}))...)
			default:
				b = append(b, contentPart(k, part)...)
			}
		}
		return b
	}
	kind, typed := item["type"].(string)
	if item["type"] == nil && item["role"] != nil {
		kind, typed = "message", true
	}
	switch {
	case !typed:
	case kind == "message":
		b := []byte("\xf8" + item["role"].(string))
		b = append(b, field('n', item["name"])...)
		b = append(b, field('r', item["reasoning_content"])...)
		b = append(b, "\xf9c"...)
		b = append(b, content(item["content"])...)
		b = append(b, field('T', item["tools"])...)
		b = append(b, field('t', item["tool_calls"])...)
		return append(b, field('i', item["tool_call_id"])...)
	case kind == "function_call" || kind == "custom_tool_call":
		b := append([]byte("\xf8assistant\xf9t"), pick(item, func(key string, _ any) bool {
			return slices.Contains(strings.Fields("name namespace arguments input"), key)
		})...)
		id, _ := either(item["call_id"], item["id"])
		return append(b, field('i', id)...)
	case kind == "function_call_output" || kind == "custom_tool_call_output":
		b := append([]byte("\xf8tool\xf9c"), content(item["output"])...)
		return append(b, field('i', item["call_id"])...)
	case kind == "reasoning":
		for _, member := range []any{item["summary"], item["content"]} {
			var texts []string
			list, _ := member.([]any)
			for _, part := range list {
				part, _ := part.(map[string]any)
				if s, ok := says(part["text"]); ok {
					texts = append(texts, s)
				}
			}
			if texts != nil {
				return []byte("\xf8assistant\xf9r" + strings.Join(texts, "\n"))
			}
		}
		if s, ok := says(item["encrypted_content"]); ok {
			return append([]byte("\xf8assistant\xf9r\xfaj"), canonicalJSON(s)...)
		}
		return nil
	}
	return append([]byte("\xf8\xfaj"), canonicalJSON(item)...)
}

func responsesShaping(v map[string]any) []byte {
	b := shaping("chat_template_kwargs", v["chat_template_kwargs"])
	if reasoning, ok := v["reasoning"].(map[string]any); ok {
		effort, given := reasoning["effort"]
		if !given {
			effort = "medium"
		}
		if effort != "" {
			b = append(b, shaping("effort", effort)...)
		}
	}
	if id, ok := says(v["previous_response_id"]); ok {
		b = append(b, "\xf9previous_response_id\xfb"+id...)
	}
	return b
}
