package core

import (
	"math"
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

// fewHolders is how many holders of a prefix are priced one by one. A prefix that more of them hold, a system prompt, is
// taken to be held by everybody until a worker is looked at.
const fewHolders = 64

// A search looks for the worker with the lowest price, then the least work.
type search struct {
	pool     *Pool
	now      time.Time
	req      *wire.AssignRequest
	ask      Ask
	perToken float64

	scale scale     // of the shelf
	index *index    // that is looked through
	floor Candidate // Uncached is at most what any worker not yet priced would compute
	found bool
	price float64
	best  Candidate
}

// cheapest finds the worker that the radix policy would pick of all candidates, or the last one if that is a candidate,
// without a look at each of them. It is nil when every candidate's engine is in trouble, and when there is none. The
// result is valid until the next call.
func (p *Pool) cheapest(now time.Time, req *wire.AssignRequest, ask Ask, last *worker) *Candidate {
	s := &p.search
	*s = search{pool: p, now: now, req: req, ask: ask, perToken: p.perToken(req), price: math.Inf(1)}
	if last != nil {
		if s.consider(last); s.found {
			return &s.best
		}
	}
	var held int64
	for i := range req.Digests {
		var rest int
		p.holders, rest = p.tree.MatchDeepest(tree.Path(req.Digests[i].Hashes), fewHolders, p.holders[:0])
		for _, h := range p.holders {
			if w := p.byIndex[h.Worker]; w != nil {
				s.consider(w)
			}
		}
		held += p.cfg.Cost(rest)
	}
	s.floor.Uncached = ask.Prompt - int64(min(float64(held)/s.perToken, float64(ask.Prompt-1)))
	for i := range p.shelves {
		shelf := &p.shelves[i]
		if shelf.empty() || shelf.full && req.Flags&wire.FlagLight == 0 {
			continue
		}
		s.index, s.scale = &shelf.index, p.seconds(now)
		if shelf.tokens {
			s.scale = p.tokens(now)
		}
		s.below(1)
	}
	if !s.found {
		return nil
	}
	return &s.best
}

// below looks at the workers below a node, unless it tells that none of them is better. It goes to the more promising side
// first, and as deep as the logarithm of the fleet.
func (s *search) below(node int) {
	if !s.hopes(s.bound(node)) {
		return
	}
	if leaf := node - s.index.leaves; leaf >= 0 {
		s.consider(s.pool.byIndex[leaf])
		return
	}
	first, second := 2*node, 2*node+1
	if a, b := s.bound(first), s.bound(second); b.less(a) {
		first, second = second, first
	}
	s.below(first)
	s.below(second)
}

// A cost is what workers are chosen by.
type cost struct{ price, work float64 }

func (c cost) less(than cost) bool {
	return c.price < than.price || c.price == than.price && c.work < than.work
}

// bound is at most the cost of every worker below a node that has not been priced.
func (s *search) bound(node int) cost {
	f := &s.index.nodes[node]
	if *f == nobody {
		return cost{math.Inf(1), math.Inf(1)}
	}
	s.scale.fill(&s.floor, f)
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
