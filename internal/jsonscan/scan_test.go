package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// all asks for every member, by its own name, with its structure.
func all(key []byte) (string, jsonscan.Mode) { return string(key), jsonscan.Tape }

// noted asks for every member, without structure.
func noted(key []byte) (string, jsonscan.Mode) { return string(key), jsonscan.Note }

func TestScanRefuses(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" }
	tests := []struct {
		name, in string
		code     jsonscan.Code // 0: accepted
		offset   int
	}{
		{"empty object", `{}`, 0, 0},
		{"spaces", " \t\r\n{ } \n", 0, 0},
		{"all kinds", `{"a":[1,-0.5e+3,0,1E9],"b":{"c":null},"d":true,"e":false,"f":"x"}`, 0, 0},
		{"nothing", ``, jsonscan.Truncated, 0},
		{"only spaces", `   `, jsonscan.Truncated, 3},
		{"array", ` [1]`, jsonscan.NotObject, 1},
		{"string", `"a"`, jsonscan.NotObject, 0},
		{"byte order mark", "\uFEFF{}", jsonscan.NotObject, 0},
		{"unclosed", `{"a":1`, jsonscan.Truncated, 6},
		{"unclosed string", `{"a`, jsonscan.Truncated, 3},
		{"unclosed escape", `{"a\`, jsonscan.Truncated, 4},
		{"unclosed code unit", `{"\u12`, jsonscan.Truncated, 6},
		{"no value", `{"a":}`, jsonscan.Syntax, 5},
		{"no colon", `{"a" 1}`, jsonscan.Syntax, 5},
		{"trailing comma", `{"a":1,}`, jsonscan.Syntax, 7},
		{"trailing comma in array", `{"a":[1,]}`, jsonscan.Syntax, 8},
		{"leading comma", `{,"a":1}`, jsonscan.Syntax, 1},
		{"key is no string", `{a:1}`, jsonscan.Syntax, 1},
		{"wrong bracket", `{"a":[1}}`, jsonscan.Syntax, 7},
		{"trailing bytes", `{} {}`, jsonscan.Trailing, 3},
		{"trailing zero byte", "{}\x00", jsonscan.Trailing, 2},
		{"leading zero", `{"a":01}`, jsonscan.Syntax, 6},
		{"plus", `{"a":+1}`, jsonscan.Syntax, 5},
		{"bare minus", `{"a":-}`, jsonscan.Syntax, 6},
		{"bare point", `{"a":1.}`, jsonscan.Syntax, 7},
		{"bare exponent", `{"a":1e}`, jsonscan.Syntax, 7},
		{"leading point", `{"a":.5}`, jsonscan.Syntax, 5},
		{"hex", `{"a":0x1}`, jsonscan.Syntax, 6},
		{"NaN", `{"a":NaN}`, jsonscan.Syntax, 5},
		{"misspelt word", `{"a":tru}`, jsonscan.Syntax, 8},
		{"comment", `{/**/}`, jsonscan.Syntax, 1},
		{"newline in string", "{\"a\":\"1\n2\"}", jsonscan.Syntax, 7},
		{"control character far in", `{"a":"` + strings.Repeat("x", 100) + "\x1f\"}", jsonscan.Syntax, 106},
		{"bad escape", `{"a":"\x"}`, jsonscan.Syntax, 7},
		{"bad code unit", `{"a":"\u12g4"}`, jsonscan.Syntax, 10},
		{"lone surrogate is legal", `{"a":"\ud800"}`, 0, 0},
		{"DEL is legal", "{\"a\":\"\x7f\"}", 0, 0},
		{"stray continuation", "{\"a\":\"\x80\"}", jsonscan.BadUTF8, 6},
		{"overlong", "{\"a\":\"\xc0\xaf\"}", jsonscan.BadUTF8, 6},
		{"overlong of three", "{\"a\":\"\xe0\x9f\xbf\"}", jsonscan.BadUTF8, 6},
		{"encoded surrogate", "{\"a\":\"\xed\xa0\x80\"}", jsonscan.BadUTF8, 6},
		{"beyond Unicode", "{\"a\":\"\xf4\x90\x80\x80\"}", jsonscan.BadUTF8, 6},
		{"cut character", "{\"a\":\"\xe2\x82\"}", jsonscan.BadUTF8, 6},
		{"bad UTF-8 in key", "{\"\xff\":1}", jsonscan.BadUTF8, 2},
		{"every length of character", `{"a":"aé€😀"}`, 0, 0},
		{"deepest", deep(jsonscan.MaxDepth), 0, 0},
		{"too deep", deep(jsonscan.MaxDepth + 1), jsonscan.TooDeep, 5 + jsonscan.MaxDepth - 1},
		{"duplicate", `{"a":1,"b":2,"a":3}`, jsonscan.Duplicate, 13},
		{"duplicate in disguise", `{"a":1,"\u0061":3}`, jsonscan.Duplicate, 7},
		{"duplicate below", `{"a":{"b":1,"b":2}}`, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d jsonscan.Doc
			err := jsonscan.Scan(&d, []byte(tt.in), all)
			if tt.code == 0 {
				if err != nil {
					t.Fatalf("Scan(%q) = %v, want no error", tt.in, err)
				}
				return
			}
			e, ok := errors.AsType[*jsonscan.Error](err)
			if !ok || e.Code != tt.code || e.Offset != tt.offset {
				t.Fatalf("Scan(%q) = %v, want code %d at %d", tt.in, err, tt.code, tt.offset)
			}
			if e.Error() == "" || (e.Code == jsonscan.Duplicate) != (e.Key == "a") {
				t.Errorf("error %q has key %q", e, e.Key)
			}
		})
	}
}

func TestTapeIsBounded(t *testing.T) {
	body := []byte(`{"a":[` + strings.Repeat("0,", jsonscan.MaxNodes) + `0]}`)
	var d jsonscan.Doc
	err := jsonscan.Scan(&d, body, all)
	if e, ok := errors.AsType[*jsonscan.Error](err); !ok || e.Code != jsonscan.TooMany {
		t.Fatalf("Scan = %v, want too many values", err)
	}
	if err := jsonscan.Scan(&d, body, noted); err != nil {
		t.Fatalf("without a tape: %v", err)
	}
	if len(d.Nodes) != 0 {
		t.Errorf("%d nodes without a tape", len(d.Nodes))
	}
}

func TestScanOfAnAnswer(t *testing.T) {
	body := []byte(` {"id": "chat\u0063mpl-1", "choices":[{"index":0,"message":{"content":"hi"}},{"index":1}],
		"usage": {"prompt_tokens": 12, "prompt_tokens": 13}, "x": {}}`)
	var d jsonscan.Doc
	err := jsonscan.Scan(&d, body, func(key []byte) (string, jsonscan.Mode) {
		switch string(key) {
		case "id":
			return "id", jsonscan.Note
		case "choices":
			return "choices", jsonscan.Tape
		case "usage":
			return "usage", jsonscan.Tape
		}
		return "", jsonscan.Skip
	})
	if err != nil {
		t.Fatal(err)
	}
	if id := d.Field("id"); string(id.Text(body)) != "chatcmpl-1" || id.Root != -1 {
		t.Errorf("id = %q, root %d", id.Text(body), id.Root)
	}
	if d.Field("x") != nil {
		t.Error("a member nobody asked for was recorded")
	}
	var got []string
	for i, at := range d.Elems(d.Field("choices").Root) {
		v := d.Member(body, at, "index")
		got = append(got, fmt.Sprintf("%d:%s", i, d.Nodes[v].Raw(body)))
	}
	if fmt.Sprint(got) != "[0:0 1:1]" {
		t.Errorf("choices = %v", got)
	}
	usage := d.Field("usage").Root
	if v := d.Member(body, usage, "prompt_tokens"); string(d.Nodes[v].Raw(body)) != "13" {
		t.Errorf("of duplicates got %q, want the last", d.Nodes[v].Raw(body))
	}
	if v := d.Member(body, usage, "absent"); v != -1 {
		t.Errorf("Member(absent) = %d, want -1", v)
	}
}

func TestElements(t *testing.T) {
	tests := []struct {
		in    string
		start int
		want  string
	}{
		{`{"a": [ 1 , "x\n" ,[2],{} ] }`, 6, `number:1 string:x\n array:[2] object:{}`},
		{`[]`, 0, ``}, {`[ ]`, 0, ``}, {`[null,true,false]`, 0, `null:null boolean:true boolean:false`},
		{`[1,2`, 0, `number:1 number:2`}, {`[1,x]`, 0, `number:1`}, {`[`, 0, ``}, {`[1]`, -1, ``}, {`[1]`, 3, ``}, {`7`, 0, ``},
	}
	for _, tt := range tests {
		var got []string
		for n := range jsonscan.Elements([]byte(tt.in), tt.start) {
			got = append(got, fmt.Sprintf("%v:%s", n.Kind, n.Raw([]byte(tt.in))))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("Elements(%q, %d) = %q, want %q", tt.in, tt.start, s, tt.want)
		}
	}
	for range jsonscan.Elements([]byte(`[1,2]`), 0) {
		break // must not go on
	}
}

func ExampleScan() {
	body := []byte(`{"model": "llama", "temperature": 0.20, "rid": "mine"}`)
	var d jsonscan.Doc
	err := jsonscan.Scan(&d, body, func(key []byte) (string, jsonscan.Mode) {
		switch string(key) {
		case "model":
			return "model", jsonscan.Note
		case "rid":
			return "rid", jsonscan.Note
		}
		return "", jsonscan.Skip
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", d.Field("model").Text(body))
	edited, err := d.Points(nil).Apply(body, []jsonscan.Set{
		{Key: "rid", Delete: true},
		{Key: "model", Value: []byte(`"qwen"`)},
	})
	fmt.Printf("%s %v\n", edited, err)
	// Output:
	// llama
	// {"model": "qwen", "temperature": 0.20} <nil>
}

// rebuild turns a tape back into the value that encoding/json would have decoded.
func rebuild(d *jsonscan.Doc, data []byte, at int) any {
	switch n := d.Nodes[at]; n.Kind {
	case jsonscan.Null:
		return nil
	case jsonscan.True:
		return true
	case jsonscan.False:
		return false
	case jsonscan.Number:
		return json.Number(n.Raw(data))
	case jsonscan.String:
		return string(n.Text(data))
	case jsonscan.Array:
		list := []any{}
		for _, e := range d.Elems(at) {
			list = append(list, rebuild(d, data, e))
		}
		return list
	default:
		object := map[string]any{}
		for k, v := range d.Pairs(at) {
			object[string(d.Nodes[k].Text(data))] = rebuild(d, data, v)
		}
		return object
	}
}

// depth is how deep data, which is valid, nests.
func depth(data []byte) int {
	dec := json.NewDecoder(bytes.NewReader(data))
	deepest, now := 0, 0
	for {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			now++
			deepest = max(deepest, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// FuzzScan holds the scanner against encoding/json: the same documents are accepted, except for the
// documented stricter points, and decode to the same values.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e3,"x\n\u00e9\ud83d\ude00\ud800"],"b":{"c":null,"d":true}}`, `[]`, `"\ud800\u0041\udc00"`,
		` {"a" : "` + strings.Repeat("long ", 20) + `\\" } `, `-0.0e-0`, "\"\x80\"", `{"a":1,"a":2}`, `nul`, `[1,]`,
		strings.Repeat("[", 129) + strings.Repeat("]", 129), `{"é€😀":"é€😀"}`, "\"\x01\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d jsonscan.Doc
		err := jsonscan.ScanValue(&d, data)
		if verr := jsonscan.Valid(data); fmt.Sprint(verr) != fmt.Sprint(err) {
			t.Fatalf("Valid = %v, ScanValue = %v", verr, err)
		}
		valid := json.Valid(data)
		if err != nil {
			e, ok := errors.AsType[*jsonscan.Error](err)
			if !ok || e.Offset < 0 || e.Offset > len(data) {
				t.Fatalf("error %#v", err)
			}
			switch {
			case !valid:
			case e.Code == jsonscan.BadUTF8 && !utf8.Valid(data):
			case e.Code == jsonscan.TooDeep && depth(data) > jsonscan.MaxDepth:
			default:
				t.Fatalf("%q is refused: %v", data, err)
			}
			return
		}
		if !valid {
			t.Fatalf("%q is accepted", data)
		}
		if int(d.Nodes[0].Next) != len(d.Nodes) {
			t.Fatalf("the first node ends at %d of %d", d.Nodes[0].Next, len(d.Nodes))
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		got := rebuild(&d, data, 0)
		if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
			t.Fatalf("%q decodes to\n%s, want\n%s", data, g, w)
		}
		object, isObject := want.(map[string]any)
		err = jsonscan.Scan(&d, data, noted)
		e, _ := errors.AsType[*jsonscan.Error](err)
		switch {
		case !isObject:
			if e == nil || e.Code != jsonscan.NotObject {
				t.Fatalf("Scan(%q) = %v, want not an object", data, err)
			}
		case e != nil && e.Code == jsonscan.Duplicate:
			if _, ok := object[e.Key]; !ok {
				t.Fatalf("Scan(%q) = %v", data, err)
			}
		case err != nil || len(d.Fields) != len(object) || d.Empty != (len(object) == 0):
			t.Fatalf("Scan(%q) = %v with %d fields, want %d", data, err, len(d.Fields), len(object))
		}
	})
}

func TestUnescapeStopsAndGoesOn(t *testing.T) {
	in := `plain \u0041\ud83d\ude00\ud800x\udc00\ud800\ud800\udc00 \"\\\/\b\f\n\r\t` + strings.Repeat("tail", 9)
	var want string
	if err := json.Unmarshal([]byte(`"`+in+`"`), &want); err != nil {
		t.Fatal(err)
	}
	for room := jsonscan.UnescapeMin; room < 80; room++ {
		var got []byte
		dst := make([]byte, room)
		for src := []byte(in); len(src) > 0; {
			n, m := jsonscan.Unescape(dst, src)
			if m == 0 {
				t.Fatalf("no progress with room for %d", room)
			}
			got, src = append(got, dst[:n]...), src[m:]
		}
		if string(got) != want {
			t.Fatalf("room %d: got %q, want %q", room, got, want)
		}
	}
	if n, m := jsonscan.Unescape(make([]byte, jsonscan.UnescapeMin-1), []byte(in)); n != 0 || m != 0 {
		t.Errorf("without room: wrote %d, read %d", n, m)
	}
}

func TestUnescapeTakesAnything(t *testing.T) {
	for _, in := range []string{`\`, `\u`, `\u12`, `\ud800\`, `\ud800\u`, `\ud800\u12`, `\uzzzz`, `abcdefg\`, "\xff\\q"} {
		if got := jsonscan.AppendUnescaped([]byte("x"), []byte(in)); !bytes.HasPrefix(got, []byte("x")) {
			t.Errorf("AppendUnescaped(%q) = %q", in, got)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, in := range []string{"", "plain", "q\"b\\s\nn\x00\x1f\x7f", "é€😀", "\xff bad", "</script>"} {
		var got, want string
		if err := json.Unmarshal(jsonscan.AppendString(nil, in), &got); err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		if want = strings.ToValidUTF8(in, "\uFFFD"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// BenchmarkScan: the strings are plain text, text with a line break every 70 bytes, or characters of three bytes.
func BenchmarkScan(b *testing.B) {
	texts := map[string]string{
		"plain":   strings.Repeat("The quick brown fox jumps over the lazy dog. ", 25),
		"escaped": strings.Repeat("if err != nil { return fmt.Errorf(\\\"x: %w\\\", err) }  and so on and on\\n", 15),
		"wide":    strings.Repeat("敏捷的棕色狐狸跳过了懒狗。", 28),
	}
	for _, kind := range []string{"plain", "escaped", "wide"} {
		for _, size := range []int{1 << 10, 220 << 10, 4 << 20} {
			var body bytes.Buffer
			body.WriteString(`{"model":"m","messages":[`)
			for body.Len() < size-100 {
				fmt.Fprintf(&body, `{"role":"user","content":"%s"},`, texts[kind])
			}
			body.WriteString(`{}],"stream":true}`)
			b.Run(fmt.Sprintf("text=%s/bytes=%d", kind, size), func(b *testing.B) {
				var d jsonscan.Doc
				b.SetBytes(int64(body.Len()))
				b.ReportAllocs()
				for b.Loop() {
					if err := jsonscan.Scan(&d, body.Bytes(), all); err != nil {
						b.Fatal(err)
					}
				}
				if len(d.Nodes) < 8 {
					b.Fatalf("the benchmark measured %d nodes only", len(d.Nodes))
				}
			})
		}
	}
}
