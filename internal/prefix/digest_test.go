package prefix

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func mustParse(t testing.TB, route Route, body string) *Request {
	t.Helper()
	r, err := Parse(route, []byte(body))
	if err != nil {
		t.Fatalf("%v in %.300s", err, body)
	}
	return r
}

// one returns the digest of a body with one prompt.
func one(t testing.TB, route Route, body string) Digest {
	t.Helper()
	digests := mustParse(t, route, body).Digests(testKey(t, "one"), testNamespace)
	if len(digests) != 1 {
		t.Fatalf("%d digests of %.300s", len(digests), body)
	}
	return digests[0]
}

// shared is how many hashes two digests have in common from the start.
func shared(a, b Digest) int {
	n := 0
	for n < min(len(a.Hashes), len(b.Hashes)) && a.Hashes[n] == b.Hashes[n] {
		n++
	}
	return n
}

func same(a, b Digest) bool {
	return a.Bytes == b.Bytes && slices.Equal(a.Hashes, b.Hashes)
}

// text is n bytes of words, different for each seed.
func text(seed uint64, n int) string {
	rng := rand.New(rand.NewPCG(seed, 7))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x ", rng.Uint32N(1<<16))
	}
	return b.String()[:n]
}

func quoted(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// The digests of these bodies are part of the contract between versions: gateways of two versions share a fleet
// while one replaces the other. A change needs a new ladder id or domain, not a new golden file.
func TestDigestsAreThoseOfTheGoldenFile(t *testing.T) {
	long := text(1, 400<<10)
	bodies := []struct {
		name  string
		route Route
		body  string
	}{
		{"chat", Chat, `{"model":"m","messages":[{"role":"system","content":` + quoted(long[:300]) + `},{"role":"user","content":[{"type":"text","text":"What is \u00e9?\n"},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"1"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"b":1.0,"a":[true,null]}}}],"chat_template_kwargs":{"enable_thinking":false}}`},
		{"completion", Completions, `{"prompt":` + quoted(long) + `}`},
		{"suffix", Completions, `{"prompt":"` + long[:100] + `","suffix":"` + long[100:160] + `"}`},
		{"batch", Completions, `{"prompt":["` + long[:64] + `","short","` + long[:200] + `"]}`},
		{"ids", Generate, `{"input_ids":[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,2147483647]]}`},
		{"generate", Generate, `{"text":"` + long[:64] + `","image_data":["u"]}`},
	}
	bodies = append(bodies, goldenConversations()...)
	k, err := NewKey([]byte("the secret of the golden file"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, b := range bodies {
		for i, d := range mustParse(t, b.route, b.body).Digests(k, testNamespace) {
			fmt.Fprintf(&got, "%s %d: key %08x ladder %d bytes %d hashes %d\n", b.name, i, d.KeyID, d.Ladder, d.Bytes, len(d.Hashes))
			for n, h := range d.Hashes {
				if n < 4 || n%100 == 0 || n == len(d.Hashes)-1 {
					fmt.Fprintf(&got, "  %d %016x\n", n, h)
				}
			}
		}
	}
	file := filepath.Join("testdata", "digests.golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("digests have changed; got\n%s\nwant\n%s", got.Bytes(), want)
	}
}

func TestDigestsFollowTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	for i := range 200 {
		body := reencode(rng, randomChat(rng))
		checkBody(t, Chat, rng, body)
		if i%25 == 0 { // prompts over every step of the ladder, with escapes near the ends of blocks
			n := rng.IntN(500 << 10)
			raw := bytes.Repeat([]byte(text(uint64(i), 61+rng.IntN(9))+"\n\"é😀"), n/64)
			checkBody(t, Completions, rng, reencode(rng, map[string]any{"prompt": string(raw)}))
		}
	}
}

func TestSharedTextIsSharedHashesAndNoMore(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	a := text(1, 500<<10)
	for range 20 {
		at := rng.IntN(len(a) - 1)
		if rng.IntN(2) == 0 {
			at = rng.IntN(1000)
		}
		b := []byte(a)
		b[at] ^= 1
		x, y := one(t, Completions, `{"prompt":"`+a+`"}`), one(t, Completions, `{"prompt":`+quoted(string(b))+`}`)
		if got, want := shared(x, y), DepthAt(int64(at)); got != want {
			t.Fatalf("texts that differ at byte %d share %d hashes, want %d", at, got, want)
		}
		for i := DepthAt(int64(at)); i < len(x.Hashes); i++ {
			if x.Hashes[i] == y.Hashes[i] {
				t.Fatalf("hash %d is the same although byte %d differs", i, at)
			}
		}
	}
}

func TestOneTextIsAPrefixOfAnother(t *testing.T) {
	short, long := one(t, Completions, `{"prompt":"`+text(1, 1000)+`"}`), one(t, Completions, `{"prompt":"`+text(1, 2000)+`"}`)
	if len(short.Hashes) != 15 || shared(short, long) != 15 {
		t.Errorf("%d hashes, %d shared; want 15", len(short.Hashes), shared(short, long))
	}
}

func TestAGrowingConversationExtendsItsDigest(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for range 50 {
		chat := randomChat(rng)
		messages := chat["messages"].([]any)
		for i := range 5 {
			messages = append(messages, map[string]any{"role": []string{"user", "assistant"}[i%2], "content": text(rng.Uint64(), 200)})
		}
		var before Digest
		for n := 1; n <= len(messages); n++ {
			chat["messages"] = messages[:n]
			now := one(t, Chat, string(reencode(rng, chat)))
			if shared(before, now) != len(before.Hashes) || now.Bytes <= before.Bytes {
				t.Fatalf("message %d: %d hashes of %d bytes, then %d of %d, %d shared", n, len(before.Hashes), before.Bytes, len(now.Hashes), now.Bytes, shared(before, now))
			}
			before = now
		}
	}
}

// The body that every variant below changes in one place.
const baseChat = `{"model":"m","messages":[{"role":"system","content":"You are a helpful assistant who answers in full sentences."},{"role":"user","content":"hello there, how are you?"}],"tools":[{"type":"function","function":{"name":"f","description":"does something useful with the things that it is given"}},{"type":"function","function":{"name":"g"}}]}`

func TestWhatDoesNotReachThePromptDoesNotMatter(t *testing.T) {
	want := one(t, Chat, baseChat)
	if len(want.Hashes) < 4 {
		t.Fatalf("only %d hashes", len(want.Hashes))
	}
	for _, member := range []string{
		`"temperature":0.5`, `"stream":true`, `"user":"u"`, `"seed":1`, `"n":2`, `"max_tokens":5`, `"stop":["x"]`, `"logprobs":true`, `"rid":"r"`,
		`"stream_options":{"include_usage":true}`, `"response_format":{"type":"json_object"}`, `"session_id":"s"`, `"priority":1`, `"metadata":{"x":1}`,
		`"tool_choice":"auto"`, `"tool_choice":"required"`, `"parallel_tool_calls":false`, `"continue_final_message":true`, `"add_generation_prompt":false`,
		`"chat_template_kwargs":null`, `"chat_template_kwargs":{}`, `"model":"alias"`, `"extra_key":"x"`, `"top_p":0.1`,
		`"session_params":{"id":"s"}`, // SGLang 0.5.23 reads it in /generate alone
	} {
		body := strings.Replace(baseChat, `"model":"m"`, member, 1)
		if got := one(t, Chat, body); !same(got, want) {
			t.Errorf("%s matters", member)
		}
	}
	for old, other := range map[string]string{
		`"content":"hello there, how are you?"`: `"content":[{"type":"text","text":"hello there,","cache_control":{"type":"ephemeral"}},{"text":" how are you?","type":"text"}]`,
		`{"role":"user",`:                       `{"role":"user","name":null,"tool_calls":[],"annotations":["unknown"],"reasoning_content":"",`,
		`"name":"f","description"`:              "\"\\u006eame\"\n:\t\"\\u0066\" , \"description\"",
	} {
		body := strings.Replace(baseChat, old, other, 1)
		if got := one(t, Chat, body); body == baseChat || !same(got, want) {
			t.Errorf("%s instead of %s matters", other, old)
		}
	}
}

func TestWhatReachesThePromptMatters(t *testing.T) {
	base := one(t, Chat, baseChat)
	changes := map[string]struct {
		old, new string
		all      bool // not even the first hash is shared
	}{
		"role":                 {`"role":"system"`, `"role":"user"`, false},
		"content":              {`full sentences`, `full centences`, false},
		"name":                 {`{"role":"system",`, `{"role":"system","name":"n",`, false},
		"reasoning":            {`{"role":"system",`, `{"role":"system","reasoning_content":"n",`, false},
		"tool calls":           {`{"role":"system",`, `{"role":"system","tool_calls":[{}],`, false},
		"tool call id":         {`{"role":"system",`, `{"role":"system","tool_call_id":"i",`, false},
		"tool":                 {`something useful`, `something useless`, false},
		"name of a tool":       {`"name":"f"`, `"name":"h"`, false},
		"tools off":            {`"model":"m"`, `"tool_choice":"none"`, true},
		"one tool":             {`"model":"m"`, `"tool_choice":{"type":"function","function":{"name":"g"}}`, true},
		"template kwargs":      {`"model":"m"`, `"chat_template_kwargs":{"enable_thinking":true}`, true},
		"effort":               {`"model":"m"`, `"reasoning_effort":"high"`, true},
		"reasoning of request": {`"model":"m"`, `"reasoning":{"effort":"high"}`, true},
	}
	for name, c := range changes {
		body := strings.Replace(baseChat, c.old, c.new, 1)
		got := one(t, Chat, body)
		n := shared(got, base)
		if body == baseChat || same(got, base) || n == len(base.Hashes) && got.Bytes == base.Bytes || c.all && n > 0 {
			t.Errorf("%s: %d of %d hashes are still shared", name, n, len(base.Hashes))
		}
	}
	r := mustParse(t, Chat, baseChat)
	k := testKey(t, "one")
	namespaces := []Namespace{
		testNamespace, {}, {Model: "x", LoRA: "adapter", Salt: "salt", Tenant: "tenant"}, {Model: "llama", LoRA: "x", Salt: "salt", Tenant: "tenant"},
		{Model: "llama", LoRA: "adapter", Salt: "x", Tenant: "tenant"}, {Model: "llama", LoRA: "adapter", Salt: "salt", Tenant: "x"},
		{Model: "lla", LoRA: "maadapter", Salt: "salt", Tenant: "tenant"}, {Model: "llama", LoRA: "adapter", Salt: "salttenant"},
	}
	seen := map[uint64]Namespace{}
	for _, ns := range namespaces {
		d := r.Digests(k, ns)[0]
		for _, h := range d.Hashes {
			if other, ok := seen[h]; ok {
				t.Errorf("%+v and %+v share a hash", ns, other)
			}
			seen[h] = ns
		}
	}
	if d := r.Digests(testKey(t, "other"), testNamespace)[0]; shared(d, base) > 0 || d.KeyID == base.KeyID {
		t.Error("another key makes the same digest")
	}
}

func TestKindsOfPromptsShareNothing(t *testing.T) {
	ascii := strings.Repeat("abcd", 32)
	ids := strings.TrimSuffix(strings.Repeat("1684234849,", 32), ",") // "abcd" as a little-endian number
	asText := one(t, Completions, `{"prompt":"`+ascii+`"}`)
	asIDs := one(t, Completions, `{"prompt":[`+ids+`]}`)
	if asText.Bytes != 128 || asIDs.Bytes != 128 || shared(asText, asIDs) != 0 {
		t.Errorf("text %+v, ids %+v", asText, asIDs)
	}
	for name, other := range map[string]Digest{
		"generate": one(t, Generate, `{"text":"x","input_ids":[`+ids+`]}`),
		"chat":     one(t, Chat, `{"messages":[{"role":"user"}],"chat_template_kwargs":{"a":1},"input_ids":[`+ids+`]}`),
		"batch":    one(t, Completions, `{"prompt":[[`+ids+`]]}`),
	} {
		if !same(other, asIDs) {
			t.Errorf("%s: the same ids have another digest", name)
		}
	}
	if other := one(t, Generate, `{"text":"`+ascii+`"}`); !same(other, asText) {
		t.Error("generate: the same text has another digest")
	}
	if other := one(t, Completions, `{"prompt":"`+ascii+`","suffix":"`+ascii+`"}`); shared(other, asText) != 2 || other.Bytes != 258 {
		t.Errorf("with a suffix: %+v", other)
	}
	for _, member := range []string{`"image_data":"u"`, `"session_params":{"id":"s"}`, `"image_data":["u"]`, `"audio_data":"u"`} {
		if other := one(t, Generate, `{"text":"`+ascii+`",`+member+`}`); shared(other, asText) != 0 {
			t.Errorf("%s does not matter", member)
		}
	}
}

func TestMediaOfABatchBelongToTheirPrompts(t *testing.T) {
	k := testKey(t, "one")
	prompt := text(1, 100)
	digests := func(media string) []Digest {
		return mustParse(t, Generate, `{"text":["`+prompt+`","`+prompt+`"],"image_data":`+media+`}`).Digests(k, testNamespace)
	}
	a, b, c := digests(`["u","v"]`), digests(`["u","w"]`), digests(`"u"`)
	if !same(a[0], b[0]) || same(a[1], b[1]) || same(a[0], a[1]) || !same(c[0], c[1]) {
		t.Error("media are attributed to the wrong prompt")
	}
	if alone := one(t, Generate, `{"text":"`+prompt+`","image_data":"u"}`); !same(alone, a[0]) {
		t.Error("a prompt in a batch has another digest than alone")
	}
}

func TestDigestsAreBounded(t *testing.T) {
	for _, size := range []int{4 << 20, 64 << 20} {
		if size > 4<<20 && testing.Short() {
			continue
		}
		// With and without escapes, and as ids: all three paths through the chain.
		line := strings.Repeat("x", 63)
		bodies := map[string]string{
			"plain":   `{"prompt":"` + strings.Repeat(line+"y", size/64) + `"}`,
			"escaped": `{"prompt":"` + strings.Repeat(line+`\n`, size/64) + `"}`,
			"ids":     `{"prompt":[` + strings.TrimSuffix(strings.Repeat("7,", size/4), ",") + `]}`,
		}
		if size > 4<<20 { // one is enough
			bodies = map[string]string{"escaped": bodies["escaped"]}
		}
		for name, body := range bodies {
			d := one(t, Completions, body)
			if want := min(DepthAt(int64(size)), MaxHashes); len(d.Hashes) != want || d.Bytes != uint64(size) || cap(d.Hashes) > MaxHashes {
				t.Errorf("%s, %d bytes: %d hashes (room for %d) of %d bytes, want %d", name, size, len(d.Hashes), cap(d.Hashes), d.Bytes, want)
			}
		}
	}
	long := `"` + text(1, 1<<20) + `"` // 940 hashes
	r := mustParse(t, Completions, `{"prompt":[`+strings.Repeat(long+",", 5)+strings.Repeat(`"`+text(2, 200)+`",`, 70)+`"x"]}`)
	digests := r.Digests(testKey(t, "one"), testNamespace)
	if r.Prompts != 76 || len(digests) != MaxDigests {
		t.Fatalf("%d digests of %d prompts", len(digests), r.Prompts)
	}
	total := 0
	for i, d := range digests {
		total += len(d.Hashes)
		if want := uint64(1 << 20); i < 5 && d.Bytes != want || i >= 5 && d.Bytes != 200 {
			t.Errorf("digest %d is of %d bytes", i, d.Bytes)
		}
	}
	if total != MaxTotalHashes || len(digests[63].Hashes) != 0 {
		t.Errorf("%d hashes, %d of them in the last digest", total, len(digests[63].Hashes))
	}
}

// Parts that stand as JSON are longer than their JSON. The last hashes were once missing.
func TestPartsThatStandAsJSONAreIndexedToTheEnd(t *testing.T) {
	for _, n := range []int{6, 100, 10_000} {
		body := []byte(`{"messages":[{"role":"user","content":[` + strings.TrimSuffix(strings.Repeat("{},", n), ",") + `]}]}`)
		checkAgainstReference(t, Chat, body, mustParse(t, Chat, string(body)))
	}
}

func TestDigestsCanBeMadeConcurrently(t *testing.T) {
	r := mustParse(t, Chat, baseChat)
	k := testKey(t, "one")
	want := r.Digests(k, testNamespace)[0]
	done := make(chan Digest)
	for range 8 {
		go func() { done <- r.Digests(k, testNamespace)[0] }()
	}
	for range 8 {
		if got := <-done; !same(got, want) {
			t.Error("digests differ")
		}
	}
}

func TestLadder(t *testing.T) {
	var sum int64
	for depth := range 6000 {
		if got := LadderBytes(depth); got != sum {
			t.Fatalf("LadderBytes(%d) = %d, want %d", depth, got, sum)
		}
		next := sum + int64(blockSize(depth))
		if a, b := DepthAt(sum), DepthAt(next-1); a != depth || b != depth {
			t.Fatalf("DepthAt(%d), DepthAt(%d) = %d, %d, want %d", sum, next-1, a, b, depth)
		}
		sum = next
	}
	if got := LadderBytes(MaxHashes); got != (16+64+256)<<10+1280*4096 {
		t.Errorf("%d bytes are indexed", got)
	}
	if LadderBytes(-1) != 0 || DepthAt(-1) != 0 || LadderBytes(math.MaxInt) != math.MaxInt64 {
		t.Error("beyond the ends")
	}
	for _, n := range []int64{math.MaxInt64, math.MaxInt64 - 5000, 1 << 50} {
		d := DepthAt(n)
		if LadderBytes(d) > n || LadderBytes(d+1) <= n && LadderBytes(d+1) != math.MaxInt64 {
			t.Errorf("DepthAt(%d) = %d, which covers %d", n, d, LadderBytes(d))
		}
	}
}

func TestKeySaysNothing(t *testing.T) {
	if _, err := NewKey(make([]byte, MinSecret-1)); err == nil {
		t.Error("a short secret is accepted")
	}
	k, again, other := testKey(t, "a"), testKey(t, "a"), testKey(t, "b")
	if k != again || k == other || k.ID == other.ID {
		t.Errorf("keys %v %v %v", k, again, other)
	}
	if bytes.Contains(k.bytes[:], []byte{byte(k.ID), byte(k.ID >> 8), byte(k.ID >> 16), byte(k.ID >> 24)}) {
		t.Error("the id is a part of the key")
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k)
	shown := fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k) + log.String()
	for _, bad := range []string{fmt.Sprintf("%x", k.bytes), fmt.Sprint(k.bytes), fmt.Sprintf("%d", k.bytes[:4])} {
		if strings.Contains(shown, bad) {
			t.Errorf("%q shows the key", shown)
		}
	}
	if want := fmt.Sprintf("digest key %08x", k.ID); k.String() != want {
		t.Errorf("got %q, want %q", k, want)
	}
}

func ExampleRequest_Digests() {
	key, err := NewKey([]byte("sixteen bytes or more, at random"))
	if err != nil {
		fmt.Println(err)
		return
	}
	system := strings.Repeat("You are a helpful assistant. ", 10)
	digest := func(question string) Digest {
		body := `{"model":"m","messages":[{"role":"system","content":"` + system + `"},{"role":"user","content":"` + question + `"}]}`
		r, err := Parse(Chat, []byte(body))
		if err != nil {
			panic(err)
		}
		return r.Digests(key, Namespace{Model: r.Model})[0]
	}
	a, b := digest("What is a radix tree, and who came up with it in which year?"), digest("Why is the sky blue?")
	fmt.Println(a.Bytes, len(a.Hashes), b.Bytes, len(b.Hashes), shared(a, b))
	// Output: 366 5 326 5 4
}
