package plot

import (
	"math"
)

// An Axis says what a direction of a chart means. The zero value is linear, starts at 0, counts without a unit.
type Axis struct {
	Title string
	Unit  Unit
	// Log spaces values by their logarithm. Values of 0 and below are then not drawn.
	Log bool
	// Min and Max widen the axis beyond the values on it. Default: 0 is on every linear axis, nothing else.
	Min, Max float64
}

// A scale places values between 0 and 1.
type scale struct {
	log    bool
	lo, hi float64
	ticks  []tick
}

// A tick is a mark on an axis. A minor one goes without its text where room is short.
type tick struct {
	at    float64 // 0 to 1
	text  string
	minor bool
}

// Ends of what is drawn; a value beyond them is drawn at the end. Arithmetic on them neither overflows nor loses all digits.
const (
	least = 1e-100
	most  = 1e100
)

// scale fits an axis to values.
func (a Axis) scale(values []float64) scale {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range append([]float64{a.Min, a.Max}, values...) {
		if !a.shows(v) {
			continue
		}
		v = math.Copysign(min(math.Abs(v), most), v)
		lo, hi = min(lo, v), max(hi, v)
	}
	if a.Log {
		return logarithmic(max(lo, least), max(hi, least), a.Unit)
	}
	return linear(min(lo, 0), max(hi, 0), a.Unit)
}

// shows reports whether a value has a place on the axis.
func (a Axis) shows(v float64) bool { return finite(v) && (!a.Log || v > 0) }

func linear(lo, hi float64, unit Unit) scale {
	if hi-lo < least { // one value, 0, or none
		lo, hi = 0, 1
	}
	step := unit.step((hi - lo) / 5)
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	s := scale{lo: first * step, hi: last * step}
	if unit == Elapsed { // time ends when it ends, not at a round number
		last = math.Floor(hi/step + 1e-9)
		s.hi = hi
	}
	var values []float64
	for n := first; n <= last; n++ {
		values = append(values, n*step)
	}
	for i, text := range unit.ticks(values, step) {
		s.ticks = append(s.ticks, tick{at: s.at(values[i]), text: text, minor: len(values) > 5 && i%2 == 1})
	}
	return s
}

// step is the next length at or above that people count in.
func (u Unit) step(atLeast float64) float64 {
	if u == Elapsed && atLeast > 5 {
		for _, s := range []float64{10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200} {
			if s >= atLeast {
				return s
			}
		}
		return 86400 * niceStep(atLeast/86400)
	}
	return niceStep(atLeast)
}

// niceStep is the next of …, 1, 2, 5, 10, 20, … at or above v.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func logarithmic(lo, hi float64, unit Unit) scale {
	if lo > hi { // nothing to show
		lo, hi = 1, 1
	}
	if hi/lo < 1.2 { // one value, or nearly: it stands in the middle
		lo, hi = lo/1.5, hi*1.5
	}
	room := math.Pow(hi/lo, 0.03)
	s := scale{log: true, lo: lo / room, hi: hi * room}
	for _, mantissas := range [][]float64{{1}, {1, 2, 5}, {1, 2, 3, 5, 1.5, 4, 6, 7, 8, 9}} {
		if marks := s.decades(mantissas, unit); len(marks) >= 3 {
			s.ticks = spaced(marks)
			return s
		}
	}
	var values []float64 // so near that they are all but linear
	step := niceStep((s.hi - s.lo) / 4)
	for v := math.Ceil(s.lo/step) * step; v <= s.hi; v += step {
		values = append(values, v)
	}
	for i, text := range unit.ticks(values, step) {
		s.ticks = append(s.ticks, tick{at: s.at(values[i]), text: text})
	}
	s.ticks = spaced(s.ticks)
	return s
}

// decades are marks at some multiples of powers of ten, those of the first multiples first.
func (s scale) decades(mantissas []float64, unit Unit) (marks []tick) {
	first, last := math.Floor(math.Log10(s.lo)), math.Log10(s.hi)
	every := max(1, math.Ceil((last-first)/8)) // decades between two marks
	for _, m := range mantissas {
		for e := first; e <= last; e++ {
			if v := m * math.Pow(10, e); v >= s.lo && v <= s.hi && math.Mod(e, every) == 0 {
				marks = append(marks, tick{at: s.at(v), text: unit.tick(v)})
			}
		}
	}
	return marks
}

// spaced takes the text from marks that stand close to an earlier one, and makes minor those that are near it.
func spaced(marks []tick) []tick {
	const close, near = 0.1, 0.18
	for i := range marks {
		t := &marks[i]
		for _, earlier := range marks[:i] {
			gap := math.Abs(t.at - earlier.at)
			if gap < close && earlier.text != "" {
				t.text = ""
			}
			t.minor = t.minor || gap < near && earlier.text != "" && !earlier.minor
		}
	}
	return marks
}

// at is where a value stands, 0 to 1.
func (s scale) at(v float64) float64 {
	p := 0.0
	switch {
	case !s.log:
		p = (v - s.lo) / (s.hi - s.lo)
	case v > 0:
		p = (math.Log(v) - math.Log(s.lo)) / (math.Log(s.hi) - math.Log(s.lo))
	}
	return min(max(p, 0), 1)
}
