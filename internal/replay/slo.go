package replay

import (
	"fmt"
	"strings"
	"time"
)

// An SLO bounds what one request may take, in seconds. Zero: not bounded.
type SLO struct {
	TTFTSeconds float64 `json:"ttft_seconds,omitempty"`
	TPOTSeconds float64 `json:"tpot_seconds,omitempty"`
	E2ESeconds  float64 `json:"e2e_seconds,omitempty"`
}

// Goodput is what a report says about an [SLO].
type Goodput struct {
	SLO SLO `json:"slo"`
	// Met are the requests within all of its bounds; a failed request is not. Attainment is their share of the
	// concluded ones, 0 to 1, and Wanted what it was to be at least.
	Met        int64   `json:"met"`
	Attainment float64 `json:"attainment"`
	Wanted     float64 `json:"wanted"`
	Missed     bool    `json:"missed"`
	// RequestsPerSecond are the requests met, by the run's duration.
	RequestsPerSecond float64 `json:"requests_per_second"`
}

// ParseSLO reads bounds such as "ttft=2s,tpot=50ms,e2e=30s", any of the three. Its errors wrap [ErrConfig].
func ParseSLO(text string) (SLO, error) {
	var slo SLO
	bounds := map[string]*float64{"ttft": &slo.TTFTSeconds, "tpot": &slo.TPOTSeconds, "e2e": &slo.E2ESeconds}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		bound := bounds[name]
		d, err := time.ParseDuration(value)
		switch {
		case bound == nil:
			return SLO{}, fmt.Errorf("%w: SLO %q: want ttft=, tpot= or e2e= and a duration", ErrConfig, part)
		case *bound != 0:
			return SLO{}, fmt.Errorf("%w: SLO bounds %s twice", ErrConfig, name)
		case err != nil || d <= 0:
			return SLO{}, fmt.Errorf("%w: SLO %q: not a duration such as 50ms or 2s", ErrConfig, part)
		}
		*bound = d.Seconds()
	}
	return slo, nil
}

func (s SLO) String() string {
	var parts []string
	for _, bound := range []struct {
		name  string
		value float64
	}{{"TTFT", s.TTFTSeconds}, {"TPOT", s.TPOTSeconds}, {"E2E", s.E2ESeconds}} {
		if bound.value > 0 {
			parts = append(parts, bound.name+" ≤ "+seconds(bound.value))
		}
	}
	return strings.Join(parts, ", ")
}

func (s SLO) valid() bool { return s.TTFTSeconds >= 0 && s.TPOTSeconds >= 0 && s.E2ESeconds >= 0 }

// met reports whether a request that succeeded is within the bounds. What is bounded must be known, except the TPOT
// of a reply of at most one token, which has none.
func (s SLO) met(x *exchange) bool {
	within := func(d time.Duration, bound float64) bool { return bound == 0 || d.Seconds() <= bound }
	if !within(x.done.Sub(x.sent), s.E2ESeconds) {
		return false
	}
	if s.TTFTSeconds > 0 && (x.first.IsZero() || !within(x.first.Sub(x.sent), s.TTFTSeconds)) {
		return false
	}
	if s.TPOTSeconds == 0 {
		return true
	}
	tpot, known := x.tpot()
	if !known {
		return x.usage.output == 0 || x.usage.output == 1
	}
	return within(tpot, s.TPOTSeconds)
}
