package simengine

import (
	"sync/atomic"
)

// A sequence is one answer in the making: a choice of one prompt of a request. Run's goroutine publishes
// its progress; the request's handler reads it. A handler may read the job's Cached, Admitted and First
// once a token was published, and all of it once the end was.
type sequence struct {
	request     *request
	job         Job
	rank        *rank
	rid         string
	prompt      int     // among the request's prompts
	index       int     // among the request's sequences
	history     []int32 // the prompt, after what its session holds
	prefillOnly bool    // only fills the cache
	parent      *turn   // the session's turn that it continues
	answer      answer
	refused     *rejection // by the scheduler; it never ran

	wake     chan struct{} // shared by the request's sequences; holds one token
	produced atomic.Int64
	ending   atomic.Int64 // an Ending, refused or lost

	queued    bool // the scheduler has had it; guarded by the engine's mutex
	abortSent bool // an abort is not sent twice; likewise

	sent   int  // tokens written by the handler
	opened bool // the handler wrote its beginning
	closed bool // the handler wrote the end
}

// Endings besides a job's own.
const (
	refused Ending = 254 // the scheduler did not take it
	lost    Ending = 255 // its engine died: the connection is broken off
)

func (s *sequence) advance(produced int) {
	s.produced.Store(int64(produced))
	s.poke()
}

func (s *sequence) finish(how Ending) {
	s.ending.Store(int64(how))
	s.poke()
}

func (s *sequence) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// progress returns the tokens produced so far and how it ended; the end is read first, so that no token is
// missing from an ended sequence.
func (s *sequence) progress() (int, Ending) {
	how := Ending(s.ending.Load())
	return int(s.produced.Load()), how
}

// text is the answer's text after n tokens.
func (s *sequence) text(n int) string {
	if n == 0 {
		return ""
	}
	return s.answer.text[:s.answer.ends[n-1]]
}

// reason is the finish_reason of an ended sequence.
func (s *sequence) reason(how Ending) string {
	if how == Finished {
		if s.job.Produced < len(s.answer.ends) {
			return "length" // clipped to the pool
		}
		return s.answer.reason
	}
	return "abort"
}

// matched is what stopped it, or nil.
func (s *sequence) matched(how Ending) any {
	if how == Finished && s.job.Produced == len(s.answer.ends) {
		return s.answer.match
	}
	return nil
}

func (s *sequence) output(n int) []int32 { return s.job.Tokens[s.job.Prompt : s.job.Prompt+n] }

// admitted says whether the scheduler ever ran it. One aborted in the queue is told of without counts.
func (s *sequence) admitted(n int, how Ending) bool {
	return how != refused && (n > 0 || how == Finished || s.job.Admitted > 0)
}

// counts are the prompt's tokens and those found cached, as usage has them.
func (s *sequence) counts(n int, how Ending) (prompt, cached int) {
	if !s.admitted(n, how) {
		return 0, 0
	}
	return s.job.Prompt, s.job.Cached
}
