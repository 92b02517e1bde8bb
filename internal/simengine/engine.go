// Package simengine is a pretend SGLang worker: an SGLang-compatible HTTP server whose cache, scheduler and
// step times are simulated and whose model says pleasant nonsense.
//
// A [Core] is the worker itself, as a state machine: a token-level radix cache, a prefill-first scheduler
// and step times fitted to published measurements ([Profile]). It runs in whatever time its caller keeps.
// An [Engine] runs a Core in real time (or faster, [Config].Speed) and answers HTTP: its own chat template
// and pseudo-tokeniser turn requests into tokens, and a model that is a function of all tokens before the
// next one turns them into answers. Data-parallel ranks are Cores of their own behind one handler. Routes,
// refusals and reports are those of SGLang 0.5.23, as seen on a real one. The package knows nothing of
// routers or their digests, so what a router believes about its cache can be wrong, as with a real engine.
//
// # Guarantees
//
// Equal calls have equal effects: a Core has no clock and no randomness. At temperature 0 equal prompts get
// equal answers, and a prompt that ends with part of an answer is continued with the rest of it. An answer
// sent back in a later prompt becomes the same tokens again.
//
// # Concurrency
//
// A Core is for one goroutine. An Engine is safe for all: a mutex guards its Core, Run advances it, and
// handlers wait for what Run publishes.
package simengine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// An Engine is one simulated worker behind HTTP. Make it with New, serve its Handler, and Run it.
type Engine struct {
	cfg     Config
	told    Config // without the defaults
	profile Profile
	voice   *voice
	log     *slog.Logger
	origin  time.Time      // engine time zero
	wake    chan struct{}  // holds one token when Run should look again
	tasks   sync.WaitGroup // requests that nobody waits for

	mu        sync.Mutex // guards everything below
	ranks     []*rank    // the slice itself never changes
	turns     int        // the next rank's turn
	live      map[string]*sequence
	inside    int // requests past the gate
	state     state
	fault     Fault
	changed   chan struct{} // closed and replaced when the fault, the state, a pause or an update changes
	idle      chan struct{} // closed when no request is inside; nil while nobody waits for that
	updating  bool          // new requests wait at the gate
	hangs     time.Time     // a crashed engine accepts connections and hangs until then
	pausedBy  string        // the mode of /pause_generation, "" when not paused
	unhealthy bool          // the last generating health check failed
	lastSign  time.Duration // engine time of the last token
	model     string        // changes with the weights
	weights   string        // weight version
	drawn     uint32        // see drawSeed
	adapters  *adapters
	responses *responses
	pieces    pieces
	random    *rand.Rand
	measures  measures
	dying     atomic.Bool // the fault is "die": read without mu on every write
}

type state uint8

func (s state) String() string {
	return [...]string{"starting", "serving", "draining", "drained", "crashed", "over"}[min(s, over)]
}

const (
	starting state = iota // Run was not called yet
	serving
	draining
	drained
	crashed
	over // Run has returned
)

// drawSeed draws what an engine calls its seed. A real one draws it at each start too; it tells one start from another.
func drawSeed() uint32 { return rand.Uint32() >> 1 }

// New returns an engine with an empty cache. The error joins everything that is wrong with cfg.
func New(cfg Config) (*Engine, error) {
	told := cfg
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("simengine: %w", err)
	}
	e := &Engine{
		cfg: cfg, told: told, voice: newVoice(), log: cfg.Log, origin: time.Now(), wake: make(chan struct{}, 1),
		live: map[string]*sequence{}, changed: make(chan struct{}), adapters: newAdapters(cfg.Adapters),
		drawn: drawSeed(), responses: newResponses(cfg.MaxResponses), model: cfg.Model, weights: "default", random: rand.New(rand.NewPCG(cfg.Seed, 0)),
	}
	for i := range cfg.DP {
		e.ranks = append(e.ranks, &rank{index: i, core: NewCore(cfg.core()), sessions: map[string]*session{}})
	}
	e.profile, _ = LookupProfile(cfg.Profile)
	return e, nil
}

// stepSlack is the real time that is not worth sleeping for. Steps run up to this much early, and a late
// one is made good by the next, so the engine keeps its pace.
const stepSlack = 50 * time.Microsecond

// maxLag is the real time beyond which lateness is not made good: the machine was busy, not the engine.
const maxLag = 100 * time.Millisecond

// Run computes until ctx ends, then breaks off all requests, as the end of the process would, and returns
// nil. It may be called once. While there is nothing to compute it sleeps.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.state != starting {
		e.mu.Unlock()
		return errors.New("simengine: Run called twice")
	}
	e.setState(serving)
	e.mu.Unlock()
	defer func() {
		e.stop()
		e.tasks.Wait()
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait, ok := e.turn()
		switch {
		case !ok:
			select {
			case <-ctx.Done():
			case <-e.wake:
			}
		case wait <= stepSlack:
			runtime.Gosched() // let the handlers see this step before the next
		default:
			timer.Reset(wait)
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-e.wake:
			}
		}
	}
	return nil
}

// turn advances the cores that are due and returns the real time until the next is; false when all wait for
// something from outside.
func (e *Engine) turn() (soonest time.Duration, any bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.ranks {
		due, ok := k.core.Due()
		if !ok {
			continue
		}
		if now := e.now(); e.real(due-now) <= stepSlack {
			at := due
			if e.real(now-due) > maxLag {
				at = now
			}
			e.publish(k.core.Advance(at))
			if due, ok = k.core.Due(); !ok {
				continue
			}
		}
		if wait := e.real(due - e.now()); !any || wait < soonest {
			soonest, any = wait, true
		}
	}
	return soonest, any
}

// now is the engine time; real turns a span of it into real time.
func (e *Engine) now() time.Duration {
	return time.Duration(float64(time.Since(e.origin)) * e.cfg.Speed)
}

func (e *Engine) real(d time.Duration) time.Duration {
	return time.Duration(float64(d) / e.cfg.Speed)
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Cached is how many tokens of a prompt with these tokens the first rank's cache holds now. See Tokens and
// ChatTokens.
func (e *Engine) Cached(tokens []int32) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ranks[0].core.Cached("", tokens)
}

// Tokens returns the tokens of a plain prompt.
func (e *Engine) Tokens(text string) []int32 { return appendTokens(nil, text) }

// ChatTokens returns the prompt tokens of a chat request's JSON body.
func (e *Engine) ChatTokens(body []byte) ([]int32, error) {
	if !isSchema(body) {
		return nil, errors.New("simengine: chat body is no object")
	}
	b, err := readChat(readFields(body))
	if err == nil {
		err = b.check(&e.told)
	}
	if err != nil {
		return nil, fmt.Errorf("simengine: chat body: %w", err)
	}
	return e.chatPrompt(b).tokens, nil
}

// Flush empties the caches and says whether it did: it does not while requests run, nor, unless the engine is
// paused, while any wait.
func (e *Engine) Flush() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flush()
}

func (e *Engine) flush() bool {
	for _, k := range e.ranks {
		if !k.core.CanFlush() {
			return false
		}
	}
	for _, k := range e.ranks {
		k.core.Flush()
	}
	return true
}
