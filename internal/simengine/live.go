package simengine

import (
	"strings"

	"github.com/google/uuid"
)

// submit registers and queues the sequences of one request: all of them or none. While new requests are
// held back it does neither and returns the channel that closes when that is over.
func (e *Engine) submit(seqs []*sequence) (hold <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hold != nil {
		return e.hold, nil
	}
	switch e.state {
	case drained, crashed, over:
		return nil, errGone
	case starting, serving, draining:
	}
	for _, s := range seqs {
		if len(e.live[s.rid]) > 0 {
			return nil, &duplicateError{s.rid}
		}
	}
	now := e.now()
	for i, s := range seqs {
		s.job.Owner = s
		if err := e.core.Submit(now, &s.job); err != nil {
			for _, earlier := range seqs[:i] {
				e.core.Abort(now, &earlier.job)
				e.forget(earlier)
			}
			return nil, err
		}
		e.live[s.rid] = append(e.live[s.rid], s)
		e.liveSeqs++
	}
	e.poke()
	return nil, nil
}

// publish tells the handlers what a step brought about.
func (e *Engine) publish(out *Outcome) {
	e.measures.observe(out)
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
	e.settleIdle()
	e.settleDrain()
}

func (e *Engine) forget(s *sequence) {
	list := e.live[s.rid]
	for i, other := range list {
		if other == s {
			list[i] = list[len(list)-1]
			e.live[s.rid] = list[:len(list)-1]
			e.liveSeqs--
			break
		}
	}
	if len(e.live[s.rid]) == 0 {
		delete(e.live, s.rid)
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
		if s.job.Ended != Unended {
			continue
		}
		e.core.Abort(now, &s.job)
		if s.job.Ended != Unended {
			e.close(s)
		}
	}
	e.poke()
}

// Abort ends the live requests whose rid begins with the given one, provided that it is the rid of a live
// request itself, and returns how many there were: the rule of a real engine.
func (e *Engine) Abort(rid string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if rid == "" || len(e.live[rid]) == 0 {
		return 0
	}
	var hit []*sequence
	for id, seqs := range e.live {
		if strings.HasPrefix(id, rid) {
			hit = append(hit, seqs...)
		}
	}
	e.abortLocked(hit)
	return len(hit)
}

// AbortAll ends every live request and returns how many there were.
func (e *Engine) AbortAll() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.allLive()
	e.abortLocked(all)
	return len(all)
}

func (e *Engine) allLive() []*sequence {
	var all []*sequence
	for _, seqs := range e.live {
		all = append(all, seqs...)
	}
	return all
}

// drop breaks off every live request and forgets the cache.
func (e *Engine) drop() {
	e.core.Crash(e.now())
	for _, s := range e.allLive() {
		e.forget(s)
		s.finish(lost)
	}
	e.settleIdle()
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
