package plot

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestAxesAreMarkedWithRoundNumbers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		axis   Axis
		values []float64
		lo, hi float64 // of the scale; 0, 0: not looked at
		want   []string
	}{
		{"counts", Axis{}, []float64{3, 123}, 0, 150, []string{"0", "50", "100", "150"}},
		{"a share of all", Axis{Unit: Share, Max: 1}, []float64{0.2}, 0, 1, []string{"0", "20 %", "40 %", "60 %", "80 %", "100 %"}},
		{"one unit a axis", Axis{Unit: Seconds}, []float64{0.9, 1.3}, 0, 1.5, []string{"0", "0.5 s", "1.0 s", "1.5 s"}},
		{"thousands", Axis{}, []float64{15_900}, 0, 20_000, []string{"0", "5 k", "10 k", "15 k", "20 k"}},
		{"less than nothing", Axis{Unit: Seconds}, []float64{-0.02, 0.01}, -0.02, 0.01, []string{"−20 ms", "−10 ms", "0", "10 ms"}},
		{"time ends when it ends", Axis{Unit: Elapsed}, []float64{0.5, 99.5}, 0, 99.5, []string{"0", "30 s", "1 min", "1:30 min"}},
		{"nothing", Axis{}, nil, 0, 1, []string{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
		{"zero", Axis{}, []float64{0, 0}, 0, 1, []string{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
		{"decades", Axis{Unit: Seconds, Log: true}, []float64{0.002, 3}, 0, 0, []string{"10 ms", "100 ms", "1 s"}},
		{"less than three decades", Axis{Unit: Seconds, Log: true}, []float64{0.004, 0.06}, 0, 0, []string{"5 ms", "10 ms", "20 ms", "50 ms"}},
		{"less than one", Axis{Unit: Seconds, Log: true}, []float64{0.11, 0.27}, 0, 0, []string{"150 ms", "200 ms", "250 ms"}},
		{"all but the same", Axis{Unit: Seconds, Log: true}, []float64{0.130, 0.190}, 0, 0, []string{"140 ms", "160 ms", "180 ms"}},
		{"what has no logarithm", Axis{Log: true}, []float64{0, -1, math.NaN(), 20, 4000}, 0, 0, []string{"20", "50", "100", "200", "500", "1000", "2000"}},
		{"many decades", Axis{Log: true}, []float64{1, 1e14}, 0, 0, []string{"1", "100", "10 k", "1 M", "100 M", "10 G", "1 T", "100 T"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.axis.scale(tt.values)
			if tt.lo != tt.hi && (math.Abs(s.lo-tt.lo) > 1e-9 || math.Abs(s.hi-tt.hi) > 1e-9) {
				t.Errorf("scale is %v to %v, want %v to %v", s.lo, s.hi, tt.lo, tt.hi)
			}
			var got []string
			for _, tick := range slices.SortedFunc(slices.Values(s.ticks), func(a, b tick) int { return int(1e6 * (a.at - b.at)) }) {
				if tick.text != "" {
					got = append(got, strings.ReplaceAll(tick.text, "\u00a0", " "))
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("marks are %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzScale: whatever the values are, each of them and every mark has a place on the chart, and marks are few.
func FuzzScale(f *testing.F) {
	f.Add(1.0, 2.0, false, 0)
	f.Add(1e-300, 1e300, true, 1)
	f.Add(-math.MaxFloat64, math.MaxFloat64, false, 2)
	f.Add(5e-324, 5e-324, true, 3)
	f.Add(math.NaN(), math.Inf(1), false, 4)
	f.Add(0.9999999, 1.0000001, true, 1)
	f.Fuzz(func(t *testing.T, a, b float64, log bool, unit int) {
		axis := Axis{Log: log, Unit: Unit(unit)}
		s := axis.scale([]float64{a, b})
		if !finite(s.lo) || !finite(s.hi) || s.lo >= s.hi {
			t.Fatalf("scale of %v, %v is %v to %v", a, b, s.lo, s.hi)
		}
		for _, v := range []float64{a, b} {
			if at := s.at(v); axis.shows(v) && !(at >= 0 && at <= 1) {
				t.Errorf("%v stands at %v", v, at)
			}
		}
		if n := len(s.ticks); n == 0 || n > 40 {
			t.Errorf("%d marks for %v, %v", n, a, b)
		}
		for _, tick := range s.ticks {
			if !(tick.at >= 0 && tick.at <= 1) {
				t.Errorf("mark %q stands at %v", tick.text, tick.at)
			}
		}
	})
}
