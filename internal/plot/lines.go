package plot

import (
	"cmp"
	"encoding/json"
	"html/template"
	"slices"
	"strings"
)

// Lines draws values over a common axis: series over time, distributions.
type Lines struct {
	Name, Desc string // what it is called, and what it shows in words
	X, Y       Axis
	Lines      []Line
	Bins       []Bin  // columns behind the lines
	BinName    string // what a column counts
	Marks      []Mark // upright lines
}

// A Line joins points whose X ascends. A point that cannot be shown parts it.
type Line struct {
	Name   string
	Points []Point
	Style  int  // which colour and dashes, from 0; a thing has the same in every chart
	Steps  bool // a value holds up to the next point
	Fill   bool // the area down to the axis is tinted
	// Notes are points that are called by name, on the line.
	Notes []Note
}

// A Point is one value.
type Point struct{ X, Y float64 }

// A Note is a point with a label.
type Note struct {
	Point
	Label string
}

// A Bin counts what lies from Lo to Hi. The highest of a chart takes most of its height; the Y axis does not measure it.
type Bin struct{ Lo, Hi, Count float64 }

// A Mark is a line across the chart at one X, such as an objective.
type Mark struct {
	X     float64
	Label string
}

// HTML draws the legend and the chart.
func (c Lines) HTML(id string) template.HTML {
	c.Lines = slices.Clone(c.Lines[:min(len(c.Lines), MaxLines)])
	c.Bins = c.Bins[:min(len(c.Bins), MaxBins)]
	var xs, ys []float64
	for i := range c.Lines {
		line := &c.Lines[i]
		line.Points = c.drawn(line.Points)
		for _, p := range line.Points {
			if c.shows(p) {
				xs, ys = append(xs, p.X), append(ys, p.Y)
			}
		}
	}
	if len(xs) == 0 {
		return nothing(c.Name)
	}
	for _, b := range c.Bins {
		xs = append(xs, b.Lo, b.Hi)
	}
	for _, m := range c.Marks {
		xs = append(xs, m.X)
	}
	x, y := c.X.scale(xs), c.Y.scale(ys)

	var d drawing
	d.raw(`<div class="plot">`)
	c.legend(&d)
	d.open(id, "plot-frame", ` data-plot="`+text(c.readings(x, y))+`"`, c.Name, c.Desc)
	d.grid(x, y, c.X.Title)
	d.raw(`<svg class="plot-area" viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%%" height="100%%">`)
	c.columns(&d, x)
	for _, line := range c.Lines {
		if line.Fill {
			d.raw(`<path class="plot-fill %s" d="%s"/>`, style(line.Style), c.path(line, x, y, true))
		}
		d.raw(`<path class="plot-line %s" d="%s"/>`, style(line.Style), c.path(line, x, y, false))
	}
	d.raw(`</svg>`)
	for _, line := range c.Lines {
		c.lone(&d, line, x, y)
	}
	c.marks(&d, x)
	for _, line := range c.Lines {
		c.notes(&d, line, x, y)
	}
	d.raw(`</svg></div>`)
	return d.html()
}

func (c Lines) shows(p Point) bool { return c.X.shows(p.X) && c.Y.shows(p.Y) }

// drawn thins points to MaxPoints, and keeps the first, the last, and the lowest and highest between them.
func (c Lines) drawn(points []Point) []Point {
	if len(points) <= MaxPoints {
		return points
	}
	thin := make([]Point, 0, MaxPoints)
	thin = append(thin, points[0])
	inner := points[1 : len(points)-1]
	const groups = (MaxPoints - 2) / 2
	for g := range groups {
		part := inner[g*len(inner)/groups : (g+1)*len(inner)/groups]
		low, high := 0, 0
		for i, p := range part {
			if c.shows(p) && (!c.shows(part[low]) || p.Y < part[low].Y) {
				low = i
			}
			if c.shows(p) && (!c.shows(part[high]) || p.Y > part[high].Y) {
				high = i
			}
		}
		thin = append(thin, part[min(low, high)])
		if low != high {
			thin = append(thin, part[max(low, high)])
		}
	}
	return append(thin, points[len(points)-1])
}

// legend names the lines, unless there is one that the chart's name already names.
func (c Lines) legend(d *drawing) {
	d.raw(`<div class="plot-head"><span class="plot-unit">%s</span>`, text(c.Y.Title))
	if len(c.Lines) > 1 || len(c.Bins) > 0 {
		d.raw(`<ul class="plot-legend">`)
		for _, line := range c.Lines {
			d.raw(`<li><svg class="plot-key" aria-hidden="true"><line class="plot-line %s" x1="1" x2="25" y1="6" y2="6"/></svg>%s</li>`,
				style(line.Style), text(line.Name))
		}
		if len(c.Bins) > 0 {
			d.raw(`<li><svg class="plot-key" aria-hidden="true"><rect class="plot-bin" x="7" y="1" width="12" height="11"/></svg>%s</li>`, text(c.BinName))
		}
		d.raw(`</ul>`)
	}
	d.raw(`</div>`)
}

// grid draws both axes.
func (d *drawing) grid(x, y scale, title string) {
	d.raw(`<g class="plot-grid" aria-hidden="true">`)
	for _, t := range y.ticks {
		at := percent(1 - t.at)
		d.raw(`<line x2="100%%" y1="%s" y2="%s"/><text x="-8" y="%s" dy=".35em" text-anchor="end">%s</text>`, at, at, at, text(t.text))
	}
	for _, t := range x.ticks {
		class, at := "", percent(t.at)
		if t.minor {
			class = ` class="plot-minor"`
		}
		d.raw(`<line class="plot-tick" x1="%s" x2="%s" y1="100%%" y2="102.5%%"/><text%s x="%s" y="100%%" dy="1.6em" text-anchor="middle">%s</text>`,
			at, at, class, at, text(t.text))
	}
	d.raw(`<line class="plot-axis" x2="100%%" y1="100%%" y2="100%%"/>`)
	d.raw(`<text class="plot-title" x="100%%" y="100%%" dy="2.9em" text-anchor="end">%s</text></g>`, text(title))
}

