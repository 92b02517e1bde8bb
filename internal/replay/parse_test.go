package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestChunkReadsEveryShape(t *testing.T) {
	type result struct {
		Text, Message string
		Hidden        bool
		Failed        bool
		Usage         [3]int64
	}
	none := [3]int64{-1, -1, -1}
	for _, tt := range []struct {
		doc  string
		want result
	}{
		{`{}`, result{Usage: none}},
		{`{"id":"a","choices":[{"index":0,"delta":{"role":"assistant","content":"h\u00e9\n\ud83d\ude00"},"finish_reason":null}],"usage":null}`,
			result{Text: "hé\n😀", Usage: none}},
		{`{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}`, result{Hidden: true, Usage: none}},
		{`{"choices":[{"delta":{"reasoning_content":null,"tool_calls":[]}}]}`, result{Usage: none}},
		{`{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a\":[1]}"}}]}}]}`, result{Hidden: true, Usage: none}},
		{`{"choices":[{"message":{"content":"one"}},{"message":{"content":"two"}}]}`, result{Text: "one", Usage: none}},
		{`{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"audio":0,"cached_tokens":8}}}`,
			result{Usage: [3]int64{10, 2, 8}}},
		{`{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":null}}`, result{Usage: [3]int64{10, 2, -1}}},
		{`{"sglext":{"cached_tokens_details":{"device":5,"host":2,"storage":null,"storage_backend":"x"}},"usage":{"prompt_tokens":10}}`,
			result{Usage: [3]int64{10, -1, 7}}},
		{`{"sglext":{"cached_tokens_details":{"device":5}},"usage":{"prompt_tokens_details":{"cached_tokens":6}}}`, result{Usage: [3]int64{-1, -1, 6}}},
		{`{"sglext":null}`, result{Usage: none}},
		{`{"text":"all so far","output_ids":[1,2],"meta_info":{"prompt_tokens":4,"completion_tokens":2,"cached_tokens":3,"finish_reason":{"type":"length","length":2}}}`,
			result{Text: "all so far", Usage: [3]int64{4, 2, 3}}},
		{`{"text":"","meta_info":{"finish_reason":{"type":"abort","message":"m","status_code":400}}}`, result{Failed: true, Message: "m", Usage: none}},
		{`{"choices":[{"delta":{},"finish_reason":"abort"}]}`, result{Failed: true, Message: "aborted", Usage: none}},
		{`{"error":{"object":"error","message":"a \"b\"","code":400}}`, result{Failed: true, Message: `a "b"`, Usage: none}},
		{`{"error":"plain"}`, result{Failed: true, Message: "plain", Usage: none}},
		{`{"error":null,"text":"x"}`, result{Text: "x", Usage: none}},
		{`{"object":"error","message":"flat","type":"x","param":null,"code":400}`, result{Failed: true, Message: "flat", Usage: none}},
		{` { "usage" : { "prompt_tokens" : 1.5e3 , "completion_tokens":-3, "x":[{},[[]],"]",true] } } `, result{Usage: [3]int64{1, -1, -1}}},
	} {
		var c chunk
		if err := c.parse([]byte(tt.doc)); err != nil {
			t.Errorf("%s: %v", tt.doc, err)
			continue
		}
		got := result{string(c.text), string(c.message), c.hidden > 0, c.failed, [3]int64{c.usage.prompt, c.usage.output, c.usage.cached}}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.doc, d)
		}
	}
}

func TestChunkRefusesWhatIsCutOrNotJSON(t *testing.T) {
	const doc = `{"choices":[{"delta":{"content":"a\u00e9","tool_calls":[1]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1},"error":null}`
	var c chunk
	for i := range doc {
		if err := c.parse([]byte(doc[:i])); err == nil {
			t.Errorf("read %s", doc[:i])
		}
	}
	for _, doc := range []string{`[]`, `"x"`, `{} {}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":[1,]}`, `{a:1}`, `{"text":"\x"}`, `{"text":"\u12"}`} {
		// What is skipped is only matched for brackets, so a trailing comma inside it may pass.
		if err := c.parse([]byte(doc)); err == nil && doc != `{"a":[1,]}` {
			t.Errorf("read %s", doc)
		}
	}
}

