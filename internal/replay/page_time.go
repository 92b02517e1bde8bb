package replay

import (
	"fmt"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// timeSection shows how the run went. A run of one step has no course to show.
func (r Report) timeSection() page.Section {
	steps := r.Series.Points
	if len(steps) < 2 || r.Series.StepSeconds <= 0 {
		return page.Section{}
	}
	course := course{step: r.Series.StepSeconds, points: steps}
	if last := r.DurationSeconds - steps[len(steps)-1].AtSeconds; last < course.step/2 {
		course.points = steps[:len(steps)-1] // too short to be a rate; the table has it
	}
	even := course.even()
	rates := []plot.Line{
		even.rate("sent", 0, func(p Point) int64 { return p.Sent }),
		even.rate("finished", 2, func(p Point) int64 { return p.Finished }),
	}
	if r.Errors > 0 {
		rates = append(rates, even.rate("failed", 6, func(p Point) int64 { return p.Errors }))
	}
	note := fmt.Sprintf("Each point stands for %s.", plot.Elapsed.Text(course.step))
	if even.step != course.step {
		note = fmt.Sprintf("Each point of a rate stands for %s, each other one for %s.", plot.Elapsed.Text(even.step), plot.Elapsed.Text(course.step))
	}
	s := page.Section{
		Title: "Over time",
		Note:  note,
		Figures: []page.Figure{
			even.figure("Requests", "requests per second", plot.Number, rates...),
			course.figure("In flight", "requests without an answer yet", plot.Number, course.line("in flight", 0, func(p Point) *float64 { return new(float64(p.InFlight)) })),
		},
	}
	if r.TTFT.Count > 0 {
		s.Figures = append(s.Figures, course.figure("TTFT", "by when the request was sent", plot.Seconds,
			course.line("p50", 0, func(p Point) *float64 { return p.TTFTP50 }),
			course.line("p99", 1, func(p Point) *float64 { return p.TTFTP99 })))
	}
	if r.OutputTokens != nil {
		s.Figures = append(s.Figures, even.figure("Output", "output tokens per second", plot.Number,
			even.rate("output tokens", 0, func(p Point) int64 { return p.OutputTokens })))
	}
	s.Tables = []page.Table{r.Series.table()}
	return s
}

// A course is what is drawn of a series.
type course struct {
	step   float64
	points []Point
}

// even puts steps together in pairs, until a rate does not hang on when single requests ended. Only counts are kept.
func (c course) even() course {
	const (
		enough = 20 // requests of a step on average
		long   = 1  // seconds of a step
		fewest = 20 // steps
		most   = 160
	)
	sent := int64(0)
	for _, p := range c.points {
		sent += p.Sent
	}
	for n := len(c.points); n > most || (n >= 2*fewest && (sent < enough*int64(n) || c.step < long)); n = len(c.points) {
		wide := course{step: 2 * c.step}
		for i := 0; i+1 < n; i += 2 { // an odd one at the end is left out
			a, b := c.points[i], c.points[i+1]
			wide.points = append(wide.points, Point{
				AtSeconds: a.AtSeconds, Sent: a.Sent + b.Sent, Finished: a.Finished + b.Finished,
				Errors: a.Errors + b.Errors, OutputTokens: a.OutputTokens + b.OutputTokens,
			})
		}
		c = wide
	}
	return c
}

// line takes one value of every step; nil parts the line.
func (c course) line(name string, style int, value func(Point) *float64) plot.Line {
	line := plot.Line{Name: name, Style: style}
	for _, p := range c.points {
		if v := value(p); v != nil {
			line.Points = append(line.Points, plot.Point{X: p.AtSeconds + c.step/2, Y: *v})
		}
	}
	return line
}

// rate takes counts, per second.
func (c course) rate(name string, style int, value func(Point) int64) plot.Line {
	return c.line(name, style, func(p Point) *float64 { return new(float64(value(p)) / c.step) })
}

func (c course) figure(title, measured string, unit plot.Unit, lines ...plot.Line) page.Figure {
	desc := ""
	for _, line := range lines {
		least, most := 0.0, 0.0
		for i, p := range line.Points {
			if i == 0 {
				least, most = p.Y, p.Y
			}
			least, most = min(least, p.Y), max(most, p.Y)
		}
		desc += fmt.Sprintf("%s between %s and %s. ", line.Name, unit.Text(least), unit.Text(most))
	}
	return page.Figure{Title: title, Chart: plot.Lines{
		Name: title + " over time", Desc: desc,
		X:     plot.Axis{Title: "since the start", Unit: plot.Elapsed},
		Y:     plot.Axis{Title: measured, Unit: unit},
		Lines: lines,
	}}
}

// table is the series in figures.
func (s Series) table() page.Table {
	t := page.Table{
		Title: "Over time in figures", Folded: true,
		Head: []string{"from", "sent", "finished", "failed", "in flight at the end", "TTFT p50", "TTFT p99", "output tokens"},
	}
	seconds := func(v *float64) string {
		if v == nil {
			return plot.Unknown
		}
		return plot.Seconds.Text(*v)
	}
	for _, p := range s.Points {
		t.Rows = append(t.Rows, []string{
			plot.Elapsed.Text(p.AtSeconds), count(p.Sent), count(p.Finished), count(p.Errors), count(p.InFlight),
			seconds(p.TTFTP50), seconds(p.TTFTP99), count(p.OutputTokens),
		})
	}
	return t
}
