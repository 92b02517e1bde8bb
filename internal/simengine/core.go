package simengine

import (
	"slices"
	"time"
)

// CoreConfig sets up a [Core]. The zero value of every field means its default.
type CoreConfig struct {
	// Profile gives step times and the defaults of Capacity and Context. The zero profile takes no time
	// and needs a Capacity.
	Profile Profile
	// Capacity is the KV cache in tokens. Default: the profile's.
	Capacity int
	// Context is the longest sequence in tokens. Default: the profile's, or no limit.
	Context int
	// Page is the cache's page in tokens. Default 1.
	Page int
	// MaxRunning bounds the jobs running at once. Default 2048.
	MaxRunning int
	// MaxQueued bounds the jobs waiting; beyond it Submit returns ErrQueueFull. Default: no bound.
	MaxQueued int
	// Chunk is the most new tokens of one prefill batch; a longer prompt is split. Default 8192.
	Chunk int
	// MaxPrefill is the new tokens at which a prefill batch takes no further job. Default 16384.
	MaxPrefill int
	// Conservativeness scales the share of expected output for which admission keeps room. Default 1.
	Conservativeness float64
	// ByPriority evicts by (priority, last use) instead of last use.
	ByPriority bool
	// LongestPrefixFirst admits by cached prefix (SGLang's lpm) instead of in order of arrival (fcfs).
	LongestPrefixFirst bool
	// Leap lets one step cover many decode iterations when nothing can happen between them. Outcomes then
	// do not list the jobs that merely decoded.
	Leap bool
}

// SGLang's constants (srt/managers/schedule_policy.py and srt/environ.py).
const (
	clipNew        = 4096 // output beyond this is not reserved for
	ratioStart     = 0.7
	ratioEnd       = 0.7 * 0.14
	ratioSteps     = 600 // decode steps from ratioStart to ratioEnd
	retractSteps   = 20  // decode steps for which a retraction makes room
	lpmLimit       = 128 // a longer queue is not sorted
	inBatch        = 32  // tokens: shorter cached prefixes are looked for among the other waiting requests
	poolMargin     = 6   // a prompt must be this much shorter than the pool
	touchedQueue   = 128 // our own bound on the waiting jobs whose prefixes a scheduling round keeps young
	defaultRunning = 2048
)

// A Core is one simulated worker: radix cache, scheduler and step times as a state machine. It has no
// goroutine and no clock; the same calls always have the same effects.
//
// The caller drives it: Submit jobs, ask when it is Due, and Advance it then. What happens in a step
// takes effect at its end. Times must not fall. A Core is not safe for concurrent use.
type Core struct {
	cfg   CoreConfig
	cache *cache

	waiting []*Job
	running []*Job // decoding, in order of admission
	chunked *Job   // prefilled in part
	batch   []*Job // in the prefill step in flight
	entered []*Job // admitted with it
	step    step
	paused  bool
	yield   bool // retract all once no step is in flight
	full    bool // no admission until a running job ends
	ratio   float64
	slow    float64

	owned    int // slots of all jobs
	contexts int // tokens of all running jobs
	now      time.Duration
	out      Outcome
	totals   Totals
}

// Totals counts since the start.
type Totals struct {
	Jobs        int64 // accepted
	Finished    int64
	Aborted     int64
	Prompt      int64 // prompt tokens of admitted jobs
	Cached      int64 // of which came from the cache
	Output      int64
	Computed    int64 // tokens prefilled
	Evicted     int64 // tokens
	Retractions int64
	Prefills    int64 // batches
	Decodes     int64 // iterations
	Busy        time.Duration
	PrefillBusy time.Duration // part of Busy
}

// Load is a Core's state at a moment, in jobs and tokens.
type Load struct {
	Running        int // admitted and not ended
	Waiting        int
	WaitingPrompt  int // tokens of the waiting prompts
	WaitingNew     int // of which were not cached when last looked
	Used           int // tokens that running jobs need: locked in the tree or in slots of their own
	Evictable      int // tokens kept only because they may be asked for again
	Free           int
	Contexts       int // sum of the running jobs' contexts
	NewTokenRatio  float64
	LastThroughput float64 // output tokens per second of the last decode step
}

// An Outcome is what a step brought about. Its slices are reused by the next Advance.
type Outcome struct {
	Prefill    bool // otherwise decode
	Start, End time.Duration
	Iterations int    // decode iterations; 1 for a prefill
	Admitted   []*Job // admitted since the last outcome
	Emitted    []*Job // gained Iterations tokens (with Leap: only first tokens)
	Ended      []*Job
}

type step struct {
	kind       stepKind
	start, end time.Duration
	iterations int
}

