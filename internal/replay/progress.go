package replay

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

const progressEvery = 200 * time.Millisecond

// showProgress draws a bar until ctx ends. A total of 0 is unknown: the bar then only counts.
func showProgress(ctx context.Context, w io.Writer, total int, live func() tally) {
	if total == 0 {
		total = -1 // the bar's word for it
	}
	bar := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetWidth(24),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("req"),
		progressbar.OptionSetSpinnerChangeInterval(0), // else the bar starts a goroutine nobody waits for
		progressbar.OptionSetDescription("requests"),
	)
	draw := func() {
		now := live()
		bar.Describe(status(now))
		_ = bar.Set64(now.requests) // a terminal that is gone must not end the run
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
			_, _ = fmt.Fprintln(w)
			return
		}
	}
}

func status(t tally) string {
	hit := notReported
	if rate := t.hitRate(); rate != nil {
		hit = percent(*rate)
	}
	return fmt.Sprintf("%s done, %s errors, hit rate %s", count(t.requests), count(t.errors), hit)
}
