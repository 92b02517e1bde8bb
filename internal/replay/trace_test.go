package replay_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/replay"
)

// prompts plays a whole workload without an endpoint. Each turn is decoded: a message list, or a text.
func prompts(t *testing.T, w replay.Workload, seed uint64, api replay.API) (turns []any, limits []int) {
	t.Helper()
	size, _ := w.Size()
	for n := range size {
		c, ok := w.Conversation(n, seed, api)
		if !ok {
			t.Fatalf("no conversation %d of %d", n, size)
		}
		reply := replay.Reply{}
		for {
			turn, ok := c.Next(reply)
			if !ok {
				break
			}
			var decoded any
			raw := []byte(`"` + string(turn.Text) + `"`)
			if turn.Messages != nil {
				raw = []byte(`[` + string(turn.Messages) + `]`)
			}
			if err := json.Unmarshal(raw, &decoded); err != nil {
				t.Fatalf("conversation %d: %v in %s", n, err, raw)
			}
			turns, limits = append(turns, decoded), append(limits, turn.MaxTokens)
			reply = replay.Reply{OK: true, Text: []byte("a \"reply\"\n")}
		}
	}
	return turns, limits
}

func TestTaubenchSendsWhatCameBeforeEachAnswer(t *testing.T) {
	trace, err := replay.OpenTrace("testdata/taubench.json", replay.TraceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	message := func(role, content string) map[string]any { return map[string]any{"role": role, "content": content} }
	asked := []any{message("system", "Be brief."), message("user", `Where is "order 7"?`)}
	call := map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{map[string]any{
		"id": "a", "type": "function", "function": map[string]any{"name": "find", "arguments": `{"id": 7}`}}}}
	found := map[string]any{"role": "tool", "tool_call_id": "a", "name": "find", "content": "in Oslo"}
	want := []any{
		asked,
		append(asked[:2:2], call, found),
		[]any{message("assistant", "Hello, first."), message("user", "Hi é")},
	}
	got, limits := prompts(t, trace, 1, replay.Chat)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// Recorded bytes over four: a tool call of 88 bytes of JSON, "It is in Oslo.", "Hi.".
	if d := cmp.Diff([]int{23, 4, 1}, limits); d != "" {
		t.Errorf("limits (-want +got)\n%s", d)
	}
	if c, r := trace.Size(); c != 2 || r != 3 || trace.Name() != "taubench" || trace.Supports(replay.Generate) {
		t.Errorf("size %d, %d; name %s; generate %t", c, r, trace.Name(), trace.Supports(replay.Generate))
	}
}

func TestMiniswePutsInputsTogether(t *testing.T) {
	trace, err := replay.OpenTrace("testdata/miniswe.jsonl", replay.TraceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	want := []any{"fix: \"é\"\n", "fix: \"é\"\n\nREADME\x01😀", "fix: \"é again", "fix: \"é again!", "other"}
	for _, api := range []replay.API{replay.Chat, replay.Generate} {
		got, limits := prompts(t, trace, 1, api)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", api, d)
		}
		if d := cmp.Diff([]int{3, 1, 1, 1, 3}, limits); d != "" {
			t.Errorf("%s: limits (-want +got)\n%s", api, d)
		}
	}
}

