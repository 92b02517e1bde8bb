package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
)

// tableRows are what the table shows, in order.
var tableRows = [...]struct {
	name   string
	of     Measure
	format func(float64) string
}{
	{"requests/s", RequestRate, rate},
	{"output tokens/s", TokenRate, rate},
	{"first byte p50", FirstByteP50, seconds},
	{"first byte p90", FirstByteP90, seconds},
	{"first byte p99", FirstByteP99, seconds},
	{"TTFT p50", TTFTP50, seconds},
	{"TTFT p90", TTFTP90, seconds},
	{"TTFT p99", TTFTP99, seconds},
	{"added p50", AddedP50, seconds},
	{"added p99", AddedP99, seconds},
	{"ITL p50", ITLP50, seconds},
	{"ITL p99", ITLP99, seconds},
	{"added ITL p99", AddedITLP99, seconds},
	{"E2E p50", E2EP50, seconds},
	{"E2E p90", E2EP90, seconds},
	{"E2E p99", E2EP99, seconds},
	{"hit rate", HitRate, percent},
	{"CPU/request", CPURequest, seconds},
	{"CPU/output token", CPUToken, seconds},
	{"CPU cores", CPUCores, twoDigits},
	{"memory", Resident, mebibytes},
	{"memory, peak", Peak, mebibytes},
	{"client CPU/request", ClientRequest, seconds},
	{"client CPU cores", ClientCores, twoDigits},
}

// WriteTable writes the medians for people, a column each target, and beside them the ratios to each base.
func (c Comparison) WriteTable(w io.Writer) error {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.line("%s: medians of %d rounds of %s, %d users, %s", c.Workload, c.Rounds, c.size(), c.Concurrency,
		map[bool]string{true: "streams", false: "whole replies"}[c.Stream])
	t.line("%d cores, %s, %s, %s", c.Machine.Cores, c.Machine.CPU, c.Machine.Go, c.Started.Format(time.DateOnly))
	if c.Partial {
		t.line("ended early: a round that was not complete is left out")
	}
	t.line("")

	heads := []string{}
	for _, target := range c.Targets {
		heads = append(heads, oneLine(target.Name))
		for _, base := range c.Bases {
			if base != target.Name {
				heads = append(heads, "/ "+oneLine(base))
			}
		}
	}
	t.row("", heads...)
	for _, row := range tableRows {
		cells, some := c.cells(row.of, row.format)
		if some {
			t.row(row.name, cells...)
		}
	}
	t.row("errors", c.errorCells()...)
	t.end()
	for _, target := range c.Targets {
		for _, kind := range slices.Sorted(maps.Keys(target.ErrorsByKind)) {
			t.line("%s: %s %s (first: %s)", oneLine(target.Name), count(target.ErrorsByKind[kind]), kind, oneLine(target.ErrorSamples[kind]))
		}
	}
	t.end()
	return t.err
}

func (c Comparison) size() string {
	if c.Requests > 0 {
		return count(int64(c.Requests)) + " requests"
	}
	return count(int64(c.Conversations)) + " conversations"
}

// cells are one row, and whether any target knows the measure.
func (c Comparison) cells(of Measure, format func(float64) string) (cells []string, some bool) {
	for _, target := range c.Targets {
		v, ok := target.Medians[of]
		some = some || ok
		cells = append(cells, known(v, ok, format))
		for _, base := range c.Bases {
			if base != target.Name {
				v, ok := target.Ratios[base][of]
				cells = append(cells, known(v, ok, times))
			}
		}
	}
	return cells, some
}

func (c Comparison) errorCells() (cells []string) {
	for _, target := range c.Targets {
		cells = append(cells, fmt.Sprintf("%s of %s", count(target.Errors), count(target.Requests)))
		for _, base := range c.Bases {
			if base != target.Name {
				cells = append(cells, "")
			}
		}
	}
	return cells
}

func known(v float64, ok bool, format func(float64) string) string {
	if !ok {
		return "-"
	}
	return format(v)
}

func twoDigits(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
func times(v float64) string     { return strconv.FormatFloat(v, 'f', 2, 64) + "×" }
func mebibytes(v float64) string { return strconv.FormatFloat(v/(1<<20), 'f', 1, 64) + " MiB" }

// A runBar counts the runs of a comparison. It is drawn between runs alone: it must not cost the measured anything. A
// nil runBar draws nothing.
type runBar struct {
	bar    *progressbar.ProgressBar
	w      io.Writer
	rounds int
	begun  bool
}

func newRunBar(cfg CompareConfig) *runBar {
	if cfg.Progress == nil || !cfg.Terminal {
		return nil
	}
	return &runBar{w: cfg.Progress, rounds: cfg.Rounds, bar: progressbar.NewOptions(cfg.Rounds*len(cfg.Targets),
		progressbar.OptionSetWriter(cfg.Progress),
		progressbar.OptionSetWidth(24),
		progressbar.OptionShowCount(),
		progressbar.OptionSetSpinnerChangeInterval(0), // else the bar starts a goroutine nobody waits for
	)}
}

// next says which run begins.
func (b *runBar) next(round int, target string) {
	if b == nil {
		return
	}
	b.bar.Describe(fmt.Sprintf("round %d of %d: %s", round+1, b.rounds, oneLine(target)))
	if b.begun {
		_ = b.bar.Add(1) // a terminal that is gone must not end the run
	}
	b.begun = true
}

func (b *runBar) end() {
	if b == nil {
		return
	}
	_ = b.bar.Exit()
	_, _ = fmt.Fprintln(b.w)
}
