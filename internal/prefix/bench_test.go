package prefix_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/prefix"
)

// chatBody makes a chat of about size bytes: a system prompt, then turns whose text has a line
// break and a quotation now and then, or none if plain.
func chatBody(size int, plain bool) []byte {
	turn := strings.Repeat("The quick brown fox jumps over the lazy dog and thinks about what it has done. ", 25)
	if !plain {
		turn = strings.Repeat("The quick brown fox jumps over the lazy dog, and says \"enough\".\nThen it goes home. ", 25)
	}
	text, err := json.Marshal(turn)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	b.WriteString(`{"model":"llama-3.1-8b","stream":true,"max_tokens":256,"temperature":0.7,"messages":[`)
	fmt.Fprintf(&b, `{"role":"system","content":%s}`, text[:min(len(text), size/3)-1])
	b.Truncate(b.Len() - 1)
	b.WriteString(`"}`)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `,{"role":%q,"content":%s"}`, []string{"user", "assistant"}[i%2], text[:min(len(text)-1, max(40, size-b.Len()-42))])
	}
	b.WriteString("]}")
	return b.Bytes()
}

// agentBody makes what a coding agent sends: a long system prompt, tools with schemas, then files read by tool calls up to
// about size bytes.
func agentBody(route prefix.Route, size int) []byte {
	prose, err := json.Marshal(strings.Repeat("You are an agent that helps with code. Use the tools, and be brief.\n", 200))
	if err != nil {
		panic(err)
	}
	code, err := json.Marshal(strings.Repeat("func f(a, b int) string {\n\tif a > b {\n\t\treturn fmt.Sprintf(\"%d\", a-b)\n\t}\n\treturn \"\"\n}\n\n", 40))
	if err != nil {
		panic(err)
	}
	const schema = `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"file_path":{"type":"string","description":"The absolute path to the file to work on"},"old_string":{"type":"string","description":"The text to replace"},"new_string":{"type":"string","description":"The text to replace it with (must be different)"},"replace_all":{"type":"boolean","default":false}},"required":["file_path","old_string","new_string"],"additionalProperties":false}`
	var b bytes.Buffer
	if route == prefix.Messages {
		fmt.Fprintf(&b, `{"model":"m","max_tokens":32000,"stream":true,"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"},{"type":"text","text":%s,"cache_control":{"type":"ephemeral"}}]`, prose)
	} else {
		fmt.Fprintf(&b, `{"model":"m","store":false,"stream":true,"instructions":%s`, prose)
	}
	b.WriteString(`,"tools":[`)
	for i := range 25 {
		if i > 0 {
			b.WriteByte(',')
		}
		if route == prefix.Messages {
			fmt.Fprintf(&b, `{"name":"tool_%d","description":%s","input_schema":%s}`, i, prose[:1500], schema)
		} else {
			fmt.Fprintf(&b, `{"type":"function","name":"tool_%d","description":%s","parameters":%s,"strict":false}`, i, prose[:1500], schema)
		}
	}
	if route == prefix.Messages {
		b.WriteString(`],"messages":[{"role":"user","content":"Find the bug."}`)
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, `,{"role":"assistant","content":[{"type":"thinking","thinking":"I should read it.","signature":"c2ln"},{"type":"text","text":"I will read it."},{"type":"tool_use","id":"toolu_%d","name":"tool_1","input":{"file_path":"src/f.go","limit":%d}}]},{"role":"user","content":[{"tool_use_id":"toolu_%d","type":"tool_result","content":%s}]}`, i, i, i, code)
		}
	} else {
		b.WriteString(`],"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Find the bug."}]}`)
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, `,{"type":"reasoning","summary":[{"type":"summary_text","text":"I should read it."}]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I will read it."}]},{"type":"function_call","call_id":"call_%d","name":"tool_1","arguments":"{\"file_path\":\"src/f.go\"}"},{"type":"function_call_output","call_id":"call_%d","output":%s}`, i, i, code)
		}
	}
	b.WriteString("]}")
	return b.Bytes()
}

func benchmarkAgents(b *testing.B, f func(b *testing.B, route prefix.Route, body []byte)) {
	for _, route := range []prefix.Route{prefix.Messages, prefix.Responses} {
		for _, size := range []int{64 << 10, 220 << 10, 1 << 20} {
			body := agentBody(route, size)
			if !json.Valid(body) {
				b.Fatalf("the body is no JSON: %.300s", body)
			}
			b.Run(fmt.Sprintf("route=%s/bytes=%d", strings.TrimPrefix(route.String(), "/v1/"), size), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				f(b, route, body)
			})
		}
	}
}

func BenchmarkParseAgent(b *testing.B) {
	benchmarkAgents(b, func(b *testing.B, route prefix.Route, body []byte) {
		for b.Loop() {
			if _, err := prefix.Parse(route, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseDigestsAgent(b *testing.B) {
	k, err := prefix.NewKey([]byte("a secret for the benchmark"))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkAgents(b, func(b *testing.B, route prefix.Route, body []byte) {
		n := 0
		for b.Loop() {
			r, err := prefix.Parse(route, body)
			if err != nil {
				b.Fatal(err)
			}
			n = len(r.Digests(k, prefix.Namespace{Model: r.Model})[0].Hashes)
		}
		if n < prefix.DepthAt(int64(len(body)*3/4)) {
			b.Fatalf("the benchmark measured only %d hashes", n)
		}
	})
}

func BenchmarkParseByLoad(b *testing.B) {
	body := []byte(`{"model":"m","input":["` + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 5000) + `"]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := prefix.Parse(prefix.Embeddings, body); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkBodies(b *testing.B, f func(b *testing.B, body []byte)) {
	for _, text := range []string{"plain", "escaped"} {
		for _, size := range []int{1 << 10, 20 << 10, 220 << 10, 4 << 20} {
			body := chatBody(size, text == "plain")
			if !json.Valid(body) {
				b.Fatalf("the body is no JSON: %.300s", body)
			}
			b.Run(fmt.Sprintf("text=%s/bytes=%d", text, size), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				f(b, body)
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	benchmarkBodies(b, func(b *testing.B, body []byte) {
		for b.Loop() {
			if _, err := prefix.Parse(prefix.Chat, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseDigests(b *testing.B) {
	k, err := prefix.NewKey([]byte("a secret for the benchmark"))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkBodies(b, func(b *testing.B, body []byte) {
		n := 0
		for b.Loop() {
			r, err := prefix.Parse(prefix.Chat, body)
			if err != nil {
				b.Fatal(err)
			}
			n = len(r.Digests(k, prefix.Namespace{Model: r.Model})[0].Hashes)
		}
		if n < prefix.DepthAt(int64(len(body)*3/4)) && n != prefix.MaxHashes {
			b.Fatalf("the benchmark measured only %d hashes", n)
		}
	})
}
