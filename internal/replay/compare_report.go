package replay

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/procstat"
)

// A Comparison is the outcome of [Compare].
type Comparison struct {
	Started       time.Time        `json:"started"`
	Machine       procstat.Machine `json:"machine"`
	Workload      string           `json:"workload"`
	Parameters    map[string]any   `json:"parameters"`
	API           API              `json:"api"`
	Stream        bool             `json:"stream"`
	Concurrency   int              `json:"concurrency"`
	Requests      int              `json:"requests"` // of each run; 0: not bounded by requests
	Conversations int              `json:"conversations,omitempty"`
	OutputTokens  int              `json:"output_tokens,omitempty"`
	ThinkSeconds  float64          `json:"think_seconds,omitempty"`
	Warm          int              `json:"warm"`
	Seed          uint64           `json:"seed"`
	Rounds        int              `json:"rounds"` // that are complete
	Partial       bool             `json:"partial"`
	Bases         []string         `json:"bases"` // whom the others are held against; the first is the first target
	Targets       []TargetResult   `json:"targets"`
}

// A TargetResult is what became of one target. Counts are sums over the rounds.
type TargetResult struct {
	Name         string              `json:"name"`
	URLs         []string            `json:"urls"`
	Processes    int                 `json:"processes,omitempty"` // whose use is known
	Model        string              `json:"model"`
	Requests     int64               `json:"requests"`
	Errors       int64               `json:"errors"`
	ErrorsByKind map[Kind]int64      `json:"errors_by_kind,omitempty"`
	ErrorSamples map[Kind]string     `json:"error_samples,omitempty"`
	Medians      Measures            `json:"medians"` // over the rounds
	Ratios       map[string]Measures `json:"ratios"`  // to each base, by its name; see [Ratio]
	Rounds       []RunResult         `json:"rounds"`
}

// A RunResult is one run: one target in one round.
type RunResult struct {
	Place    int      `json:"place"` // in the round's order, from 0
	Requests int64    `json:"requests"`
	Errors   int64    `json:"errors"`
	Measures Measures `json:"measures"`

	kinds map[Kind]int64
	said  map[Kind]string
}

// A Measure is the name of a number that a run gives. Times are in seconds.
type Measure string

const (
	RequestRate  Measure = "requests_per_second"
	TokenRate    Measure = "output_tokens_per_second"
	Seconds      Measure = "duration_seconds"
	FirstByteP50 Measure = "first_byte_p50"
	FirstByteP90 Measure = "first_byte_p90"
	FirstByteP99 Measure = "first_byte_p99"
	TTFTP50      Measure = "ttft_p50"
	TTFTP90      Measure = "ttft_p90"
	TTFTP99      Measure = "ttft_p99"
	TPOTP50      Measure = "tpot_p50"
	ITLP50       Measure = "itl_p50"
	ITLP99       Measure = "itl_p99"
	E2EP50       Measure = "e2e_p50"
	E2EP90       Measure = "e2e_p90"
	E2EP99       Measure = "e2e_p99"
	// AddedP50 and AddedP99 are what the target adds to the same percentile of the first target in the same round: of
	// the time to the first byte, or of TTFT where replies are streams.
	AddedP50 Measure = "added_first_p50"
	AddedP99 Measure = "added_first_p99"
	// AddedITLP99 is the same for gaps.
	AddedITLP99 Measure = "added_itl_p99"
	HitRate     Measure = "hit_rate"
	// CPURequest and CPUToken are processor time of the target's processes, in seconds, over all requests that succeeded
	// and all their output tokens; CPUCores is how many processors they kept busy.
	CPURequest Measure = "cpu_per_request"
	CPUToken   Measure = "cpu_per_output_token"
	CPUCores   Measure = "cpu_cores"
	Resident   Measure = "rss_bytes"      // at the end of the run
	Peak       Measure = "rss_peak_bytes" // since the processes began
	// ClientRequest, ClientToken and ClientCores are the same for the process that made the load.
	ClientRequest Measure = "client_cpu_per_request"
	ClientToken   Measure = "client_cpu_per_output_token"
	ClientCores   Measure = "client_cpu_cores"
)

// Measures are the numbers of a run, or their medians. What is not known is not in it.
type Measures map[Measure]float64

// MarshalJSON keeps six digits: the files are committed, and no clock gives more.
func (m Measures) MarshalJSON() ([]byte, error) {
	names := make([]Measure, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	doc := []byte{'{'}
	for i, name := range names {
		if i > 0 {
			doc = append(doc, ',')
		}
		doc = strconv.AppendQuote(doc, string(name))
		doc = append(doc, ':')
		doc = strconv.AppendFloat(doc, sixDigits(m[name]), 'f', -1, 64)
	}
	return append(doc, '}'), nil
}

func sixDigits(v float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if err != nil {
		return v
	}
	return rounded
}

// set takes a number if it is one.
func (m Measures) set(name Measure, v float64) {
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		m[name] = v
	}
}

