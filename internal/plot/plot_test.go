package plot_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/plot"
)

// element is what a test wants to know of one.
type element struct {
	name  string
	attrs map[string]string
	text  string
}

// elements parses a chart strictly: every tag is closed, every attribute quoted, every character one that XML has.
func elements(t *testing.T, c plot.Chart) []element {
	t.Helper()
	doc := string(c.HTML("c"))
	d := xml.NewDecoder(strings.NewReader(doc))
	var all []element
	var open []int
	for {
		token, err := d.Token()
		if err == io.EOF {
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
				for _, nonsense := range []string{"NaN", "Inf"} {
					if strings.Contains(a.Value, nonsense) && a.Name.Local != "data-plot" {
						t.Errorf("<%s %s=%q>", e.name, a.Name.Local, a.Value)
					}
				}
			}
			open = append(open, len(all))
			all = append(all, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		}
	}
}

// with are the elements that have a class among theirs.
func with(all []element, class string) (found []element) {
	for _, e := range all {
		if slices.Contains(strings.Fields(e.attrs["class"]), class) {
			found = append(found, e)
		}
	}
	return found
}

func line(points ...plot.Point) plot.Lines {
	return plot.Lines{Name: "n", Desc: "d", Lines: []plot.Line{{Name: "l", Points: points}}}
}

func TestLinesSayWhatTheyAre(t *testing.T) {
	c := line(plot.Point{X: 0, Y: 1}, plot.Point{X: 10, Y: 5})
	c.Name, c.Desc, c.X.Title, c.Y.Title = "Requests", "From 1 to 5.", "elapsed", "per second"
	c.Lines = append(c.Lines, plot.Line{Name: "second", Style: 1, Points: []plot.Point{{X: 0, Y: 2}, {X: 10, Y: 2}}})
	all := elements(t, c)
	frame := with(all, "plot-frame")[0]
	if frame.attrs["role"] != "img" || frame.attrs["aria-labelledby"] != "c-name c-desc" {
		t.Errorf("the picture is not labelled: %v", frame.attrs)
	}
	var said []string
	for _, e := range all {
		said = append(said, e.text)
	}
	for _, want := range []string{"Requests", "From 1 to 5.", "elapsed", "per second", "l", "second"} {
		if !slices.Contains(said, want) {
			t.Errorf("%q is not said in %q", want, said)
		}
	}
	paths := with(all, "plot-line")
	if first, second := paths[len(paths)-2].attrs, paths[len(paths)-1].attrs; first["d"] != "M0 800L1000 0" || second["d"] != "M0 600L1000 600" || first["class"] == second["class"] {
		t.Errorf("lines are %v and %v", first, second)
	}
}

func TestWhatIsNoNumberPartsALine(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, tt := range []struct {
		name   string
		points []plot.Point
		log    bool
		path   string
		lone   int
	}{
		{"a gap", []plot.Point{{X: 0, Y: 0}, {X: 1, Y: 1}, {X: 2, Y: nan}, {X: 3, Y: 1}, {X: 4, Y: 1}}, false, "M0 1000L250 0M750 0L1000 0", 0},
		{"alone between gaps", []plot.Point{{X: 0, Y: inf}, {X: 1, Y: 1}, {X: 2, Y: nan}}, false, "M1000 0", 1},
		{"one value", []plot.Point{{X: 5, Y: 5}}, false, "M1000 0", 1},
		{"one value on a logarithmic axis", []plot.Point{{X: 5, Y: 5}}, true, "M500 0", 1},
		{"no logarithm", []plot.Point{{X: 0, Y: 5}, {X: -1, Y: 5}, {X: 5, Y: 5}}, true, "M500 0", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := line(tt.points...)
			c.X.Log = tt.log
			all := elements(t, c)
			paths := with(all, "plot-line")
			if got := paths[len(paths)-1].attrs["d"]; got != tt.path {
				t.Errorf("path is %q, want %q", got, tt.path)
			}
			if got := len(with(all, "plot-dot")); got != tt.lone {
				t.Errorf("%d dots, want %d", got, tt.lone)
			}
		})
	}
}

