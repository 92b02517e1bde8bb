package replay

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// compared are the measures with a chart, by section.
var compared = [...]struct {
	title, note string
	measures    []comparedMeasure
}{
	{"Throughput", "More is better.", []comparedMeasure{
		{RequestRate, "Requests per second", "that succeeded", plot.Number},
		{TokenRate, "Output tokens per second", "", plot.Number},
	}},
	{"Latency", "Less is better.", []comparedMeasure{
		{FirstByteP50, "First byte, p50", "", plot.Seconds},
		{FirstByteP99, "First byte, p99", "", plot.Seconds},
		{TTFTP50, "TTFT, p50", "time to first token", plot.Seconds},
		{TTFTP99, "TTFT, p99", "time to first token", plot.Seconds},
		{AddedP50, "Added before the first output, p50", "to the first target's", plot.Seconds},
		{AddedP99, "Added before the first output, p99", "to the first target's", plot.Seconds},
		{ITLP50, "ITL, p50", "gap between pieces of output", plot.Seconds},
		{ITLP99, "ITL, p99", "gap between pieces of output", plot.Seconds},
		{E2EP50, "E2E, p50", "whole reply", plot.Seconds},
		{E2EP99, "E2E, p99", "whole reply", plot.Seconds},
	}},
	{"Cost", "What the target's processes used. Less is better.", []comparedMeasure{
		{CPURequest, "Processor time per request", "", plot.Seconds},
		{CPUToken, "Processor time per output token", "", plot.Seconds},
		{Resident, "Memory", "at the end of a run", plot.Bytes},
		{Peak, "Memory, peak", "", plot.Bytes},
	}},
	{"Cache", "More is better.", []comparedMeasure{
		{HitRate, "Hit rate", "cached tokens of prompt tokens", plot.Share},
	}},
}

type comparedMeasure struct {
	of          Measure
	title, note string
	unit        plot.Unit
}

// WritePage writes the comparison as one HTML page with charts.
func (c Comparison) WritePage(w io.Writer, made Provenance) error { return c.document(made).Write(w) }

func (c Comparison) document(made Provenance) page.Document {
	var names []string
	for _, t := range c.Targets {
		names = append(names, t.Name)
	}
	d := page.Document{
		Kicker:  "radixbus bench compare",
		Title:   strings.Join(names, ", ") + ": " + c.Workload,
		Facts:   c.facts(),
		Notices: c.notices(),
		Tiles:   c.tiles(),
		Command: made.Command,
		Footer:  made.footer(),
	}
	for _, part := range compared {
		s := page.Section{Title: part.title, Note: part.note}
		for _, m := range part.measures {
			// The first byte of a stream is its first output's, and charted as that.
			if c.Stream && (m.of == FirstByteP50 || m.of == FirstByteP99) {
				continue
			}
			if f, some := c.figure(m); some {
				s.Figures = append(s.Figures, f)
			}
		}
		if len(s.Figures) > 0 {
			if len(d.Sections) == 0 {
				s.Note += " Here and below bars are medians over the rounds, circles single rounds, and × is the ratio to " + c.base() + "."
			}
			d.Sections = append(d.Sections, s)
		}
	}
	d.Sections = append(d.Sections, c.tableSection(), c.settingsSection())
	return d
}

// base names the target that the others are held against first.
func (c Comparison) base() string {
	if len(c.Bases) == 0 {
		return ""
	}
	return c.Bases[0]
}

func (c Comparison) facts() []string {
	facts := []string{
		fmt.Sprintf("%d rounds of %s", c.Rounds, c.size()), count(int64(c.Concurrency)) + " users", replies(c.Stream),
		fmt.Sprintf("%d cores", c.Machine.Cores), c.Machine.CPU,
	}
	if !c.Started.IsZero() {
		facts = append(facts, c.Started.UTC().Format(minutes))
	}
	return slices.DeleteFunc(facts, func(f string) bool { return f == "" })
}

func (c Comparison) notices() []page.Notice {
	var all []page.Notice
	if left := len(c.Targets) - len(c.charted()); left > 0 {
		all = append(all, page.Notice{Text: fmt.Sprintf("The last %d targets are in the table, not in the charts.", left)})
	}
	if c.Partial {
		all = append(all, page.Notice{Tone: page.Bad, Text: "The comparison ended early: a round that was not complete is left out."})
	}
	for _, t := range c.Targets {
		if t.Errors > 0 {
			all = append(all, page.Notice{Tone: page.Bad, Text: fmt.Sprintf("%s: %s of %s requests failed (%s).",
				t.Name, count(t.Errors), count(t.Requests), kinds(t.ErrorsByKind))})
		}
	}
	return all
}

