package prefix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// The bodies that every variant below changes in one place.
const (
	baseMessages = `{"model":"m","max_tokens":9,"system":[{"type":"text","text":"You are a helpful assistant."},{"type":"text","text":"Answer in full sentences."}],"tools":[{"name":"f","description":"does something useful with the things that it is given","input_schema":{"type":"object","properties":{"a":{},"b":{}}}},{"name":"g","input_schema":{}}],"messages":[{"role":"user","content":"What is the answer?"},{"role":"assistant","content":[{"type":"thinking","thinking":"Let me ask.","signature":"c2ln"},{"type":"text","text":"I will ask."},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1,"b":2}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"It is 42."},{"type":"text","text":"Is that so?"},{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]},{"role":"assistant","content":"It is."},{"role":"user","content":"Thank you, that will be all for today, and I will ask you again when there is another question to be answered."}]}`

	baseResponses = `{"model":"m","instructions":"You are a helpful assistant who answers in full sentences.","tools":[{"type":"function","name":"f","description":"does something useful with the things that it is given","parameters":{"type":"object","properties":{"a":{},"b":{}}}},{"type":"custom","name":"g"}],"input":[{"role":"user","content":"What is the answer?"},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Let me ask."}]},{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"I will ask.","annotations":[]}]},{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{\"a\":1}","status":"completed"},{"type":"function_call_output","call_id":"call_1","output":"It is 42."},{"role":"user","content":[{"type":"input_text","text":"Is that so?"},{"type":"input_image","image_url":"https://example.com/a.png"}]},{"role":"user","content":"Thank you, that will be all for today, and I will ask you again when there is another question to be answered."}]}`
)

// A variant replaces a part of a body by another.
type variant struct{ old, new string }

func (v variant) of(t *testing.T, body string) string {
	t.Helper()
	if !strings.Contains(body, v.old) {
		t.Fatalf("%s is not in the body", v.old)
	}
	return strings.Replace(body, v.old, v.new, 1)
}