type stepKind uint8

const (
	noStep stepKind = iota
	prefillStep
	decodeStep
)

// NewCore returns an idle Core with an empty cache. A negative bound counts as unset.
func NewCore(cfg CoreConfig) *Core {
	or := func(v, def int) int {
		if v > 0 {
			return v
		}
		return def
	}
	cfg.Page = or(cfg.Page, 1)
	cfg.Capacity = or(cfg.Capacity, max(cfg.Profile.Tokens, cfg.Page))
	cfg.Capacity = max(cfg.Capacity-cfg.Capacity%cfg.Page, cfg.Page)
	cfg.Context = or(cfg.Context, or(cfg.Profile.Context, 1<<30))
	cfg.MaxRunning = or(cfg.MaxRunning, defaultRunning)
	cfg.MaxQueued = max(cfg.MaxQueued, 0)
	cfg.Chunk = max(or(cfg.Chunk, 8192), cfg.Page)
	cfg.MaxPrefill = or(cfg.MaxPrefill, 16384)
	if cfg.Conservativeness <= 0 {
		cfg.Conservativeness = 1
	}
	c := &Core{cfg: cfg, cache: newCache(cfg.Page, cfg.ByPriority), slow: 1}
	c.ratio = c.startRatio()
	return c
}

// Config returns the configuration with its defaults filled in.
func (c *Core) Config() CoreConfig { return c.cfg }

// MaxNew is the most output that a prompt of that many tokens can have; more is silently clipped to it.
func (c *Core) MaxNew(prompt int) int {
	return max(min(c.cfg.Context, c.cfg.Capacity)-2-prompt, 0)
}

// Check says whether a prompt of that many tokens could ever be admitted: nil or a *TooLongError.
func (c *Core) Check(prompt int) error {
	if prompt >= c.cfg.Context {
		return &TooLongError{Tokens: prompt, Limit: c.cfg.Context - 1}
	}
	if limit := c.cfg.Capacity - poolMargin; prompt > limit {
		return &TooLongError{Tokens: prompt, Limit: max(limit, 0), Pool: true}
	}
	return nil
}

// Submit puts a job into the queue. It returns ErrBadJob, a *TooLongError or ErrQueueFull.
func (c *Core) Submit(now time.Duration, j *Job) error {
	if j.phase != fresh || j.Prompt < 1 || j.Prompt > len(j.Tokens) || j.Ended != Unended {
		return ErrBadJob
	}
	if err := c.Check(j.Prompt); err != nil {
		return err
	}
	if c.cfg.MaxQueued > 0 && len(c.waiting) >= c.cfg.MaxQueued {
		return ErrQueueFull
	}
	c.tick(now)
	most := c.MaxNew(j.Prompt)
	j.Tokens = j.Tokens[:min(len(j.Tokens), j.Prompt+most)]
	j.MaxNew = min(max(j.MaxNew, len(j.Tokens)-j.Prompt), most)
	j.phase, j.Submitted = queued, c.now
	c.waiting = append(c.waiting, j)
	c.totals.Jobs++
	if !c.full {
		c.interrupt()
	}
	return nil
}

// Abort ends a job: at once when it waits, otherwise at the end of the step in flight, whose Outcome names
// it. What it has computed stays cached. A job that has ended, or was never submitted, is left alone.
func (c *Core) Abort(now time.Duration, j *Job) {
	c.tick(now)
	switch j.phase {
	case queued:
		i := slices.Index(c.waiting, j)
		c.waiting = slices.Delete(c.waiting, i, i+1)
		if j.node != nil {
			c.cache.dropRoot(j.node)
		}
		c.end(j, Aborted, c.now)
	case prefilling, decoding:
		j.abort = true
		c.interrupt()
		if c.step.kind == noStep {
			c.reap(c.now)
		}
	case fresh, gone:
	}
}

// Due says when Advance is next wanted: at the end of the step in flight, or now when a step can begin. It
// is false while there is nothing to do.
func (c *Core) Due() (time.Duration, bool) {
	switch {
	case c.step.kind != noStep:
		return c.step.end, true
	case c.paused || len(c.waiting) == 0 && len(c.running) == 0 && c.chunked == nil:
		return 0, false
	}
	return c.now, true
}

// Advance ends the step in flight if it is over by now, and begins the next. The outcome has no
// iterations when no step ended.
func (c *Core) Advance(now time.Duration) *Outcome {
	c.tick(now)
	c.out = Outcome{Admitted: c.out.Admitted[:0], Emitted: c.out.Emitted[:0], Ended: c.out.Ended[:0]}
	switch {
	case c.step.end > c.now:
		return &c.out
	case c.step.kind != noStep:
		c.finish()
	}
	if c.paused {
		c.yieldAll()
	} else {
		c.begin()
	}
	return &c.out
}

