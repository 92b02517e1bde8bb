package replay

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// A metric is one latency, as a page shows it.
type metric struct {
	name, meaning string
	samples       string // what there is one of for each sample
	dist          Distribution
	curve         Curve
	bound         float64 // of the objective; 0: none
	missing       string  // why there may be no samples
}

func (r Report) metrics() []metric {
	var slo SLO
	if r.Goodput != nil {
		slo = r.Goodput.SLO
	}
	const missing = "no request succeeded"
	if !r.Stream {
		return []metric{
			{"First byte", "first byte of the reply", "requests", r.FirstByte, Curve{}, 0, missing},
			{"E2E", "whole reply", "requests", r.E2E, r.Curves.E2E, slo.E2ESeconds, missing},
		}
	}
	return []metric{
		{"TTFT", "time to first token", "requests", r.TTFT, r.Curves.TTFT, slo.TTFTSeconds, missing},
		{"TPOT", "time per output token", "requests", r.TPOT, r.Curves.TPOT, slo.TPOTSeconds, missing},
		{"ITL", "gap between pieces of output", "gaps", r.ITL, r.Curves.ITL, 0, missing},
		{"E2E", "whole reply", "requests", r.E2E, r.Curves.E2E, slo.E2ESeconds, missing},
	}
}

func (m metric) tile() page.Tile {
	if m.dist.Count == 0 {
		return page.Tile{Name: m.name + ", median", Value: plot.Unknown, Note: m.missing}
	}
	return page.Tile{
		Name:  m.name + ", median",
		Value: plot.Seconds.Text(m.dist.P50),
		Note:  fmt.Sprintf("p90\u00a0%s, p99\u00a0%s", plot.Seconds.Text(m.dist.P90), plot.Seconds.Text(m.dist.P99)),
	}
}

func (r Report) latencySection() page.Section {
	s := page.Section{Title: "Latency", Note: "The line is the share of samples that took at most so long; columns show where most of them lie. The time axis is logarithmic."}
	table := page.Table{Title: "Latency in figures", Head: []string{"", "mean", "p50", "p90", "p99", "max", "samples"}}
	for _, m := range r.metrics() {
		if m.dist.Count == 0 {
			continue
		}
		if m.curve.len() > 0 {
			s.Figures = append(s.Figures, m.figure())
		}
		table.Rows = append(table.Rows, m.row())
	}
	if len(table.Rows) > 0 {
		s.Tables = append(s.Tables, table)
	}
	if len(s.Figures) > 0 {
		s.Tables = append(s.Tables, quantiles(r.metrics()))
	}
	return s
}

func (m metric) row() []string {
	d, about := m.dist, ""
	if d.Approximate {
		about = " (percentiles within 1 %)"
	}
	t := plot.Seconds.Text
	return []string{m.name, t(d.Mean), t(d.P50), t(d.P90), t(d.P99), t(d.Max), count(d.Count) + about}
}

// figure is the distribution of a metric.
func (m metric) figure() page.Figure {
	t := plot.Seconds.Text
	curve := m.curve.drawn()
	line := plot.Line{Name: "share at or below", Points: curve.points()}
	for _, n := range []struct {
		share   float64
		seconds float64
		name    string
	}{{0.5, m.dist.P50, "p50"}, {0.9, m.dist.P90, "p90"}, {0.99, m.dist.P99, "p99"}} {
		line.Notes = append(line.Notes, plot.Note{Point: plot.Point{X: max(n.seconds, leastDrawn), Y: n.share}, Label: n.name + " " + t(n.seconds)})
	}
	c := plot.Lines{
		Name: "Distribution of " + m.name,
		Desc: fmt.Sprintf("Half of %s %s took at most %s, 90 %% at most %s, 99 %% at most %s; the longest took %s.",
			count(m.dist.Count), m.samples, t(m.dist.P50), t(m.dist.P90), t(m.dist.P99), t(m.dist.Max)),
		X:       plot.Axis{Title: m.name, Unit: plot.Seconds, Log: true},
		Y:       plot.Axis{Title: "share of " + m.samples, Unit: plot.Share, Max: 1},
		Lines:   []plot.Line{line},
		Bins:    curve.bins(),
		BinName: m.samples,
	}
	if m.bound > 0 {
		c.Marks = []plot.Mark{{X: m.bound, Label: "objective " + t(m.bound)}}
	}
	return page.Figure{Title: m.name, Note: m.meaning, Chart: c}
}

