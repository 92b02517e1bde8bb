package simengine

import (
	"cmp"
	"slices"
)

// budget is what a prefill batch may still take; see SGLang's PrefillAdder.
type budget struct {
	input   int     // max_prefill_tokens
	chunk   int     // chunked_prefill_size
	pledged float64 // tokens promised to running jobs and to this batch
	granted int     // new tokens of this batch
}

type verdict uint8

const (
	admitted verdict = iota
	noMemory         // nobody is admitted until a running job ends
	noBudget         // this batch is complete
)

// formPrefill chooses the next prefill batch and allocates its memory. It returns the batch's duration in
// milliseconds, or false when there is none.
func (c *Core) formPrefill() (ms float64, ok bool) {
	if c.chunked == nil && (c.full || len(c.waiting) == 0) {
		return 0, false
	}
	if c.chunked == nil && len(c.running) >= c.cfg.MaxRunning {
		c.full = true
		return 0, false
	}
	c.order()
	b := budget{input: c.cfg.MaxPrefill, chunk: c.cfg.Chunk}
	for _, j := range c.running {
		b.pledged += float64(j.reserve()) * c.ratio
	}
	if c.chunked != nil {
		c.continueChunk(&b)
	}
	taken := 0
	for _, j := range c.waiting {
		if c.active() >= c.cfg.MaxRunning {
			c.full = true
			break
		}
		v := c.admit(j, &b)
		if v == noMemory && c.active() == 0 {
			v = c.admitAlone(j, &b)
		}
		if v != admitted {
			c.full = v == noMemory
			break
		}
		taken++
		if left := c.left(&b); left <= 0 {
			c.full = true
			break
		} else if b.input <= 0 || b.chunk <= 0 {
			break
		}
	}
	clear(c.waiting[:taken])
	c.waiting = c.waiting[taken:]
	if len(c.waiting) == 0 {
		c.waiting = nil // let the spent front of the array go
	}
	if len(c.batch) == 0 {
		return 0, false
	}
	return c.allocate(), true
}

// parked is 1 while a job is prefilled in part and not in the batch.
func (c *Core) parked() int {
	if c.chunked != nil && !slices.Contains(c.batch, c.chunked) {
		return 1
	}
	return 0
}

// left is the memory that admission may still give away.
func (c *Core) left(b *budget) float64 {
	return float64(c.free()+c.cache.evictable()-b.granted) - b.pledged
}

func (c *Core) continueChunk(b *budget) {
	j := c.chunked
	room := min(b.chunk, int(max(c.left(b), 0)))
	want := j.fill() - j.kv
	if want > room {
		if room = c.cache.floor(room); room == 0 {
			return // decoding goes on and makes room
		}
		c.grant(j, room, 0, b)
		return
	}
	c.grant(j, want, j.reserve(), b)
	c.chunked = nil
}

// admit matches a waiting job and adds it to the batch if memory and budget allow.
func (c *Core) admit(j *Job, b *budget) verdict {
	c.rematch(j)
	extend := j.fill() - j.shared
	total := float64(extend + j.reserve() + c.cfg.Page)
	if total >= c.left(b) {
		return noMemory
	}
	whole := c.cache.ceil(extend)
	if whole >= b.input && len(c.batch) > 0 {
		return noBudget
	}
	// What the job itself matches is no longer evictable once it runs.
	c.cache.lock(j.node)
	if total >= c.left(b) {
		c.cache.unlock(j.node)
		return noMemory
	}
	if whole <= b.chunk {
		c.enter(j)
		c.grant(j, extend, j.reserve(), b)
		return admitted
	}
	part := c.cache.floor(b.chunk)
	if part == 0 {
		c.cache.unlock(j.node)
		return noBudget
	}
	c.enter(j)
	c.grant(j, part, 0, b)
	c.chunked = j
	return admitted
}

// admitAlone takes a job that the reserve rule turns away from an engine with nothing else to do (its
// output may not fit, its prompt does): waiting would change nothing.
func (c *Core) admitAlone(j *Job, b *budget) verdict {
	c.cache.lock(j.node)
	part := min(j.fill()-j.shared, c.cache.floor(b.chunk))
	c.enter(j)
	c.grant(j, part, 0, b)
	if j.shared+part < j.fill() {
		c.chunked = j
	}
	return admitted
}