// Pause keeps the next step from beginning; Resume undoes it. The step in flight still ends. With retract,
// the running jobs then go back to the queue and give up their memory.
func (c *Core) Pause(retract bool) {
	c.paused, c.yield = true, retract
	c.interrupt()
	if c.step.kind == noStep {
		c.yieldAll()
	}
}

// Resume lets steps begin again.
func (c *Core) Resume() { c.paused, c.yield = false, false }

// Slow stretches every step that begins from now on by the factor; 1 or less undoes it.
func (c *Core) Slow(factor float64) { c.slow = max(factor, 1) }

// CanFlush says whether Flush would: not while a job is admitted, nor, unless the Core is paused, while one
// waits.
func (c *Core) CanFlush() bool {
	return c.active() == 0 && (c.paused || len(c.waiting) == 0)
}

// Flush empties the cache if it can.
func (c *Core) Flush() bool {
	if !c.CanFlush() {
		return false
	}
	c.cache.flush()
	for _, j := range c.waiting {
		j.node, j.shared = nil, 0
	}
	return true
}

// Crash ends every job and empties the cache, as the death of the process does. It returns the jobs.
func (c *Core) Crash(now time.Duration) []*Job {
	c.tick(now)
	jobs := slices.Concat(c.waiting, c.running, c.batch)
	if c.parked() > 0 {
		jobs = append(jobs, c.chunked)
	}
	for _, j := range jobs {
		j.node, j.shared, j.kv, j.owned = nil, 0, 0, 0
		c.end(j, Aborted, c.now)
	}
	c.waiting, c.running, c.batch, c.entered, c.chunked = nil, nil, nil, nil, nil
	c.step, c.full, c.owned, c.contexts = step{}, false, 0, 0
	c.ratio = c.startRatio()
	c.cache.flush()
	return jobs
}

// Cached is how many of the prompt's tokens a job with these tokens would find cached now. It changes
// nothing.
func (c *Core) Cached(space string, tokens []int32) int {
	return c.cache.peek(space, tokens[:c.cache.usable(len(tokens))])
}

// Load returns the current load.
func (c *Core) Load() Load {
	l := Load{
		Running: c.active(), Waiting: len(c.waiting), Contexts: c.contexts, NewTokenRatio: c.ratio,
		Used: c.cache.locked + c.owned, Evictable: c.cache.evictable(), Free: c.free(),
	}
	for _, j := range c.waiting {
		l.WaitingPrompt += j.fill()
		l.WaitingNew += j.fill() - j.shared
	}
	if n := len(c.running); n > 0 {
		if d := c.stretch(c.cfg.Profile.DecodeTime(1, n, c.contexts)); d > 0 {
			l.LastThroughput = float64(n) / d.Seconds()
		}
	}
	return l
}

// Totals returns the counts since the start.
func (c *Core) Totals() Totals { return c.totals }

func (c *Core) tick(now time.Duration) { c.now = max(c.now, now) }

func (c *Core) free() int { return c.cfg.Capacity - c.cache.size - c.owned }

// active counts the admitted jobs that have not ended.
func (c *Core) active() int {
	return len(c.running) + len(c.batch) + c.parked()
}

func (c *Core) startRatio() float64 { return min(ratioStart*c.cfg.Conservativeness, 1) }

func (c *Core) endRatio() float64 { return min(ratioEnd*c.cfg.Conservativeness, 1) }

func (c *Core) stretch(d time.Duration) time.Duration { return time.Duration(float64(d) * c.slow) }

// begin starts a prefill batch if one can be formed, else a decode step, else nothing.
func (c *Core) begin() {
	if ms, ok := c.formPrefill(); ok {
		c.step = step{kind: prefillStep, start: c.now, end: c.now + c.stretch(millis(ms)), iterations: 1}
		return
	}
	if len(c.running) > 0 {
		c.beginDecode()
		return
	}
	if len(c.waiting) == 0 {
		c.ratio = c.startRatio()
	}
}

// finish applies the step in flight.
func (c *Core) finish() {
	c.out.Prefill = c.step.kind == prefillStep
	c.out.Start, c.out.End, c.out.Iterations = c.step.start, c.step.end, c.step.iterations
	c.totals.Busy += c.step.end - c.step.start
	if c.out.Prefill {
		c.totals.PrefillBusy += c.step.end - c.step.start
		c.finishPrefill()
	} else {
		c.finishDecode()
	}
	c.reap(c.step.end)
	c.step = step{}
}
