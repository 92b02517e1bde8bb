package core

import (
	"math"
	"slices"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// A shelf is an index of the workers whose figures have the same units, and which are full or are not.
type shelf struct {
	index
	tokens bool // the units of workers of which no rate is known; see scale
	full   bool // open to requests that take no slot
}

// shelves are all there are: every worker that is ready and not suspect is on one of them.
type shelves [4]shelf

func (s *shelves) of(w *worker) *shelf {
	at := &s[0]
	switch tokens, full := w.samples == 0, w.slots() == 0; {
	case tokens && full:
		at = &s[3]
	case full:
		at = &s[2]
	case tokens:
		at = &s[1]
	}
	at.tokens, at.full = at == &s[1] || at == &s[3], at == &s[2] || at == &s[3]
	return at
}

// show brings the index up to date after something about the worker has changed. It takes time for the logarithm of the fleet.
func (p *Pool) show(w *worker) {
	if !p.priced {
		return
	}
	if w.state != wire.Ready || w.suspect {
		p.hide(w)
		return
	}
	to := p.shelves.of(w)
	if w.shelf != to {
		p.hide(w)
		w.shelf = to
	}
	to.set(int(w.index), figuresOf(w))
}

func (p *Pool) hide(w *worker) {
	if w.shelf != nil {
		w.shelf.set(int(w.index), nobody)
		w.shelf = nil
	}
}

// suspect gives the worker nothing until it reports.
func (p *Pool) suspect(w *worker) {
	w.suspect = true
	p.show(w)
}

// searches tells whether the request's worker is on a shelf if there is one. A draining worker is on none, and
// one that a session is bound to needs no search.
func (p *Pool) searches(req *wire.AssignRequest) bool {
	return p.priced && req.Flags&(wire.FlagKept|wire.FlagBound|wire.FlagOpens) == 0
}

// fewHolders is how many holders of a part of the prompt are priced one by one. Where more of them hold it, as they do
// a system prompt, the search goes to the cheapest.
const fewHolders = 16

// A search looks for the worker with the lowest price, then the least work.
type search struct {
	pool     *Pool
	now      time.Time
	req      *wire.AssignRequest
	ask      Ask
	perToken float64
	levels   [][]tree.Level // of each digest, those whose holders have not been priced

	scale scale     // of the shelf
	index *index    // that is looked through
	floor Candidate // of workers below a node: figures that none of them is below
	found bool
	price float64
	best  Candidate
}

// cheapest finds the worker that the radix policy would pick of all candidates, or the last one if that is a candidate,
// without a look at each of them. It is nil when every candidate's engine is in trouble, and when there is none. The
// result is valid until the next call.
func (p *Pool) cheapest(now time.Time, req *wire.AssignRequest, ask Ask, last *worker) *Candidate {
	s := &p.search
	*s = search{
		pool: p, now: now, req: req, ask: ask, perToken: p.perToken(req), levels: s.levels, price: math.Inf(1),
		floor: Candidate{Prompt: ask.Prompt},
	}
	if last != nil {
		if s.consider(last); s.found {
			return &s.best
		}
	}
	s.holders()
	for i := range p.shelves {
		shelf := &p.shelves[i]
		if shelf.empty() || shelf.full && req.Flags&wire.FlagLight == 0 {
			continue
		}
		s.index, s.scale = &shelf.index, p.seconds(now)
		if shelf.tokens {
			s.scale = p.tokens(now)
		}
		s.below(1, 0, tree.Worker(s.index.leaves))
	}
	if !s.found {
		return nil
	}
	return &s.best
}

// holders prices those who hold most of the prompt, as long as they are few.
func (s *search) holders() {
	s.levels = slices.Grow(s.levels[:0], len(s.req.Digests))[:len(s.req.Digests)]
	for i := range s.levels {
		levels := s.pool.tree.Levels(tree.Path(s.req.Digests[i].Hashes), s.levels[i][:0])
		few := 0
		for few < len(levels) && levels[few].Holders() <= fewHolders {
			few++
		}
		if few > 0 { // the last of them has the holders of all
			for holder := range levels[few-1].All() {
				s.consider(s.pool.byIndex[holder])
			}
		}
		s.levels[i] = slices.Delete(levels, 0, few)
	}
}

// below looks at the workers of a node, whose indices are from first on and below end, unless it tells that none of them is
// better. It goes to the more promising side first, and as deep as the logarithm of the fleet.
func (s *search) below(node int, first, end tree.Worker) {
	if end-first == 1 {
		s.consider(s.pool.byIndex[first])
		return
	}
	mid := first + (end-first)/2
	left, right := s.bound(2*node, first, mid), s.bound(2*node+1, mid, end)
	if right.less(left) {
		if s.hopes(right) {
			s.below(2*node+1, mid, end)
		}
		if s.hopes(left) {
			s.below(2*node, first, mid)
		}
		return
	}
	if s.hopes(left) {
		s.below(2*node, first, mid)
	}
	if s.hopes(right) {
		s.below(2*node+1, mid, end)
	}
}

// A cost is what workers are chosen by.
type cost struct{ price, work float64 }

func (c cost) less(than cost) bool {
	return c.price < than.price || c.price == than.price && c.work < than.work
}

// bound is at most the cost of every worker of a node that has not been priced.
func (s *search) bound(node int, first, end tree.Worker) cost {
	f := &s.index.nodes[node]
	if *f == nobody {
		return cost{math.Inf(1), math.Inf(1)}
	}
	s.scale.fill(&s.floor, f)
	s.floor.HeldBytes = 0
	for i := range s.levels {
		for _, l := range s.levels[i] {
			if l.Any(first, end) {
				s.floor.HeldBytes += s.pool.cfg.Cost(l.Depth)
				break
			}
		}
	}
	s.floor.Predicted = cachedTokens(float64(s.floor.HeldBytes)/s.perToken, s.ask.Prompt)
	s.floor.Uncached = s.ask.Prompt - s.floor.Predicted
	return cost{price(&s.floor, s.ask.Output), f.work}
}

// hopes tells whether a worker of that cost would be the best so far.
func (s *search) hopes(c cost) bool {
	return c.less(cost{s.price, s.best.Work})
}

// consider prices the worker if it is a candidate that nothing speaks against, and keeps it if it is the best so far.
func (s *search) consider(w *worker) {
	p := s.pool
	if !p.eligible(w, s.req) || w.suspect || !w.hasRoom(s.now, s.req) || s.now.Before(w.troubledUntil) {
		return
	}
	c := Candidate{worker: w, Worker: w.info.Worker, Prompt: s.ask.Prompt, Uncached: s.ask.Prompt, Loads: w.loads(s.req.LoRA)}
	for i := range s.req.Digests {
		c.HeldBytes += p.cfg.Cost(p.tree.Held(w.index, tree.Path(s.req.Digests[i].Hashes)))
	}
	c.credit(s.perToken)
	f := figuresOf(w)
	p.scaleOf(s.now, w).fill(&c, &f)
	if is := (cost{price(&c, s.ask.Output), c.Work}); s.hopes(is) {
		s.found, s.price, s.best = true, is.price, c
	}
}
