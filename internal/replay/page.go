package replay

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// A Provenance says how the figures on a page were made, for those who want to make them again.
type Provenance struct {
	Command string // a command line without secrets; empty: not shown
	Version string // of the program
}

func (p Provenance) footer() string {
	return "Written by radixbus " + p.Version + ". Everything is in this file: it can be kept, sent and printed as it is."
}

// minutes is how a page says when.
const minutes = "2006-01-02 15:04 UTC"

// WritePage writes the report as one HTML page with charts. What workers and endpoints said of themselves is shown as text.
func (r Report) WritePage(w io.Writer, made Provenance) error { return r.document(made).Write(w) }

// document lays the report out. A section without anything to show is left out.
func (r Report) document(made Provenance) page.Document {
	d := page.Document{
		Kicker:  "radixbus bench",
		Title:   r.Workload + " on " + r.URL,
		Facts:   r.facts(),
		Notices: r.notices(),
		Tiles:   r.tiles(),
		Command: made.Command,
		Footer:  made.footer(),
	}
	for _, s := range []page.Section{r.latencySection(), r.timeSection(), r.workerSection(), r.errorSection(), r.latenessSection(), r.settingsSection()} {
		if len(s.Figures)+len(s.Tables) > 0 {
			d.Sections = append(d.Sections, s)
		}
	}
	return d
}

func (r Report) facts() []string {
	facts := []string{
		cmp.Or(r.Model, "model not named"),
		fmt.Sprintf("%s, %s", r.API, replies(r.Stream)),
		r.loop(),
	}
	if !r.Started.IsZero() {
		facts = append(facts, r.Started.UTC().Format(minutes))
	}
	return facts
}

// open reports whether requests were sent when due, whatever the replies did.
func (r Report) open() bool { return r.Arrivals != "" && r.Arrivals != Closed }

// loop says when requests were sent.
func (r Report) loop() string {
	switch {
	case !r.open():
		return count(int64(r.Concurrency)) + " users (closed loop)"
	case r.Rate > 0:
		return fmt.Sprintf("%s arrivals at %s per second (open loop)", r.Arrivals, plot.Number.Text(r.Rate))
	case r.Speed > 0 && r.Speed != 1:
		return fmt.Sprintf("arrivals of the %s × %s (open loop)", r.Arrivals, strconv.FormatFloat(r.Speed, 'g', 3, 64))
	}
	return fmt.Sprintf("arrivals of the %s (open loop)", r.Arrivals)
}

// notices are what a reader must know to trust the figures.
func (r Report) notices() []page.Notice {
	var all []page.Notice
	say := func(tone page.Tone, format string, args ...any) {
		all = append(all, page.Notice{Tone: tone, Text: fmt.Sprintf(format, args...)})
	}
	if r.Stopped != "" {
		say(page.Bad, "The run ended early: %s.", r.Stopped)
	}
	if g := r.Goodput; g != nil {
		tone, word := page.Good, "Objective met"
		if g.Missed {
			tone, word = page.Bad, "Objective missed"
		}
		say(tone, "%s: %s of requests stayed within %s; %s were wanted.", word, plot.Share.Text(g.Attainment), g.SLO.words(), plot.Share.Text(g.Wanted))
	}
	if r.Errors > 0 {
		say(page.Bad, "%s of %s requests failed (%s). They are in no latency, no throughput and no sum of tokens.", count(r.Errors), count(r.Requests), kinds(r.ErrorsByKind))
	}
	if r.Unfinished > 0 {
		say(page.Plain, "%s requests had not ended when the run did. They count nowhere.", count(r.Unfinished))
	}
	if r.Late > 0 {
		tone := page.Plain
		if 100*r.Late > r.Requests {
			tone = page.Bad
		}
		say(tone, "%s requests were sent more than %s after they were due, because the load generator or its bound on requests in flight was in the way. Latencies count from the sending.",
			count(r.Late), plot.Seconds.Text(LateAfter.Seconds()))
	}
	if ok := r.Requests - r.Errors; r.CachedReported > 0 && r.CachedReported < ok {
		say(page.Plain, "Cached tokens came with %s of %s replies; the others count as misses.", count(r.CachedReported), count(ok))
	}
	return all
}

// kinds lists how requests failed, the most frequent first.
func kinds(counts map[Kind]int64) string {
	var words []string
	for _, k := range sortedKinds(counts) {
		words = append(words, string(k)+": "+count(counts[k]))
	}
	return strings.Join(words, ", ")
}

