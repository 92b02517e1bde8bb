package replay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// fewWorkers is how many get a bar each; more are drawn by rank.
const fewWorkers = 24

// workerSection shows who did the work.
func (r Report) workerSection() page.Section {
	if len(r.Workers) == 0 {
		return page.Section{}
	}
	names := slices.Sorted(maps.Keys(r.Workers))
	s := page.Section{Title: "Workers", Note: "As the router names them, of the requests that name one."}
	if m := r.WorkMaxOverMean; m != nil {
		s.Note += fmt.Sprintf(" The busiest had %s times the work of the mean one, in tokens to compute (prompts less what was cached, and output).", plot.Number.Text(*m))
	}
	if len(names) <= fewWorkers {
		s.Figures = r.workerBars(names)
	} else {
		s.Figures = r.workerRanks(names)
	}
	table := page.Table{Title: "Workers in figures", Folded: true, Head: []string{"worker", "requests", "share", "failed", "hit rate", "prompt tokens", "cached", "output"}}
	for _, name := range names {
		w := r.Workers[name]
		table.Rows = append(table.Rows, []string{
			name, count(w.Requests), plot.Share.Text(w.Share), count(w.Errors), optional(w.HitRate, plot.Share.Text),
			count(w.PromptTokens), count(w.CachedTokens), count(w.OutputTokens),
		})
	}
	s.Tables = []page.Table{table}
	return s
}

// workerBars draws a bar a worker.
func (r Report) workerBars(names []string) []page.Figure {
	share := plot.Bars{Name: "Share of requests by worker", Desc: "One bar for each worker.", Unit: plot.Share}
	hits := plot.Bars{Name: "Hit rate by worker", Desc: "One bar for each worker.", Unit: plot.Share, Whole: 1}
	known := false
	for _, name := range names {
		w := r.Workers[name]
		share.Rows = append(share.Rows, plot.Bar{Label: name, Value: w.Share, Text: fmt.Sprintf("%s (%s)", plot.Share.Text(w.Share), count(w.Requests))})
		hit := plot.Bar{Label: name, Text: notReported, Style: 2}
		if w.HitRate != nil {
			known = true
			hit.Value, hit.Text = *w.HitRate, ""
		}
		hits.Rows = append(hits.Rows, hit)
	}
	figures := []page.Figure{{Title: "Share of requests", Note: "and how many", Chart: share}}
	if known {
		figures = append(figures, page.Figure{Title: "Hit rate", Note: "cached tokens of prompt tokens", Chart: hits})
	}
	return figures
}

// workerRanks draws many workers as one line, the busiest first.
func (r Report) workerRanks(names []string) []page.Figure {
	names = slices.SortedFunc(slices.Values(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Workers[b].Requests, r.Workers[a].Requests), cmp.Compare(a, b))
	})
	line := plot.Line{Name: "requests", Fill: true, Steps: true}
	for i, name := range names {
		line.Points = append(line.Points, plot.Point{X: float64(i), Y: float64(r.Workers[name].Requests)})
	}
	return []page.Figure{{Title: "Requests by worker", Note: "the busiest first", Wide: true, Chart: plot.Lines{
		Name: "Requests by worker", Desc: fmt.Sprintf("%d workers: the busiest had %s requests, the least busy %s.", len(names),
			count(r.Workers[names[0]].Requests), count(r.Workers[names[len(names)-1]].Requests)),
		X: plot.Axis{Title: "busier workers"}, Y: plot.Axis{Title: "requests"}, Lines: []plot.Line{line},
	}}}
}

// errorSection shows how requests failed.
func (r Report) errorSection() page.Section {
	if len(r.ErrorsByKind) == 0 {
		return page.Section{}
	}
	bars := plot.Bars{Name: "Failed requests by kind", Desc: kinds(r.ErrorsByKind)}
	table := page.Table{Title: "What the first of each kind said", Wordy: true}
	for _, kind := range sortedKinds(r.ErrorsByKind) {
		n := r.ErrorsByKind[kind]
		bars.Rows = append(bars.Rows, plot.Bar{Label: string(kind), Value: float64(n), Text: count(n), Style: 6})
		table.Rows = append(table.Rows, []string{string(kind), cmp.Or(r.ErrorSamples[kind], "nothing")})
	}
	return page.Section{Title: "Failures", Figures: []page.Figure{{Title: "By kind", Wide: true, Chart: bars}}, Tables: []page.Table{table}}
}

// latenessSection shows whether an open loop kept its times.
func (r Report) latenessSection() page.Section {
	if r.Lateness.Count == 0 {
		return page.Section{}
	}
	m := metric{name: "Lateness", meaning: "from when a request was due to when it was sent", samples: "requests", dist: r.Lateness, curve: r.Curves.Lateness}
	f := m.figure()
	f.Wide = true
	return page.Section{
		Title:   "Lateness",
		Note:    "In an open loop requests are sent when they are due, whatever the replies do. What is late was not asked of the endpoint at the time it should have been.",
		Figures: []page.Figure{f},
		Tables:  []page.Table{{Title: "Lateness in figures", Head: []string{"", "mean", "p50", "p90", "p99", "max", "samples"}, Rows: [][]string{m.row()}}},
	}
}
