package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Candidate is a worker that could take a request now, with what that would mean. Token figures are estimates.
type Candidate struct {
	worker    *worker
	Worker    string  // its name
	HeldBytes int64   // of the prompt, believed cached here
	Prompt    int64   // tokens
	Predicted int64   // tokens of the prompt believed cached here
	Uncached  int64   // tokens to be prefilled here
	Wait      float64 // seconds until what was given before is prefilled
	Token     float64 // seconds to prefill one token
	Batch     float64 // seconds that what runs here adds to one decode step
	Running   int     // attempts
	Work      float64 // prefill tokens given so far, whole; the fraction is a coin, tossed with each attempt given
	TreeBytes int64   // of all prompts believed cached here
	Loads     bool    // its engine has to load the adapter first
}

// Ask is what a policy knows of the request.
type Ask struct {
	Prompt int64   // tokens
	Output float64 // tokens expected
}

// A Policy chooses one of the candidates, which come in the order of their names. It returns an index into them. It
// may keep state of its own, and is called from one goroutine.
type Policy interface {
	Pick(candidates []Candidate, ask Ask, rng *rand.Rand) int
}

var policies = map[string]func() Policy{
	"radix":        func() Policy { return radix{} },
	"sglang":       func() Policy { return sglang{} },
	"least-load":   func() Policy { return leastLoad{} },
	"power-of-two": func() Policy { return powerOfTwo{} },
	"round-robin":  func() Policy { return new(roundRobin) },
	"random":       func() Policy { return random{} },
}

// Policies lists the names there are.
func Policies() []string {
	names := make([]string, 0, len(policies))
	for name := range policies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewPolicy makes the policy of that name.
func NewPolicy(name string) (Policy, error) {
	policy, ok := policies[name]
	if !ok {
		return nil, fmt.Errorf("unknown policy %q; there are %s", name, strings.Join(Policies(), ", "))
	}
	return policy(), nil
}

// least picks the candidate with the smallest cost; ties go to the least work given so far, then to the lesser coin.
func least(cs []Candidate, cost func(*Candidate) float64) int {
	best, bestCost := 0, cost(&cs[0])
	for i := 1; i < len(cs); i++ {
		if c := cost(&cs[i]); c < bestCost || c == bestCost && cs[i].Work < cs[best].Work {
			best, bestCost = i, c
		}
	}
	return best
}

// radix prices each worker by the seconds until this request would have its answer there: what waits to be prefilled,
// what it would add, and how much its decode steps are slowed by what runs there. There is no fleet-wide switch: a hot
// worker is dear for the requests that look at it, and for nobody else. Pool.cheapest finds the same worker without a list.
type radix struct{}

func (radix) Pick(cs []Candidate, ask Ask, _ *rand.Rand) int {
	return least(cs, func(c *Candidate) float64 { return price(c, ask.Output) })
}

// sglang is the router of SGLang v0.4 (sgl-project/sglang pull request 2170, defaults of its launcher at the time):
// when the loads differ too much, the least loaded worker; otherwise the best match if it covers more than half of
// the prompt, else the worker with the smallest tree.
type sglang struct{}

const (
	sglangThreshold = 0.5
	sglangAbs       = 32
	sglangRel       = 1.0001
)

func (sglang) Pick(cs []Candidate, ask Ask, rng *rand.Rand) int {
	lo, hi, match, smallest := 0, 0, 0, 0
	for i := range cs {
		if cs[i].Running < cs[lo].Running {
			lo = i
		}
		if cs[i].Running > cs[hi].Running {
			hi = i
		}
		if cs[i].Predicted > cs[match].Predicted {
			match = i
		}
		if cs[i].TreeBytes < cs[smallest].TreeBytes {
			smallest = i
		}
	}
	switch low, high := cs[lo].Running, cs[hi].Running; {
	case high-low > sglangAbs && float64(high) > sglangRel*float64(low):
		return lo
	case float64(cs[match].Predicted) > sglangThreshold*float64(ask.Prompt):
		return match
	}
	return smallest
}

// leastLoad looks at running attempts only.
type leastLoad struct{}

func (leastLoad) Pick(cs []Candidate, _ Ask, _ *rand.Rand) int {
	return least(cs, func(c *Candidate) float64 { return float64(c.Running) })
}

// powerOfTwo asks two at random and takes the less loaded.
type powerOfTwo struct{}

func (powerOfTwo) Pick(cs []Candidate, _ Ask, rng *rand.Rand) int {
	if len(cs) == 1 {
		return 0
	}
	a, b := rng.IntN(len(cs)), rng.IntN(len(cs)-1)
	if b >= a {
		b++
	}
	if cs[b].Running < cs[a].Running {
		return b
	}
	return a
}

// roundRobin takes turns by name: the first worker after the one that had the last turn.
type roundRobin struct{ last string }

func (r *roundRobin) Pick(cs []Candidate, _ Ask, _ *rand.Rand) int {
	next := 0
	for i := range cs {
		if cs[i].Worker > r.last {
			next = i
			break
		}
	}
	r.last = cs[next].Worker
	return next
}

type random struct{}

func (random) Pick(cs []Candidate, _ Ask, rng *rand.Rand) int { return rng.IntN(len(cs)) }