func checkVariants(t *testing.T, route Route, body string, none, some, all []variant) {
	t.Helper()
	want := one(t, route, body)
	if len(want.Hashes) < 8 {
		t.Fatalf("only %d hashes", len(want.Hashes))
	}
	for _, v := range none {
		if got := one(t, route, v.of(t, body)); !same(got, want) {
			t.Errorf("%s instead of %s matters: %d of %d hashes are shared", v.new, v.old, shared(got, want), len(want.Hashes))
		}
	}
	for _, v := range some {
		if got := one(t, route, v.of(t, body)); shared(got, want) == len(want.Hashes) && got.Bytes == want.Bytes {
			t.Errorf("%s instead of %s does not matter", v.new, v.old)
		}
	}
	for _, v := range all {
		if got := one(t, route, v.of(t, body)); shared(got, want) > 0 {
			t.Errorf("%s instead of %s: %d hashes are still shared", v.new, v.old, shared(got, want))
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		if again := reencode(rng, decode([]byte(body))); !same(one(t, route, string(again)), want) {
			t.Errorf("spelling matters: %s", again)
		}
	}
}

func TestWhatMattersInMessages(t *testing.T) {
	const model, mark = `"model":"m"`, `,"cache_control":{"type":"ephemeral"}}`
	var none []variant
	for _, member := range []string{
		`"temperature":0.5`, `"top_k":3`, `"stream":true`, `"user":"u"`, `"metadata":{"user_id":"u"}`, `"stop_sequences":["x"]`, `"betas":["x"]`, `"rid":"r"`,
		`"thinking":null`, `"output_config":{}`, `"output_config":{"effort":null,"format":{"type":"json_schema","schema":{}},"task_budget":{}}`,
		`"tool_choice":{"type":"auto","disable_parallel_tool_use":true}`, `"tool_choice":{"type":"any"}`, `"context_management":{"edits":[]}`, `"service_tier":"auto"`,
		`"model":"alias"`, `"reasoning_effort":"high"`, `"chat_template_kwargs":{"a":1}`, `"session_params":{"id":"s"}`, `"images_config":{"a":1}`,
	} {
		none = append(none, variant{model, member})
	}
	none = append(none,
		variant{`helpful assistant."}`, `helpful assistant."` + mark}, // Claude Code moves these from turn to turn
		variant{`"input_schema":{}}`, `"input_schema":{}` + mark},
		variant{`"content":"What is the answer?"`, `"content":[{"type":"text","text":"What is the answer?"` + mark + `]`},
		variant{`"content":"It is 42."}`, `"content":[{"type":"text","text":"It is 42."}],"is_error":true` + mark},
		variant{`"Is that so?"}`, `"Is that so?","citations":[]` + mark},
		variant{`"signature":"c2ln"`, `"signature":"b3RoZXI="`},
		variant{`"id":"toolu_1"`, `"id":"toolu_1","caller":{"type":"direct"}`},
		variant{`{"name":"g"`, `{"type":"custom","strict":false,"description":"","eager_input_streaming":true,"name":"g"`},
		variant{`{"name":"g"`, `{"type":"web_search_20250305","name":"web_search","max_uses":5},{"name":"g"`},
		variant{`"system":[{"type":"text","text":"You are a helpful assistant."},{"type":"text","text":"Answer in full sentences."}]`, `"system":"You are a helpful assistant.\nAnswer in full sentences."`},
		variant{`"system":[`, `"system":[{"type":"text","text":""},{"type":"image"},`},
		variant{`"messages":[`, `"messages":[{"role":"user","content":[]},`},
		variant{`{"type":"text","text":"Is that so?"}`, `{"type":"text","text":"Is that"},{"type":"image","source":{"type":"file","file_id":"x"}},{"type":"text","text":" so?"}`},
		variant{`"content":"It is 42."},{`, `"content":"It is 42."}]},{"role":"user","content":[{`}, // a result is a message of its own
		variant{`{"type":"thinking","thinking":"Let me ask.","signature":"c2ln"},{"type":"text","text":"I will ask."}`, `{"type":"text","text":"I will ask."},{"type":"thinking","thinking":"Let me ask."}`},
		variant{`"text":"Is that so?"}`, `"text":"Is that so?"},{"type":"thinking","thinking":"x"},{"type":"redacted_thinking","data":"x"},{"type":"tool_reference","tool_name":"x"}`},
	)
	some := []variant{
		{`"role":"assistant","content":"It is."`, `"role":"user","content":"It is."`},
		{`full sentences`, `full centences`},
		{`that will be all`, `this will be all`},
		{`something useful`, `something useless`},
		{`"name":"g"`, `"name":"h"`},
		{`"a":{},"b":{}`, `"a":{},"c":{}`},
		{`"input_schema":{}`, `"input_schema":{},"strict":true`},
		{`"input_schema":{}`, `"input_schema":{},"defer_loading":true`},
		{`"input_schema":{}`, `"input_schema":{},"type":"memory_20250818"`},
		{`"id":"toolu_1"`, `"id":"toolu_2"`},
		{`"tool_use_id":"toolu_1"`, `"tool_use_id":"toolu_2"`},
		{`"input":{"a":1,"b":2}`, `"input":{"a":1,"b":3}`},
		{`It is 42.`, `It is 43.`},
		{`Let me ask.`, `Let me see.`},
		{`a.png`, `b.png`},
		{`{"type":"text","text":"Is that so?"}`, `{"type":"document","source":{}}`},
		{`{"type":"text","text":"Is that so?"}`, `{"type":"search_result","title":"Is that so?"}`},
	}
	all := []variant{
		{model, `"tool_choice":{"type":"none"}`},
		{model, `"tool_choice":{"type":"tool","name":"g"}`},
		{model, `"thinking":{"type":"enabled","budget_tokens":2000}`},
		{model, `"thinking":{"type":"disabled"}`},
		{model, `"output_config":{"effort":"high"}`},
	}
	checkVariants(t, Messages, baseMessages, none, some, all)

	equal := func(name, a, b string) {
		t.Helper()
		x, y := one(t, Messages, strings.Replace(baseMessages, model, a, 1)), one(t, Messages, strings.Replace(baseMessages, model, b, 1))
		if !same(x, y) {
			t.Errorf("%s: %s and %s differ", name, a, b)
		}
	}
	equal("budgets", `"thinking":{"type":"enabled","budget_tokens":2000}`, `"thinking":{"type":"adaptive","display":"omitted"}`)
	equal("the highest effort", `"output_config":{"effort":"xhigh"}`, `"output_config":{"effort":"max"}`)

	found := strings.Replace(baseMessages, `{"type":"text","text":"Is that so?"}`, `{"type":"search_result","title":"T","source":{"url":"U"},"content":[{"type":"text","text":"p"},{"type":"text","text":"q"}],"citations":{"enabled":true}}`, 1)
	said := strings.Replace(baseMessages, "Is that so?", `Title: T\nSource: U\nContent: p\nq`, 1)
	if !same(one(t, Messages, found), one(t, Messages, said)) {
		t.Error("a search result is not what the engine makes of it")
	}
	top := strings.Replace(baseMessages, `"system":[`, `"other":[`, 1)
	first := strings.Replace(top, `"messages":[`, `"messages":[{"role":"system","content":"You are a helpful assistant.\nAnswer in full sentences."},`, 1)
	if !same(one(t, Messages, first), one(t, Messages, baseMessages)) {
		t.Error("a first message of the system is not a system prompt")
	}
}

func TestWhatMattersInResponses(t *testing.T) {
	const model = `"model":"m"`
	var none []variant
	for _, member := range []string{
		`"temperature":0.5`, `"stream":true`, `"user":"u"`, `"metadata":{"a":1}`, `"store":false`, `"background":true`, `"request_id":"resp_2"`, `"max_output_tokens":7`,
		`"reasoning":null`, `"reasoning":{"effort":null}`, `"text":{"format":{"type":"json_object"}}`, `"tool_choice":"required"`, `"tool_choice":{"type":"web_search"}`,
		`"parallel_tool_calls":false`, `"truncation":"auto"`, `"include":["reasoning.encrypted_content"]`, `"model":"alias"`, `"chat_template_kwargs":{}`,
		`"prompt_cache_key":"k"`, `"session_id":"s"`, `"rid":"r"`, `"reasoning_effort":"high"`, `"conversation":"c"`,
	} {
		none = append(none, variant{model, member})
	}
	none = append(none,
		variant{`"content":"What is the answer?"`, `"content":[{"type":"input_text","text":"What is "},{"type":"input_text","text":"the answer?"}]`},
		variant{`{"role":"user","content":"What`, `{"type":"message","status":"completed","id":"msg_0","role":"user","content":"What`},
		variant{`"id":"rs_1","summary"`, `"id":"rs_2","encrypted_content":"e","content":[{"type":"reasoning_text","text":"Let me think about it."}],"summary"`},
		variant{`"summary":[{"type":"summary_text","text":"Let me ask."}]`, `"summary":[],"content":[{"type":"reasoning_text","text":"Let me ask."}]`},
		variant{`"id":"msg_1"`, `"id":"msg_2"`},
		variant{`"annotations":[]`, `"annotations":[{}],"logprobs":[]`},
		variant{`"id":"fc_1"`, `"id":"fc_2"`},
		variant{`"output":"It is 42."`, `"id":"fco_1","output":[{"type":"input_text","text":"It is 42."}]`},
		variant{`a.png"`, `a.png","detail":"auto"`},
		variant{`{"type":"custom","name":"g"}`, `{"type":"web_search"},{"type":"custom","strict":false,"name":"g","format":{"type":"text"}},{"type":"mcp","server_label":"x"}`},
		variant{`"input":[`, `"input":[{"type":"reasoning","summary":[],"id":"rs_0"},`},
	)
	some := []variant{
		{`full sentences`, `full centences`},
		{`"role":"assistant"`, `"role":"user"`},
		{`{"role":"user","content":"What`, `{"role":"developer","content":"What`},
		{`I will ask.`, `I will see.`},
		{`Let me ask.`, `Let me see.`},
		{`"call_id":"call_1","name"`, `"call_id":"call_2","name"`},
		{`"call_id":"call_1","output"`, `"call_id":"call_2","output"`},
		{`{\"a\":1}`, `{\"a\":2}`},
		{`It is 42.`, `It is 43.`},
		{`Is that so?`, `Is it so?`},
		{`a.png`, `b.png`},
		{`a.png"`, `a.png","detail":"high"`},
		{`something useful`, `something useless`},
		{`{"type":"custom","name":"g"}`, `{"type":"custom","name":"h"}`},
		{`{"type":"custom","name":"g"}`, `{"type":"function","name":"g"}`},
		{`{"type":"custom","name":"g"}`, `{"type":"custom","name":"g","format":{"type":"grammar","definition":"x"}}`},
		{`"summary":[{"type":"summary_text","text":"Let me ask."}]`, `"summary":[],"encrypted_content":"e"`},
		{`{"type":"function_call",`, `{"type":"web_search_call",`},
		{`"input":[`, `"input":[{"type":"item_reference","id":"x"},`},
	}
	all := []variant{
		{model, `"tool_choice":"none"`},
		{model, `"tool_choice":{"type":"custom","name":"g"}`},
		{model, `"tool_choice":{"type":"function","function":{"name":"g"}}`},
		{model, `"reasoning":{"effort":"low"}`},
		{model, `"chat_template_kwargs":{"a":1}`},
		{model, `"previous_response_id":"resp_1"`},
	}
	checkVariants(t, Responses, baseResponses, none, some, all)

	long := text(1, 300)
	asString, asItem := one(t, Responses, `{"input":"`+long+`"}`), one(t, Responses, `{"input":[{"role":"user","content":[{"type":"input_text","text":"`+long+`"}]}]}`)
	if !same(asString, asItem) {
		t.Error("a string is not a message of the user")
	}
	effort := func(reasoning string) Digest {
		return one(t, Responses, `{"input":"`+long+`","reasoning":`+reasoning+`}`)
	}
	if !same(effort(`{"summary":"auto"}`), effort(`{"effort":"medium"}`)) || !same(effort(`{"effort":null}`), asString) {
		t.Error("the effort is not medium where the engine's is")
	}
	previous := func(id string) Digest {
		return one(t, Responses, `{"input":"`+long+`","previous_response_id":"`+id+`"}`)
	}
	if shared(previous("resp_1"), previous("resp_2")) != 0 {
		t.Error("answers to two responses share something")
	}
}

func TestConversationsOfTwoRoutesShareNothing(t *testing.T) {
	seen := map[uint64]Route{}
	for route, body := range map[Route]string{
		Chat:      `{"messages":[{"role":"user","content":"` + text(1, 200) + `"}]}`,
		Messages:  `{"messages":[{"role":"user","content":"` + text(1, 200) + `"}]}`,
		Responses: `{"input":[{"role":"user","content":"` + text(1, 200) + `"}]}`,
	} {
		for _, h := range one(t, route, body).Hashes {
			if other, ok := seen[h]; ok {
				t.Errorf("%v and %v share a hash", route, other)
			}
			seen[h] = route
		}
	}
}

func TestNoRouteByLoadHasADigest(t *testing.T) {
	for i := range routes[Chat:] {
		if route := Chat + Route(i); route.ByLoad() {
			r := mustParse(t, route, `{"input":"x","text":"x","prompt":"x","query":"x","items":"x","messages":[{"role":"user","content":"x"}]}`)
			if d := r.Digests(testKey(t, "one"), testNamespace); len(d) != 0 {
				t.Errorf("%v: %+v", route, d)
			}
		}
	}
}

func TestGrowingConversationsExtendTheirDigests(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for range 50 {
		for route, list := range map[Route]string{Messages: "messages", Responses: "input"} {
			body := randomBody(rng, route)
			messages, _ := body[list].([]any)
			for i := range 5 {
				messages = append(messages, map[string]any{"role": []string{"user", "assistant"}[i%2], "content": text(rng.Uint64(), 200)})
			}
			var before Digest
			for n := 1; n <= len(messages); n++ {
				body[list] = messages[:n]
				now := one(t, route, string(reencode(rng, body)))
				if shared(before, now) != len(before.Hashes) || now.Bytes < before.Bytes {
					t.Fatalf("%v %d: %d hashes of %d bytes, then %d of %d, %d shared", route, n, len(before.Hashes), before.Bytes, len(now.Hashes), now.Bytes, shared(before, now))
				}
				before = now
			}
		}
	}
}

func TestConversationsFollowTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	for range 400 {
		for _, route := range []Route{Messages, Responses} {
			body := reencode(rng, randomBody(rng, route))
			mustParse(t, route, string(body))
			checkBody(t, route, rng, body)
		}
	}
}

