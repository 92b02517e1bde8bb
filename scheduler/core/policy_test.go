package core

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pickFunc is a policy of a test.
type pickFunc func([]Candidate) int

func (f pickFunc) Pick(cs []Candidate, _ Ask, _ *rand.Rand) int { return f(cs) }

func pick(t *testing.T, policy string, cs []Candidate, ask Ask) int {
	t.Helper()
	p, err := NewPolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	return p.Pick(cs, ask, rand.New(rand.NewPCG(1, 1)))
}

func TestRadixPrices(t *testing.T) {
	const fast, slow = 40_000, 10_000
	type of struct { // a worker
		uncached      int64
		backlog, rate float64
		context, work float64
	}
	for _, tt := range []struct {
		name   string
		cs     []of
		output float64
		want   int
	}{
		{"prefix wins", []of{{uncached: 1000, rate: fast}, {uncached: 100, rate: fast}}, 1, 1},
		{"backlog beyond the prefix", []of{{uncached: 1000, rate: fast}, {uncached: 100, backlog: 901, rate: fast}}, 1, 0},
		{"backlog within the prefix", []of{{uncached: 1000, rate: fast}, {uncached: 100, backlog: 899, rate: fast}}, 1, 1},
		{"speed", []of{{uncached: 1000, rate: slow}, {uncached: 1000, rate: fast}}, 1, 1},
		{"slow holder", []of{{uncached: 1000, rate: slow}, {uncached: 3999, rate: fast}}, 1, 1},
		{"decode batch", []of{{uncached: 100, context: 100_000, rate: fast}, {uncached: 1000, rate: fast}}, 256, 1},
		{"decode batch, short answer", []of{{uncached: 100, context: 100_000, rate: fast}, {uncached: 1000, rate: fast}}, 1, 0},
		{"ties to the least work", []of{{uncached: 5, rate: fast, work: 3}, {uncached: 5, rate: fast, work: 2}, {uncached: 5, rate: fast, work: 4}}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cs []Candidate
			for _, w := range tt.cs {
				cs = append(cs, Candidate{
					Uncached: w.uncached, Wait: w.backlog / w.rate, Token: 1 / w.rate, Batch: decodeWeight * w.context / w.rate, Work: w.work,
				})
			}
			if got := pick(t, "radix", cs, Ask{Prompt: 1000, Output: tt.output}); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSGLangRules(t *testing.T) {
	for _, tt := range []struct {
		name string
		cs   []Candidate
		want int
	}{
		{"match above the threshold", []Candidate{{TreeBytes: 1}, {Predicted: 51, TreeBytes: 9}}, 1},
		{"match at the threshold: smallest tree", []Candidate{{TreeBytes: 9}, {Predicted: 50, TreeBytes: 8}, {TreeBytes: 1}}, 2},
		{"best match", []Candidate{{Predicted: 60}, {Predicted: 90}, {Predicted: 70}}, 1},
		{"equal matches: the first", []Candidate{{}, {Predicted: 90}, {Predicted: 90}}, 1},
		{"balanced: 32 apart", []Candidate{{Running: 0, TreeBytes: 5}, {Running: 32, Predicted: 90}}, 1},
		{"imbalanced: 33 apart", []Candidate{{Running: 0, TreeBytes: 5}, {Running: 33, Predicted: 90}}, 0},
		{"far apart, but not by ratio", []Candidate{{Running: 1_000_000}, {Running: 1_000_050, Predicted: 90}}, 1},
		{"nothing held: smallest tree", []Candidate{{TreeBytes: 3}, {TreeBytes: 2}, {TreeBytes: 4}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pick(t, "sglang", tt.cs, Ask{Prompt: 100}); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestLeastLoadLooksAtRunningOnly(t *testing.T) {
	cs := []Candidate{{Running: 3, Predicted: 100}, {Running: 1, Wait: 1e6, Work: 5}, {Running: 1, Work: 4}}
	if got := pick(t, "least-load", cs, Ask{Prompt: 100}); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}

func TestPowerOfTwoTakesTheLessLoadedOfTwo(t *testing.T) {
	p, rng := powerOfTwo{}, rand.New(rand.NewPCG(1, 2))
	if got := p.Pick([]Candidate{{}}, Ask{}, rng); got != 0 {
		t.Errorf("of one: got %d", got)
	}
	cs := []Candidate{{Running: 0}, {Running: 1}, {Running: 2}, {Running: 3}}
	var counts [4]int
	const n = 12_000
	for range n {
		counts[p.Pick(cs, Ask{}, rng)]++
	}
	// Of six pairs the least loaded wins three, the next two, the next one, and the most loaded none.
	for i, want := range []int{n / 2, n / 3, n / 6, 0} {
		if d := counts[i] - want; d > n/50 || d < -n/50 {
			t.Errorf("got %v, want about %d for %d", counts, want, i)
		}
	}
	if counts[3] != 0 {
		t.Errorf("the most loaded won %d times", counts[3])
	}
}

func TestRoundRobinIsFairWhileWorkersComeAndGo(t *testing.T) {
	named := func(names ...string) (cs []Candidate) {
		for _, n := range names {
			cs = append(cs, Candidate{Worker: n})
		}
		return cs
	}
	p := new(roundRobin)
	var got []string
	for _, cs := range [][]Candidate{
		named("a", "b", "c"), named("a", "b", "c"), named("a", "c"), named("a", "b", "c"), named("a", "b", "bb", "c"),
		named("a", "b", "bb", "c"), named("a"), named("a"), named("b", "c"), named("b", "c", "d"), named("b", "c", "d"), named("b", "c", "d"),
	} {
		got = append(got, cs[p.Pick(cs, Ask{}, nil)].Worker)
	}
	want := []string{"a", "b", "c", "a", "b", "bb", "a", "a", "b", "c", "d", "b"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("turns (-want +got):\n%s", d)
	}
}

func TestRandomIsUniform(t *testing.T) {
	const workers, n = 10, 20_000
	rng := rand.New(rand.NewPCG(11, 12))
	var counts [workers]float64
	cs := make([]Candidate, workers)
	for range n {
		counts[random{}.Pick(cs, Ask{}, rng)]++
	}
	chi := 0.0
	for _, c := range counts {
		chi += (c - n/workers) * (c - n/workers) / (n / workers)
	}
	if chi > 21.67 { // 1 % of chi-square with 9 degrees of freedom
		t.Errorf("chi-square %.1f of %v", chi, counts)
	}
}

func TestPoliciesAreKnownByName(t *testing.T) {
	want := []string{"least-load", "power-of-two", "radix", "random", "round-robin", "sglang"}
	if got := Policies(); !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, name := range Policies() {
		if _, err := NewPolicy(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := NewPolicy(""); err == nil {
		t.Errorf("no name: got %v, want an error", p)
	}
}

// Whatever a policy does with the figures, equal figures must not favour a place in the list.
func TestTiesAreSpread(t *testing.T) {
	for _, policy := range []string{"radix", "least-load", "power-of-two", "random"} {
		p, err := NewPolicy(policy)
		if err != nil {
			t.Fatal(err)
		}
		rng, counts := rand.New(rand.NewPCG(4, 4)), make(map[string]int)
		cs := make([]Candidate, 4)
		for i := range cs {
			cs[i] = Candidate{Token: 1, Uncached: 10}
		}
		for range 4000 {
			for i := range cs {
				cs[i].Work = rng.Float64() // the coins
			}
			counts[fmt.Sprint(p.Pick(cs, Ask{Prompt: 10, Output: 1}, rng))]++
		}
		for place, n := range counts {
			if n < 850 || n > 1150 {
				t.Errorf("%s: place %s won %d of 4000", policy, place, n)
			}
		}
		if len(counts) != 4 {
			t.Errorf("%s: got %v", policy, counts)
		}
	}
}
