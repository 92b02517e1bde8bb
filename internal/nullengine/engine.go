// Package nullengine is an engine that does nothing: it speaks as much of SGLang's HTTP as a router asks for, and answers
// with made-up tokens, at once or at a pace, for as little processor time as it can. What is measured in front of it is then
// the proxy, or the load generator, and not the engine.
//
// It is a small HTTP/1.1 server of its own: a general one costs more than the answer. It trusts its clients to be
// benchmarks on the same machine, and is not to be reachable by anybody else. There is no cache, no scheduler and no
// model behind it; internal/simengine is the engine to learn about routing from.
//
// # Answers
//
// A prompt counts one token for each four bytes of the request's body, none of them cached. Token i of an answer is
// "ti ". Of a stream every token is an event, and a write, of its own; the last one leaves together with the end.
// The answer's id is the request's rid, if it has one.
//
// # Concurrency
//
// One goroutine a connection reads, waits and writes. An [Engine] may serve several listeners.
package nullengine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says how an Engine answers. The zero value of every field means its documented default.
type Config struct {
	// Model is the name of the one model. Default "null".
	Model string
	// TTFT is the time from the end of the request to the first token. Default none.
	TTFT time.Duration
	// ITL is the time between tokens, which a whole answer takes too. Default none.
	ITL time.Duration
	// Tokens is the length of answers to requests that ask for none. Default 16.
	Tokens int
}

func (c Config) withDefaults() Config {
	c.Model = cmp.Or(c.Model, "null")
	c.Tokens = cmp.Or(c.Tokens, 16)
	return c
}

// MaxTokens bounds an answer.
const MaxTokens = 1 << 20

// An Engine serves one model. Make one with [New].
type Engine struct {
	cfg   Config
	texts texts
	began time.Time
	ids   atomic.Uint64
	live  atomic.Int64 // requests under way

	mu sync.Mutex
	// guarded by mu
	running map[string]chan struct{} // paced answers by their id; closed by who aborts one
}

// New checks cfg. Nothing runs until Serve.
func New(cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	switch {
	case cfg.TTFT < 0 || cfg.ITL < 0:
		return nil, errors.New("nullengine: a negative time")
	case cfg.Tokens < 1 || cfg.Tokens > MaxTokens:
		return nil, fmt.Errorf("nullengine: %d tokens are not in 1..%d", cfg.Tokens, MaxTokens)
	}
	e := &Engine{cfg: cfg, began: time.Now(), running: make(map[string]chan struct{})}
	e.texts = newTexts(cfg.Model, e.began.Unix())
	return e, nil
}

// Serve answers what comes on a listener until ctx ends; then it closes the listener and every connection, and returns nil
// once they are gone. What was under way is cut.
func (e *Engine) Serve(ctx context.Context, ln net.Listener) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		raw, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			time.Sleep(acceptPause)
			continue
		case err != nil:
			return fmt.Errorf("nullengine: %w", err)
		}
		serving.Go(func() { e.converse(ctx, raw) })
	}
}

// acceptPause is how long to wait where there are no files for another connection.
const acceptPause = 10 * time.Millisecond

// converse serves one connection until its client ends it, or ctx does.
func (e *Engine) converse(ctx context.Context, raw net.Conn) {
	c := &conn{Conn: raw, in: make([]byte, readRoom)}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer func() {
		stop()
		raw.Close()
	}()
	a := &answer{engine: e, conn: c, over: ctx.Done()}
	for {
		req, err := c.next()
		if err != nil {
			if bad, ok := errors.AsType[*badRequest](err); ok {
				a.refuse(bad.status, bad.what, true) //nolint:errcheck // its connection is closed in any case
			}
			return
		}
		e.live.Add(1)
		err = a.give(req)
		e.live.Add(-1)
		c.done()
		if err != nil || req.last {
			return
		}
	}
}

// abort ends a paced answer. It tells whether there was one.
func (e *Engine) abort(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	stop, ok := e.running[id]
	if ok {
		delete(e.running, id)
		close(stop)
	}
	return ok
}

// abortAll ends all of them.
func (e *Engine) abortAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, stop := range e.running {
		close(stop)
	}
	clear(e.running)
}

// begin notes a paced answer, so that it can be aborted; finish forgets it. Of two with one id the later can be.
func (e *Engine) begin(id string) (stop chan struct{}) {
	stop = make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[id] = stop
	return stop
}

func (e *Engine) finish(id string, stop chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[id] == stop {
		delete(e.running, id)
	}
}
