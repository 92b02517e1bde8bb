package plot

import (
	"math"
	"strconv"
	"strings"
)

// A Unit is what a value counts. It says how values are written.
type Unit int

const (
	Number  Unit = iota // 9,500, 12.3 k
	Seconds             // 12.3 ms: a latency
	Elapsed             // 1:30 min: seconds since the start
	Share               // 0 to 1, written as percent
	Bytes               // 12.3 MiB
)

// Unknown is how a value is written that is no finite number.
const Unknown = "–"

// Text writes a value with three digits or so, and its unit.
func (u Unit) Text(v float64) string {
	if !finite(v) || math.Abs(v) > most {
		return Unknown
	}
	if u == Elapsed {
		return clock(v)
	}
	f := u.factor(math.Abs(v))
	x := v / f.by
	if next := u.factor(math.Abs(roundTo3(x)) * f.by); next != f {
		f, x = next, v/next.by // 999.96 ms is 1.00 s
	}
	decimals := 2
	switch a := math.Abs(x); {
	case a == 0 || a >= 99.95 || u == Number && f.by == 1 && x == math.Trunc(x):
		decimals = 0
	case a >= 9.995:
		decimals = 1
	}
	if u == Share {
		decimals = min(decimals, 1)
		if math.Abs(x) >= 99.95 && math.Abs(x) < 100 {
			decimals = 2 // 99.97 % is not all
		}
	}
	number := strconv.FormatFloat(x, 'f', decimals, 64)
	if a := math.Abs(x); decimals == 0 && a >= 999.5 && a < 1e5 {
		number = number[:len(number)-3] + "," + number[len(number)-3:]
	}
	return join(number, f.name)
}

// ticks writes the marks of an axis, all in the same unit, with the digits that tell them apart.
func (u Unit) ticks(values []float64, step float64) []string {
	most := 0.0
	for _, v := range values {
		most = max(most, math.Abs(v))
	}
	f := u.factor(most)
	decimals := min(9, max(0, int(math.Ceil(-math.Log10(step/f.by)-1e-9))))
	texts := make([]string, len(values))
	for i, v := range values {
		switch {
		case v == 0:
			texts[i] = "0"
		case u == Elapsed:
			texts[i] = clock(v)
		default:
			texts[i] = join(strconv.FormatFloat(v/f.by, 'f', decimals, 64), f.name)
		}
	}
	return texts
}

// tick writes one mark of a logarithmic axis, each in its own unit.
func (u Unit) tick(v float64) string {
	if u == Elapsed {
		return clock(v)
	}
	f := u.factor(v * (1 + 1e-9))
	x := v / f.by
	if x >= 1e6 {
		return join(strconv.FormatFloat(x, 'g', 3, 64), f.name)
	}
	return join(threeDigits(x), f.name)
}

// A factor is a multiple that has a name.
type factor struct {
	by   float64
	name string
}

var factors = map[Unit][]factor{ // ascending
	Number:  {{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}},
	Seconds: {{1e-9, "ns"}, {1e-6, "µs"}, {1e-3, "ms"}, {1, "s"}},
	Elapsed: {{1, "s"}},
	Share:   {{0.01, "%"}},
	Bytes:   {{1, "B"}, {1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}, {1 << 40, "TiB"}},
}

// factor is the one that a value of this size is written in.
func (u Unit) factor(size float64) factor {
	all, ok := factors[u]
	if !ok {
		all = factors[Number]
	}
	if u == Seconds && size == 0 {
		return all[len(all)-1]
	}
	if u == Number && size < 10_000 {
		return all[0] // 9,999 needs no k
	}
	best := all[0]
	for _, f := range all {
		if size >= f.by {
			best = f
		}
	}
	return best
}

// clock writes seconds as people write durations: 12 s, 1:30 min, 2:05:00 h.
func clock(v float64) string {
	sign := ""
	if v < 0 {
		sign, v = "−", -v
	}
	switch {
	case v < 59.95:
		return sign + threeDigits(v) + " s"
	case v > 1e9:
		return sign + Number.Text(v/3600) + " h"
	}
	whole := int64(math.Round(v))
	two := func(n int64) string { return ":" + strconv.FormatInt(100+n, 10)[1:] }
	if whole < 3600 {
		return sign + strings.TrimSuffix(strconv.FormatInt(whole/60, 10)+two(whole%60), ":00") + " min"
	}
	hours := strconv.FormatInt(whole/3600, 10) + two(whole/60%60)
	if whole%60 != 0 {
		hours += two(whole % 60)
	}
	return sign + strings.TrimSuffix(hours, ":00") + " h"
}

// threeDigits writes no more of a positive number or 0, and at most twelve decimals.
func threeDigits(v float64) string {
	decimals := 0
	if v > 0 {
		decimals = min(max(0, 2-int(math.Floor(math.Log10(v)))), 12)
	}
	return short(v, decimals)
}

func join(number, unit string) string {
	number = strings.Replace(number, "-", "−", 1)
	if unit == "" {
		return number
	}
	return number + "\u00a0" + unit // a number and its unit stay on one line
}

func roundTo3(v float64) float64 {
	if v == 0 || !finite(v) {
		return v
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-2)
	if unit == 0 || !finite(v/unit) {
		return v
	}
	return math.Round(v/unit) * unit
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
