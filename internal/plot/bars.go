package plot

import (
	"html/template"
)

// Bars draws one bar a row, each below its label and beside its value.
type Bars struct {
	Name, Desc string
	Unit       Unit
	Rows       []Bar
	// Whole is the value of a full width, such as 1 for shares of all. Default: the greatest value.
	Whole float64
}

// A Bar is one row.
type Bar struct {
	Label string
	Value float64 // what is no finite number has no bar
	Text  string  // default: the value with its unit
	Style int     // which colour, from 0
	// Dots are single measurements that the value summarises.
	Dots []float64
}

const (
	barRow    = 42 // pixels from one row to the next
	barTop    = 20 // of which the label takes
	barHeight = 10
	maxLabel  = 40 // letters
)

// HTML draws the rows.
func (c Bars) HTML(id string) template.HTML {
	rows := c.Rows[:min(len(c.Rows), MaxBars)]
	axis := Axis{Unit: c.Unit}
	lo, hi := 0.0, 0.0
	for _, row := range rows {
		for _, v := range append(row.dots(), row.Value) {
			if axis.shows(v) {
				lo, hi = min(lo, max(v, -most)), max(hi, min(v, most))
			}
		}
	}
	if len(rows) == 0 {
		return nothing(c.Name)
	}
	if c.Whole > 0 {
		hi = max(hi, c.Whole)
	}
	if hi-lo < least {
		hi = 1
	}
	s := scale{lo: lo, hi: hi}

	var d drawing
	d.raw(`<div class="plot">`)
	d.open(id, "plot-bars", ` height="`+short(float64(barRow*len(rows)), 0)+`"`, c.Name, c.Desc)
	for i, row := range rows {
		row.draw(&d, i*barRow, s, c.Unit)
	}
	d.raw(`</svg></div>`)
	return d.html()
}

// dots are those that are drawn: of too many, some from all over.
func (b Bar) dots() []float64 {
	n := min(len(b.Dots), MaxDots)
	drawn := make([]float64, n)
	for i := range drawn {
		drawn[i] = b.Dots[i*len(b.Dots)/n]
	}
	return drawn
}

func (b Bar) draw(d *drawing, y int, s scale, unit Unit) {
	value := b.Text
	if value == "" {
		value = unit.Text(b.Value)
	}
	bar := y + barTop
	d.raw(`<g><title>%s: %s</title>`, text(b.Label), text(value))
	d.raw(`<text class="plot-label" x="0" y="%d">%s</text>`, y+13, text(Clip(b.Label, maxLabel)))
	d.raw(`<text class="plot-value" x="100%%" y="%d" text-anchor="end">%s</text>`, y+13, text(value))
	d.raw(`<rect class="plot-track" x="0" y="%d" width="100%%" height="%d" rx="2"/>`, bar, barHeight)
	if finite(b.Value) {
		from, to := s.at(min(b.Value, 0)), s.at(max(b.Value, 0))
		d.raw(`<rect class="plot-bar %s" x="%s" y="%d" width="%s" height="%d" rx="2"/>`, style(b.Style), percent(from), bar, percent(to-from), barHeight)
	}
	if s.lo < 0 {
		d.raw(`<line class="plot-axis" x1="%s" x2="%s" y1="%d" y2="%d"/>`, percent(s.at(0)), percent(s.at(0)), bar-2, bar+barHeight+2)
	}
	if len(b.Dots) > 0 {
		d.raw(`<g class="plot-samples" transform="translate(0 %d)">`, bar+barHeight/2)
		for _, v := range b.dots() {
			if finite(v) {
				d.raw(`<circle cx="%s" r="3"/>`, percent(s.at(v)))
			}
		}
		d.raw(`</g>`)
	}
	d.raw(`</g>`)
}