func TestAChartWithoutValuesSaysSo(t *testing.T) {
	for name, c := range map[string]plot.Chart{
		"no line":          plot.Lines{Name: "n"},
		"no point":         line(),
		"no number":        line(plot.Point{X: math.NaN(), Y: 1}, plot.Point{X: 1, Y: math.Inf(-1)}),
		"no bar":           plot.Bars{Name: "n"},
		"bins but no line": plot.Lines{Name: "n", Bins: []plot.Bin{{Lo: 1, Hi: 2, Count: 3}}},
	} {
		if all := elements(t, c); len(with(all, "plot-nothing")) != 1 || !strings.Contains(all[0].text, "nothing was measured") {
			t.Errorf("%s: %v", name, all)
		}
	}
}

func TestStepsAreasBinsMarksAndNotes(t *testing.T) {
	c := line(plot.Point{X: 1, Y: 0}, plot.Point{X: 10, Y: 1}, plot.Point{X: 100, Y: 1})
	c.X.Log = true
	c.Lines[0].Steps, c.Lines[0].Fill = true, true
	c.Lines[0].Notes = []plot.Note{{Point: plot.Point{X: 10, Y: 1}, Label: "p50"}, {Point: plot.Point{X: 0, Y: 1}, Label: "has no place"}}
	c.Bins, c.BinName = []plot.Bin{{Lo: 1, Hi: 10, Count: 4}, {Lo: 10, Hi: 100, Count: 2}, {Lo: 1, Hi: 2, Count: math.NaN()}, {Lo: 1, Hi: 2}}, "requests"
	c.Marks = []plot.Mark{{X: 100, Label: "last"}, {X: 90, Label: "objective"}, {X: math.Inf(1), Label: "has no place"}}
	all := elements(t, c)
	if got := len(with(all, "plot-bin")); got != 3 { // one is the legend's
		t.Errorf("%d columns, want 2 and the legend's", got)
	}
	if got := with(all, "plot-fill"); len(got) != 1 || !strings.HasSuffix(got[0].attrs["d"], "Z") {
		t.Errorf("the area is %v", got)
	}
	if got := len(with(all, "plot-mark")); got != 2 {
		t.Errorf("%d upright lines, want 2", got)
	}
	var labels []string
	for _, e := range with(all, "plot-note") {
		labels = append(labels, e.text)
	}
	if want := []string{"objective", "last", "p50"}; !slices.Equal(labels, want) {
		t.Errorf("labels are %q, want %q", labels, want)
	}
	if a, b := with(all, "plot-note")[0], with(all, "plot-note")[1]; a.attrs["dy"] == b.attrs["dy"] {
		t.Error("labels of neighbours lie on each other")
	}
}

// TestLinesAreThinned to their bound, and keep what stands out.
func TestLinesAreThinned(t *testing.T) {
	var points []plot.Point
	for i := range 100_000 {
		points = append(points, plot.Point{X: float64(i), Y: 10})
	}
	points[77_777].Y, points[33_333].Y, points[5].Y = 1000, 0, math.NaN()
	all := elements(t, line(points...))
	var readings []struct {
		X, Y  []float64
		Value []string
	}
	if err := json.Unmarshal([]byte(with(all, "plot-frame")[0].attrs["data-plot"]), &readings); err != nil {
		t.Fatal(err)
	}
	r := readings[0]
	if len(r.X) > plot.MaxPoints || len(r.X) < plot.MaxPoints/2-2 || len(r.X) != len(r.Y) || len(r.X) != len(r.Value) || !slices.IsSorted(r.X) {
		t.Errorf("%d, %d and %d values, want one each and at most %d", len(r.X), len(r.Y), len(r.Value), plot.MaxPoints)
	}
	if r.X[0] != 0 || r.X[len(r.X)-1] != 100 || !slices.Contains(r.Value, "1,000") || !slices.Contains(r.Value, "0") {
		t.Errorf("ends or extremes are gone: %v", r.Value)
	}
}

func TestOutputIsBounded(t *testing.T) {
	var c plot.Lines
	for range 100 {
		var l plot.Line
		for i := range 1000 {
			l.Points = append(l.Points, plot.Point{X: float64(i), Y: float64(i * 7919 % 1000)})
			l.Notes = append(l.Notes, plot.Note{Label: strings.Repeat("x", 50)})
		}
		c.Lines, c.Bins, c.Marks = append(c.Lines, l), append(c.Bins, make([]plot.Bin, 50)...), append(c.Marks, plot.Mark{X: 1})
	}
	if got := len(c.HTML("c")); got > 120<<10 {
		t.Errorf("%d bytes of lines", got)
	}
	var b plot.Bars
	for range 1000 {
		b.Rows = append(b.Rows, plot.Bar{Label: strings.Repeat("x", 40), Value: 1, Dots: make([]float64, 1000)})
	}
	if got := len(with(elements(t, b), "plot-label")); got != plot.MaxBars {
		t.Errorf("%d bars, want %d", got, plot.MaxBars)
	}
}

