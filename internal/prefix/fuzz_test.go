package prefix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var testNamespace = Namespace{Model: "llama", LoRA: "adapter", Salt: "salt", Tenant: "tenant"}

func testKey(t testing.TB, secret string) Key {
	t.Helper()
	k, err := NewKey([]byte(secret + strings.Repeat(".", MinSecret)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// reencode writes v as another client might: other spacing, other key order, other escapes. Keys of the outermost
// object stay unique, as do all others.
func reencode(rng *rand.Rand, v any) []byte {
	var b bytes.Buffer
	space := func() {
		for rng.IntN(4) == 0 {
			b.WriteByte(" \t\r\n"[rng.IntN(4)])
		}
	}
	str := func(s string) {
		b.WriteByte('"')
		for _, r := range s {
			switch {
			case r >= 0x10000 && rng.IntN(3) == 0:
				x := r - 0x10000
				fmt.Fprintf(&b, `\u%04x\u%04X`, 0xD800+x>>10, 0xDC00+x&0x3FF)
			case r < ' ' || r == '"' || r == '\\' || r < 0x10000 && rng.IntN(8) == 0:
				fmt.Fprintf(&b, `\u%04x`, r)
			case r == '/' && rng.IntN(2) == 0:
				b.WriteString(`\/`)
			default:
				b.WriteRune(r)
			}
		}
		b.WriteByte('"')
	}
	var write func(v any)
	write = func(v any) {
		space()
		defer space()
		switch v := v.(type) {
		case string:
			str(v)
		case []any:
			b.WriteByte('[')
			for i, e := range v {
				if i > 0 {
					b.WriteByte(',')
				}
				write(e)
			}
			space()
			b.WriteByte(']')
		case map[string]any:
			keys := make([]string, 0, len(v))
			for k := range v {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			b.WriteByte('{')
			for i, k := range keys {
				if i > 0 {
					b.WriteByte(',')
				}
				space()
				str(k)
				space()
				b.WriteByte(':')
				write(v[k])
			}
			space()
			b.WriteByte('}')
		default:
			raw, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			b.Write(raw)
		}
	}
	write(v)
	return b.Bytes()
}

// checkAgainstReference compares everything about the digests of an accepted body with the slow way.
func checkAgainstReference(t *testing.T, route Route, body []byte, r *Request) {
	t.Helper()
	k := testKey(t, "reference")
	refs := references(k, route, body)
	digests := r.Digests(k, testNamespace)
	if r.Embeds {
		for _, d := range digests {
			if len(d.Hashes) != 0 || d.Bytes == 0 {
				t.Fatalf("digest of vectors: %+v", d)
			}
		}
		return
	}
	if route.ByLoad() {
		if r.Prompts != 1 || len(digests) != 0 {
			t.Fatalf("%v: %d prompts, %d digests", route, r.Prompts, len(digests))
		}
		return
	}
	if len(refs) != r.Prompts || len(digests) != min(len(refs), MaxDigests) {
		t.Fatalf("%d prompts, %d digests, want %d", r.Prompts, len(digests), len(refs))
	}
	left := MaxTotalHashes
	for i, d := range digests {
		want := refs[i].hashes(k, testNamespace)
		want = want[:min(len(want), MaxHashes, left)]
		left -= len(want)
		if !slices.Equal(d.Hashes, want) {
			t.Fatalf("prompt %d of %q: hashes %x, want %x of %q", i, body, d.Hashes, want, refs[i].text)
		}
		if d.Bytes != uint64(len(refs[i].text)) || d.KeyID != k.ID || d.Ladder != Ladder1 {
			t.Fatalf("prompt %d of %q: digest of %d bytes, want %d: %q", i, body, d.Bytes, len(refs[i].text), refs[i].text)
		}
		if len(refs[i].text) < int(LadderBytes(MaxHashes)) {
			want := refs[i].text[LadderBytes(DepthAt(int64(len(refs[i].text)))):]
			if got := tail(r, k, testNamespace, i); !bytes.Equal(got, want) {
				t.Fatalf("prompt %d of %q ends with %q, want %q", i, body, got, want)
			}
		}
	}
}

// facts are the parts of a Request that do not depend on how its body is spelt.
func facts(r *Request) Request {
	f := *r
	f.PromptBytes, f.body, f.prompts = 0, nil, nil
	f.Points.Open, f.Points.Members = 0, nil
	f.doc.Fields, f.doc.Nodes, f.doc.Open = nil, nil, 0
	clear(f.fieldRoom[:])
	clear(f.nodeRoom[:])
	clear(f.promptRoom[:])
	return f
}

func diffFacts(a, b *Request) string {
	x, y := facts(a), facts(b)
	return cmp.Diff(fmt.Sprintf("%+v", x), fmt.Sprintf("%+v", y))
}

var fuzzBodies = []string{
	`{"model":"m","messages":[{"role":"system","content":"You \u00e9 \ud83d\ude00 \ud800"},{"role":"user","content":[{"type":"text","text":"a\nb"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},{"type":"thinking","thinking":"hm"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},{"role":"tool","tool_call_id":"c1","name":"f","content":"42"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"b":{"type":"number"},"a":{"type":"string"}}}}},{"function":{"name":"g"}}],"tool_choice":{"type":"function","function":{"name":"f"}},"stream":true,"stream_options":{"include_usage":true},"chat_template_kwargs":{"enable_thinking":false}}`,
	`{"messages":[{"role":"user","content":"x"}],"input_ids":[1,2,300000],"max_tokens":1e2}`,
	`{"messages":[{"content":"later","role":"user","name":7,"reasoning_content":"why","content":"dup"}],"tools":[{}],"tool_choice":"none","reasoning_effort":"low"}`,
	`{"prompt":"Once upon a time","suffix":"the end","max_tokens":7,"echo":true,"n":2}`,
	`{"prompt":["a","b\n"],"logprobs":1,"rid":["x","y"],"extra_key":["s","t"],"cache_salt":"q"}`,
	`{"prompt":[1,2,3]}`, `{"prompt":[[1,2],[3]],"lora_path":["l",null]}`,
	`{"text":["a","b"],"image_data":["u",["v","w"]],"sampling_params":[{"n":2,"max_new_tokens":5},{"regex":"a+"}],"session_params":{"id":"s1"}}`,
	`{"text":"t","input_ids":[5],"sampling_params":{"max_new_tokens":0,"ignore_eos":true},"image_data":"u"}`,
	`{"model":"m","max_tokens":9,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}},{"type":"text","text":""},{"type":"text","text":"t"}],"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"redacted_thinking","data":"x"},{"type":"text","text":"\u0061\n","citations":[]},{"type":"tool_use","id":"t1","name":"f","input":{"b":1,"a":[{}]},"caller":{}},{"type":"tool_use","id":"t2","name":"g","input":{}},{"type":"tool_result","content":[{"type":"text","text":"own"},{"type":"search_result","title":"x"}]}]},{"role":"user","content":[{"type":"text","text":"before"},{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"42"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"tool_reference","tool_name":"h"},{"type":"tool_result"},{"type":"odd","cache_control":{}}]},{"type":"tool_result","id":"t2","content":"7"},{"type":"search_result","source":{"url":"u"},"title":"t","content":[{"type":"text","text":"p"},{"type":"text","text":"q"}],"citations":{"enabled":true}},{"type":"document","source":{},"cache_control":{"type":"ephemeral"}},{"type":"image","source":{"type":"url","url":"u"}},{"type":"image","source":{"type":"file"}}]},{"role":"system","content":[]}],"tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"strict":false,"cache_control":{}},{"type":"custom","name":"g","input_schema":{},"strict":true,"defer_loading":true},{"type":"web_search_20250305","name":"web_search"},{"type":"memory_20250818","name":"memory","cache_control":{}}],"tool_choice":{"type":"auto"},"thinking":{"type":"adaptive"},"output_config":{"effort":"xhigh","format":{"type":"json_schema","schema":{}}},"metadata":{"user_id":"u"}}`,
	`{"messages":[{"role":"user","content":[]}],"system":"s","tools":[{"name":"f"},{"name":"g","type":null,"description":""}],"tool_choice":{"type":"tool","name":"g"},"thinking":{"type":"disabled"}}`,
	`{"model":"m","instructions":"be\nbrief","input":[{"role":"user","content":"x"},{"type":"message","role":"developer","id":"msg_1","status":"completed","content":[{"type":"input_text","text":"a"},{"type":"output_text","text":"b","annotations":[]},{"type":"input_image","image_url":"u","detail":"auto"},{"type":"input_image","file_id":"f"},{"type":"refusal","refusal":"no"}]},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"e"},{"type":"reasoning","summary":[],"content":[{"text":"p"},{"text":"q"}]},{"type":"reasoning","summary":[],"encrypted_content":"e"},{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{}","status":"completed"},{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"42"}]},{"type":"custom_tool_call","id":"x","name":"g","input":"patch"},{"type":"custom_tool_call_output","call_id":"x","output":"ok"},{"type":"item_reference","id":"y"},{"id":"z"}],"tools":[{"type":"function","name":"f","parameters":{},"strict":false},{"type":"custom","name":"g","format":{"type":"text"},"strict":true},{"type":"web_search"},{"type":"namespace","name":"n","tools":[]},{"type":"odd"}],"tool_choice":"auto","reasoning":{"effort":"high","summary":"auto"},"text":{"format":{"type":"json_object"}},"max_output_tokens":20,"store":null,"background":true,"previous_response_id":"resp_1","request_id":"resp_2","include":["message.output_text.logprobs"]}`,
	`{"input":"x","instructions":"","tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"function","name":"f"},"reasoning":{},"chat_template_kwargs":{"a":1},"store":false}`,
	`{"input":["a","b"],"query":"q","documents":["d",[{"type":"text","text":"e"}]],"items":[[1,2],[]],"tokens":[1],"text":["t"],"input_ids":[[1,300],[2]],"image_data":"u","session_id":"s","capacity_of_str_len":7,"prompt":"p","messages":[{}]}`,
	`{"query":"","items":["","a"]}`, `{"query":[],"items":[[1],[4]]}`, `{"text":[["a","b"],["c","d"]]}`, `{"input":[1,2,1.0]}`, `{"input_ids":[]}`,
	`{"input_embeds":[[[0.1,0.2]],[[0.3]]]}`, `{"input_embeds":[[0.5]]}`, `{"prompt":[]}`, `{"messages":7}`, `[]`,
}

// FuzzParse: no body makes Parse or Digests panic; what is refused is refused with a FieldError; what is accepted
// has the digests of the slow reference, and keeps them when the same values are spelt otherwise.
func FuzzParse(f *testing.F) {
	for i, body := range fuzzBodies {
		for route := range routes[Chat:] {
			f.Add(uint8(route), uint64(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, route uint8, seed uint64, body []byte) {
		checkBody(t, Chat+Route(int(route)%len(routes[Chat:])), rand.New(rand.NewPCG(seed, 0)), body)
	})
}

func checkBody(t *testing.T, route Route, rng *rand.Rand, body []byte) {
	r, err := Parse(route, body)
	if err != nil {
		if e, ok := errors.AsType[*FieldError](err); !ok || e.Message == "" || !utf8.ValidString(e.Message) {
			t.Fatalf("error %#v", err)
		}
		return
	}
	checkAgainstReference(t, route, body, r)
	again := reencode(rng, decode(body))
	r2, err := Parse(route, again)
	if err != nil {
		t.Fatalf("%q is accepted, and re-encoded as %q it is not: %v", body, again, err)
	}
	if d := diffFacts(r, r2); d != "" {
		t.Fatalf("%q re-encoded as %q: %s", body, again, d)
	}
	k := testKey(t, "again")
	a, b := r.Digests(k, testNamespace), r2.Digests(k, testNamespace)
	for i := range a {
		if !slices.Equal(a[i].Hashes, b[i].Hashes) || a[i].Bytes != b[i].Bytes && !r.Embeds {
			t.Fatalf("prompt %d of %q re-encoded as %q: %+v, want %+v", i, body, again, b[i], a[i])
		}
	}
	for _, m := range r.Points.Members {
		if !Editable(m.Key) {
			t.Fatalf("point %q", m.Key)
		}
	}
}

// randomChat is a chat with everything that may be in one.
func randomChat(rng *rand.Rand) map[string]any {
	str := func() string {
		return text(rng.Uint64(), rng.IntN(200)) + []string{"", "\n", "é", "😀\t", `"\`}[rng.IntN(5)]
	}
	var value func(depth int) any
	value = func(depth int) any {
		switch rng.IntN(7 - min(depth, 2)) {
		case 0:
			return nil
		case 1:
			return json.Number([]string{"1", "1.0", "-2e5"}[rng.IntN(3)])
		case 2:
			return rng.IntN(2) == 0
		case 3, 4:
			return str()
		case 5:
			list := []any{}
			for range rng.IntN(4) {
				list = append(list, value(depth+1))
			}
			return list
		}
		object := map[string]any{}
		for range rng.IntN(5) {
			object[str()] = value(depth + 1)
		}
		return object
	}
	part := func() any {
		switch rng.IntN(4) {
		case 0:
			return map[string]any{"type": "image_url", "image_url": value(0), "x": value(0)}
		case 1:
			return map[string]any{"type": str(), "y": value(0)}
		}
		return map[string]any{"type": "text", "text": str(), "cache_control": value(1)}
	}
	messages := []any{}
	for range 1 + rng.IntN(6) {
		m := map[string]any{"role": []string{"system", "user", "assistant", "tool"}[rng.IntN(4)]}
		switch rng.IntN(3) {
		case 0:
			m["content"] = str()
		case 1:
			parts := []any{}
			for range rng.IntN(4) {
				parts = append(parts, part())
			}
			m["content"] = parts
		}
		for _, key := range []string{"name", "reasoning_content", "tools", "tool_call_id", "unknown"} {
			if rng.IntN(4) == 0 {
				m[key] = value(0)
			}
		}
		if rng.IntN(4) == 0 {
			m["tool_calls"] = []any{value(0), value(0)}
		}
		messages = append(messages, m)
	}
	chat := map[string]any{"messages": messages}
	if rng.IntN(2) == 0 {
		tools := []any{}
		for i := range rng.IntN(3) {
			tools = append(tools, map[string]any{"type": "function", "function": map[string]any{"name": string(rune('a' + i)), "parameters": value(0)}})
		}
		chat["tools"] = tools
		switch rng.IntN(4) {
		case 0:
			chat["tool_choice"] = "none"
		case 1:
			chat["tool_choice"] = map[string]any{"type": "function", "function": map[string]any{"name": "a"}}
		}
	}
	for _, key := range []string{"chat_template_kwargs", "reasoning_effort", "temperature", "images_config"} {
		if rng.IntN(4) == 0 {
			chat[key] = value(0)
		}
	}
	return chat
}
