package replay

import "time"

// A timeline counts what happens in steps of time. When a run outgrows [MaxPoints] steps, they are put together in
// pairs. Not safe for concurrent use.
type timeline struct {
	started time.Time
	step    time.Duration
	cells   []cell
}

// firstStep is the length of a step at first.
const firstStep = 100 * time.Millisecond

// A cell is one step. ttft is nil until there is a value.
type cell struct {
	sent, finished, errors, output int64
	ttft                           *coarse
}

func newTimeline(started time.Time) timeline { return timeline{started: started, step: firstStep} }

// add takes in an exchange, also one that was abandoned: it was sent, and is in flight at the end.
func (t *timeline) add(x *exchange) {
	sent := t.cell(x.sent)
	sent.sent++
	if x.kind == "" && !x.first.IsZero() {
		if sent.ttft == nil {
			sent.ttft = new(coarse)
		}
		sent.ttft.add(x.first.Sub(x.sent))
	}
	switch x.kind {
	case unfinished:
		return
	case "":
		t.cell(x.done).finished++
		t.spread(x)
	default:
		t.cell(x.done).errors++
	}
}

// spread shares out a reply's tokens evenly from its first output to its end.
func (t *timeline) spread(x *exchange) {
	if x.usage.output <= 0 {
		return
	}
	first := x.first
	if first.IsZero() {
		first = x.done
	}
	t.cell(x.done) // so that the steps do not change on the way
	given, total := int64(0), x.done.Sub(first)
	for i := t.index(first); given < x.usage.output; i++ {
		share := x.usage.output
		if end := t.started.Add(time.Duration(i+1) * t.step); end.Before(x.done) {
			share = int64(float64(share) * (float64(end.Sub(first)) / float64(total)))
		}
		t.cells[i].output += share - given
		given = share
	}
}

func (t *timeline) index(at time.Time) int { return int(max(0, at.Sub(t.started)) / t.step) }

// cell returns the step of a time, and makes those up to it.
func (t *timeline) cell(at time.Time) *cell {
	for t.index(at) >= MaxPoints {
		t.halve()
	}
	i := t.index(at)
	for len(t.cells) <= i {
		t.cells = append(t.cells, cell{})
	}
	return &t.cells[i]
}

func (t *timeline) halve() {
	t.step *= 2
	half := (len(t.cells) + 1) / 2
	for i := range half {
		merged := t.cells[2*i]
		if 2*i+1 < len(t.cells) {
			merged.merge(t.cells[2*i+1])
		}
		t.cells[i] = merged
	}
	clear(t.cells[half:])
	t.cells = t.cells[:half]
}

func (c *cell) merge(later cell) {
	c.sent += later.sent
	c.finished += later.finished
	c.errors += later.errors
	c.output += later.output
	switch {
	case c.ttft == nil:
		c.ttft = later.ttft
	case later.ttft != nil:
		for i, n := range later.ttft {
			c.ttft[i] += n
		}
	}
}

// series is what was counted so far.
func (t *timeline) series() Series {
	s := Series{StepSeconds: t.step.Seconds(), Points: make([]Point, 0, len(t.cells))}
	inFlight := int64(0)
	for i, c := range t.cells {
		inFlight += c.sent - c.finished - c.errors
		p := Point{
			AtSeconds: (time.Duration(i) * t.step).Seconds(),
			Sent:      c.sent, Finished: c.finished, Errors: c.errors,
			InFlight: inFlight, OutputTokens: c.output,
		}
		if c.ttft != nil {
			p.TTFTP50, p.TTFTP99 = new(c.ttft.quantile(0.50)), new(c.ttft.quantile(0.99))
		}
		s.Points = append(s.Points, p)
	}
	return s
}

// A coarse histogram puts together eight buckets of a [histogram]: its middles are within 3.2 % of their values, and
// it takes 3.6 KiB.
type coarse [buckets / coarseBy]uint32

const coarseBy = 8

func (h *coarse) add(d time.Duration) { h[bucketOf(max(d, 0))/coarseBy]++ }

// quantile is the middle of the bucket that holds the value of rank q·(count−1), rounded, in seconds.
func (h *coarse) quantile(q float64) float64 {
	count := 0.0
	for _, n := range h {
		count += float64(n)
	}
	rank := q*(count-1) + 0.5
	for i, n := range h {
		if rank -= float64(n); rank < 0 {
			low, width := bucketRange(i * coarseBy)
			return (low + (coarseBy*width-1)/2) / float64(time.Second)
		}
	}
	return 0
}
