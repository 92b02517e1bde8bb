package simengine

import (
	"errors"
	"fmt"
	"time"
)

// A Job is one sequence for a [Core] to compute. The caller fills the first block and leaves the Job alone
// from Submit until it is reported ended; the slice is neither changed nor kept.
type Job struct {
	// Tokens is the prompt followed by everything the model will say. It may end with the prompt.
	Tokens []int32
	// Prompt is how many of Tokens are the prompt; at least 1.
	Prompt int
	// MaxNew is the most output that was asked for. Admission reserves memory for it, since an engine does
	// not know where an answer will end. At least the output's length; Submit raises and clips it.
	MaxNew int
	// Space separates caches: equal tokens in different spaces never match (LoRA, cache salt).
	Space string
	// Priority orders eviction when the engine evicts by priority.
	Priority int64
	// Owner is for the caller.
	Owner any

	// What became of it. Times are engine time; the zero of those not reached is 0.
	Cached      int // prompt tokens found in the cache when it was first admitted
	Produced    int // output tokens so far
	Retractions int // times it was sent back to the queue for want of memory
	Submitted   time.Duration
	Admitted    time.Duration // start of its first prefill batch
	First       time.Duration // first output token
	Last        time.Duration // end
	Ended       Ending

	phase  phase
	node   *node // waiting: end of the last match; running: end of the locked path
	shared int   // tokens on the path to node
	kv     int   // tokens computed: in the tree or in owned slots
	owned  int   // slots held outside the tree
	chunk  int   // new tokens in the prefill batch in flight
	abort  bool
	late   bool // put behind the others by the in-batch rule
}

// Ending says how a job ended.
type Ending uint8

// The ways a job ends.
const (
	Unended  Ending = iota
	Finished        // said everything in Tokens
	Aborted         // by Abort or Crash
	Starved         // memory ran out with nothing left to retract
)

func (e Ending) String() string {
	switch e {
	case Unended:
		return "unended"
	case Finished:
		return "finished"
	case Aborted:
		return "aborted"
	case Starved:
		return "starved"
	}
	return fmt.Sprintf("Ending(%d)", uint8(e))
}

type phase uint8

const (
	fresh phase = iota
	queued
	prefilling // in a prefill batch, or between two chunks
	decoding
	gone
)

// ErrQueueFull reports that as many jobs wait as may.
var ErrQueueFull = errors.New("simengine: queue is full")

// ErrBadJob reports a job whose fields contradict each other or that was submitted before.
var ErrBadJob = errors.New("simengine: bad job")

// A TooLongError reports a prompt that no amount of waiting makes room for.
type TooLongError struct {
	Tokens int  // the prompt's
	Limit  int  // the longest that is taken
	Pool   bool // the KV cache is too small; otherwise the context
}

func (e *TooLongError) Error() string {
	what := "context length"
	if e.Pool {
		what = "KV cache"
	}
	return fmt.Sprintf("simengine: prompt of %d tokens over the %s's limit of %d", e.Tokens, what, e.Limit)
}

// fill is how many tokens the next prefill has to end with: the prompt, and after a retraction the output
// that was lost with it.
func (j *Job) fill() int { return j.Prompt + j.Produced }

// left is how much output it will still produce.
func (j *Job) left() int { return len(j.Tokens) - j.Prompt - j.Produced }

// context is what a decode step of it reads.
func (j *Job) context() int { return j.Prompt + j.Produced }

// reserve is how much output admission must expect of it.
func (j *Job) reserve() int { return min(max(j.MaxNew-j.Produced, 0), clipNew) }
