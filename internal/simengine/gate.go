package simengine

import (
	"context"
	"net/http"
	"slices"
)

// start brings a request to the scheduler: it is named, waits until the engine takes new ones, finds its
// adapters and its session, and is queued. On an error nothing of it is left behind.
func (e *Engine) start(ctx context.Context, q *request) (err error) {
	if q.fault != nil {
		return q.fault
	}
	if err := q.normalize(); err != nil {
		return err
	}
	if err := e.register(q); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			e.leave(q)
		}
	}()
	if err := e.enter(ctx, q); err != nil {
		return err
	}
	if err := e.prepare(ctx, q); err != nil {
		return err
	}
	if q.n > 1 {
		if err := e.fillFirst(ctx, q); err != nil {
			return err
		}
	}
	for _, s := range q.seqs {
		e.speakTo(s)
	}
	return e.dispatch(q)
}

// register makes the request's rids live.
func (e *Engine) register(q *request) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.rank != nil && !(*q.rank == 0 && len(e.ranks) == 1) && (*q.rank < 0 || *q.rank >= len(e.ranks)) {
		return valuef("routed_dp_rank=%d out of range [0, %d)", *q.rank, len(e.ranks))
	}
	switch e.state {
	case drained, crashed, over:
		return errGone
	case starting, serving, draining:
	}
	for _, rid := range q.rids {
		if e.live[rid] != nil {
			return valuef("Duplicate request ID detected: %s", rid)
		}
	}
	for i, rid := range q.rids {
		e.add(q, q.newSequence(i, rid))
	}
	q.weights = e.weights
	return nil
}

func (e *Engine) add(q *request, s *sequence) {
	q.seqs = append(q.seqs, s)
	q.id = q.seqs[0].rid
	q.unended++
	e.live[s.rid] = s
}

// enter waits while the engine is paused or takes on new weights. A request that waits here is unknown to
// the scheduler: neither the load nor an abort has it.
func (e *Engine) enter(ctx context.Context, q *request) error {
	for {
		e.mu.Lock()
		changed := e.changed
		switch e.state {
		case drained, crashed, over:
			e.mu.Unlock()
			return errGone
		case starting, serving, draining:
		}
		if !e.updating && e.pausedBy == "" {
			q.inside = true
			e.inside++
			q.weights = e.weights
			e.mu.Unlock()
			return nil
		}
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// prepare finds the adapters and checks every prompt.
func (e *Engine) prepare(ctx context.Context, q *request) error {
	if err := e.acquire(ctx, q); err != nil {
		return err
	}
	if !q.embeds && e.cfg.Embedding {
		return e.kills("an embedding model cannot generate.")
	}
	for i, p := range q.prompts {
		if p.poison != "" && !(q.session != nil && len(p.tokens) == 0) {
			return e.kills(p.poison)
		}
		if n := len(p.tokens); n >= e.cfg.ContextLength {
			return valuef("The input (%d tokens) is longer than the model's context length (%d tokens).", n, e.cfg.ContextLength)
		}
		s := &q.sampling[i]
		if s.limit != nil && len(p.tokens)+*s.limit > e.cfg.ContextLength {
			return valuef("Requested token count exceeds the model's maximum context length of %d tokens. "+
				"You requested a total of %d tokens: %d tokens from the input messages and %d tokens for the completion. "+
				"Please reduce the number of tokens in the input messages or the completion to fit within the limit.",
				e.cfg.ContextLength, len(p.tokens)+*s.limit, len(p.tokens), *s.limit)
		}
		if q.embeds && !e.cfg.Embedding && !q.scores {
			return valuef("This model does not appear to be an embedding model by default. " +
				"Please add `--is-embedding` when launching the server or try another model.")
		}
		if err := s.verify(); err != nil {
			return err
		}
	}
	return nil
}

// kills is the end of an engine that a request would kill, if it may be; otherwise the request fails.
func (e *Engine) kills(why string) error {
	if !e.cfg.Poison {
		return &valueError{why}
	}
	e.poison()
	return errGone
}

// fillFirst computes every prompt once, so that the choices of each find it cached, and puts the choices in
// the place of the sequences that the client named. Their rids are new.
func (e *Engine) fillFirst(ctx context.Context, q *request) error {
	heads := q.seqs
	for i := range q.prompts {
		first := &sequence{request: q, rid: newRID(), prompt: i, wake: q.wake, history: q.prompts[i].tokens, prefillOnly: true}
		e.speakTo(first)
		e.mu.Lock()
		q.unended++
		e.live[first.rid] = first
		e.submit(first)
		e.mu.Unlock()
		if !e.wait(ctx, q, []*sequence{first}) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errGone
		}
		if first.refused != nil && !q.stream {
			return first.refused
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	q.seqs = nil
	for i := range q.prompts {
		for range q.n {
			e.add(q, q.newSequence(i, newRID()))
		}
	}
	for _, s := range heads {
		e.forget(s)
	}
	return nil
}

// speakTo gives a sequence its rank, its history and its answer.
func (e *Engine) speakTo(s *sequence) {
	q, p := s.request, &s.request.sampling[s.prompt]
	e.mu.Lock()
	s.rank = e.pick(q.rank)
	if q.session != nil {
		var replaced []*sequence
		replaced, s.refused = s.rank.resume(s, q.session)
		e.abortLocked(replaced)
	}
	e.mu.Unlock()
	if len(s.history) == 0 && s.refused == nil {
		s.refused = &rejection{"A session request must contain input tokens after restoring history.", http.StatusBadRequest, "BadRequestError"}
	}
	if s.refused != nil {
		return
	}
	most := s.rank.core.MaxNew(len(s.history)) // reads the configuration only
	s.job = Job{Tokens: s.history, Prompt: len(s.history), Space: q.space(s.prompt), Priority: q.priority, Owner: s}
	if q.embeds || s.prefillOnly {
		return
	}
	s.job.MaxNew = p.reserve(most)
	tokens := slices.Grow(slices.Clone(s.history), min(most, e.cfg.DefaultTokens))
	s.job.Tokens, s.answer = e.voice.speak(tokens, p.speech(most, e.cfg.DefaultTokens, e.nonce))
}

// dispatch queues the sequences. One that the scheduler does not take has ended thereby; the others go on.
func (e *Engine) dispatch(q *request) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.state {
	case drained, crashed, over:
		return errGone
	case starting, serving, draining:
	}
	q.started = true
	for _, s := range q.seqs {
		e.submit(s)
	}
	if q.unended == 0 {
		e.exit(q)
	}
	return nil
}

// leave forgets a request that did not get to its end.
func (e *Engine) leave(q *request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range q.seqs {
		if e.live[s.rid] == s && !s.queued {
			e.forget(s)
		}
	}
	e.exit(q)
	e.settleDrain()
}

// exit lets go of what a request held inside the gate.
func (e *Engine) exit(q *request) {
	if !q.inside {
		return
	}
	q.inside = false
	e.inside--
	e.releaseAdapters(q)
	e.settleIdle()
}
