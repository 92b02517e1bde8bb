package prefix

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/minio/highwayhash"
)

// This file is the canonical form written down a second time, slowly: on decoded values, with the whole form in
// memory. The tests hold the package against it.

// A reference is what one prompt should become.
type reference struct {
	kind    byte
	text    []byte // the canonical form
	shaping []byte // what goes into the chain's first value besides the namespace
}

func decode(body []byte) map[string]any {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		panic(fmt.Sprintf("%v in %q", err, body))
	}
	return v
}

// references renders the prompts of a body that Parse has accepted.
func references(k Key, route Route, body []byte) []reference {
	v := decode(body)
	var refs []reference
	ids := func(list any) []byte {
		var b []byte
		for _, id := range list.([]any) {
			x, err := id.(json.Number).Int64()
			if err != nil {
				panic(err)
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(x))
		}
		return b
	}
	prompts := func(value any, suffix string) {
		switch value := value.(type) {
		case string:
			refs = append(refs, reference{kind: 1, text: []byte(value + suffix)})
		case []any:
			switch value[0].(type) {
			case json.Number:
				refs = append(refs, reference{kind: 2, text: ids(value)})
			default:
				for _, one := range value {
					if s, ok := one.(string); ok {
						refs = append(refs, reference{kind: 1, text: []byte(s + suffix)})
					} else {
						refs = append(refs, reference{kind: 2, text: ids(one)})
					}
				}
			}
		}
	}
	switch route {
	case Chat:
		if v["input_ids"] != nil {
			return []reference{{kind: 2, text: ids(v["input_ids"])}}
		}
		r := reference{kind: 3, text: chat(k, v)}
		for _, key := range []string{"chat_template_kwargs", "reasoning_effort", "reasoning", "use_audio_in_video", "images_config", "max_dynamic_patch", "min_dynamic_patch"} {
			r.shaping = append(r.shaping, shaping(key, v[key])...)
		}
		return []reference{r}
	case Completions:
		suffix, _ := v["suffix"].(string)
		if suffix != "" {
			suffix = "\xf9s" + suffix
		}
		prompts(v["prompt"], suffix)
		return refs
	case Messages:
		return []reference{{kind: 5, text: messages(k, v), shaping: messagesShaping(v)}}
	case Responses:
		return []reference{{kind: 6, text: responses(k, v), shaping: responsesShaping(v)}}
	}
	if route.ByLoad() {
		return nil
	}
	switch {
	case v["input_embeds"] != nil:
		return nil
	case v["input_ids"] != nil:
		prompts(v["input_ids"], "")
	default:
		prompts(v["text"], "")
	}
	batch := v["text"]
	if v["input_ids"] != nil {
		batch = v["input_ids"]
	}
	isBatch := false
	if list, ok := batch.([]any); ok {
		_, number := list[0].(json.Number)
		isBatch = !number
	}
	for i := range refs {
		for _, key := range []string{"image_data", "video_data", "audio_data", "modalities", "session_params",
			"use_audio_in_video", "images_config", "max_dynamic_patch", "min_dynamic_patch", "image_max_dynamic_patch", "video_max_dynamic_patch"} {
			value := v[key]
			if list, ok := value.([]any); ok && isBatch && len(list) == len(refs) {
				value = list[i]
				if value == nil || empties(value) {
					refs[i].shaping = fmt.Appendf(refs[i].shaping, "\xf9%s\xfb%s", key, canonicalJSON(value))
					continue
				}
			}
			refs[i].shaping = append(refs[i].shaping, shaping(key, value)...)
		}
	}
	return refs
}

func empties(v any) bool {
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	return isList && len(list) == 0 || isObject && len(object) == 0
}

func shaping(key string, v any) []byte {
	if v == nil || empties(v) {
		return nil
	}
	return fmt.Appendf(nil, "\xf9%s\xfb%s", key, canonicalJSON(v))
}

