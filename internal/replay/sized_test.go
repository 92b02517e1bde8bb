package replay_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/replay"
)

func readTrace(t testing.TB, content string, cfg replay.TraceConfig) *replay.Trace {
	t.Helper()
	trace, err := replay.ReadTrace(strings.NewReader(content), "file", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

// recording opens one of the public recordings.
func recording(t testing.TB, file string) *os.File {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "traces", filepath.FromSlash(file))
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("recorded traces are not beside the repository: no %s", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sent plays a conversation and returns its prompts, its replies' lengths and the think times.
func sent(t testing.TB, w replay.Workload, n int, seed uint64) (texts []string, tokens []int, thinks []time.Duration) {
	t.Helper()
	c, ok := w.Conversation(n, seed, replay.Chat)
	if !ok {
		t.Fatalf("no conversation %d", n)
	}
	for turn, ok := c.Next(replay.Reply{}); ok; turn, ok = c.Next(replay.Reply{OK: true}) {
		texts, tokens, thinks = append(texts, string(turn.Text)), append(tokens, turn.MaxTokens), append(thinks, turn.Think)
	}
	return texts, tokens, thinks
}

// block is the i-th block of a text of words of four bytes.
func block(text string, i, words int) string { return text[4*i*words : min(len(text), 4*(i+1)*words)] }

func TestMooncakeIdsAreText(t *testing.T) {
	w := readTrace(t, `{"timestamp":0,"input_length":1500,"output_length":7,"hash_ids":[0,1,2]}
{"timestamp":0,"input_length":1536,"output_length":0,"hash_ids":[0,1,3]}
{"timestamp":3000,"input_length":600,"output_length":9,"hash_ids":[0,2]}
{"timestamp":3000,"input_length":600,"output_length":9,"hash_ids":[0]}`, replay.TraceConfig{})
	if c, r := w.Size(); c != 4 || r != 4 || w.Format() != replay.Mooncake || !w.Supports(replay.Generate) {
		t.Fatalf("%d conversations, %d requests, format %s", c, r, w.Format())
	}
	var texts []string
	for n, tokens := range []int{1500, 1536, 600, 600} {
		text, out, _ := sent(t, w, n, 1)
		if len(text) != 1 || len(text[0]) != 4*tokens-1 || len(strings.Fields(text[0])) != tokens {
			t.Fatalf("request %d: %d prompts, of %d words, want one of %d", n, len(text), len(strings.Fields(text[0])), tokens)
		}
		if want := []int{7, 1, 9, 9}[n]; out[0] != want {
			t.Errorf("request %d asks for %d tokens, want %d", n, out[0], want)
		}
		texts = append(texts, text[0])
	}
	const words = 512
	for _, n := range []int{1, 2, 3} {
		if block(texts[n], 0, words) != block(texts[0], 0, words) {
			t.Errorf("requests 0 and %d share id 0, but not its text", n)
		}
	}
	if block(texts[1], 1, words) != block(texts[0], 1, words) {
		t.Error("requests 0 and 1 share id 1, but not its text")
	}
	if !strings.HasPrefix(block(texts[0], 2, words), block(texts[2], 1, words)) {
		t.Error("a part of a block is not its beginning")
	}
	if block(texts[1], 2, words)[:300] == block(texts[0], 2, words)[:300] || block(texts[3], 1, words) == block(texts[2], 1, words) {
		t.Error("text is shared where no id is")
	}
	again, _, _ := sent(t, w, 0, 1)
	other, _, _ := sent(t, w, 0, 2)
	if again[0] != texts[0] || other[0] == texts[0] {
		t.Error("text does not depend on the seed alone")
	}
}

func TestTimesOfTraces(t *testing.T) {
	collect := func(w replay.Timed, seed uint64) (ns []int, at []time.Duration) {
		for n, d := range w.Times(seed) {
			ns, at = append(ns, n), append(at, d)
		}
		return ns, at
	}
	azure := readTrace(t, azureRows, replay.TraceConfig{})
	ns, at := collect(azure, 1)
	if !slices.Equal(ns, []int{0, 1}) || !slices.Equal(at, []time.Duration{0, time.Second}) {
		t.Errorf("azure: %v at %v", ns, at)
	}
	if w := readTrace(t, `{"calls":[{"keep":0,"add":"x"}]}`, replay.TraceConfig{}); w.Times(1) != nil {
		t.Error("miniswe has times")
	}
	line := `{"timestamp":%T,"input_length":5,"output_length":1,"hash_ids":[0]}` + "\n"
	var doc strings.Builder
	for _, ms := range []string{"6000", "6000", "6000", "6000", "9000", "9000", "20000", "20000"} {
		doc.WriteString(strings.Replace(line, "%T", ms, 1))
	}
	mooncake := readTrace(t, doc.String(), replay.TraceConfig{})
	ns, at = collect(mooncake, 1)
	if !slices.IsSorted(at) {
		t.Errorf("times are not in order: %v", at)
	}
	if sorted := slices.Sorted(slices.Values(ns)); !slices.Equal(sorted, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("sent %v, want each once", ns)
	}
	for i, n := range ns {
		from := []time.Duration{0, 0, 0, 0, 3, 3, 14, 14}[n] * time.Second
		if at[i] < from || at[i] >= from+3*time.Second {
			t.Errorf("request %d at %v, want within 3 s of %v", n, at[i], from)
		}
	}
	if at[3] == at[0] {
		t.Error("equal times are not spread")
	}
	_, same := collect(mooncake, 1)
	_, other := collect(mooncake, 2)
	if !slices.Equal(at, same) || slices.Equal(at, other) {
		t.Error("times do not depend on the seed alone")
	}
}

func TestAgentSessions(t *testing.T) {
	w := readTrace(t, `{"id":"a","block_size":4,"reqs":[
	{"i":10,"o":3,"keep":0,"add":[[1,2]],"think":0,"type":"n"},
	{"sub":"agent_001","dur_ms":5000,"reqs":[{"i":9,"o":2,"keep":0,"add":[[1,1],[7,1]],"think":0},{"i":12,"o":2,"keep":2,"add":[[9,1]],"think":1.5}]},
	{"i":17,"o":5,"keep":2,"add":[[3,2]],"think":30},
	{"sub":"agent_002","dur_ms":1000,"reqs":[{"i":4,"o":1,"keep":0,"add":[[7,1]],"think":0}]},
	{"i":8,"o":1,"keep":1,"add":[[5,1]],"think":400},
	{"i":900,"o":101,"keep":2,"add":[],"think":0},
	{"i":8,"o":1,"keep":0,"add":[],"think":0}]}
{"id":"b","block_size":4,"reqs":[{"i":8,"o":1,"add":[[1,2]]}]}`, replay.TraceConfig{MaxContext: 1000})
	if c, r := w.Size(); c != 2 || r != 7 || w.Format() != replay.Weka || w.Times(1) != nil {
		t.Fatalf("%d conversations, %d requests, format %s: want 2, 7: the session ends where it is too long", c, r, w.Format())
	}
	texts, tokens, thinks := sent(t, w, 0, 1)
	if d := cmp.Diff([]int{3, 2, 2, 5, 1, 1}, tokens); d != "" {
		t.Errorf("replies (-want +got)\n%s", d)
	}
	s := time.Second
	if d := cmp.Diff([]time.Duration{0, 0, 3 * s / 2, 25 * s, 0, 60 * s}, thinks); d != "" { // less what sub-agents took; bounded
		t.Errorf("think times (-want +got)\n%s", d)
	}
	for i, words := range []int{10, 9, 12, 17, 4, 8} {
		if len(strings.Fields(texts[i])) != words {
			t.Fatalf("prompt %d has %d words, want %d", i, len(strings.Fields(texts[i])), words)
		}
	}
	shared := func(what, a, b string, ab, bb, n int) { // n blocks are equal
		t.Helper()
		for i := range n {
			if strings.Fields(a)[4*(ab+i)] != strings.Fields(b)[4*(bb+i)] || block(a+" ", ab+i, 4) != block(b+" ", bb+i, 4) {
				t.Errorf("%s: blocks %d and %d differ: %q and %q", what, ab+i, bb+i, a, b)
			}
		}
	}
	shared("what the second request keeps", texts[0], texts[3], 0, 0, 2)
	shared("a sub-agent in its session's namespace", texts[0], texts[1], 0, 0, 1)
	shared("a sub-agent's own stream", texts[1], texts[2], 0, 0, 2)
	shared("another sub-agent", texts[1], texts[4], 1, 0, 1)
	shared("what the last one keeps", texts[3], texts[5], 0, 0, 1)
	if block(texts[0]+" ", 2, 4)[:8] == block(texts[3]+" ", 2, 4)[:8] {
		t.Error("words beyond the block ids are an id's")
	}
	if other, _, _ := sent(t, w, 1, 1); block(other[0]+" ", 0, 4) == block(texts[0]+" ", 0, 4) {
		t.Error("two sessions share an id")
	}
}

// TestMooncakeAsRecorded plays the public recording and counts again, from the text alone, what a cache that keeps everything
// would hit: 37.4 % of the tokens by the ids.
func TestMooncakeAsRecorded(t *testing.T) {
	w, err := replay.ReadTrace(recording(t, "mooncake/conversation_trace.jsonl.gz"), "mooncake", replay.TraceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if c, r := w.Size(); c != 12031 || r != 12031 {
		t.Fatalf("%d conversations, %d requests", c, r)
	}
	const some = 1500 // of them: all would be half a gigabyte of text
	seen := make(map[string]bool)
	hit, total := 0, 0
	for n := range some {
		texts, _, _ := sent(t, w, n, 1)
		text := texts[0] + " "
		total += len(text) / 4
		for end, whole := 4*512, true; end <= len(text); end += 4 * 512 {
			prefix := text[:end][max(0, end-4*512*2):] // with the block in front of it: ids are of prefixes
			if whole = whole && seen[prefix]; whole {
				hit += 512
			}
			seen[prefix] = true
		}
	}
	want := hitsByID(t, some)
	if got := float64(hit) / float64(total); got < want-0.005 || got > want+0.005 {
		t.Errorf("by text %.2f %% of the tokens are hits, by id %.2f %%", 100*got, 100*want)
	}
}

// hitsByID counts whole blocks of the recording's first requests by their ids.
func hitsByID(t *testing.T, some int) float64 {
	t.Helper()
	z, err := gzip.NewReader(recording(t, "mooncake/conversation_trace.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	dec, seen, hit, total := json.NewDecoder(z), make(map[int]bool), 0, 0
	for range some {
		var r struct {
			Input int   `json:"input_length"`
			IDs   []int `json:"hash_ids"`
		}
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		total += r.Input
		for i, id := range r.IDs {
			if 512*(i+1) > r.Input {
				break
			}
			if seen[id] {
				hit += 512
			}
			seen[id] = true
		}
	}
	return float64(hit) / float64(total)
}

func TestAgentsAsRecorded(t *testing.T) {
	const file = "agentic-weka/weka_agentic_a.compact.jsonl.gz"
	w, err := replay.ReadTrace(recording(t, file), file, replay.TraceConfig{MaxContext: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if c, r := w.Size(); c != 330 || r != 21619 {
		t.Errorf("%d sessions, %d requests, want 330 and 21,619", c, r)
	}
	cut, err := replay.ReadTrace(recording(t, file), file, replay.TraceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sessions, requests := cut.Size()
	if sessions < 200 || requests < 5000 {
		t.Errorf("%d sessions with %d requests are left of at most 131,072 tokens", sessions, requests)
	}
	for n := 0; n < sessions; n += 40 {
		for i, text := range first(sent(t, cut, n, 1)) {
			if words := (len(text) + 1) / 4; words > 128<<10 {
				t.Errorf("session %d, request %d has %d tokens: it was to end before", n, i, words)
			}
		}
	}
}

func first[A, B, C any](a A, _ B, _ C) A { return a }

// FuzzTrace: no document makes the reader panic or run on, and what it takes can be played.
func FuzzTrace(f *testing.F) {
	for _, doc := range []string{
		azureRows, `{"timestamp":0,"input_length":5,"output_length":1,"hash_ids":[0]}`, `[{"calls":[{"keep":0,"add":"x"}]}]`,
		`{"block_size":4,"reqs":[{"i":10,"o":3,"add":[[1,2]]},{"reqs":[{"i":9,"o":2,"add":[[1,1],[7,1]]}]},{"i":17,"o":5,"keep":2,"add":[[3,2]]}]}`,
		`{"traj":[{"role":"user","content":"x"},{"role":"assistant"}]}`,
	} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		w, err := replay.ReadTrace(strings.NewReader(doc), "file", replay.TraceConfig{MaxContext: 4096})
		if err != nil {
			return
		}
		conversations, requests := w.Size()
		for n := range conversations {
			c, ok := w.Conversation(n, 1, replay.Chat)
			if !ok {
				t.Fatalf("no conversation %d of %d", n, conversations)
			}
			for turn, ok := c.Next(replay.Reply{}); ok; turn, ok = c.Next(replay.Reply{}) {
				if requests--; len(turn.Text) > 4*(64<<20) {
					t.Fatalf("a prompt of %d bytes", len(turn.Text))
				}
				if w.Format() == replay.Azure || w.Format() == replay.Mooncake {
					return // a short row may ask for a very long prompt; one is enough
				}
			}
		}
		if requests != 0 {
			t.Fatalf("%d requests are missing", requests)
		}
	})
}

// BenchmarkBlocks makes prompts of 64 blocks of which half are those of the one before.
func BenchmarkBlocks(b *testing.B) {
	var doc strings.Builder
	doc.WriteString(`{"block_size":64,"reqs":[{"i":4096,"o":1,"add":[[1,64]]}`)
	for i := range 100 {
		fmt.Fprintf(&doc, `,{"i":4096,"o":1,"keep":32,"add":[[%d,32]]}`, 100*(i+1))
	}
	doc.WriteString("]}")
	w := readTrace(b, doc.String(), replay.TraceConfig{})
	bytes := 0
	b.ReportAllocs()
	for b.Loop() {
		c, _ := w.Conversation(0, 1, replay.Chat)
		bytes = 0
		for turn, ok := c.Next(replay.Reply{}); ok; turn, ok = c.Next(replay.Reply{}) {
			bytes += len(turn.Text) / 2
		}
	}
	b.SetBytes(int64(bytes))
}
