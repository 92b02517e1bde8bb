package replay

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/page"
	"github.com/radixbus/radixbus/internal/plot"
)

// pageReport has something in every field that a page shows.
func pageReport() Report {
	d := Distribution{Count: 1000, Mean: 0.05, Min: 0.01, P50: 0.04, P90: 0.09, P99: 0.2, Max: 0.9}
	curve := Curve{Shares: []float64{0, 0.5, 0.9, 0.99, 1}, Seconds: []float64{0.01, 0.04, 0.09, 0.2, 0.9}}
	r := Report{
		URL: "http://127.0.0.1:8080", API: Chat, Model: "llama", Workload: "multiturn", Parameters: map[string]any{"input_tokens": 512},
		Seed: 1, Stream: true, Concurrency: 16, Interleave: 1, Started: time.Date(2026, 11, 25, 4, 5, 6, 0, time.UTC),
		Requests: 1012, Errors: 12, ErrorsByKind: map[Kind]int64{CutStream: 3, "http_429": 9}, ErrorSamples: map[Kind]string{"http_429": "no room"},
		DurationSeconds: 9.05, TTFT: d, TPOT: d, ITL: d, E2E: d, FirstByte: d,
		RequestsPerSecond: 111, OutputTokensPerSecond: new(1768.0), PromptTokensPerSecond: new(12_000.0), MeanConcurrency: 15.9,
		PromptTokens: new(int64(108_000)), OutputTokens: new(int64(16_000)), CachedTokens: new(int64(54_000)), HitRate: new(0.5),
		UsageReported: 1000, CachedReported: 900,
		Workers: map[string]WorkerShare{"w1": {Requests: 600, Share: 0.6, HitRate: new(0.55)}, "w2": {Requests: 400, Share: 0.4}},
		Curves:  Curves{TTFT: curve, TPOT: curve, ITL: curve, E2E: curve},
		Series:  Series{StepSeconds: 0.1},
	}
	for i := range 91 {
		r.Series.Points = append(r.Series.Points, Point{AtSeconds: float64(i) / 10, Sent: 11, Finished: 11, InFlight: 16, OutputTokens: 176, TTFTP50: new(0.04), TTFTP99: new(0.2)})
	}
	r.Series.Points[7].TTFTP50, r.Series.Points[7].TTFTP99 = nil, nil
	return r
}

func section(d page.Document, title string) page.Section {
	for _, s := range d.Sections {
		if s.Title == title {
			return s
		}
	}
	return page.Section{}
}

func said(notices []page.Notice) string {
	var all []string
	for _, n := range notices {
		all = append(all, string(n.Tone)+": "+strings.ReplaceAll(n.Text, "\u00a0", " "))
	}
	return strings.Join(all, "\n")
}

