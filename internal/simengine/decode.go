package simengine

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"
)

// beginDecode starts a decode step for all running jobs, retracting some if their next tokens do not fit.
func (c *Core) beginDecode() {
	if c.pages(c.running, 1) > c.free()+c.cache.evictable() {
		c.retract()
	}
	if len(c.running) == 0 {
		return
	}
	n := 1
	if c.cfg.Leap {
		n = c.leap()
	}
	c.step = step{kind: decodeStep, start: c.now, end: c.now + c.decodeTime(n), iterations: n}
}

func (c *Core) decodeTime(n int) time.Duration {
	return c.stretch(c.cfg.Profile.DecodeTime(n, len(c.running), c.contexts))
}

// leap is how many iterations nothing can happen in but a job's end with the last: none ends earlier, and
// memory lasts.
func (c *Core) leap() int {
	if len(c.waiting) > 0 && !c.full || c.chunked != nil {
		return 1 // the next iteration may admit
	}
	n := math.MaxInt32
	for _, j := range c.running {
		n = min(n, j.left())
	}
	room := c.free() + c.cache.evictable()
	if c.pages(c.running, n) <= room {
		return n
	}
	return max(sort.Search(n, func(k int) bool { return c.pages(c.running, k+1) > room }), 1)
}

// interrupt cuts a leap short at the first iteration boundary from now on, where an arrival or an abort
// can take effect.
func (c *Core) interrupt() {
	s := &c.step
	if s.kind != decodeStep || s.iterations == 1 || s.end <= c.now {
		return
	}
	s.iterations = 1 + sort.Search(s.iterations-1, func(k int) bool {
		return s.start+c.decodeTime(k+1) >= c.now
	})
	s.end = s.start + c.decodeTime(s.iterations)
}

// pages is how many slots the jobs need for n more tokens each.
func (c *Core) pages(jobs []*Job, n int) int {
	if c.cfg.Page == 1 {
		return n * len(jobs)
	}
	sum := 0
	for _, j := range jobs {
		sum += c.cache.ceil(j.kv+n) - c.cache.ceil(j.kv)
	}
	return sum
}

func (c *Core) finishDecode() {
	n := c.step.iterations
	c.totals.Decodes += int64(n)
	c.totals.Output += int64(n) * int64(len(c.running))
	c.makeRoom(c.pages(c.running, n))
	for _, j := range c.running {
		j.kv += n
		j.Produced += n
		c.own(j, c.cache.ceil(j.kv)-j.shared)
	}
	c.contexts += n * len(c.running)
	if !c.cfg.Leap {
		c.out.Emitted = append(c.out.Emitted, c.running...)
	}
	decay := (c.startRatio() - c.endRatio()) / ratioSteps
	c.ratio = max(c.ratio-float64(n)*decay, c.endRatio())
}

// retract sends jobs back to the queue, those with the least output and then the longest prompt first,
// until the others have room for some steps. What was cached of them stays; the rest is computed again.
func (c *Core) retract() {
	keep := slices.Clone(c.running)
	slices.SortStableFunc(keep, func(a, b *Job) int {
		return cmp.Or(cmp.Compare(b.Produced, a.Produced), cmp.Compare(a.Prompt, b.Prompt))
	})
	for len(keep) > 1 && c.pages(keep, retractSteps) > c.free()+c.cache.evictable() {
		j := keep[len(keep)-1]
		keep = keep[:len(keep)-1]
		c.contexts -= j.context()
		c.requeue(j)
	}
	c.running = slices.DeleteFunc(c.running, func(j *Job) bool { return j.phase == queued })
	if c.pages(c.running, 1) > c.free()+c.cache.evictable() {
		c.starve()
	}
	produced, wanted := 0, 0
	for _, j := range c.running {
		produced += j.Produced
		wanted += j.MaxNew
	}
	c.ratio = min(float64(produced+retractSteps*len(c.running))/float64(wanted+1), 1)
	c.full = false
}

// requeue gives up a job's memory, all but what the tree keeps, and puts it behind the waiting ones.
func (c *Core) requeue(j *Job) {
	c.release(j)
	j.phase = queued
	j.Retractions++
	c.totals.Retractions++
	c.waiting = append(c.waiting, j)
}

// yieldAll puts all admitted jobs back into the queue if a pause asked for it.
func (c *Core) yieldAll() {
	if !c.yield {
		return
	}
	c.yield = false
	if c.chunked != nil {
		c.requeue(c.chunked)
	}
	for _, j := range c.running {
		c.requeue(j)
	}
	c.running, c.chunked, c.contexts, c.full = nil, nil, 0, false
}

// starve ends the last running job when even alone it has no room: a partly prefilled one holds the rest.
func (c *Core) starve() {
	for _, j := range c.running {
		c.contexts -= j.context()
		c.commit(j, c.now)
		c.release(j)
		c.end(j, Starved, c.now)
		c.out.Ended = append(c.out.Ended, j)
	}
	c.running = c.running[:0]
}
