package simengine

import (
	"slices"
	"time"
)

// reap ends the running jobs that are aborted or have said everything.
func (c *Core) reap(at time.Duration) {
	before := len(c.running)
	c.running = slices.DeleteFunc(c.running, func(j *Job) bool {
		if !j.abort && j.left() > 0 {
			return false
		}
		c.contexts -= j.context()
		c.retire(j, at)
		return true
	})
	if j := c.chunked; j != nil && j.abort {
		c.chunked = nil
		c.retire(j, at)
	}
	if len(c.running) < before || len(c.running) == 0 {
		c.full = false
	}
}

// retire caches what an admitted job has computed, frees the rest and ends it.
func (c *Core) retire(j *Job, at time.Duration) {
	how := Finished
	if j.abort && j.left() > 0 {
		how = Aborted
	}
	c.commit(j, at)
	c.release(j)
	c.end(j, how, at)
	c.out.Ended = append(c.out.Ended, j)
}

// commit moves what a job has computed into the tree, in whole pages, and locks the new end of its path.
// Slots whose tokens the tree already holds are freed.
func (c *Core) commit(j *Job, at time.Duration) {
	upto := c.cache.floor(j.kv)
	if upto < j.shared {
		return
	}
	end, _ := c.cache.insert(j.node, j.Tokens[j.shared:upto], int64(at), j.Priority)
	if end != j.node {
		c.cache.lock(end)
		c.cache.unlock(j.node)
	}
	c.own(j, j.owned-(upto-j.shared))
	j.node, j.shared = end, upto
}

// release frees a job's slots and lets go of its path.
func (c *Core) release(j *Job) {
	c.own(j, 0)
	c.cache.unlock(j.node)
	j.node, j.shared, j.kv = nil, 0, 0
}

func (c *Core) own(j *Job, slots int) {
	c.owned += slots - j.owned
	j.owned = slots
}

func (c *Core) end(j *Job, how Ending, at time.Duration) {
	j.phase, j.Ended, j.Last, j.node = gone, how, at, nil
	if how == Finished {
		c.totals.Finished++
	} else {
		c.totals.Aborted++
	}
}