// TestTracesReadInAnyWrapping: gzip or plain, an array or lines, recognised or named.
func TestTracesReadInAnyWrapping(t *testing.T) {
	lines, err := os.ReadFile("testdata/miniswe.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	array := append([]byte(" \n["), bytes.Replace(bytes.TrimSpace(lines), []byte("\n"), []byte(",\n"), 1)...)
	array = append(array, ']')
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(array)
	_ = z.Close()
	for name, content := range map[string][]byte{"lines": lines, "array": array, "gzip": zipped.Bytes()} {
		for _, format := range []replay.Format{"", replay.Miniswe} {
			trace, err := replay.ReadTrace(bytes.NewReader(content), name, replay.TraceConfig{Format: format})
			if err != nil {
				t.Errorf("%s as %q: %v", name, format, err)
				continue
			}
			if c, r := trace.Size(); c != 2 || r != 5 {
				t.Errorf("%s as %q: size %d, %d", name, format, c, r)
			}
		}
	}
}

const azureRows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.5,3,1\n2023-11-16 18:17:04.5,3,1\n"

func TestBadTracesAreTyped(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		format        replay.Format
		unknown       bool   // UnknownFormatError, else TraceError
		want          string // in the text
	}{
		{"another format", `{"timestamp": 0, "tokens": [5]}`, "", true, "taubench, miniswe"},
		{"another format, named", `{"timestamp": 0}`, replay.Miniswe, false, "record 0: it is no session of the format miniswe"},
		{"csv", "TIMESTAMP,ContextTokens\n1,2\n", "", true, "taubench, miniswe"},
		{"csv, named", "TIMESTAMP,ContextTokens\n1,2\n", replay.Taubench, false, "not of a known format"},
		{"rates", "client,window_start_s,rate_rps,cv,family,param1,param2\n", "", false, "rates of arrivals and no requests"},
		{"a row cut short", azureRows + "2023-11-16 18:17:04,3\n", "", false, "record 2: record on line 4: wrong number of fields"},
		{"no time", azureRows + "yesterday,3,1\n", "", false, `record 2: line 4: time "yesterday"`},
		{"no tokens", azureRows + "2023-11-16 18:17:04,x,1\n", "", false, `record 2: line 4: "x" is no number`},
		{"time that falls", azureRows + "2023-11-16 18:17:03,3,1\n", "", false, "record 2: it was sent 1.5s before the one in front of it"},
		{"too many ids", `{"timestamp":0,"input_length":512,"output_length":1,"hash_ids":[0,1]}`, "", false, "2 hash ids for 512 tokens"},
		{"no input", `{"timestamp":0,"input_length":0,"output_length":1,"hash_ids":[]}`, "", false, "input of 0 tokens"},
		{"no timestamp", `{"input_length":1,"output_length":1,"hash_ids":[]}`, "", false, `no "timestamp"`},
		{"keeps too many blocks", `{"block_size":64,"reqs":[{"i":70,"o":1,"add":[[1,1]]},{"i":200,"o":1,"keep":2}]}`, "", false, "request 1: it keeps 2 blocks, the one before it has 1"},
		{"adds too many blocks", `{"block_size":64,"reqs":[{"i":64,"o":1,"add":[[1,4000000000]]}]}`, "", false, "request 0: more block ids than 64 tokens have"},
		{"no block size", `{"reqs":[]}`, "", false, "block size 0"},
		{"a sub-agent's sub-agent", `{"block_size":64,"reqs":[{"reqs":[{"reqs":[]}]}]}`, "", false, "request 0: its sub-agent has a sub-agent"},
		{"numbers", `[1,2]`, "", true, "taubench, miniswe"},
		{"braces only", `{nothing`, "", true, "taubench, miniswe"},
		{"unknown name", `{}`, "csv", true, `"csv"`},
		{"empty", " \n", "", false, "unexpected EOF"},
		{"no requests", `[]`, "", false, "no request"},
		{"cut short", `[{"traj":[{"role":"user","content":"x"},{"role":"assistant"}]},`, "", false, "record 1: unexpected EOF"},
		{"array left open", `[{"traj":[{"role":"user","content":"x"},{"role":"assistant"}]}`, "", false, "record 1: unexpected EOF"},
		{"change of format", `{"calls":[{"keep":0,"add":"x"}]} {"traj":[]}`, "", false, "record 1: it is no session of the format miniswe"},
		{"keeps too much", `{"calls":[{"keep":0,"add":"é"},{"keep":2,"add":"x"}]}`, "", false, "call 1 keeps 2 characters"},
		{"keeps less than nothing", `{"calls":[{"keep":-1,"add":"x"}]}`, "", false, "call 0 keeps -1"},
		{"no role", `{"traj":[{"content":"x"}]}`, "", false, "message 0: no role"},
		{"a message that is none", `{"traj":["x"]}`, "", false, "message 0"},
		{"broken gzip", "\x1f\x8b????????", "", false, "gzip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := replay.ReadTrace(strings.NewReader(tt.content), "file", replay.TraceConfig{Format: tt.format})
			_, unknown := errors.AsType[*replay.UnknownFormatError](err)
			_, broken := errors.AsType[*replay.TraceError](err)
			if unknown != tt.unknown || broken == tt.unknown || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %T %v, want %q", err, err, tt.want)
			}
		})
	}
	if _, err := replay.OpenTrace("testdata/absent", replay.TraceConfig{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want a file that does not exist", err)
	}
}

