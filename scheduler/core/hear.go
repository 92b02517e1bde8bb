package core

import (
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// Report takes an adapter's account of what it runs: it confirms leases, and ends those that it named before and
// names no more.
func (p *Pool) Report(now time.Time, r *wire.Load) {
	w := p.workers[r.Worker]
	if w == nil || w.info.Instance != r.Instance {
		return
	}
	w.suspect = false
	w.foreign = 0
	w.reports++
	for _, ref := range r.Leases {
		l := p.leases[wire.AttemptKey{Request: ref.Request, Attempt: ref.Attempt, Instance: r.Instance}]
		if l == nil || l.worker != w {
			w.foreign++
			continue
		}
		l.reported, l.expires = w.reports, now.Add(p.cfg.LeaseFor)
		w.unlink(l)
		w.link(l)
	}
	p.show(w)
	if !r.Truncated {
		for l := range w.leases() {
			if l.reported != 0 && l.reported != w.reports {
				p.release(now, l) // its finished event was lost; what it computed is there
				l.confirm()
			}
		}
	}
	p.wake(now)
}

// Peer applies another scheduler's decision. Its lease lives as long as one of our own.
func (p *Pool) Peer(now time.Time, e *wire.Assigned) {
	w := p.workers[e.Worker]
	if w == nil || w.info.Instance != e.Instance || w.count >= wire.MaxLeases {
		return
	}
	key := wire.AttemptKey{Request: e.Request, Attempt: e.Attempt, Instance: e.Instance}
	early, over := p.over.of[key]
	if p.leases[key] != nil || over && early == nil {
		return
	}
	prompt := min(int64(e.Prompt), maxPrompt)
	l := &lease{
		key: key, number: e.Lease, worker: w, digests: e.Digests, prompt: prompt, predicted: min(int64(e.Predicted), prompt), body: e.Fingerprint, priority: e.EnginePriority,
		light: e.Flags&wire.FlagByLoad != 0, aside: e.Flags&wire.FlagLight != 0,
	}
	p.reserve(now, l)
	p.follow(now, e.Tenant, e.Session, e.Flags, e.Worker)
	if early != nil { // its end was heard first
		l.alone = false
		p.Finished(now, early)
	}
}

// Tick ends leases and holds whose time is over. Call it a few times a second.
func (p *Pool) Tick(now time.Time) {
	for _, w := range p.order {
		for w.oldest != nil && now.After(w.oldest.expires) {
			p.abandon(now, w.oldest)
		}
	}
	p.wake(now)
	p.tickHeld(now)
}