// FuzzChunk: no document makes the parser panic or run on, and of valid ones it reads what encoding/json does.
func FuzzChunk(f *testing.F) {
	f.Add([]byte(`{"choices":[{"delta":{"content":"a\ud83d\ude00"}}],"usage":{"prompt_tokens":12}}`))
	f.Add([]byte(`{"text":"x","meta_info":{"finish_reason":{"type":"abort"}},"error":[{}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var c chunk
		err := c.parse(doc)
		if !json.Valid(doc) || bytes.TrimSpace(doc)[0] != '{' || !utf8.Valid(doc) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		// Keys that are spelt otherwise or twice are read differently, and engines send none.
		var keys map[string]json.RawMessage
		if json.Unmarshal(doc, &keys) != nil || bytes.Count(doc, []byte(`"text"`)) != 1 || len(keys["choices"]) > 0 {
			return
		}
		var want string
		if json.Unmarshal(keys["text"], &want) == nil && string(c.text) != want {
			t.Fatalf("%q: text %q, want %q", doc, c.text, want)
		}
	})
}

// TestChunkAgreesWithEncodingJSON on documents of the right shape with any strings.
func TestChunkAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, extra := rapid.String().Draw(t, "text"), rapid.String().Draw(t, "extra")
		prompt := rapid.Int64Range(0, 1e17).Draw(t, "prompt")
		doc, err := json.Marshal(map[string]any{
			extra + "!": []any{extra, map[string]any{extra: extra}, 1.5e-7, nil, true},
			"choices":   []any{map[string]any{"delta": map[string]any{"content": text, "z": extra}, "index": 0}},
			"usage":     map[string]any{"prompt_tokens": prompt, extra + "?": nil},
		})
		if err != nil {
			t.Fatal(err)
		}
		var c chunk
		if err := c.parse(doc); err != nil || string(c.text) != text || c.usage.prompt != prompt {
			t.Fatalf("%s: %v, text %q, prompt %d", doc, err, c.text, c.usage.prompt)
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("a\"\\\n\t\r\x00\x1f\u2028é😀\xff", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		escaped := appendEscaped(nil, s)
		var back string
		if err := json.Unmarshal(slices.Concat([]byte(`"`), escaped, []byte(`"`)), &back); err != nil {
			t.Fatalf("%q: %v", escaped, err)
		}
		runes := []rune(s) // turns what is not UTF-8 into U+FFFD, byte by byte
		if back != string(runes) {
			t.Fatalf("got %q, want %q", back, string(runes))
		}
		own, ok := appendUnescaped(nil, escaped)
		if !ok || string(own) != back {
			t.Fatalf("unescaped %q, %t, want %q", own, ok, back)
		}
		end, ok := escapedPrefix(escaped, n)
		if ok != (n >= 0 && n <= len(runes)) {
			t.Fatalf("prefix of %d of %d: %t", n, len(runes), ok)
		}
		if ok && string(escaped[:end]) != string(appendEscaped(nil, string(runes[:n]))) {
			t.Fatalf("prefix of %d is %q", n, escaped[:end])
		}
	})
}

func TestEventsAreReadAsTheStandardSays(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		err      error
	}{
		{"plain", "data: a\n\ndata: b\n\n", []string{"a", "b"}, io.EOF},
		{"CRLF, no space, comments, other fields", ": ping\r\nevent: x\r\ndata:a\r\nid: 1\r\n\r\n\r\n:\n\ndata:  b\n\n", []string{"a", " b"}, io.EOF},
		{"several lines", "data: a\ndata:\ndata: b\n\n", []string{"a\n\nb"}, io.EOF},
		{"empty data", "data:\n\n", []string{""}, io.EOF},
		{"cut event is dropped", "data: a\n\ndata: b\n", []string{"a"}, io.EOF},
		{"cut line is dropped", "data: a\n\ndata: b", []string{"a"}, io.EOF},
		{"but [DONE] counts", "data: a\n\ndata: [DONE]", []string{"a", "[DONE]"}, io.EOF},
		{"at the bound", "data: " + strings.Repeat("x", 40_000) + "\n\n", []string{strings.Repeat("x", 40_000)}, io.EOF},
		{"beyond the bound", "data: " + strings.Repeat("x", 40_010) + "\n\n", nil, errEventTooLarge},
		{"beyond it in many lines", strings.Repeat("data: "+strings.Repeat("x", 999)+"\n", 50), nil, errEventTooLarge},
		{"an endless comment", ":" + strings.Repeat("x", 50_000), nil, errEventTooLarge},
	} {
		for reading, in := range map[string]io.Reader{
			"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in)),
		} {
			r := newEventReader(40_000)
			r.reset(in)
			var got []string
			data, err := r.next()
			for ; err == nil; data, err = r.next() {
				got = append(got, string(data))
			}
			if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
				t.Errorf("%s, %s: got %.60q, %v, want %.60q, %v", tt.name, reading, got, err, tt.want, tt.err)
			}
		}
	}
}

// TestGenerateTextIsCumulativeOrNot: both ways that SGLang streams give the same reply.
func TestGenerateTextIsCumulativeOrNot(t *testing.T) {
	for _, chunks := range [][]string{{"a", "a b", "a b", "a b c"}, {"a", " b", "", " c"}} {
		x := newExchange(Config{MaxEventBytes: 10})
		outputs := 0
		for _, text := range chunks {
			x.chunk = chunk{native: true, text: []byte(text)}
			if x.take() {
				outputs++
			}
		}
		if string(x.text) != "a b c" || outputs != 3 {
			t.Errorf("%q: got %q from %d chunks, want \"a b c\" from 3", chunks, x.text, outputs)
		}
	}
}

// TestQuantilesAreThoseOfNumpy: numpy.quantile(values, q) with its default method, by hand.
func TestQuantilesAreThoseOfNumpy(t *testing.T) {
	for _, tt := range []struct {
		seconds       []time.Duration
		p50, p90, p99 float64
	}{
		{[]time.Duration{7}, 7, 7, 7},
		{[]time.Duration{4, 1}, 2.5, 3.7, 3.97},
		{[]time.Duration{3, 1, 2, 4}, 2.5, 3.7, 3.97},
		{[]time.Duration{10, 20, 30, 40, 50}, 30, 46, 49.6},
	} {
		var s samples
		for _, v := range tt.seconds {
			s.add(v * time.Second)
		}
		got := s.distribution()
		for i, pair := range [][2]float64{{got.P50, tt.p50}, {got.P90, tt.p90}, {got.P99, tt.p99}} {
			if d := pair[0] - pair[1]; d > 1e-9 || d < -1e-9 {
				t.Errorf("%v: percentile %d is %v, want %v", tt.seconds, i, pair[0], pair[1])
			}
		}
	}
}

// TestManySamplesStayWithinOnePercent of the exact percentiles, in bounded memory.
func TestManySamplesStayWithinOnePercent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s, exact samples
	for range ExactSamples + 100_000 {
		d := time.Duration(rng.ExpFloat64() * float64(50*time.Millisecond))
		s.add(d)
		exact.exact = append(exact.exact, d)
		exact.count++
	}
	slices.Sort(exact.exact)
	got := s.distribution()
	if !got.Approximate || s.exact != nil {
		t.Fatal("did not turn into a histogram")
	}
	for q, v := range map[float64]float64{0.5: got.P50, 0.9: got.P90, 0.99: got.P99} {
		want := exact.quantile(q)
		if off := v/want - 1; off > 0.01 || off < -0.01 {
			t.Errorf("quantile %v: got %v, want %v", q, v, want)
		}
	}
	if got.Count != exact.count || got.Min != exact.at(0) || got.Max != exact.at(exact.count-1) {
		t.Errorf("got %+v, want %d values from %v to %v", got, exact.count, exact.at(0), exact.at(exact.count-1))
	}
}

// TestBucketsCoverEveryDuration, each next to the last and narrow.
func TestBucketsCoverEveryDuration(t *testing.T) {
	next := 0.0
	for i := range buckets {
		low, width := bucketRange(i)
		if low != next || (width > 1 && width > low/128) {
			t.Fatalf("bucket %d is %v wide from %v, the last ended at %v", i, width, low, next)
		}
		next = low + width
		if low < 1<<62 && (bucketOf(time.Duration(low)) != i || bucketOf(time.Duration(low+width)-1) != i) {
			t.Fatalf("bucket %d: its ends are in %d and %d", i, bucketOf(time.Duration(low)), bucketOf(time.Duration(low+width)-1))
		}
	}
	if next != 1<<63 || bucketOf(1<<63-1) != buckets-1 {
		t.Errorf("buckets end at %v", next)
	}
}

// TestWorkerNamesAreBounded: an endpoint that makes up names does not make memory grow.
func TestWorkerNamesAreBounded(t *testing.T) {
	r := newRecorder(Config{}, time.Time{})
	x := newExchange(Config{MaxEventBytes: 10})
	for i := range maxWorkers + 10 {
		x.worker = "w" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
		r.record(x, time.Time{})
	}
	var rep Report
	r.fill(&rep)
	if len(rep.Workers) != maxWorkers+1 || rep.Workers[otherWorkers].Requests != 10 {
		t.Errorf("%d names, %d others", len(rep.Workers), rep.Workers[otherWorkers].Requests)
	}
}