// tiles are one for each target, as long as they can be taken in at a glance.
func (c Comparison) tiles() []page.Tile {
	if len(c.Targets) > 8 {
		return nil
	}
	var tiles []page.Tile
	for _, t := range c.Targets {
		rate, ok := t.Medians[RequestRate]
		tile := page.Tile{Name: t.Name, Value: known(rate, ok, plot.Number.Text) + " requests/s"}
		var notes []string
		if ratio, ok := t.Ratios[c.base()][RequestRate]; ok {
			notes = append(notes, times(ratio))
		}
		if v, ok := t.Medians[AddedP50]; ok {
			notes = append(notes, "adds "+plot.Seconds.Text(v))
		}
		if v, ok := t.Medians[CPURequest]; ok {
			notes = append(notes, "CPU "+plot.Seconds.Text(v)+" a request")
		}
		tile.Note = strings.Join(notes, ", ")
		if t.Errors > 0 {
			tile.Tone = page.Bad
		}
		tiles = append(tiles, tile)
	}
	return tiles
}

// charted are the targets that charts show.
func (c Comparison) charted() []TargetResult {
	const most = 16
	return c.Targets[:min(len(c.Targets), most)]
}

// figure draws a measure of the targets that it is known of, and reports whether there is one.
func (c Comparison) figure(m comparedMeasure) (f page.Figure, some bool) {
	chart := plot.Bars{Name: m.title, Desc: "The median of each target, with its ratio to " + c.base() + ".", Unit: m.unit}
	if m.unit == plot.Share {
		chart.Whole = 1
	}
	for i, t := range c.charted() {
		v, ok := t.Medians[m.of]
		if !ok {
			continue
		}
		bar := plot.Bar{Label: t.Name, Value: v, Text: m.unit.Text(v), Style: i}
		if ratio, ok := t.Ratios[c.base()][m.of]; ok {
			bar.Text += " (" + times(ratio) + ")"
		}
		for _, run := range t.Rounds {
			if v, ok := run.Measures[m.of]; ok {
				bar.Dots = append(bar.Dots, v)
			}
		}
		chart.Rows = append(chart.Rows, bar)
	}
	return page.Figure{Title: m.title, Note: m.note, Chart: chart}, len(chart.Rows) > 0
}

// tableSection has every measure, and the ratios to every base.
func (c Comparison) tableSection() page.Section {
	table := page.Table{Title: "Medians, and ratios to " + strings.Join(c.Bases, ", "), Head: append([]string{""}, c.heads()...)}
	for _, row := range tableRows {
		if cells, some := c.cells(row.of, row.format); some {
			table.Rows = append(table.Rows, append([]string{row.name}, cells...))
		}
	}
	table.Rows = append(table.Rows, append([]string{"errors"}, c.errorCells()...))
	s := page.Section{Title: "All figures", Tables: []page.Table{table}}
	failures := page.Table{Title: "What the first failure of each kind said", Head: []string{"target", "kind", "how many", "message"}, Wordy: true}
	for _, t := range c.Targets {
		for _, kind := range sortedKinds(t.ErrorsByKind) {
			failures.Rows = append(failures.Rows, []string{t.Name, string(kind), count(t.ErrorsByKind[kind]), t.ErrorSamples[kind]})
		}
	}
	if len(failures.Rows) > 0 {
		s.Tables = append(s.Tables, failures)
	}
	return s
}

func (c Comparison) settingsSection() page.Section {
	rows := [][]string{
		{"workload", c.Workload}, {"API", string(c.API)}, {"replies", replies(c.Stream)}, {"users", count(int64(c.Concurrency))},
		{"each run", c.size()}, {"requests before each run, unmeasured", count(int64(c.Warm))}, {"seed", strconv.FormatUint(c.Seed, 10)},
	}
	if c.ThinkSeconds > 0 {
		rows = append(rows, []string{"think time", plot.Seconds.Text(c.ThinkSeconds)})
	}
	rows = append(rows, parameters(c.Parameters)...)
	m := c.Machine
	rows = append(rows, []string{"machine", fmt.Sprintf("%d cores, %s", m.Cores, m.CPU)},
		[]string{"system", strings.TrimSpace(m.OS + " " + m.Arch + " " + m.Kernel)}, []string{"load generator built with", m.Go})
	targets := page.Table{Title: "Targets", Wordy: true, Half: true, Head: []string{"name", "URL", "model", "processes measured"}}
	for _, t := range c.Targets {
		processes := "none"
		if t.Processes > 0 {
			processes = strconv.Itoa(t.Processes)
		}
		targets.Rows = append(targets.Rows, []string{t.Name, strings.Join(t.URLs, " "), t.Model, processes})
	}
	return page.Section{
		Title:  "How it was measured",
		Note:   "Every round gives each target the same load, one target at a time, in an order that changes from round to round. Ratios are medians of each round's own.",
		Tables: []page.Table{targets, {Title: "Settings", Wordy: true, Half: true, Rows: rows}},
	}
}