func TestBars(t *testing.T) {
	all := elements(t, plot.Bars{Name: "n", Unit: plot.Seconds, Rows: []plot.Bar{
		{Label: "a", Value: 0.03, Dots: []float64{0.02, 0.04, math.NaN()}},
		{Label: "b", Value: -0.01, Text: "less", Style: 1},
		{Label: "c", Value: math.NaN()},
	}})
	bars := with(all, "plot-bar")
	if len(bars) != 2 {
		t.Fatalf("%d bars, want 2: what is no number has none", len(bars))
	}
	if a, b := bars[0].attrs, bars[1].attrs; a["x"] != "20%" || a["width"] != "60%" || b["x"] != "0%" || b["width"] != "20%" {
		t.Errorf("bars are %v and %v", a, b)
	}
	var dots, values []string
	for _, e := range all {
		if e.name == "circle" {
			dots = append(dots, e.attrs["cx"])
		}
	}
	for _, e := range with(all, "plot-value") {
		values = append(values, strings.ReplaceAll(e.text, "\u00a0", " "))
	}
	if want := []string{"60%", "100%"}; !slices.Equal(dots, want) {
		t.Errorf("dots are at %q, want %q", dots, want)
	}
	if want := []string{"30.0 ms", "less", "–"}; !slices.Equal(values, want) {
		t.Errorf("values are %q, want %q", values, want)
	}
}

// hostile are texts of strangers.
var hostile = []string{
	`</svg><script>alert(1)</script>`, `" onload="alert(1)`, `' x='`, `&lt;&#0;&bogus;`, "a\x00b\x1b[31m\u202egnp\ufffe", "\xff\xfe", `]]>`, `<!--`, strings.Repeat("é", 10_000),
}

func TestTextStaysText(t *testing.T) {
	for _, s := range hostile {
		c := line(plot.Point{X: 1, Y: 1}, plot.Point{X: 2, Y: 2})
		c.Name, c.Desc, c.X.Title, c.Y.Title, c.BinName, c.Bins = s, s, s, s, s, []plot.Bin{{Lo: 1, Hi: 2, Count: 1}}
		c.Lines[0].Name, c.Lines[0].Notes, c.Marks = s, []plot.Note{{Point: plot.Point{X: 1, Y: 1}, Label: s}}, []plot.Mark{{X: 1, Label: s}}
		for _, chart := range []plot.Chart{c, plot.Bars{Name: s, Desc: s, Rows: []plot.Bar{{Label: s, Text: s, Value: 1}}}} {
			for _, e := range elements(t, chart) {
				if e.name == "script" || e.attrs["onload"] != "" || e.attrs["x"] == "" && e.name == "text" {
					t.Errorf("%q became %v", s, e)
				}
				if strings.ContainsAny(e.text, "\x00\x1b\u202e") {
					t.Errorf("%q says %q", s, e.text)
				}
			}
		}
	}
}

func TestClipCountsLetters(t *testing.T) {
	for _, tt := range []struct {
		s       string
		letters int
		want    string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 3, "äö…"}, {"äöü", 3, "äöü"}, {"", 3, ""}, {"a", 1, "a"}, {"ab", 1, "…"}} {
		if got := plot.Clip(tt.s, tt.letters); got != tt.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tt.s, tt.letters, got, tt.want)
		}
	}
}

// TestNothingIsFetched: neither the style nor the script names an address.
func TestNothingIsFetched(t *testing.T) {
	for _, s := range []string{plot.CSS, plot.Script} {
		for _, word := range []string{"http:", "https:", "url(", "@import", "fetch(", "import(", "XMLHttp", "innerHTML", "eval("} {
			if strings.Contains(s, word) {
				t.Errorf("%q is in %.40q…", word, s)
			}
		}
	}
}

func ExampleBars() {
	c := plot.Bars{Name: "Failures", Rows: []plot.Bar{{Label: "http_429", Value: 9}, {Label: "timeout", Value: 3}}}
	fmt.Println(strings.Count(string(c.HTML("failures")), "<rect class=\"plot-bar"))
	// Output: 2
}
