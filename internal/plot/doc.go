// Package plot draws charts as SVG for HTML pages.
//
// A chart is a value ([Lines], [Bars]); its HTML method is a pure function of that value. Positions are
// percentages and type is in pixels, so that a chart fills whatever width it is given, and stays readable in
// every one. Colours come from [CSS], which knows light, dark and print. Nothing is told by colour alone: lines also
// differ in their dashes, and bars say their values.
//
// # Guarantees
//
// Text may come from strangers: it is escaped, and cleared of what cannot be shown ([Clean]). Values that are
// no number, or infinite, are left out, and a chart without any value says so. Output is bounded: at most [MaxPoints] a line,
// [MaxLines] lines, [MaxBars] bars, [MaxBins] columns, [MaxDots] dots a bar.
//
// A chart says everything without a script. With [Script] on the page, pointing at a line shows its values.
package plot

import (
	_ "embed"
	"html/template"
)

// CSS is what charts need of a page's style. It defines the colours of a page as --plot-… properties, which
// the page itself may use too.
//
//go:embed plot.css
var CSS string

// Script shows the values of lines under the pointer. It needs no other script, fetches nothing, and writes text as text.
//
//go:embed plot.js
var Script string

// A Chart draws itself. The id is unique on its page and holds letters, digits and hyphens alone.
type Chart interface {
	HTML(id string) template.HTML
}

// Bounds of one chart. What is beyond them is left out; lines are thinned so that their extremes stay.
const (
	MaxPoints = 240
	MaxLines  = 8
	MaxBars   = 64
	MaxBins   = 120
	MaxDots   = 24
)