func (c Lines) columns(d *drawing, x scale) {
	highest := 0.0
	for _, b := range c.Bins {
		if finite(b.Count) {
			highest = max(highest, b.Count)
		}
	}
	for _, b := range c.Bins {
		if !finite(b.Count) || b.Count <= 0 || !c.X.shows(b.Hi) {
			continue
		}
		lo, hi, height := 1000*x.at(b.Lo), 1000*x.at(b.Hi), 850*b.Count/highest
		d.raw(`<rect class="plot-bin" x="%s" y="%s" width="%s" height="%s"/>`,
			short(lo, 1), short(1000-height, 1), short(max(hi-lo-1, 0.5), 1), short(height, 1))
	}
}

// path is the line's course, or the outline of the area below it.
func (c Lines) path(line Line, x, y scale, area bool) string {
	var d strings.Builder
	place := func(op string, px, py float64) { d.WriteString(op + short(px, 1) + " " + short(py, 1)) }
	floor := 1000 * (1 - y.at(0))
	drawing, px, py := false, 0.0, 0.0
	end := func() {
		if area && drawing {
			place("L", px, floor)
			d.WriteString("Z")
		}
		drawing = false
	}
	for _, p := range line.Points {
		if !c.shows(p) {
			end()
			continue
		}
		nx, ny := 1000*x.at(p.X), 1000*(1-y.at(p.Y))
		switch {
		case !drawing && area:
			place("M", nx, floor)
			place("L", nx, ny)
		case !drawing:
			place("M", nx, ny)
		case line.Steps:
			place("L", nx, py)
			place("L", nx, ny)
		default:
			place("L", nx, ny)
		}
		drawing, px, py = true, nx, ny
	}
	end()
	return d.String()
}

// lone draws the points that have no neighbour, which a path does not show.
func (c Lines) lone(d *drawing, line Line, x, y scale) {
	for i, p := range line.Points {
		before := i > 0 && c.shows(line.Points[i-1])
		after := i+1 < len(line.Points) && c.shows(line.Points[i+1])
		if c.shows(p) && !before && !after {
			d.raw(`<circle class="plot-dot %s" cx="%s" cy="%s" r="3"/>`, style(line.Style), percent(x.at(p.X)), percent(1-y.at(p.Y)))
		}
	}
}

// marks draws upright lines, their labels low, one above the other where they are near.
func (c Lines) marks(d *drawing, x scale) {
	marks := slices.DeleteFunc(slices.Clone(c.Marks), func(m Mark) bool { return !c.X.shows(m.X) })
	slices.SortFunc(marks, func(a, b Mark) int { return cmp.Compare(a.X, b.X) })
	row := 0
	for i, m := range marks[:min(len(marks), MaxLines)] {
		at := x.at(m.X)
		if row++; i == 0 || at-x.at(marks[i-1].X) > 0.3 {
			row = 0
		}
		anchor, dx := "start", 5
		if at > 0.6 {
			anchor, dx = "end", -5
		}
		d.raw(`<line class="plot-mark" x1="%s" x2="%s" y1="0" y2="100%%"/>`, percent(at), percent(at))
		d.raw(`<text class="plot-note" x="%s" y="75%%" dx="%d" dy="%d" text-anchor="%s">%s</text>`, percent(at), dx, -15*row, anchor, text(m.Label))
	}
}

// notes draws the points with a label, below and right of a line or above and left of it: where a rising line is not.
func (c Lines) notes(d *drawing, line Line, x, y scale) {
	for _, n := range line.Notes[:min(len(line.Notes), MaxLines)] {
		if !c.shows(n.Point) {
			continue
		}
		at, height := x.at(n.X), percent(1-y.at(n.Y))
		anchor, dx, dy := "start", 6, "1.15em"
		if at > 0.62 {
			anchor, dx, dy = "end", -6, "-.4em"
		}
		d.raw(`<circle class="plot-dot %s" cx="%s" cy="%s" r="4"/>`, style(line.Style), percent(at), height)
		d.raw(`<text class="plot-note" x="%s" y="%s" dx="%d" dy="%s" text-anchor="%s">%s</text>`, percent(at), height, dx, dy, anchor, text(n.Label))
	}
}

// A reading is what the script shows of one line: places in percent, and what to say there.
type reading struct {
	Name  string    `json:"name"`
	Style string    `json:"style"`
	X     []float64 `json:"x"`
	Y     []float64 `json:"y"`
	At    []string  `json:"at"`
	Value []string  `json:"value"`
}

// readings are the values of all lines, as JSON.
func (c Lines) readings(x, y scale) string {
	all := make([]reading, 0, len(c.Lines))
	tenth := func(at float64) float64 { return float64(int(1000*at+0.5)) / 10 }
	for _, line := range c.Lines {
		r := reading{Name: Clean(line.Name), Style: style(line.Style)}
		for _, p := range line.Points {
			if c.shows(p) {
				r.X, r.Y = append(r.X, tenth(x.at(p.X))), append(r.Y, tenth(1-y.at(p.Y)))
				r.At, r.Value = append(r.At, c.X.Unit.Text(p.X)), append(r.Value, c.Y.Unit.Text(p.Y))
			}
		}
		all = append(all, r)
	}
	doc, err := json.Marshal(all)
	if err != nil { // unreachable: all numbers are finite
		return "[]"
	}
	return string(doc)
}