// FuzzConversation is FuzzParse with bodies that mean something: they are made from a seed.
func FuzzConversation(f *testing.F) {
	for i := range uint64(20) {
		f.Add(i, i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, asMessages bool) {
		route := Responses
		if asMessages {
			route = Messages
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		body := reencode(rng, randomBody(rng, route))
		mustParse(t, route, string(body))
		checkBody(t, route, rng, body)
	})
}

func TestDigestsOfConversationsAreBounded(t *testing.T) {
	line := strings.Repeat(strings.Repeat("x", 63)+`\n`, 4<<20/64)
	for route, body := range map[Route]string{
		Messages:  `{"messages":[{"role":"user","content":[{"type":"text","text":"` + line + `"}]}]}`,
		Responses: `{"input":[{"role":"user","content":[{"type":"input_text","text":"` + line + `"}]}]}`,
	} {
		d := one(t, route, body)
		if want := DepthAt(4 << 20); len(d.Hashes) != want || cap(d.Hashes) > MaxHashes || d.Bytes != 4<<20+7 {
			t.Errorf("%v: %d hashes (room for %d) of %d bytes, want %d", route, len(d.Hashes), cap(d.Hashes), d.Bytes, want)
		}
	}
	for route, body := range map[Route]string{ // what stands as JSON is longer than it
		Messages:  `{"messages":[{"role":"user","content":[` + strings.TrimSuffix(strings.Repeat("{},", 10_000), ",") + `]}]}`,
		Responses: `{"input":[` + strings.TrimSuffix(strings.Repeat("{},", 10_000), ",") + `]}`,
	} {
		checkAgainstReference(t, route, []byte(body), mustParse(t, route, body))
	}
}

// randomBody is a body of /v1/messages or /v1/responses with everything that may be in one.
func randomBody(rng *rand.Rand, route Route) map[string]any {
	m := maker{rng}
	if route == Messages {
		return m.messages()
	}
	return m.responses()
}

type maker struct{ *rand.Rand }

func (m maker) str() string {
	return text(m.Uint64(), m.IntN(200)) + m.oneOf("", "\n", "é", "😀\t", `"\`)
}

func (m maker) oneOf(list ...string) string { return list[m.IntN(len(list))] }

func (m maker) value(depth int) any {
	switch m.IntN(8 - min(depth, 3)) {
	case 0:
		return nil
	case 1:
		return json.Number(m.oneOf("1", "1.0", "-2e5"))
	case 2:
		return m.IntN(2) == 0
	case 3, 4:
		return m.oneOf("", m.str())
	case 5:
		return m.list(3, func() any { return m.value(depth + 1) })
	}
	object := map[string]any{}
	for range m.IntN(4) {
		object[m.oneOf("type", "text", "cache_control", "a", m.str())] = m.value(depth + 1)
	}
	return object
}

func (m maker) list(most int, element func() any) []any {
	list := []any{}
	for range m.IntN(most + 1) {
		list = append(list, element())
	}
	return list
}

// with adds members now and then, most of them of no particular type.
func (m maker) with(object map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		if m.IntN(3) == 0 {
			object[key] = m.value(1)
		}
	}
	return object
}

func (m maker) content(part func() any) any {
	if m.IntN(3) == 0 {
		return m.oneOf("", m.str())
	}
	return m.list(4, part)
}

func (m maker) messages() map[string]any {
	body := map[string]any{"messages": append(m.list(5, m.turn), m.turn())}
	if m.IntN(2) == 0 {
		body["system"] = m.content(m.block)
	}
	if m.IntN(2) == 0 {
		body["tools"] = m.list(4, func() any {
			tool := m.with(map[string]any{"name": m.oneOf("f", "g", "h")}, "description", "input_schema", "strict", "defer_loading", "cache_control", "x")
			if m.IntN(3) == 0 {
				tool["type"] = m.oneOf("custom", "", "bash_20250124", "web_search_20250305", "memory_20250818")
			}
			return tool
		})
		if m.IntN(2) == 0 {
			body["tool_choice"] = m.with(map[string]any{"type": m.oneOf("none", "tool", "auto", "any")}, "name")
		}
	}
	if m.IntN(3) == 0 {
		body["thinking"] = map[string]any{"type": m.oneOf("enabled", "disabled", "adaptive", ""), "budget_tokens": m.value(1)}
	}
	if m.IntN(3) == 0 {
		body["output_config"] = map[string]any{"effort": m.oneOf("xhigh", "max", "low", ""), "format": m.value(1)}
	}
	return m.with(body, "temperature", "stop_sequences", "betas")
}

func (m maker) turn() any {
	return m.with(map[string]any{"role": m.oneOf("user", "assistant", "user", "assistant", "system"), "content": m.content(m.block)}, "name", "id")
}

func (m maker) block() any { return m.blockAt(0) }

func (m maker) blockAt(depth int) any {
	switch kind := m.oneOf("text", "text", "image", "image", "tool_use", "tool_result", "tool_result", "thinking", "redacted_thinking", "search_result", "tool_reference", "document", ""); kind {
	case "text":
		return m.with(map[string]any{"type": kind, "text": m.oneOf("", m.str())}, "cache_control", "citations")
	case "image":
		block := m.with(map[string]any{"type": kind}, "source", "cache_control")
		if m.IntN(4) > 0 {
			block["source"] = m.with(map[string]any{"type": m.oneOf("base64", "url", "file")}, "data", "url", "media_type", "type")
		}
		return block
	case "tool_result":
		block := m.with(map[string]any{"type": kind}, "tool_use_id", "id", "is_error", "cache_control")
		if m.IntN(4) > 0 {
			block["content"] = m.content(func() any { return m.blockAt(depth + 1) })
			if depth > 1 {
				block["content"] = m.str()
			}
		}
		return block
	case "search_result":
		block := m.with(map[string]any{"type": kind}, "title", "source", "content", "cache_control")
		if m.IntN(2) == 0 {
			block["content"] = m.list(3, func() any { return m.with(map[string]any{"type": m.oneOf("text", "x")}, "text") })
		}
		if m.IntN(3) == 0 {
			block["source"] = m.with(map[string]any{}, "url", "text")
		}
		return block
	default:
		return m.with(map[string]any{"type": kind}, "id", "name", "tool_name", "input", "thinking", "signature", "data", "text", "cache_control", "type")
	}
}

func (m maker) responses() map[string]any {
	body := map[string]any{"input": append(m.list(6, m.item), m.item())}
	if m.IntN(5) == 0 {
		body["input"] = m.str()
	}
	if m.IntN(2) == 0 {
		body["instructions"] = m.oneOf("", m.str())
	}
	if m.IntN(2) == 0 {
		body["tools"] = m.list(4, func() any {
			return m.with(map[string]any{"type": m.oneOf("function", "custom", "namespace", "web_search", "mcp", "odd"), "name": m.oneOf("f", "g")},
				"description", "parameters", "format", "strict", "defer_loading", "tools", "x", "name")
		})
		switch m.IntN(3) {
		case 0:
			body["tool_choice"] = m.oneOf("none", "auto", "required")
		case 1:
			body["tool_choice"] = m.with(map[string]any{"type": m.oneOf("function", "custom", "web_search"), "function": map[string]any{"name": "f"}}, "name", "function")
		}
	}
	if m.IntN(3) == 0 {
		body["reasoning"] = map[string]any{"summary": "auto"}
		if m.IntN(2) == 0 {
			body["reasoning"] = map[string]any{"effort": m.oneOf("none", "high", "")}
		}
	}
	if m.IntN(3) == 0 {
		body["previous_response_id"] = m.oneOf("", "resp_1")
	}
	return m.with(body, "chat_template_kwargs", "temperature", "metadata")
}

func (m maker) item() any {
	switch kind := m.oneOf("message", "message", "function_call", "custom_tool_call", "function_call_output", "reasoning", "item_reference", "web_search_call"); kind {
	case "message":
		item := m.with(map[string]any{"role": m.oneOf("user", "assistant", "developer"), "content": m.content(m.part)}, "id", "status", "name", "reasoning_content", "tools", "tool_call_id", "phase")
		if m.IntN(2) == 0 {
			item["type"] = kind
		}
		return item
	case "function_call_output":
		item := m.with(map[string]any{"type": m.oneOf(kind, "custom_tool_call_output")}, "call_id", "id", "status")
		if m.IntN(4) > 0 {
			item["output"] = m.content(m.part)
		}
		return item
	case "reasoning":
		item := m.with(map[string]any{"type": kind}, "summary", "content", "encrypted_content", "id")
		if m.IntN(2) == 0 {
			item[m.oneOf("summary", "content")] = m.list(3, func() any { return m.with(map[string]any{"type": "summary_text"}, "text") })
		}
		return item
	default:
		return m.with(map[string]any{"type": kind}, "id", "call_id", "name", "namespace", "arguments", "input", "status", "action")
	}
}

func (m maker) part() any {
	switch kind := m.oneOf("input_text", "output_text", "text", "input_image", "image_url", "input_audio", "refusal"); kind {
	case "input_text", "output_text", "text":
		return m.with(map[string]any{"type": kind, "text": m.str()}, "annotations", "logprobs")
	default:
		part := m.with(map[string]any{"type": kind}, "image_url", "input_audio", "max_dynamic_patch", "file_id", "text")
		if m.IntN(2) == 0 {
			part["detail"] = m.oneOf("auto", "low")
		}
		return part
	}
}

// The digest of a long conversation with everything in it, by both routes: see the golden file.
func goldenConversations() []struct {
	name  string
	route Route
	body  string
} {
	var turns, items bytes.Buffer
	for i := range 60 {
		fmt.Fprintf(&turns, `{"role":"assistant","content":[{"type":"tool_use","id":"t%d","name":"f","input":{"n":%d}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t%d","content":%s}]},`, i, i, i, quoted(text(uint64(i), 300)))
		fmt.Fprintf(&items, `{"type":"function_call","call_id":"t%d","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"t%d","output":%s},`, i, i, quoted(text(uint64(i), 300)))
	}
	return []struct {
		name  string
		route Route
		body  string
	}{
		{"messages", Messages, strings.Replace(baseMessages, `{"role":"assistant","content":"It is."}`, turns.String()+`{"role":"assistant","content":"It is."}`, 1)},
		{"messages with thinking", Messages, strings.Replace(baseMessages, `"model":"m"`, `"thinking":{"type":"adaptive"},"output_config":{"effort":"xhigh"}`, 1)},
		{"responses", Responses, strings.Replace(baseResponses, `{"type":"function_call",`, items.String()+`{"type":"function_call",`, 1)},
		{"responses with effort", Responses, strings.Replace(baseResponses, `"model":"m"`, `"reasoning":{},"previous_response_id":"resp_1","chat_template_kwargs":{"a":1}`, 1)},
	}
}
