package page_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// full has something everywhere, and s wherever there is text.
func full(s string) page.Document {
	bars := plot.Bars{Name: s, Rows: []plot.Bar{{Label: s, Value: 1}}}
	table := page.Table{Title: s, Head: []string{"", s}, Rows: [][]string{{s, s}, {s, s}}}
	folded, wordy := table, table
	folded.Folded, wordy.Wordy, wordy.Half = true, true, true
	return page.Document{
		Kicker: s, Title: s, Facts: []string{s, s}, Notices: []page.Notice{{Text: s}, {Tone: page.Bad, Text: s}},
		Tiles: []page.Tile{{Name: s, Value: s, Note: s, Tone: page.Good}, {Name: s, Value: s}},
		Sections: []page.Section{
			{Title: s, Note: s, Figures: []page.Figure{{Title: s, Note: s, Chart: bars}, {Title: s, Chart: bars, Wide: true}}, Tables: []page.Table{table, folded}},
			{Title: s, Figures: []page.Figure{{Title: s, Chart: bars}}, Tables: []page.Table{wordy, wordy}},
		},
		Command: s, Footer: s,
	}
}

func write(t *testing.T, d page.Document) string {
	t.Helper()
	var out bytes.Buffer
	if err := d.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

type element struct {
	name, text string
	attrs      map[string]string
}

// parse reads a page, whose script it must be told to find, with every element closed but the few that have no end.
func parse(t *testing.T, doc string) (all []element) {
	t.Helper()
	if strings.Count(doc, plot.Script) != 1 {
		t.Fatal("the script is not on the page once, as it is")
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(doc, plot.Script, "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	var open []int
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			if len(open) > 0 {
				t.Errorf("%s is left open", all[open[0]].name)
			}
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, doc)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, attrs: map[string]string{}}
			for _, a := range token.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			open, all = append(open, len(all)), append(all, e)
		case xml.EndElement:
			if last := all[open[len(open)-1]].name; last != token.Name.Local {
				t.Fatalf("%s is closed by %s", last, token.Name.Local)
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		}
	}
}

func TestAPageIsAccessible(t *testing.T) {
	all := parse(t, write(t, full("text")))
	ids := map[string]bool{}
	headings := 0
	for _, e := range all {
		if id := e.attrs["id"]; id != "" {
			if ids[id] {
				t.Errorf("two elements are called %q", id)
			}
			ids[id] = true
		}
		switch e.name {
		case "h1":
			headings++
		case "th":
			if e.attrs["scope"] == "" {
				t.Error("a heading of a table has no scope")
			}
		case "html":
			if e.attrs["lang"] != "en" {
				t.Error("the page has no language")
			}
		}
	}
	if headings != 1 {
		t.Errorf("%d main headings, want 1", headings)
	}
	for _, e := range all {
		for id := range strings.FieldsSeq(e.attrs["aria-labelledby"]) {
			if !ids[id] {
				t.Errorf("<%s> is named by %q, which there is not", e.name, id)
			}
		}
		if e.name == "svg" && e.attrs["role"] != "img" && e.attrs["aria-hidden"] == "" && e.attrs["class"] != "plot-area" {
			t.Errorf("a picture has no name: %v", e.attrs)
		}
	}
}

// TestAPageIsSelfContained: nothing on it refers to anything outside, and its policy lets nothing but its own script run.
func TestAPageIsSelfContained(t *testing.T) {
	sum := sha256.Sum256([]byte(plot.Script))
	policy := ""
	for _, e := range parse(t, write(t, full("text"))) {
		for _, name := range []string{"src", "href", "srcset", "action", "style", "onclick", "data"} {
			if v, ok := e.attrs[name]; ok {
				t.Errorf("<%s %s=%q>", e.name, name, v)
			}
		}
		if slices.Contains([]string{"link", "img", "iframe", "object", "base", "form"}, e.name) {
			t.Errorf("there is a <%s>", e.name)
		}
		if e.attrs["http-equiv"] == "Content-Security-Policy" {
			policy = e.attrs["content"]
		}
	}
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, "default-src 'none'") || !strings.HasSuffix(policy, "script-src "+want) {
		t.Errorf("the policy is %q, want one of %s alone", policy, want)
	}
}

func TestTextStaysText(t *testing.T) {
	plain := parse(t, write(t, full("text")))
	for _, s := range []string{
		`<script>alert(1)</script>`, `</style><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `{{.Policy}}`, `javascript:alert(1)`,
		"a\x00b\x1b[31m\u202ec\r\n", "\xff\xfe", `<!--`, `]]>`, `</title></pre>&amp;`,
	} {
		all := parse(t, write(t, full(s)))
		if len(all) != len(plain) {
			t.Errorf("%q adds elements: %d, not %d", s, len(all), len(plain))
			continue
		}
		for i, e := range all {
			if e.name != plain[i].name || len(e.attrs) != len(plain[i].attrs) {
				t.Errorf("%q makes %v of %v", s, e, plain[i])
			}
			if e.name == "h1" && e.text != plot.Clean(s) {
				t.Errorf("the title says %q, want %q", e.text, plot.Clean(s))
			}
			if strings.ContainsAny(e.text, "\x00\x1b\u202e") {
				t.Errorf("%q is shown as %q", s, e.text)
			}
		}
	}
}

func TestTablesAndTextsAreBounded(t *testing.T) {
	long := page.Table{Title: "t"}
	for i := range page.MaxRows + 7 {
		long.Rows = append(long.Rows, []string{fmt.Sprint(i), strings.Repeat("x", 10*page.MaxText)})
	}
	rows, notes := 0, ""
	for _, e := range parse(t, write(t, page.Document{Sections: []page.Section{{Tables: []page.Table{long}}}})) {
		switch e.name {
		case "tr":
			rows++
		case "p":
			notes += e.text
		case "td":
			if len(e.text) > page.MaxText+2 {
				t.Fatalf("a cell of %d letters", len(e.text))
			}
		}
	}
	if rows != page.MaxRows || !strings.Contains(notes, "7 more rows") {
		t.Errorf("%d rows and %q, want %d and a word about 7 more", rows, notes, page.MaxRows)
	}
}

// TestWhatIsMissingLeavesNothing: no empty list, no heading over nothing.
func TestWhatIsMissingLeavesNothing(t *testing.T) {
	for _, e := range parse(t, write(t, page.Document{Title: "t"})) {
		if slices.Contains([]string{"ul", "dl", "section", "table", "figure", "pre", "footer", "h2"}, e.name) {
			t.Errorf("there is a <%s>", e.name)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnErrorOfTheFileIsReturned(t *testing.T) {
	if err := full("text").Write(fullDisk{}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}
