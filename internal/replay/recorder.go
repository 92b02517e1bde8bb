package replay

import (
	"cmp"
	"maps"
	"sync"
	"time"
)

// A recorder adds up what users saw. It is safe for concurrent use.
type recorder struct {
	slo    SLO
	wanted float64 // share of requests within it

	mu sync.Mutex
	// guarded by mu
	total                tally
	unfinished           int64
	kinds                map[Kind]int64
	said                 map[Kind]string // by the first of a kind
	ttfb                 samples
	ttft, tpot, itl, e2e samples
	lateness             samples
	late, met            int64
	workers              map[string]*tally
	firstSent, lastDone  time.Time
	timeline             timeline
}

// A tally counts concluded requests, and the tokens of those that succeeded.
type tally struct {
	requests, errors int64
	prompt, cached   int64
	output           int64
	usageReported    int64 // requests that reported prompt tokens
	outputReported   int64
	cachedReported   int64
}

const (
	// maxWorkers bounds the names counted one by one; later ones share otherWorkers.
	maxWorkers   = 4096
	otherWorkers = "(others)"
)

// newRecorder takes a Config with its defaults.
func newRecorder(cfg Config, started time.Time) *recorder {
	return &recorder{
		slo: cfg.SLO, wanted: cfg.Attainment, timeline: newTimeline(started),
		kinds: map[Kind]int64{}, said: map[Kind]string{}, workers: map[string]*tally{},
	}
}

// record takes in one exchange; it keeps nothing of its memory. In an open loop due is when it should have been sent,
// else zero.
func (r *recorder) record(x *exchange, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timeline.add(x)
	if !due.IsZero() {
		lateness := x.sent.Sub(due)
		r.lateness.add(lateness)
		if lateness > LateAfter {
			r.late++
		}
	}
	if x.kind == unfinished {
		r.unfinished++
		return
	}
	if r.firstSent.IsZero() || x.sent.Before(r.firstSent) {
		r.firstSent = x.sent
	}
	if x.done.After(r.lastDone) {
		r.lastDone = x.done
	}
	r.total.add(x)
	if x.worker != "" {
		r.worker(x.worker).add(x)
	}
	if x.kind != "" {
		if r.kinds[x.kind]++; r.kinds[x.kind] == 1 {
			r.said[x.kind] = x.message
		}
		return
	}
	r.ttfb.add(x.head.Sub(x.sent))
	if r.slo.met(x) {
		r.met++
	}
	r.e2e.add(x.done.Sub(x.sent))
	if x.first.IsZero() {
		return
	}
	r.ttft.add(x.first.Sub(x.sent))
	for _, gap := range x.gaps {
		r.itl.add(gap)
	}
	if tpot, ok := x.tpot(); ok {
		r.tpot.add(tpot)
	}
}

// tpot is the mean time per output token after the first; false if it is not known, or there is only one.
func (x *exchange) tpot() (time.Duration, bool) {
	if x.first.IsZero() || x.usage.output < 2 {
		return 0, false
	}
	return x.done.Sub(x.first) / time.Duration(x.usage.output-1), true
}

func (r *recorder) worker(name string) *tally {
	t := r.workers[name]
	if t == nil && len(r.workers) >= maxWorkers {
		name = otherWorkers
		t = r.workers[name]
	}
	if t == nil {
		t = new(tally)
		r.workers[name] = t
	}
	return t
}

func (t *tally) add(x *exchange) {
	t.requests++
	if x.kind != "" {
		t.errors++
		return
	}
	if x.usage.prompt >= 0 {
		t.usageReported++
		t.prompt += x.usage.prompt
	}
	if x.usage.output >= 0 {
		t.outputReported++
		t.output += x.usage.output
	}
	if x.usage.cached >= 0 {
		t.cachedReported++
		t.cached += x.usage.cached
	}
}

// hitRate is nil when unknown. Once one request has reported cached tokens, those that did not count as
// misses: SGLang releases differ in whether a miss is 0 or left out.
func (t *tally) hitRate() *float64 {
	if t.cachedReported == 0 || t.prompt == 0 {
		return nil
	}
	return new(float64(t.cached) / float64(t.prompt))
}

// work is what was to be computed, in tokens.
func (t *tally) work() int64 { return max(0, t.prompt-t.cached) + t.output }

// live is what a progress bar shows.
func (r *recorder) live() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// fill writes what was recorded into a report.
func (r *recorder) fill(rep *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.total
	rep.Requests, rep.Errors, rep.Unfinished = t.requests, t.errors, r.unfinished
	rep.ErrorsByKind, rep.ErrorSamples = maps.Clone(r.kinds), maps.Clone(r.said)
	rep.FirstByte = r.ttfb.distribution()
	rep.TTFT, rep.TPOT = r.ttft.distribution(), r.tpot.distribution()
	rep.ITL, rep.E2E = r.itl.distribution(), r.e2e.distribution()
	rep.Late, rep.Lateness = r.late, r.lateness.distribution()
	rep.Curves = Curves{ // after the distributions: they have sorted what these read
		TTFT: r.ttft.curve(), TPOT: r.tpot.curve(), ITL: r.itl.curve(), E2E: r.e2e.curve(), Lateness: r.lateness.curve(),
	}
	rep.Series = r.timeline.series()

	seconds := r.lastDone.Sub(r.firstSent).Seconds()
	rep.DurationSeconds = seconds
	perSecond := func(n float64) float64 {
		if seconds <= 0 {
			return 0
		}
		return n / seconds
	}
	rep.RequestsPerSecond = perSecond(float64(t.requests - t.errors))
	rep.MeanConcurrency = perSecond(r.e2e.sum)
	rep.UsageReported, rep.CachedReported = t.usageReported, t.cachedReported
	if t.usageReported > 0 {
		rep.PromptTokens = new(t.prompt)
		rep.PromptTokensPerSecond = new(perSecond(float64(t.prompt)))
	}
	if t.outputReported > 0 {
		rep.OutputTokens = new(t.output)
		rep.OutputTokensPerSecond = new(perSecond(float64(t.output)))
	}
	if t.cachedReported > 0 {
		rep.CachedTokens = new(t.cached)
	}
	rep.HitRate = t.hitRate()
	if r.slo != (SLO{}) {
		g := &Goodput{SLO: r.slo, Met: r.met, Wanted: r.wanted, RequestsPerSecond: perSecond(float64(r.met))}
		g.Attainment = float64(g.Met) / float64(max(t.requests, 1))
		g.Missed = g.Attainment < g.Wanted
		rep.Goodput = g
	}
	rep.Workers = make(map[string]WorkerShare, len(r.workers))
	named, work, most := int64(0), int64(0), int64(0)
	for _, w := range r.workers {
		named += w.requests
		work += w.work()
		most = max(most, w.work())
	}
	if work > 0 {
		rep.WorkMaxOverMean = new(float64(most) * float64(len(r.workers)) / float64(work))
	}
	for name, w := range r.workers {
		rep.Workers[name] = WorkerShare{
			Requests: w.requests,
			Errors:   w.errors,
			Share:    float64(w.requests) / float64(cmp.Or(named, 1)),
			HitRate:  w.hitRate(),

			PromptTokens: w.prompt,
			CachedTokens: w.cached,
			OutputTokens: w.output,
			Work:         w.work(),
		}
	}
}
