package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// points scans body and returns all of its edit points.
func points(t testing.TB, body string) jsonscan.Points {
	t.Helper()
	var d jsonscan.Doc
	if err := jsonscan.Scan(&d, []byte(body), noted); err != nil {
		t.Fatal(err)
	}
	return d.Points(nil)
}

func set(key, value string) jsonscan.Set { return jsonscan.Set{Key: key, Value: []byte(value)} }
func remove(key string) jsonscan.Set     { return jsonscan.Set{Key: key, Delete: true} }

func TestApply(t *testing.T) {
	tests := []struct {
		name, body string
		sets       []jsonscan.Set
		want       string
	}{
		{"nothing to do", ` {"a" : 1.50} `, nil, ` {"a" : 1.50} `},
		{"replace", ` {"a" : 1.50 , "b":2}`, []jsonscan.Set{set("a", `"x"`)}, ` {"a" : "x" , "b":2}`},
		{"replace two, out of order", `{"a":1,"b":2}`, []jsonscan.Set{set("b", `20`), set("a", `10`)}, `{"a":10,"b":20}`},
		{"insert", `{ "a":1}`, []jsonscan.Set{set("x", `[1]`), set("y", `null`)}, `{"x":[1],"y":null, "a":1}`},
		{"insert into nothing", ` { } `, []jsonscan.Set{set("x", `1`), set("y", `2`)}, ` {"x":1,"y":2 } `},
		{"insert a key with quotes", `{}`, []jsonscan.Set{set("\"\n", `1`)}, `{"\"\u000a":1}`},
		{"remove the only one", `{ "a" : 1 }`, []jsonscan.Set{remove("a")}, `{  }`},
		{"remove the first", `{"a":1 , "b":2}`, []jsonscan.Set{remove("a")}, `{ "b":2}`},
		{"remove one in the middle", `{"a":1, "b":2, "c":3}`, []jsonscan.Set{remove("b")}, `{"a":1,  "c":3}`},
		{"remove the last", `{"a":1 , "b":2 }`, []jsonscan.Set{remove("b")}, `{"a":1  }`},
		{"remove the last two", `{"a":1,"b":2,"c":3}`, []jsonscan.Set{remove("c"), remove("b")}, `{"a":1}`},
		{"remove the first two", `{"a":1,"b":2,"c":3}`, []jsonscan.Set{remove("b"), remove("a")}, `{"c":3}`},
		{"remove the outer two", `{"a":1,"b":2,"c":3}`, []jsonscan.Set{remove("a"), remove("c")}, `{"b":2}`},
		{"remove all", `{"a":1,"b":2,"c":3}`, []jsonscan.Set{remove("a"), remove("c"), remove("b")}, `{}`},
		{"remove all and insert", `{"a":1,"b":2}`, []jsonscan.Set{remove("a"), set("x", `0`), remove("b")}, `{"x":0}`},
		{"remove the first and insert", `{"a":1,"b":2}`, []jsonscan.Set{remove("a"), set("x", `0`)}, `{"x":0,"b":2}`},
		{"replace, then remove the next", `{"a":1,"b":2}`, []jsonscan.Set{set("a", `0`), remove("b")}, `{"a":0}`},
		{"remove what is not there", `{"a":1}`, []jsonscan.Set{remove("x")}, `{"a":1}`},
		{"key in disguise", `{"\u0061":1}`, []jsonscan.Set{set("a", `2`)}, `{"\u0061":2}`},
		{"commas and braces in strings", `{"a":",}","b":"{,"}`, []jsonscan.Set{remove("b"), set("x", `1`)}, `{"x":1,"a":",}"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := points(t, tt.body).Apply([]byte(tt.body), tt.sets)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err := jsonscan.Valid(got); err != nil {
				t.Errorf("the result is no JSON: %v", err)
			}
		})
	}
}

func TestApplyOnMembersThatWereNotAskedFor(t *testing.T) {
	body := []byte(`{"u":1,"a":2,"v":3,"b":4,"w":5}`)
	var d jsonscan.Doc
	if err := jsonscan.Scan(&d, body, noted); err != nil {
		t.Fatal(err)
	}
	p := d.Points(func(key string) bool { return key == "a" || key == "b" })
	got, err := p.Apply(body, []jsonscan.Set{remove("a"), remove("b")})
	if want := `{"u":1,"v":3,"w":5}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if p := d.Points(func(string) bool { return false }); p.Members != nil || p.Empty {
		t.Errorf("points without members: %+v", p)
	}
}

func TestApplyRefuses(t *testing.T) {
	body := `{"a":1,"b":"x"}`
	good := points(t, body)
	if _, err := good.Apply([]byte(body), []jsonscan.Set{set("a", `1`), remove("a")}); err == nil {
		t.Error("the same key twice is accepted")
	}
	for _, value := range []string{``, `{`, `1,"x":2`, "\"\xff\""} {
		_, err := good.Apply([]byte(body), []jsonscan.Set{set("a", value)})
		if _, ok := errors.AsType[*jsonscan.Error](err); !ok {
			t.Errorf("value %q: %v, want a scan error", value, err)
		}
	}
	bad := map[string]func(p *jsonscan.Points){
		"open before":           func(p *jsonscan.Points) { p.Open = -1 },
		"open after":            func(p *jsonscan.Points) { p.Open = len(body) },
		"open elsewhere":        func(p *jsonscan.Points) { p.Open = 1 },
		"empty with members":    func(p *jsonscan.Points) { p.Empty = true },
		"end after":             func(p *jsonscan.Points) { p.Members[1].End = len(body) },
		"end far after":         func(p *jsonscan.Points) { p.Members[1].End = math.MaxInt },
		"negative start":        func(p *jsonscan.Points) { p.Members[0].Start = math.MinInt },
		"no value":              func(p *jsonscan.Points) { p.Members[0].End = p.Members[0].Start },
		"key before the object": func(p *jsonscan.Points) { p.Members[0].KeyStart = 0 },
		"key far before":        func(p *jsonscan.Points) { p.Members[0].KeyStart = math.MinInt },
		"other key":             func(p *jsonscan.Points) { p.Members[0].Key = "b" },
		"value is elsewhere":    func(p *jsonscan.Points) { p.Members[0].Start-- },
		"wrong order":           func(p *jsonscan.Points) { slices.Reverse(p.Members) },
		"overlap":               func(p *jsonscan.Points) { p.Members[0].End = p.Members[1].Start },
		"twice":                 func(p *jsonscan.Points) { p.Members[1] = p.Members[0] },
	}
	for name, spoil := range bad {
		p := points(t, body)
		spoil(&p)
		if _, err := p.Apply([]byte(body), nil); !errors.Is(err, jsonscan.ErrPoints) {
			t.Errorf("%s: %v, want %v", name, err, jsonscan.ErrPoints)
		}
	}
	if _, err := good.Apply([]byte(`{"other":"body"}`), nil); !errors.Is(err, jsonscan.ErrPoints) {
		t.Errorf("points of another body: %v", err)
	}
	if _, err := good.Apply(nil, nil); !errors.Is(err, jsonscan.ErrPoints) {
		t.Errorf("points of no body: %v", err)
	}
}

func TestPiecesShareTheBody(t *testing.T) {
	body := `{"model":"a","prompt":"` + strings.Repeat("x", 1<<20) + `"}`
	p := points(t, body)
	raw := []byte(body)
	sets := []jsonscan.Set{set("model", `"b"`), set("rid", `"1"`)}
	pieces, err := p.Pieces(raw, sets)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := p.Apply(raw, sets)
	if err != nil || !bytes.Equal(slices.Concat(pieces...), whole) {
		t.Errorf("pieces differ from the edited body (%v)", err)
	}
	if last := pieces[len(pieces)-1]; &last[len(last)-1] != &raw[len(raw)-1] {
		t.Error("the last piece is a copy")
	}
	if allocs := testing.AllocsPerRun(10, func() { pieces, _ = p.Pieces(raw, sets) }); allocs > 20 {
		t.Errorf("%v allocations", allocs)
	}
}

// members splits an object into its members' keys and raw values, with encoding/json.
func members(t *testing.T, body []byte) (keys []string, values []json.RawMessage) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("%q: %v, %v", body, tok, err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		keys, values = append(keys, key.(string)), append(values, value)
	}
	return keys, values
}

// FuzzSplice edits bodies at random, with true points and with spoilt ones. An edited body has exactly the members
// it should have, in order and byte for byte, and taking the edits back gives the bytes between them.
func FuzzSplice(f *testing.F) {
	for i, body := range []string{`{}`, ` { "a" : 1 } `, `{"a":1,"b":[2, 3],"c":"x,}","d":{"a":0}}`, "{\"\\u0061\":1\n,\n\"b\" :2.0e1 }", `{"d":1,"c":2,"b":3,"a":4,"":5}`} {
		f.Add([]byte(body), uint64(i), false)
		f.Add([]byte(body), uint64(i), true)
	}
	keys := []string{"a", "b", "c", "d", "new\"", ""}
	values := []string{`1`, `{"x" : "y"}`, `"\u00e9,}"`, `[]`}
	f.Fuzz(func(t *testing.T, body []byte, seed uint64, spoil bool) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var d jsonscan.Doc
		if jsonscan.Scan(&d, body, noted) != nil {
			return
		}
		p := d.Points(nil)
		var sets []jsonscan.Set
		for _, key := range keys {
			switch rng.IntN(3) {
			case 0:
				sets = append(sets, set(key, values[rng.IntN(len(values))]))
			case 1:
				sets = append(sets, remove(key))
			}
		}
		rng.Shuffle(len(sets), func(i, j int) { sets[i], sets[j] = sets[j], sets[i] })
		if spoil { // wrong points may edit the wrong place, but stay inside
			for range 1 + rng.IntN(3) {
				by := rng.IntN(2*len(body)+3) - len(body)
				if len(p.Members) == 0 {
					p.Open += by
					break
				}
				m := &p.Members[rng.IntN(len(p.Members))]
				switch rng.IntN(4) {
				case 0:
					m.KeyStart += by
				case 1:
					m.Start += by
				case 2:
					m.End += by
				case 3:
					p.Open += by
				}
			}
			_, _ = p.Apply(body, sets)
			return
		}
		edited, err := p.Apply(body, sets)
		if err != nil {
			t.Fatal(err)
		}
		oldKeys, oldValues := members(t, body)
		var wantKeys []string
		var wantValues []string
		for _, s := range sets {
			if !s.Delete && !slices.Contains(oldKeys, s.Key) {
				wantKeys, wantValues = append(wantKeys, s.Key), append(wantValues, string(s.Value))
			}
		}
		for i, key := range oldKeys {
			at := slices.IndexFunc(sets, func(s jsonscan.Set) bool { return s.Key == key })
			switch {
			case at < 0:
				wantKeys, wantValues = append(wantKeys, key), append(wantValues, string(oldValues[i]))
			case !sets[at].Delete:
				wantKeys, wantValues = append(wantKeys, key), append(wantValues, string(sets[at].Value))
			}
		}
		gotKeys, raw := members(t, edited)
		gotValues := make([]string, len(raw))
		for i := range raw {
			gotValues[i] = string(raw[i])
		}
		if fmt.Sprintf("%q", gotKeys) != fmt.Sprintf("%q", wantKeys) || !slices.Equal(gotValues, wantValues) {
			t.Fatalf("%q with %v became %q", body, sets, edited)
		}
		// Without removals, the bytes outside of the values are those of the body, with the new members added.
		if !slices.ContainsFunc(sets, func(s jsonscan.Set) bool { return s.Delete }) {
			var back []jsonscan.Set
			for i, key := range oldKeys {
				back = append(back, jsonscan.Set{Key: key, Value: oldValues[i]})
			}
			for _, key := range gotKeys {
				if !slices.Contains(oldKeys, key) {
					back = append(back, remove(key))
				}
			}
			restored, err := points(t, string(edited)).Apply(edited, back)
			if err != nil || !bytes.Equal(restored, body) {
				t.Fatalf("%q became %q and then %q (%v)", body, edited, restored, err)
			}
		}
	})
}