func TestAPageHasTheHeadlineFigures(t *testing.T) {
	d := pageReport().document(Provenance{Command: "radixbus bench URL", Version: "v1"})
	var got []string
	for _, tile := range d.Tiles {
		got = append(got, strings.ReplaceAll(fmt.Sprintf("%s: %s (%s)%s", tile.Name, tile.Value, tile.Note, tile.Tone), "\u00a0", " "))
	}
	want := []string{
		"Requests: 1,012 (12 failed, in 9.05 s)bad",
		"Requests per second: 111 (15.9 in flight on average)",
		"Output tokens per second: 1,768 (prompts: 12.0 k)",
		"Hit rate: 50.0 % (54.0 k of 108 k prompt tokens)",
		"TTFT, median: 40.0 ms (p90 90.0 ms, p99 200 ms)",
		"TPOT, median: 40.0 ms (p90 90.0 ms, p99 200 ms)",
		"ITL, median: 40.0 ms (p90 90.0 ms, p99 200 ms)",
		"E2E, median: 40.0 ms (p90 90.0 ms, p99 200 ms)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("tiles are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var titles []string
	for _, s := range d.Sections {
		titles = append(titles, fmt.Sprintf("%s %d %d", s.Title, len(s.Figures), len(s.Tables)))
	}
	if want := []string{"Latency 4 2", "Over time 4 1", "Workers 2 1", "Failures 1 1", "How it was measured 0 2"}; !slices.Equal(titles, want) {
		t.Errorf("sections, figures and tables are %q, want %q", titles, want)
	}
	if d.Command != "radixbus bench URL" || !strings.Contains(d.Footer, "v1") || !slices.Contains(d.Facts, "2026-11-25 04:05 UTC") {
		t.Errorf("the page says %q, %q, %q", d.Command, d.Footer, d.Facts)
	}
}

// TestNoticesSayWhatLimitsTheFigures, and what an objective came to.
func TestNoticesSayWhatLimitsTheFigures(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Report)
		want   string
	}{
		{"failures and cached tokens", func(*Report) {}, "bad: 12 of 1,012 requests failed (http_429: 9, cut_stream: 3). They are in no latency, no throughput and no sum of tokens.\n: Cached tokens came with 900 of 1,000 replies; the others count as misses."},
		{"nothing", func(r *Report) { r.Errors, r.CachedReported = 0, 1012 }, ""},
		{"an early end", func(r *Report) { r.Errors, r.CachedReported, r.Stopped, r.Unfinished = 0, 1012, "interrupt", 3 },
			"bad: The run ended early: interrupt.\n: 3 requests had not ended when the run did. They count nowhere."},
		{"an objective met", func(r *Report) {
			r.Errors, r.CachedReported = 0, 1012
			r.Goodput = &Goodput{SLO: SLO{TTFTSeconds: 2, TPOTSeconds: 0.05}, Attainment: 0.93, Wanted: 0.9}
		}, "good: Objective met: 93.0 % of requests stayed within TTFT ≤ 2.00 s, TPOT ≤ 50.0 ms; 90.0 % were wanted."},
		{"an objective missed", func(r *Report) {
			r.Errors, r.CachedReported = 0, 1012
			r.Goodput = &Goodput{SLO: SLO{E2ESeconds: 2}, Attainment: 0.5, Wanted: 0.9, Missed: true}
		}, "bad: Objective missed: 50.0 % of requests stayed within E2E ≤ 2.00 s; 90.0 % were wanted."},
		{"lateness", func(r *Report) { r.Errors, r.CachedReported, r.Late = 0, 1012, 100 },
			"bad: 100 requests were sent more than 10.0 ms after they were due, because the load generator or its bound on requests in flight was in the way. Latencies count from the sending."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := pageReport()
			tt.change(&r)
			if got := said(r.document(Provenance{}).Notices); got != tt.want {
				t.Errorf("notices are\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestAnObjectiveIsOnTheCharts(t *testing.T) {
	r := pageReport()
	r.Goodput = &Goodput{SLO: SLO{TTFTSeconds: 0.5}, RequestsPerSecond: 100, Attainment: 0.95, Wanted: 0.9}
	d := r.document(Provenance{})
	if n := len(d.Tiles); n != 10 {
		t.Errorf("%d tiles, want goodput and objective beside the other 8", n)
	}
	for i, f := range section(d, "Latency").Figures {
		marks := f.Chart.(plot.Lines).Marks
		if want := map[bool]int{true: 1}[i == 0]; len(marks) != want {
			t.Errorf("%s has %d marks, want %d", f.Title, len(marks), want)
		}
	}
}

func TestWholeRepliesHaveFirstByteAndE2E(t *testing.T) {
	r := pageReport()
	r.Stream, r.TTFT, r.TPOT, r.ITL = false, Distribution{}, Distribution{}, Distribution{}
	r.Curves = Curves{E2E: r.Curves.E2E}
	d := r.document(Provenance{})
	s := section(d, "Latency")
	if len(s.Figures) != 1 || s.Figures[0].Title != "E2E" || len(s.Tables[0].Rows) != 2 || s.Tables[0].Rows[0][0] != "First byte" {
		t.Errorf("latencies are %d figures and %v", len(s.Figures), s.Tables)
	}
	for _, f := range section(d, "Over time").Figures {
		if f.Title == "TTFT" {
			t.Error("whole replies have a TTFT over time")
		}
	}
}

// TestRatesAreThoseOfWholeSteps: the cut step at the end is no rate, and few requests a step are no course.
func TestRatesAreThoseOfWholeSteps(t *testing.T) {
	r := pageReport() // 91 steps of 0.1 s, the last of them cut after half
	r.DurationSeconds = 9.02
	s := section(r.document(Provenance{}), "Over time")
	rates := s.Figures[0].Chart.(plot.Lines).Lines
	if len(rates) != 3 { // one is of failures
		t.Fatalf("%d lines, want 3", len(rates))
	}
	sent := rates[0].Points
	if len(sent) != 22 || math.Abs(sent[0].Y-110) > 1e-9 || math.Abs(sent[0].X-0.2) > 1e-9 {
		t.Errorf("%d points from %v, want 22 of 0.4 s each with 110 requests a second", len(sent), sent[0])
	}
	if ttft := s.Figures[2].Chart.(plot.Lines).Lines[0].Points; len(ttft) != 89 {
		t.Errorf("TTFT has %d points, want all 90 whole steps but the one without", len(ttft))
	}
	if rows := s.Tables[0].Rows; len(rows) != 91 || rows[7][5] != plot.Unknown {
		t.Errorf("the table has %d rows, want all 91; one without TTFT says %q", len(rows), rows[7][5])
	}
}

// TestManyWorkersAreOneLine, since nobody reads thousands of bars.
func TestManyWorkersAreOneLine(t *testing.T) {
	r := pageReport()
	r.Workers = map[string]WorkerShare{}
	for i := range maxWorkers {
		r.Workers[fmt.Sprintf("w%d", i)] = WorkerShare{Requests: int64(i), Share: float64(i)}
	}
	figures := section(r.document(Provenance{}), "Workers").Figures
	if len(figures) != 1 {
		t.Fatalf("%d figures, want 1", len(figures))
	}
	if p := figures[0].Chart.(plot.Lines).Lines[0].Points; p[0].Y != maxWorkers-1 || p[len(p)-1].Y != 0 {
		t.Errorf("from %v to %v requests, want the busiest first", p[0].Y, p[len(p)-1].Y)
	}
}

func TestCurvesAreReadBetweenTheirPoints(t *testing.T) {
	c := Curve{Shares: []float64{0.2, 0.2, 0.6, 1}, Seconds: []float64{1, 2, 4, 4}}
	for _, tt := range []struct{ got, want float64 }{
		{c.seconds(0), 1}, {c.seconds(0.4), 3}, {c.seconds(0.99), 4}, {c.seconds(2), 4},
		{c.share(0.5), 0}, {c.share(1), 0.2}, {c.share(3), 0.4}, {c.share(9), 1},
		{Curve{Shares: []float64{1}, Seconds: []float64{7}}.seconds(0.5), 7},
	} {
		if math.Abs(tt.got-tt.want) > 1e-9 {
			t.Errorf("read %v, want %v", tt.got, tt.want)
		}
	}
	if got := (Curve{}).seconds(0.5); !math.IsNaN(got) {
		t.Errorf("an empty curve says %v", got)
	}
	sum := 0.0
	for _, b := range c.bins() {
		sum += b.Count
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("columns hold %v of the samples, want all", sum)
	}
	if got := c.drawn(); got.Seconds[0] != 1 || (Curve{Shares: []float64{1}, Seconds: []float64{0}}).drawn().Seconds[0] != leastDrawn || len((Curve{}).bins()) != 0 {
		t.Errorf("drawn as %v", got)
	}
}

// TestPagesAreSmallAndStrangersHarmless: the greatest report, with every text hostile.
func TestPagesAreSmallAndStrangersHarmless(t *testing.T) {
	const evil = "</script><script>alert(1)</script>\x1b[31m\u202e\"'><img src=x onerror=alert(1)>"
	r := pageReport()
	r.Model, r.Workload, r.Stopped, r.URL = evil, evil, evil, evil
	r.Parameters = map[string]any{evil: evil, "n": math.NaN()}
	r.Lateness, r.Arrivals, r.Rate = r.TTFT, Arrivals(evil), math.Inf(1)
	long := Curve{}
	for i := range MaxCurve {
		long.Shares, long.Seconds = append(long.Shares, float64(i)/MaxCurve), append(long.Seconds, math.Pow(1.1, float64(i)))
	}
	r.Curves = Curves{TTFT: long, TPOT: long, ITL: long, E2E: long, Lateness: long}
	r.Series.Points = make([]Point, MaxPoints)
	for i := range r.Series.Points {
		r.Series.Points[i] = Point{AtSeconds: float64(i) / 10, Sent: math.MaxInt64, Finished: int64(i), TTFTP50: new(math.NaN()), TTFTP99: new(math.Inf(1))}
	}
	for i := range maxWorkers {
		r.Workers[fmt.Sprint(i, evil)] = WorkerShare{Requests: math.MaxInt64, Share: math.NaN(), HitRate: new(math.Inf(1))}
	}
	for i := range 30 {
		r.ErrorsByKind[Kind(fmt.Sprint(i, evil))] = int64(i)
		r.ErrorSamples[Kind(fmt.Sprint(i, evil))] = strings.Repeat(evil, 5)
	}
	var out bytes.Buffer
	if err := r.WritePage(&out, Provenance{Command: evil, Version: evil}); err != nil {
		t.Fatal(err)
	}
	check := func(doc string) {
		t.Helper()
		if strings.Count(doc, "<script") != 1 || strings.Contains(doc, "<img") || strings.ContainsAny(doc, "\x1b\u202e") {
			t.Error("a stranger's text became part of the page")
		}
		if len(doc) > 500_000 {
			t.Errorf("the page has %d bytes", len(doc))
		}
	}
	check(out.String())

	c := Comparison{Workload: evil, Parameters: r.Parameters, Bases: []string{evil}}
	for i := range MaxTargets {
		m := Measures{}
		for _, row := range tableRows {
			m[row.of] = math.Pow(10, float64(i))
		}
		target := TargetResult{Name: evil, URLs: []string{evil}, Model: evil, Errors: 1, ErrorsByKind: map[Kind]int64{evil: 1}, ErrorSamples: map[Kind]string{evil: evil}, Medians: m}
		for range 1000 {
			target.Rounds = append(target.Rounds, RunResult{Measures: m})
		}
		c.Targets = append(c.Targets, target)
	}
	out.Reset()
	if err := c.WritePage(&out, Provenance{}); err != nil {
		t.Fatal(err)
	}
	check(out.String())
}

func TestReportsOfNothingArePages(t *testing.T) {
	for name, write := range map[string]func(*bytes.Buffer) error{
		"run":        func(b *bytes.Buffer) error { return Report{}.WritePage(b, Provenance{}) },
		"comparison": func(b *bytes.Buffer) error { return Comparison{}.WritePage(b, Provenance{}) },
	} {
		var out bytes.Buffer
		if err := write(&out); err != nil || strings.Contains(out.String(), "NaN") {
			t.Errorf("%s: %v, %s", name, err, out.String())
		}
	}
}

func TestAComparisonShowsWhatIsKnown(t *testing.T) {
	c := Comparison{
		Workload: "unique", Stream: true, Rounds: 2, Bases: []string{"direct"},
		Targets: []TargetResult{
			{Name: "direct", Requests: 20, Medians: Measures{RequestRate: 100, TTFTP50: 0.01, FirstByteP50: 0.01}, Rounds: []RunResult{{Measures: Measures{RequestRate: 90}}, {Measures: Measures{RequestRate: 110}}}},
			{Name: "bus", Requests: 20, Errors: 2, ErrorsByKind: map[Kind]int64{Timeout: 2}, Medians: Measures{RequestRate: 80, CPURequest: 0.0004, AddedP50: 0.0002, TTFTP50: 0.0102, FirstByteP50: 0.0102},
				Ratios: map[string]Measures{"direct": {RequestRate: 0.8}}, Rounds: []RunResult{{Measures: Measures{RequestRate: 80}}}},
		},
	}
	d := c.document(Provenance{})
	var got []string
	for _, s := range d.Sections {
		for _, f := range s.Figures {
			for _, row := range f.Chart.(plot.Bars).Rows {
				got = append(got, strings.ReplaceAll(fmt.Sprintf("%s, %s: %s, %d rounds", f.Title, row.Label, row.Text, len(row.Dots)), "\u00a0", " "))
			}
		}
	}
	want := []string{
		"Requests per second, direct: 100, 2 rounds", "Requests per second, bus: 80 (0.80×), 1 rounds",
		"TTFT, p50, direct: 10.0 ms, 0 rounds", "TTFT, p50, bus: 10.2 ms, 0 rounds",
		"Added before the first output, p50, bus: 200 µs, 0 rounds",
		"Processor time per request, bus: 400 µs, 0 rounds",
	}
	if !slices.Equal(got, want) {
		t.Errorf("bars are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := said(d.Notices); got != "bad: bus: 2 of 20 requests failed (timeout: 2)." {
		t.Errorf("notices are %q", got)
	}
	if tile := d.Tiles[1]; tile.Value != "80 requests/s" || strings.ReplaceAll(tile.Note, "\u00a0", " ") != "0.80×, adds 200 µs, CPU 400 µs a request" || tile.Tone != page.Bad {
		t.Errorf("the tile says %v", tile)
	}
	if rows := section(d, "All figures").Tables[0].Rows; rows[0][0] != "requests/s" || rows[0][1] != "100.0" || rows[0][3] != "0.80×" {
		t.Errorf("the table begins with %v", rows[0])
	}
}
