package core

import (
	"slices"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// A body that breaks every engine it is given to would take down a fleet, worker after worker, as its client tries again.
// Bodies are told apart by their fingerprint; one that has been answered is above suspicion.
const (
	poisonAfter = 2                // engines broken in a row: one may have died of something else
	poisonFor   = time.Minute      // how long it is then given to nobody; it doubles with each further engine
	poisonMost  = 4 * time.Hour    // and that is its bound
	maxPoisons  = 4096             // bodies remembered, and then the oldest is forgotten
	poisonKept  = 15 * time.Minute // how long one broken engine is held against a body
)

// A poison is a body under suspicion.
type poison struct {
	broke int       // engines, in a row
	lives []life    // of the engines that did, the last few
	at    time.Time // when the last one did
	until time.Time // given to nobody before
}

// A life is one process of an engine: the instances of all its ranks, whichever of them had the body.
type life struct {
	engine string
	ranks  []wire.Instance
}

// poisons remembers bodies by their fingerprints. The zero value is empty.
type poisons struct {
	of    map[uint64]poison
	order []uint64 // a ring of fingerprints, some of which have been cleared since
	next  int
}

// broke notes that an engine broke off while a worker of it had the body. One death of an engine is counted once, however
// often it had the body.
func (p *poisons) broke(now time.Time, fingerprint uint64, instance wire.Instance, of life) {
	if fingerprint == 0 {
		return
	}
	if p.of == nil {
		p.of = make(map[uint64]poison)
	}
	one, known := p.of[fingerprint]
	if !known {
		p.remember(fingerprint)
	}
	if known && now.Sub(one.at) > poisonKept && now.After(one.until) {
		one = poison{}
	}
	if slices.ContainsFunc(one.lives, func(l life) bool { return l.engine == of.engine && slices.Contains(l.ranks, instance) }) {
		return
	}
	const few = 4
	one.lives = append(one.lives[max(0, len(one.lives)-few+1):], of)
	one.broke++
	one.at = now
	if over := one.broke - poisonAfter; over >= 0 {
		one.until = now.Add(min(poisonFor<<min(over, 16), poisonMost))
	}
	p.of[fingerprint] = one
}

func (p *poisons) remember(fingerprint uint64) {
	if len(p.order) < maxPoisons {
		p.order = append(p.order, fingerprint)
		return
	}
	delete(p.of, p.order[p.next])
	p.order[p.next] = fingerprint
	p.next = (p.next + 1) % maxPoisons
}

// answered clears a body: an engine has lived through it.
func (p *poisons) answered(fingerprint uint64) { delete(p.of, fingerprint) }

// refuses tells whether the body is to be given to nobody now.
func (p *poisons) refuses(now time.Time, fingerprint uint64) bool {
	one, known := p.of[fingerprint]
	return known && now.Before(one.until)
}
