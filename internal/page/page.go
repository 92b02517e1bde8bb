// Package page writes one self-contained HTML page: figures that matter most, then sections of charts and tables.
//
// A [Document] is a value that says what is on the page; [Document.Write] is the only shape that pages have, so
// that those of every command look alike. The file needs no other: style and script are inside, and a policy in it
// forbids whatever else it might be made to fetch or run. It follows the reader's light or dark setting, fits a
// phone, and prints. Without the script it says the same.
//
// # Guarantees
//
// Every text of a Document may come from strangers (names of models and workers, messages of engines): it is shown as
// text, cleared of what cannot be shown, and shortened to [MaxText]. Tables end after [MaxRows] rows and say how many
// they leave out.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"

	"github.com/radixbus/radixbus/internal/plot"
)

// Bounds of a page.
const (
	MaxRows = 600  // of a table
	MaxText = 2000 // letters of one text
)

// A Document is one page.
type Document struct {
	Kicker string // above the title: what made the page
	Title  string
	Facts  []string // below the title, in one line
	// Notices stand before everything else: what a reader must know to trust the figures.
	Notices  []Notice
	Tiles    []Tile
	Sections []Section
	// Command repeats what the page shows. It holds no secret.
	Command string
	Footer  string
}

// A Tone says how a reader should take something. It is always beside words that say the same.
type Tone string

const (
	Plain Tone = ""
	Good  Tone = "good"
	Bad   Tone = "bad"
)

// A Notice is one sentence.
type Notice struct {
	Tone Tone
	Text string
}

// A Tile is one headline figure.
type Tile struct {
	Name, Value, Note string
	Tone              Tone
}

// A Section is a titled part.
type Section struct {
	Title, Note string
	Figures     []Figure
	Tables      []Table
}

// A Figure is a chart with its caption.
type Figure struct {
	Title, Note string
	Chart       plot.Chart
	Wide        bool // takes the page's whole width
}

// A Table has a name for each row in its first column. The others hold numbers, unless it is Wordy.
type Table struct {
	Title  string
	Head   []string
	Rows   [][]string
	Wordy  bool
	Folded bool // shown when the reader asks for it, and in print if it is short
	Half   bool // leaves room for another beside it
}

// printedRows is how long a folded table may be to be printed.
const printedRows = 40

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	layout = template.Must(template.New("page").Funcs(template.FuncMap{
		"say":   say,
		"short": func(t Table) bool { return len(t.Rows) <= printedRows },
		"shown": func(t Table) [][]string { return t.Rows[:min(len(t.Rows), MaxRows)] },
		"more":  func(t Table) int { return max(0, len(t.Rows)-MaxRows) },
		"draw": func(f Figure, section, n int) template.HTML {
			return f.Chart.HTML(fmt.Sprintf("chart-%d-%d", section, n))
		},
	}).Parse(pageHTML))
)

func say(s string) string { return plot.Clip(plot.Clean(s), MaxText) }

// Write writes the page.
func (d Document) Write(w io.Writer) error {
	sum := sha256.Sum256([]byte(plot.Script))
	err := layout.Execute(w, struct {
		Document
		Style  template.CSS
		Script template.JS
		// Policy allows the one script by its hash: whatever else got into the page does not run.
		Policy string
	}{
		Document: d,
		Style:    template.CSS(plot.CSS + pageCSS),
		Script:   template.JS(plot.Script),
		Policy:   "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
	})
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return nil
}
