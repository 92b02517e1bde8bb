package assignload

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/radixbus/radixbus/internal/procstat"
)

// A Report is what a run showed: medians over its rounds. Times are in seconds.
type Report struct {
	At          time.Time        `json:"at"`
	Machine     procstat.Machine `json:"machine"`
	InFlight    int              `json:"in_flight"`
	Connections int              `json:"connections"`
	Running     int              `json:"running_per_worker"`
	Groups      int              `json:"groups"`
	Rounds      int              `json:"rounds"`
	Seconds     float64          `json:"seconds_per_turn"`
	Results     []Result         `json:"results"`
}

// A Result is one variant's.
type Result struct {
	Variant
	Answers int                `json:"answers"` // measured, of all rounds
	Refused int                `json:"refused"` // of all questions
	Rate    float64            `json:"answers_per_second"`
	P50     float64            `json:"p50_seconds"` // from question to answer
	P99     float64            `json:"p99_seconds"`
	CPU     map[string]float64 `json:"cpu_seconds_per_answer,omitempty"` // by process; what it hears of the workers is in it
	Idle    map[string]float64 `json:"idle_cores,omitempty"`             // by process, with workers that only beat and report
}

func newReport(cfg *Config, variants []Variant, turns [][]turn) *Report {
	r := &Report{
		At: time.Now().UTC().Truncate(time.Second), Machine: procstat.ThisMachine(), InFlight: cfg.InFlight, Connections: cfg.Connections,
		Running: cfg.Running, Groups: cfg.Groups, Rounds: cfg.Rounds, Seconds: cfg.Duration.Seconds(),
	}
	for i, v := range variants {
		ts := turns[i]
		one := Result{Variant: v, CPU: make(map[string]float64), Idle: make(map[string]float64)}
		for _, t := range ts {
			one.Answers += t.answers
			one.Refused += t.refused
		}
		one.Rate = median(ts, func(t *turn) float64 { return t.rate })
		one.P50 = median(ts, func(t *turn) float64 { return t.p50.Seconds() })
		one.P99 = median(ts, func(t *turn) float64 { return t.p99.Seconds() })
		for name := range cfg.PIDs {
			one.CPU[name] = median(ts, func(t *turn) float64 { return t.cpu[name].Seconds() })
			one.Idle[name] = median(ts, func(t *turn) float64 { return t.idle[name] })
		}
		r.Results = append(r.Results, one)
	}
	return r
}

func median(ts []turn, of func(*turn) float64) float64 {
	var all []float64
	for i := range ts {
		all = append(all, of(&ts[i]))
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func (t *turn) summarize(took []time.Duration, elapsed time.Duration, used map[string]time.Duration) {
	slices.Sort(took)
	t.answers = len(took)
	t.rate = float64(len(took)) / elapsed.Seconds()
	t.p50, t.p99 = took[len(took)/2], took[len(took)*99/100]
	t.cpu = make(map[string]time.Duration)
	for name, d := range used {
		t.cpu[name] = d / time.Duration(len(took))
	}
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	fmt.Fprintf(out, "%d questions under way over %d connections, medians of %d turns of %gs\n\n", r.InFlight, r.Connections, r.Rounds, r.Seconds)
	tw := tabwriter.NewWriter(out, 2, 0, 2, ' ', tabwriter.AlignRight)
	names := slices.Sorted(maps.Keys(r.Results[0].CPU))
	fmt.Fprint(tw, "workers\tprompt\tanswers/s\tp50\tp99\t")
	for _, name := range names {
		fmt.Fprintf(tw, "%s CPU/answer\tidle\t", name)
	}
	fmt.Fprintln(tw)
	for i := range r.Results {
		one := &r.Results[i]
		fmt.Fprintf(tw, "%d\t%d B\t%.0f\t%.0f µs\t%.0f µs\t", one.Workers, one.PromptBytes, one.Rate, 1e6*one.P50, 1e6*one.P99)
		for _, name := range names {
			fmt.Fprintf(tw, "%.1f µs\t%.2f %%\t", 1e6*one.CPU[name], 100*one.Idle[name])
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}
