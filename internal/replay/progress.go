package replay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	progressEvery = 200 * time.Millisecond
	// rateOver is how many drawings back the rate on the bar looks: 4 s.
	rateOver = 20
)

// showProgress draws a bar until ctx ends. A total of 0 is unknown: the bar then only counts.
func showProgress(ctx context.Context, w io.Writer, total int, live func() tally) {
	size := total
	if size == 0 {
		size = -1 // the bar's word for it
	}
	var line bytes.Buffer // a drawing reaches the terminal in one piece
	columns := columnsOf(w)
	bar := progressbar.NewOptions(size,
		progressbar.OptionSetWriter(&line),
		progressbar.OptionSetWidth(barWidth(columns)),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // else the bar starts a goroutine nobody waits for
		progressbar.OptionShowDescriptionAtLineEnd(),
	)
	started := time.Now()
	past := []int64{0}
	draw := func() {
		now := live()
		past = append(past, now.requests)
		past = past[max(0, len(past)-rateOver-1):]
		p := progress{tally: now, total: int64(total), elapsed: time.Since(started)}
		if over := min(p.elapsed, time.Duration(len(past)-1)*progressEvery); over > 0 {
			p.rate = float64(now.requests-past[0]) / over.Seconds()
		}
		bar.Describe(p.words(columnsOf(w) - barWidth(columns) - barFrame))
		line.Reset() // drawn with the old number
		_ = bar.Set64(now.requests)
		_, _ = line.WriteTo(w) // a terminal that is gone must not end the run
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			draw()
		case <-ctx.Done():
			draw()
			_ = bar.Exit()
			_, _ = line.WriteTo(w)
			_, _ = fmt.Fprintln(w)
			return
		}
	}
}

// barFrame is what a bar has around it: percent, edges and spaces.
const barFrame = 12

// barWidth leaves most of a line to words.
func barWidth(columns int) int { return min(max(columns/5, 4), 24) }

// columnsOf is the width of a terminal, or 80.
func columnsOf(w io.Writer) int {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

// A progress is what there is to say of a run under way.
type progress struct {
	tally
	total   int64 // 0: unknown
	rate    float64
	elapsed time.Duration
}

// words says as much as there is room for.
func (p progress) words(room int) string {
	done, left := count(p.requests)+" requests", p.elapsed.Round(time.Second).String()
	if p.total > 0 {
		done, left = count(p.requests)+" of "+count(p.total), ""
		if p.requests > 0 && p.requests < p.total {
			rest := time.Duration(float64(p.elapsed) * float64(p.total-p.requests) / float64(p.requests))
			left = rest.Round(time.Second).String() + " left"
		}
	}
	errors := ""
	if p.errors > 0 {
		errors = count(p.errors) + " failed"
	}
	hit := ""
	if v := p.hitRate(); v != nil {
		hit = "hit rate " + percent(*v)
	}
	parts := [...]string{done, rate(p.rate) + "/s", errors, hit, left}
	for _, spare := range []int{-1, 3, 1, 4, 2, 0} { // what is left out first
		if spare >= 0 {
			parts[spare] = ""
		}
		if line := joined(parts[:]); utf8.RuneCountInString(line) <= room {
			return line
		}
	}
	return ""
}

// joined puts commas between what is not empty.
func joined(parts []string) string {
	var said []string
	for _, p := range parts {
		if p != "" {
			said = append(said, p)
		}
	}
	return strings.Join(said, ", ")
}