// quantiles says in figures what the curves show.
func quantiles(metrics []metric) page.Table {
	table := page.Table{Title: "More percentiles", Head: []string{"at or below"}, Folded: true}
	var drawn []metric
	for _, m := range metrics {
		if m.curve.len() > 0 {
			drawn = append(drawn, m)
			table.Head = append(table.Head, m.name)
		}
	}
	for _, share := range []float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999} {
		row := []string{strconv.FormatFloat(100*share, 'g', 4, 64) + " %"}
		for _, m := range drawn {
			row = append(row, plot.Seconds.Text(m.curve.seconds(share)))
		}
		table.Rows = append(table.Rows, row)
	}
	return table
}

// leastDrawn is where a logarithmic axis begins at the latest, in seconds: a lateness may well be 0.
const leastDrawn = 1e-6

// drawn has nothing below leastDrawn.
func (c Curve) drawn() Curve {
	seconds := slices.Clone(c.Seconds)
	for i, s := range seconds {
		seconds[i] = max(s, leastDrawn)
	}
	return Curve{Shares: c.Shares, Seconds: seconds}
}

func (c Curve) len() int { return min(len(c.Shares), len(c.Seconds)) }

// points are the curve's, from a share of 0 on.
func (c Curve) points() []plot.Point {
	var points []plot.Point
	for i := range c.len() {
		if i == 0 && c.Shares[0] > 0 {
			points = append(points, plot.Point{X: c.Seconds[0]})
		}
		points = append(points, plot.Point{X: c.Seconds[i], Y: c.Shares[i]})
	}
	return points
}

// seconds is what a share of the samples does not exceed, linear between points; not a number without any.
func (c Curve) seconds(share float64) float64 { return between(c.Shares, c.Seconds, c.len(), share) }

// share is the part of the samples that took at most so long.
func (c Curve) share(seconds float64) float64 {
	if c.len() > 0 && seconds < c.Seconds[0] {
		return 0
	}
	return between(c.Seconds, c.Shares, c.len(), seconds)
}

// between reads y at x off the first n points of a rising course.
func between(xs, ys []float64, n int, x float64) float64 {
	if n == 0 {
		return math.NaN()
	}
	i := sort.Search(n, func(i int) bool { return xs[i] >= x })
	switch {
	case i == 0:
		return ys[0]
	case i == n:
		return ys[n-1]
	}
	span := xs[i] - xs[i-1]
	if span <= 0 {
		return ys[i]
	}
	return ys[i-1] + (ys[i]-ys[i-1])*(x-xs[i-1])/span
}

// bins are the shares of samples in ranges of equal length on a logarithmic axis, of a curve above 0; none if all took
// the same time.
func (c Curve) bins() []plot.Bin {
	const bins = 32
	n := c.len()
	if n == 0 || c.Seconds[n-1] <= c.Seconds[0] {
		return nil
	}
	low, span := c.Seconds[0], math.Log(c.Seconds[n-1]/c.Seconds[0])
	edge := func(i int) float64 { return low * math.Exp(span*float64(i)/bins) }
	all := make([]plot.Bin, bins)
	for i := range all {
		lo, hi := edge(i), edge(i+1)
		before := c.share(lo)
		if i == 0 {
			before = 0 // the least values are part of the first column
		}
		after := c.share(hi)
		if i == bins-1 {
			after = 1
		}
		all[i] = plot.Bin{Lo: lo, Hi: hi, Count: after - before}
	}
	return all
}