func chat(k Key, v map[string]any) []byte {
	var b []byte
	if tools, _ := v["tools"].([]any); len(tools) > 0 && v["tool_choice"] != "none" {
		b = append(b, "\xf9T"...)
		only, named := "", false
		if choice, ok := v["tool_choice"].(map[string]any); ok {
			if f, ok := choice["function"].(map[string]any); ok {
				only, named = f["name"].(string)
			}
		}
		for _, tool := range tools {
			name := any(nil)
			if f, ok := tool.(map[string]any)["function"].(map[string]any); ok {
				name = f["name"]
			}
			if !named || name == only {
				b = append(b, canonicalJSON(tool)...)
			}
		}
	}
	for _, m := range v["messages"].([]any) {
		m := m.(map[string]any)
		b = append(b, 0xF8)
		b = append(b, m["role"].(string)...)
		b = append(b, field('n', m["name"])...)
		b = append(b, field('r', m["reasoning_content"])...)
		b = append(b, "\xf9c"...)
		switch content := m["content"].(type) {
		case string:
			b = append(b, content...)
		case []any:
			for _, part := range content {
				b = append(b, contentPart(k, part.(map[string]any))...)
			}
		}
		b = append(b, field('T', m["tools"])...)
		b = append(b, field('t', m["tool_calls"])...)
		b = append(b, field('i', m["tool_call_id"])...)
	}
	return b
}

func contentPart(k Key, part map[string]any) []byte {
	switch t, _ := part["type"].(string); t {
	case "text":
		return []byte(part["text"].(string))
	case "image_url", "video_url", "audio_url", "input_audio":
		if value, ok := part[t]; ok {
			h, err := highwayhash.New128(k.bytes[:])
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(h, "%-32s%s%s", "radixbus/prefix/media/1", canonicalJSON(t), canonicalJSON(value))
			return h.Sum([]byte("\xfam"))
		}
	}
	return append([]byte("\xfaj"), canonicalJSON(part)...)
}

func field(letter byte, v any) []byte {
	if s, ok := v.(string); ok {
		if s == "" {
			return nil
		}
		return append([]byte{0xF9, letter}, s...)
	}
	if list, ok := v.([]any); v == nil || ok && len(list) == 0 {
		return nil
	}
	return append([]byte{0xF9, letter, 0xFA, 'j'}, canonicalJSON(v)...)
}

func canonicalJSON(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte("null")
	case bool:
		return fmt.Appendf(nil, "%v", v)
	case json.Number:
		return []byte(v)
	case string:
		return []byte("\xfb" + v + "\xfb")
	case []any:
		var list [][]byte
		for _, e := range v {
			list = append(list, canonicalJSON(e))
		}
		return slices.Concat([]byte("["), bytes.Join(list, []byte(",")), []byte("]"))
	}
	object := v.(map[string]any)
	var list [][]byte
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		list = append(list, slices.Concat(canonicalJSON(key), []byte(":"), canonicalJSON(object[key])))
	}
	return slices.Concat([]byte("{"), bytes.Join(list, []byte(",")), []byte("}"))
}

// hashes is the chain of a reference, without its bounds.
func (r reference) hashes(k Key, ns Namespace) []uint64 {
	sum := func(parts ...[]byte) []byte {
		h, err := highwayhash.New64(k.bytes[:])
		if err != nil {
			panic(err)
		}
		for _, p := range parts {
			h.Write(p)
		}
		return binary.LittleEndian.AppendUint64(nil, h.Sum64())
	}
	name := []byte(fmt.Sprintf("%-32s", "radixbus/prefix/seed/1"))
	name = append(name, 1, r.kind)
	for _, s := range []string{ns.Model, ns.LoRA, ns.Salt, ns.Tenant} {
		name = append(binary.LittleEndian.AppendUint64(name, uint64(len(s))), s...)
	}
	h := sum(name, r.shaping)
	var list []uint64
	rest := r.text
	for i := 0; ; i++ {
		size := []int{64, 256, 1024, 4096}[min(i/256, 3)]
		if len(rest) < size {
			return list
		}
		h = sum(h, make([]byte, 24), rest[:size])
		list = append(list, binary.LittleEndian.Uint64(h))
		rest = rest[size:]
	}
}

// tail returns what a prompt leaves in the chain's last, incomplete block, which no hash speaks for.
func tail(r *Request, k Key, ns Namespace, i int) []byte {
	w := writer{Request: r}
	w.key = k.bytes
	w.begin(w.seed(r.prompts[i].kind, i, ns), nil, MaxHashes)
	w.renderPrompt(r.prompts[i])
	return slices.Clone(w.buf[header : header+w.n])
}