func (c *Core) enter(j *Job) {
	j.phase, j.kv = prefilling, j.shared
	if j.Retractions > 0 {
		return
	}
	j.Cached, j.Admitted = j.shared, c.now
	c.totals.Prompt += int64(j.Prompt)
	c.totals.Cached += int64(j.Cached)
	c.entered = append(c.entered, j)
}

func (c *Core) grant(j *Job, tokens, output int, b *budget) {
	whole := c.cache.ceil(tokens)
	j.chunk = tokens
	b.input -= whole
	b.chunk -= whole
	b.granted += whole
	b.pledged += float64(output)
	c.batch = append(c.batch, j)
}

// allocate evicts for the batch, gives its jobs their slots, and returns its duration in milliseconds.
func (c *Core) allocate() float64 {
	need := 0
	for _, j := range c.batch {
		need += c.cache.ceil(j.kv+j.chunk) - j.shared - j.owned
	}
	c.makeRoom(need)
	ms := c.cfg.Profile.Batch
	for _, j := range c.batch {
		ms += c.cfg.Profile.PrefillWork(j.chunk, j.kv)
		c.own(j, c.cache.ceil(j.kv+j.chunk)-j.shared)
	}
	return ms
}

// makeRoom evicts until need slots are free, as far as it can.
func (c *Core) makeRoom(need int) {
	if short := need - c.free(); short > 0 {
		c.totals.Evicted += int64(c.cache.evict(short))
	}
}

// finishPrefill inserts what the batch has computed. A job whose prompt is complete says its first token.
func (c *Core) finishPrefill() {
	at := c.step.end
	c.totals.Prefills++
	for _, j := range c.batch {
		j.kv += j.chunk
		c.totals.Computed += int64(j.chunk)
		j.chunk = 0
		c.commit(j, at)
		if j == c.chunked {
			continue
		}
		j.phase = decoding
		if j.left() > 0 {
			if j.Produced++; j.Produced == 1 {
				j.First = at
			}
			c.totals.Output++
			c.out.Emitted = append(c.out.Emitted, j)
		}
		c.contexts += j.context()
		c.running = append(c.running, j)
	}
	clear(c.batch)
	c.batch = c.batch[:0]
	c.out.Admitted = append(c.out.Admitted, c.entered...)
	clear(c.entered)
	c.entered = c.entered[:0]
}

// order keeps the waiting jobs' prefixes young, as matching them does, and sorts them by policy.
func (c *Core) order() {
	if !c.cfg.LongestPrefixFirst || len(c.waiting) > lpmLimit {
		for _, j := range c.waiting[:min(len(c.waiting), touchedQueue)] {
			c.rematch(j)
		}
		return
	}
	// A job with next to nothing cached that starts like one before it is put behind all others, so that
	// one fills the cache for the rest.
	type head struct {
		space  string
		tokens [inBatch]int32
	}
	ahead := map[head]bool{}
	for _, j := range c.waiting {
		c.rematch(j)
		j.late = false
		if j.shared <= inBatch && j.fill() >= inBatch {
			h := head{j.Space, [inBatch]int32(j.Tokens)}
			j.late = ahead[h]
			ahead[h] = true
		}
	}
	slices.SortStableFunc(c.waiting, func(a, b *Job) int {
		switch {
		case a.late != b.late && a.late:
			return 1
		case a.late != b.late:
			return -1
		case a.late:
			return 0
		}
		return cmp.Compare(b.shared, a.shared)
	})
}

// rematch finds a waiting job's cached prefix, going on from the last match while that is still held.
func (c *Core) rematch(j *Job) {
	if j.node == nil || j.node.dead {
		j.node, j.shared = c.cache.root(j.Space), 0
	}
	j.node, j.shared = c.cache.match(j.node, j.shared, j.Tokens[:c.cache.usable(j.fill())], int64(c.now))
}