func newRunResult(r Report, theirs, own meter) RunResult {
	m := make(Measures)
	if r.Requests > r.Errors {
		m.set(RequestRate, r.RequestsPerSecond)
		m.set(Seconds, r.DurationSeconds)
	}
	if r.OutputTokensPerSecond != nil {
		m.set(TokenRate, *r.OutputTokensPerSecond)
	}
	if r.HitRate != nil {
		m.set(HitRate, *r.HitRate)
	}
	for _, d := range []struct {
		of            Distribution
		p50, p90, p99 Measure
	}{
		{r.FirstByte, FirstByteP50, FirstByteP90, FirstByteP99},
		{r.TTFT, TTFTP50, TTFTP90, TTFTP99},
		{r.TPOT, TPOTP50, "", ""},
		{r.ITL, ITLP50, "", ITLP99},
		{r.E2E, E2EP50, E2EP90, E2EP99},
	} {
		if d.of.Count == 0 {
			continue
		}
		for name, v := range map[Measure]float64{d.p50: d.of.P50, d.p90: d.of.P90, d.p99: d.of.P99} {
			if name != "" {
				m.set(name, v)
			}
		}
	}
	tokens := int64(0)
	if r.OutputTokens != nil {
		tokens = *r.OutputTokens
	}
	m.use(theirs, r, tokens, CPURequest, CPUToken, CPUCores)
	m.use(own, r, tokens, ClientRequest, ClientToken, ClientCores)
	if theirs.known {
		m.set(Resident, float64(theirs.memory.Resident))
		m.set(Peak, float64(theirs.memory.Peak))
	}
	return RunResult{Requests: r.Requests, Errors: r.Errors, Measures: m, kinds: r.ErrorsByKind, said: r.ErrorSamples}
}

// use spreads processor time over what was done with it.
func (m Measures) use(by meter, r Report, tokens int64, request, token, cores Measure) {
	if !by.known || r.Requests == r.Errors {
		return
	}
	used := by.used.Seconds()
	m.set(request, used/float64(r.Requests-r.Errors))
	m.set(token, used/float64(tokens)) // without tokens it is no number
	m.set(cores, used/r.DurationSeconds)
}

// summarize makes of the runs, by round and then by target, what there is to say of each target.
func summarize(targets []Target, rounds [][]RunResult, bases []string) []TargetResult {
	for _, round := range rounds {
		for i := range round[1:] {
			addTo(round[i+1].Measures, round[0].Measures)
		}
	}
	results := make([]TargetResult, len(targets))
	for i, t := range targets {
		r := TargetResult{
			Name: t.Name, URLs: t.URLs, Processes: len(t.PIDs), Model: t.Model,
			ErrorsByKind: make(map[Kind]int64), ErrorSamples: make(map[Kind]string), Ratios: make(map[string]Measures),
		}
		for _, round := range rounds {
			run := round[i]
			r.Requests += run.Requests
			r.Errors += run.Errors
			for kind, n := range run.kinds {
				if r.ErrorsByKind[kind] == 0 {
					r.ErrorSamples[kind] = run.said[kind]
				}
				r.ErrorsByKind[kind] += n
			}
			r.Rounds = append(r.Rounds, run)
		}
		r.Medians = medians(r.Rounds)
		results[i] = r
	}
	for i := range results {
		for b := range results {
			if i != b && slices.Contains(bases, results[b].Name) {
				results[i].Ratios[results[b].Name] = ratios(results[i], results[b])
			}
		}
	}
	return results
}

// addTo sets what a run adds to that of the first target in the same round.
func addTo(run, first Measures) {
	from := [...]struct{ added, of Measure }{{AddedP50, FirstByteP50}, {AddedP99, FirstByteP99}, {AddedITLP99, ITLP99}}
	if _, stream := run[TTFTP50]; stream {
		from[0].of, from[1].of = TTFTP50, TTFTP99
	}
	for _, d := range from {
		mine, ok1 := run[d.of]
		base, ok2 := first[d.of]
		if ok1 && ok2 {
			run[d.added] = mine - base
		}
	}
}

// medians are over the runs that know a measure.
func medians(runs []RunResult) Measures {
	known := make(map[Measure][]float64)
	for _, run := range runs {
		for name, v := range run.Measures {
			known[name] = append(known[name], v)
		}
	}
	m := make(Measures, len(known))
	for name, values := range known {
		m[name] = median(values)
	}
	return m
}

// ratios are medians over the rounds of one round's own ratio: both runs of it met the same machine. Of what a target
// adds, a small difference of two numbers, it is the ratio of the medians.
func ratios(of, to TargetResult) Measures {
	m := make(Measures)
	for name, mine := range of.Medians {
		base, ok := to.Medians[name]
		if !ok || base <= 0 {
			continue
		}
		if name == AddedP50 || name == AddedP99 || name == AddedITLP99 {
			m.set(name, mine/base)
			continue
		}
		var paired []float64
		for n := range of.Rounds {
			a, ok1 := of.Rounds[n].Measures[name]
			b, ok2 := to.Rounds[n].Measures[name]
			if ok1 && ok2 && b > 0 {
				paired = append(paired, a/b)
			}
		}
		if len(paired) > 0 {
			m.set(name, median(paired))
		}
	}
	return m
}

// median is the middle of some values, or the mean of the two in the middle. It sorts a copy.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