func sortedKinds(counts map[Kind]int64) []Kind {
	return slices.SortedFunc(maps.Keys(counts), func(a, b Kind) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}

// words names the bounds of an objective.
func (s SLO) words() string {
	var bounds []string
	for _, b := range []struct {
		name    string
		seconds float64
	}{{"TTFT", s.TTFTSeconds}, {"TPOT", s.TPOTSeconds}, {"E2E", s.E2ESeconds}} {
		if b.seconds > 0 {
			bounds = append(bounds, b.name+"\u00a0≤\u00a0"+plot.Seconds.Text(b.seconds))
		}
	}
	return cmp.Or(strings.Join(bounds, ", "), "no bound")
}

// tiles are the headline figures.
func (r Report) tiles() []page.Tile {
	requests := page.Tile{Name: "Requests", Value: count(r.Requests), Note: "no error, in " + plot.Elapsed.Text(r.DurationSeconds)}
	if r.Errors > 0 {
		requests.Note, requests.Tone = count(r.Errors)+" failed, in "+plot.Elapsed.Text(r.DurationSeconds), page.Bad
	}
	cached := page.Tile{Name: "Hit rate", Value: optional(r.HitRate, plot.Share.Text)}
	if r.CachedTokens != nil && r.PromptTokens != nil {
		cached.Note = fmt.Sprintf("%s of %s prompt tokens", plot.Number.Text(float64(*r.CachedTokens)), plot.Number.Text(float64(*r.PromptTokens)))
	}
	tiles := []page.Tile{
		requests,
		{Name: "Requests per second", Value: plot.Number.Text(r.RequestsPerSecond), Note: plot.Number.Text(r.MeanConcurrency) + " in flight on average"},
		{Name: "Output tokens per second", Value: optional(r.OutputTokensPerSecond, plot.Number.Text), Note: "prompts: " + optional(r.PromptTokensPerSecond, plot.Number.Text)},
		cached,
	}
	if g := r.Goodput; g != nil {
		tiles = append(tiles, page.Tile{Name: "Goodput per second", Value: plot.Number.Text(g.RequestsPerSecond), Note: "requests within " + g.SLO.words()})
	}
	for _, m := range r.metrics() {
		tiles = append(tiles, m.tile())
	}
	if g := r.Goodput; g != nil {
		tone := page.Good
		if g.Missed {
			tone = page.Bad
		}
		tiles = append(tiles, page.Tile{Name: "Objective", Value: plot.Share.Text(g.Attainment), Note: "met, of " + plot.Share.Text(g.Wanted) + " wanted", Tone: tone})
	}
	return tiles
}

// settingsSection is what a reader needs to run it again, and to know what the words mean.
func (r Report) settingsSection() page.Section {
	rows := [][]string{
		{"endpoint", r.URL}, {"model", cmp.Or(r.Model, "not named")}, {"API", string(r.API)},
		{"replies", replies(r.Stream)}, {"arrivals", r.loop()},
		{"requests in flight, at most", count(int64(r.Concurrency))},
	}
	if !r.open() {
		rows = append(rows, []string{"open conversations of each user", count(int64(r.Interleave))}, []string{"think time", plot.Seconds.Text(r.ThinkSeconds)})
	}
	rows = append(rows, []string{"workload", r.Workload}, []string{"seed", strconv.FormatUint(r.Seed, 10)})
	rows = append(rows, parameters(r.Parameters)...)
	return page.Section{Title: "How it was measured", Tables: []page.Table{
		{Title: "Settings", Wordy: true, Half: true, Rows: rows},
		{Title: "What the words mean", Wordy: true, Half: true, Rows: [][]string{
			{"TTFT", "time to first token: from sending a request to its first output, network, router and queues included"},
			{"TPOT", "time per output token: (E2E − TTFT) / (output tokens − 1), of each request with more than one"},
			{"ITL", "gap between two pieces of output of a request, over all requests; a piece may carry several tokens"},
			{"E2E", "from sending a request to the end of its reply"},
			{"p50, p90, p99", "the value that so many percent of the samples do not exceed"},
			{"hit rate", "cached tokens / prompt tokens, summed over requests, as the engine reports them"},
			{"goodput", "requests per second that met every bound of the objective"},
			{"per second", "of requests that succeeded, over the time from the first sending to the last reply"},
		}},
	}}
}

// replies says how they came.
func replies(stream bool) string {
	return map[bool]string{true: "streams", false: "whole replies"}[stream]
}

// parameters are those of a workload, as rows.
func parameters(of map[string]any) (rows [][]string) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		rows = append(rows, []string{strings.ReplaceAll(name, "_", " "), fmt.Sprint(of[name])})
	}
	return rows
}