// TestRecordedTraces checks the public recordings against counts made by another reader, in Python.
func TestRecordedTraces(t *testing.T) {
	for _, tt := range []struct {
		file                    string
		conversations, requests int
		mean, most              int // characters of a prompt, roles and tool calls aside
	}{
		{"taubench/gpt-4o-airline.json.gz", 200, 2454, 10_376, 26_738},
		{"lmcache-agent/miniswe.delta.jsonl.gz", 20, 402, 24_065, 145_122},
		// Four characters a token, the last one without a space.
		{"azure2023/AzureLLMInferenceTrace_code.csv.gz", 8819, 8819, 8190, 4*7437 - 1},
		{"azure2023/AzureLLMInferenceTrace_conv.csv.gz", 19366, 19366, 4617, 4*14050 - 1},
	} {
		t.Run(tt.file, func(t *testing.T) {
			path := filepath.Join("..", "..", "..", "shared", "traces", filepath.FromSlash(tt.file))
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				t.Skipf("recorded traces are not beside the repository: no %s", path)
			}
			trace, err := replay.OpenTrace(path, replay.TraceConfig{})
			if err != nil {
				t.Fatal(err)
			}
			turns, total, most := 0, 0, 0
			for n := range tt.conversations {
				c, ok := trace.Conversation(n, 1, replay.Chat)
				if !ok {
					t.Fatalf("no conversation %d", n)
				}
				for turn, ok := c.Next(replay.Reply{}); ok; turn, ok = c.Next(replay.Reply{}) {
					size := promptCharacters(t, turn)
					turns, total, most = turns+1, total+size, max(most, size)
				}
			}
			if c, r := trace.Size(); c != tt.conversations || r != tt.requests || turns != tt.requests {
				t.Errorf("%d conversations, %d requests, %d turns, want %d, %d", c, r, turns, tt.conversations, tt.requests)
			}
			if total/turns != tt.mean || most != tt.most {
				t.Errorf("mean %d, most %d characters, want %d, %d", total/turns, most, tt.mean, tt.most)
			}
		})
	}
}

func promptCharacters(t *testing.T, turn replay.Turn) (n int) {
	t.Helper()
	raw := `[{"content":"` + string(turn.Text) + `"}]`
	if turn.Messages != nil {
		raw = `[` + string(turn.Messages) + `]`
	}
	var messages []struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal([]byte(raw), &messages); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		n += utf8.RuneCountInString(m.Content)
	}
	return n
}

// TestTracesReplayTheirOwnPrompts: what the model says does not enter the next prompt, and a failure does not
// end a session.
func TestTracesReplayTheirOwnPrompts(t *testing.T) {
	trace, err := replay.OpenTrace("testdata/taubench.json", replay.TraceConfig{Format: replay.Taubench})
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{}
	url := serve(t, e)
	got := run(t, t.Context(), replay.Config{URL: url, Workload: trace, Concurrency: 1, Requests: 10})
	if got.Requests != 3 || got.Errors != 0 || !strings.Contains(got.Stopped, "ended before 10") || got.Partial {
		t.Errorf("got %d requests, %v, stopped %q, partial %t", got.Requests, got.ErrorSamples, got.Stopped, got.Partial)
	}
	for _, r := range e.requests() {
		if strings.Contains(strings.Join(r.prompt, " "), "r0x") {
			t.Errorf("a reply is in prompt %v", r.prompt)
		}
	}
	if _, err := replay.Run(t.Context(), replay.Config{URL: url, Workload: trace, API: replay.Generate}); !errors.Is(err, replay.ErrConfig) {
		t.Errorf("message lists to /generate: got %v", err)
	}
}
