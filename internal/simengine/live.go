package simengine

import (
	"strings"

	"github.com/google/uuid"
)

// submit hands a sequence to its rank's scheduler.
func (e *Engine) submit(s *sequence) {
	if s.refused == nil {
		if err := s.rank.core.Submit(e.now(), &s.job); err != nil {
			s.refused = reject(err)
		}
	}
	if s.refused != nil {
		now, j := e.now(), &s.job
		j.Submitted, j.Admitted, j.First, j.Last = now, now, now, now
		e.forget(s)
		s.finish(refused)
		return
	}
	s.queued = true
	s.rank.remember(s)
	e.poke()
}

// publish tells the handlers what a step brought about.
func (e *Engine) publish(out *Outcome) {
	e.measures.observe(out)
	if len(out.Emitted)+len(out.Ended) > 0 {
		e.lastSign = e.now()
	}
	for _, j := range out.Emitted {
		if s, ok := j.Owner.(*sequence); ok {
			s.advance(j.Produced)
		}
	}
	for _, j := range out.Ended {
		if s, ok := j.Owner.(*sequence); ok {
			e.close(s)
		}
	}
}

// close publishes the end of a sequence whose job has ended.
func (e *Engine) close(s *sequence) {
	e.forget(s)
	e.measures.ended(&s.job)
	s.advance(s.job.Produced)
	s.finish(s.job.Ended)
	e.settleDrain()
}

// forget takes a sequence out of what is live.
func (e *Engine) forget(s *sequence) {
	if e.live[s.rid] != s {
		return
	}
	delete(e.live, s.rid)
	q := s.request
	if q.unended--; q.unended == 0 && q.started {
		e.exit(q)
	}
}

// abort ends the given sequences' jobs; their handlers hear of it when the step in flight ends.
func (e *Engine) abort(seqs ...*sequence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.abortLocked(seqs)
}

func (e *Engine) abortLocked(seqs []*sequence) {
	now := e.now()
	for _, s := range seqs {
		if !s.queued || s.job.Ended != Unended {
			continue
		}
		s.rank.core.Abort(now, &s.job)
		if s.job.Ended != Unended {
			e.close(s)
		}
	}
	e.poke()
}

// Abort ends the live requests whose rid begins with the given one, provided that it is the rid of a live
// request itself, and returns how many there were: the rule of a real engine. One that the scheduler has
// not seen yet is not ended, and not by a second try either.
func (e *Engine) Abort(rid string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	named := e.live[rid]
	if rid == "" || named == nil || named.abortSent {
		return 0
	}
	named.abortSent = true
	var hit []*sequence
	for id, s := range e.live {
		if s.queued && strings.HasPrefix(id, rid) {
			hit = append(hit, s)
		}
	}
	e.abortLocked(hit)
	return len(hit)
}

// AbortAll ends every request that the schedulers have, and returns how many there were.
func (e *Engine) AbortAll() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*sequence
	for _, s := range e.live {
		if s.queued {
			all = append(all, s)
		}
	}
	e.abortLocked(all)
	return len(all)
}

// drop breaks off every live request and forgets the caches and the sessions.
func (e *Engine) drop() {
	for _, k := range e.ranks {
		k.core.Crash(e.now())
		k.sessions = map[string]*session{}
	}
	for _, s := range e.live {
		e.forget(s)
		s.finish(lost)
	}
}

// nonce is a seed for one answer at a temperature above 0; never 0.
func (e *Engine) nonce() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.random.Uint64() | 1
}

// newRID mints a request id of 32 hexadecimal digits.
func newRID() string {
	id := uuid.New()
	return strings.ReplaceAll(id.String(), "-", "")
}
