package replay

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const notReported = "not reported"

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.line("%s on %s", r.Workload, r.URL)
	t.row("model", cmp.Or(r.Model, "(not named)"))
	t.row("api", fmt.Sprintf("%s, %s", r.API, map[bool]string{true: "streamed", false: "not streamed"}[r.Stream]))
	t.row(r.arrivals())
	t.row("seed", strconv.FormatUint(r.Seed, 10))
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		t.row(strings.ReplaceAll(name, "_", " "), fmt.Sprint(r.Parameters[name]))
	}
	if r.Stopped != "" {
		t.row("ended early", r.Stopped)
	}

	t.line("")
	t.row("requests", count(r.Requests))
	t.row("errors", count(r.Errors))
	for _, kind := range slices.Sorted(maps.Keys(r.ErrorsByKind)) {
		t.row("  "+string(kind), fmt.Sprintf("%s  (first: %s)", count(r.ErrorsByKind[kind]), oneLine(r.ErrorSamples[kind])))
	}
	if r.Unfinished > 0 {
		t.row("unfinished", count(r.Unfinished))
	}
	t.row("duration", seconds(r.DurationSeconds))
	t.row("requests/s", rate(r.RequestsPerSecond))
	t.row("prompt tokens/s", optional(r.PromptTokensPerSecond, rate))
	t.row("output tokens/s", optional(r.OutputTokensPerSecond, rate))
	t.row("mean concurrency", rate(r.MeanConcurrency))
	if r.Lateness.Count > 0 {
		t.row("sent late", fmt.Sprintf("%s of %s by more than %v", count(r.Late), count(r.Lateness.Count), LateAfter))
	}
	if g := r.Goodput; g != nil {
		verdict := "held"
		if g.Missed {
			verdict = "MISSED"
		}
		t.row("SLO", fmt.Sprintf("%s: %s by %s (%s wanted)", g.SLO, verdict, percent(g.Attainment), percent(g.Wanted)))
		t.row("goodput", rate(g.RequestsPerSecond)+" requests/s")
	}

	t.line("")
	t.row("prompt tokens", optional(r.PromptTokens, count))
	t.row("output tokens", optional(r.OutputTokens, count))
	t.row("cached tokens", optional(r.CachedTokens, count))
	t.row("hit rate", optional(r.HitRate, percent))
	if ok := r.Requests - r.Errors; r.CachedReported > 0 && r.CachedReported < ok {
		t.row("", fmt.Sprintf("cached tokens came with %s of %s replies; the others count as misses", count(r.CachedReported), count(ok)))
	}
	t.end()

	t.line("")
	t.row("latency", "mean", "p50", "p90", "p99", "max", "samples")
	t.distribution("TTFT", r.TTFT)
	t.distribution("TPOT", r.TPOT)
	t.distribution("ITL", r.ITL)
	t.distribution("E2E", r.E2E)
	if r.Lateness.Count > 0 {
		t.distribution("lateness", r.Lateness)
	}
	t.end()

	if len(r.Workers) > 0 {
		t.line("")
		t.row("worker", "requests", "share", "hit rate", "errors", "work tokens")
		for _, name := range slices.Sorted(maps.Keys(r.Workers)) {
			w := r.Workers[name]
			t.row(oneLine(name), count(w.Requests), percent(w.Share), optional(w.HitRate, percent), count(w.Errors), count(w.Work))
		}
		t.end()
		if r.WorkMaxOverMean != nil {
			t.line("  the worker with most work had %.2f times the mean", *r.WorkMaxOverMean)
			t.end()
		}
	}
	return t.err
}

// arrivals names what decided when requests were sent, and says how.
func (r Report) arrivals() (name, how string) {
	think := ""
	if r.ThinkSeconds > 0 {
		think = ", think " + seconds(r.ThinkSeconds)
	}
	limit := fmt.Sprintf(", %s at a time at most", count(int64(r.Concurrency)))
	switch r.Arrivals {
	case Poisson, Fixed:
		return "open loop", fmt.Sprintf("%s arrivals, %s a second%s%s", r.Arrivals, strconv.FormatFloat(r.Rate, 'g', 6, 64), limit, think)
	case Recorded:
		return "open loop", fmt.Sprintf("recorded arrivals at speed %s%s%s", strconv.FormatFloat(r.Speed, 'g', 6, 64), limit, think)
	}
	return "users", fmt.Sprintf("%d, %d open conversation(s) each, think %s", r.Concurrency, r.Interleave, seconds(r.ThinkSeconds))
}

// A table keeps the first error, so that rows read like rows.
type table struct {
	w   *tabwriter.Writer
	err error
}

func (t *table) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

func (t *table) row(name string, cells ...string) {
	t.line("%s", strings.TrimRight("  "+name+"\t"+strings.Join(cells, "\t"), "\t "))
}

// end closes a block of columns.
func (t *table) end() {
	if err := t.w.Flush(); t.err == nil {
		t.err = err
	}
}

func (t *table) distribution(name string, d Distribution) {
	if d.Count == 0 {
		t.row(name, "-", "-", "-", "-", "-", "0")
		return
	}
	about := ""
	if d.Approximate {
		about = " (percentiles within 1 %)"
	}
	t.row(name, seconds(d.Mean), seconds(d.P50), seconds(d.P90), seconds(d.P99), seconds(d.Max), count(d.Count)+about)
}

func optional[T any](v *T, format func(T) string) string {
	if v == nil {
		return notReported
	}
	return format(*v)
}

func rate(v float64) string    { return strconv.FormatFloat(v, 'f', 1, 64) }
func percent(v float64) string { return strconv.FormatFloat(100*v, 'f', 1, 64) + " %" }

// seconds writes a duration with three digits or so.
func seconds(v float64) string {
	d := time.Duration(v * float64(time.Second))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Nanosecond).String()
}

// count groups digits by three.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// oneLine keeps what an endpoint said from breaking the table or steering the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
