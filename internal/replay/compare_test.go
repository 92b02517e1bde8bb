package replay

import (
	"math"
	"slices"
	"testing"
	"time"
)

// TestNoTargetHasABetterPlace: over 2·n rounds each is at each place, and before each other one, equally often.
func TestNoTargetHasABetterPlace(t *testing.T) {
	for n := 1; n <= 6; n++ {
		at, before := make(map[[2]int]int), make(map[[2]int]int)
		for round := range 2 * n {
			places := order(round, n)
			if sorted := slices.Sorted(slices.Values(places)); len(slices.Compact(sorted)) != n {
				t.Fatalf("round %d of %d targets: %v", round, n, places)
			}
			for place, target := range places {
				at[[2]int{place, target}]++
				for _, later := range places[place+1:] {
					before[[2]int{target, later}]++
				}
			}
		}
		for place, times := range at {
			if times != 2 {
				t.Errorf("%d targets: place and target %v %d times, want 2", n, place, times)
			}
		}
		for pair, times := range before {
			if times != n {
				t.Errorf("%d targets: %v in this order %d times, want %d", n, pair, times, n)
			}
		}
	}
}

func TestMedians(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 3, 2, 1}, 2.5}} {
		before := slices.Clone(tt.values)
		if got := median(tt.values); got != tt.want || !slices.Equal(before, tt.values) {
			t.Errorf("median(%v) = %v, want %v; the values are %v then", before, got, tt.want, tt.values)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// TestRatiosAreThoseOfRunsThatMetTheSameMachine: the second round is twice as slow for everybody, and says nothing about b.
func TestRatiosAreThoseOfRunsThatMetTheSameMachine(t *testing.T) {
	run := func(first, cpu float64) RunResult {
		m := Measures{FirstByteP50: first}
		m.set(CPURequest, cpu)
		return RunResult{Requests: 10, Errors: 1, Measures: m, kinds: map[Kind]int64{Timeout: 1}, said: map[Kind]string{Timeout: "late"}}
	}
	unknown := math.NaN()
	got := summarize([]Target{{Name: "a"}, {Name: "b", PIDs: []int{1}}}, [][]RunResult{
		{run(1, unknown), run(3, 5)},
		{run(2, unknown), run(6, 7)},
		{run(1, unknown), run(4, 6)},
	}, []string{"a"})
	a, b := got[0], got[1]
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"a", a.Medians[FirstByteP50], 1}, {"b", b.Medians[FirstByteP50], 4},
		{"b to a", b.Ratios["a"][FirstByteP50], 3}, // of 3, 3, 4; the medians' own ratio is 4
		{"added", b.Medians[AddedP50], 3},          // of 2, 4, 3
		{"CPU", b.Medians[CPURequest], 6},
		{"requests", float64(b.Requests), 30}, {"errors", float64(b.ErrorsByKind[Timeout]), 3},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if _, known := a.Medians[CPURequest]; known || len(a.Ratios) != 0 || b.ErrorSamples[Timeout] != "late" {
		t.Errorf("a: %+v; b: %+v", a, b)
	}
	if _, known := b.Ratios["a"][CPURequest]; known {
		t.Error("a ratio to what is not known")
	}
	if _, known := a.Medians[AddedP50]; known {
		t.Error("the first target adds something to itself")
	}
}

// TestArrivals: fixed gaps are exact however many came before, random ones have the rate that was asked for.
func TestArrivals(t *testing.T) {
	at := func(s schedule, number int) time.Duration {
		for n, after := range s {
			if n == number {
				return after
			}
		}
		return 0
	}
	if got := at(fixed(3), 3_000_000); got != 1_000_000*time.Second {
		t.Errorf("arrival 3,000,000 at 3/s is due after %v", got)
	}
	const n, rate, seed = 100_000, 200.0, 7
	if got := at(poisson(seed, rate), n).Seconds(); math.Abs(got/(n/rate)-1) > 0.02 { // six deviations of 1/√n
		t.Errorf("arrival %d at %v/s is due after %v s", n, rate, got)
	}
	once, again, other := at(poisson(seed, rate), 50), at(poisson(seed, rate), 50), at(poisson(seed+1, rate), 50)
	if once != again || once == other {
		t.Error("arrivals are not those of their seed")
	}
	var gaps, squares, last float64
	for i, after := range poisson(seed, rate) {
		if i == n {
			break
		}
		gap := after.Seconds() - last
		last = after.Seconds()
		gaps, squares = gaps+gap, squares+gap*gap
	}
	mean := gaps / n
	if cv := math.Sqrt(squares/n-mean*mean) / mean; math.Abs(cv-1) > 0.03 {
		t.Errorf("the coefficient of variation of the gaps is %v, want 1", cv)
	}
}
