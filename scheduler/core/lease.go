package core

import (
	"math"
	"sort"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// A lease counts one attempt on one worker.
type lease struct {
	key      wire.AttemptKey
	number   uint64
	worker   *worker
	newer    *lease // in the worker's list, which is in the order of expiry
	older    *lease
	expires  time.Time
	reported uint64 // the worker's last report that named it; 0 = none did

	digests   []wire.Digest
	sure      []int      // blocks of each digest that are held whatever becomes of this attempt
	matched   bool       // some of its (last) path was held when it was assigned,
	stamp     tree.Stamp // and this was the stamp of the deepest such block: what is missing later was no younger
	prompt    int64      // tokens, estimated
	predicted int64      // tokens of it believed cached, at most prompt
	body      uint64     // the request's fingerprint
	priority  int32      // the engine's own, see stamp
	light     bool       // no generation: its end teaches nothing
	aside     bool       // it takes no slot
	alone     bool       // nothing was waiting to be prefilled when it was assigned
	sibling   bool       // another lease on the worker was using the deepest block matched
}

// uncached is what the attempt was expected to prefill, in tokens.
func (l *lease) uncached() int64 { return l.prompt - l.predicted }

// place reserves and tells, in the step that chose.
func (p *Pool) place(now time.Time, req *wire.AssignRequest, c *Candidate) {
	w := c.worker
	p.numbers++
	key := wire.AttemptKey{Request: req.Request, Attempt: req.Attempt, Instance: w.info.Instance}
	if before := p.leases[key]; before != nil { // asked again: the first answer was lost
		p.abandon(now, before)
	}
	delete(p.over.of, key)
	p.reserve(now, &lease{
		key: key, number: p.numbers, worker: w, digests: req.Digests, prompt: c.Prompt, predicted: c.Predicted,
		body: req.Fingerprint, priority: req.EnginePriority, light: req.Flags&wire.FlagByLoad != 0,
		aside: req.Flags&wire.FlagLight != 0,
	})
	p.follow(now, req.Tenant, req.Session, req.Flags, w.info.Worker)
	if c.Loads {
		w.loaded[req.LoRA] = true // by the time that the next request looks
	}

	millis, prompt, predicted := uint32(p.cfg.LeaseFor.Milliseconds()), uint32(c.Prompt), uint32(c.Predicted)
	said := new(decision)
	said.placement[0] = wire.Placement{
		Role: wire.Whole, Worker: w.info.Worker, Instance: w.info.Instance, Region: w.info.Region,
		Lease: p.numbers, LeaseMillis: millis, Prompt: prompt, Predicted: predicted,
	}
	if w.info.DPSize > 1 {
		said.placement[0].Edits = []wire.Edit{{Key: "routed_dp_rank", Value: strconv.AppendInt(nil, int64(w.info.DPRank), 10)}}
	}
	said.reply = wire.AssignReply{
		Request: req.Request, Attempt: req.Attempt, Scheduler: p.cfg.Scheduler, Verdict: wire.Placed, Placements: said.placement[:],
	}
	said.event = wire.Assigned{
		Region: w.info.Region, Pool: p.cfg.Pool, Request: req.Request, Attempt: req.Attempt,
		Worker: w.info.Worker, Instance: w.info.Instance, Lease: p.numbers, LeaseMillis: millis,
		Model: req.Model, Tenant: req.Tenant, Session: req.Session, Priority: req.Priority, Policy: p.cfg.Policy,
		Prompt: prompt, Predicted: predicted, MaxTokens: req.MaxTokens, Digests: req.Digests,
		Fingerprint: req.Fingerprint, EnginePriority: req.EnginePriority, Flags: req.Flags,
	}
	p.outputs = append(p.outputs, Output{Reply: &said.reply}, Output{Event: &said.event})
}

// A decision is what is said of a placement, in one piece of memory.
type decision struct {
	reply     wire.AssignReply
	placement [1]wire.Placement
	event     wire.Assigned
}

// reserve counts the lease on its worker and inserts its paths, so that siblings follow it before it has run.
func (p *Pool) reserve(now time.Time, l *lease) {
	w := l.worker
	backlog := p.backlogOf(now, w)
	l.alone = backlog < 1
	l.sure = make([]int, len(l.digests))
	for i := range l.digests {
		path := tree.Path(l.digests[i].Hashes)
		held := p.tree.Held(w.index, path)
		l.sure[i] = held
		if held > 0 {
			l.stamp, l.matched = p.tree.StampAt(w.index, path, held)
			l.sibling = l.sibling || w.uses(path, held-1)
		}
		p.tree.Insert(w.index, path, w.stamp(now, l.priority))
	}
	l.expires = now.Add(p.cfg.LeaseFor)
	w.add(l)
	w.coin = p.rng.Float64()
	p.setBacklog(now, w, backlog+float64(l.uncached()))
	p.show(w)
	p.leases[l.key] = l
}

// stamp orders what the worker holds as its engine will evict it. SGLang's eviction by priority takes the smallest
// (priority, time of last use) first, and a node keeps the largest priority that it has seen; ours keeps with it the time of
// that use, and not a later one of a smaller priority. All other orders are taken for that of last use.
func (w *worker) stamp(now time.Time, priority int32) tree.Stamp {
	if w.info.EvictionPolicy != "priority" {
		return tree.Stamp(now.UnixNano())
	}
	const ticks = 32 // a second: two years of them fit below a priority
	tick := min(max(0, now.Sub(w.joined)/(time.Second/ticks)), math.MaxInt32)
	return tree.Stamp(int64(priority)<<31 + int64(tick))
}

// uses tells whether a lease on w has the block of path at depth, from 0, in its own paths.
func (w *worker) uses(path tree.Path, depth int) bool {
	for l := range w.leases() {
		for i := range l.digests {
			if hs := l.digests[i].Hashes; depth < len(hs) && hs[depth] == path[depth] {
				return true
			}
		}
	}
	return false
}

// release takes the lease off its worker.
func (p *Pool) release(now time.Time, l *lease) {
	w := l.worker
	backlog := p.backlogOf(now, w)
	w.remove(l)
	if most := float64(w.uncached); backlog > most {
		p.setBacklog(now, w, most)
	}
	p.show(w)
	delete(p.leases, l.key)
	p.over.add(l.key, nil)
}

// confirm records that all of the lease's paths are held: nobody else has to compute them any more.
func (l *lease) confirm() {
	for i := range l.digests {
		for other := range l.worker.leases() {
			for j := range other.digests {
				other.sure[j] = max(other.sure[j], common(l.digests[i].Hashes, other.digests[j].Hashes))
			}
		}
	}
}

// abandon ends a lease of which nothing is known: what it would have computed is not believed to be held, except for
// what another attempt there needs too: that one computes it now.
func (p *Pool) abandon(now time.Time, l *lease) {
	p.release(now, l)
	for i := range l.digests {
		path, sure := l.digests[i].Hashes, l.sure[i]
		keep := sure
		for other := range l.worker.leases() {
			for j := range other.digests {
				if shared := common(path, other.digests[j].Hashes); shared > sure {
					other.sure[j] = min(other.sure[j], sure)
					keep = max(keep, shared)
				}
			}
		}
		p.tree.Truncate(l.worker.index, tree.Path(path), keep)
	}
}

// common is how many leading blocks two paths share. Each hash commits to all before it, so the rest is a search.
func common(a, b []uint64) int {
	n := min(len(a), len(b))
	if n == 0 || a[0] != b[0] {
		return 0
	}
	return sort.Search(n, func(i int) bool { return a[i] != b[i] })
}

// maxOver bounds the endings remembered: some seconds' worth of a busy pool.
const maxOver = 4096

// endings remembers which attempts were over lately, since events of different publishers overtake each other: an
// attempt must not be counted after its end. The value is nil when its lease has been here, and otherwise what its
// worker said before the peer's decision arrived.
type endings struct {
	of    map[wire.AttemptKey]*wire.Finished
	order []wire.AttemptKey // a ring
	next  int
}

func (e *endings) add(key wire.AttemptKey, f *wire.Finished) {
	if _, known := e.of[key]; known {
		return
	}
	if len(e.order) < maxOver {
		e.order = append(e.order, key)
	} else {
		delete(e.of, e.order[e.next])
		e.order[e.next] = key
		e.next = (e.next + 1) % maxOver
	}
	e.of[key] = f
}
