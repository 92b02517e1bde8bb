package gateway

import (
	"context"
	"strings"
	"sync"

	"github.com/radixbus/radixbus/internal/wire"
)

// live is what is needed to end a call from outside. Its mutex nests in that of lives.
type live struct {
	caller uint64        // a keyed hash of its credentials
	rids   []string      // the client's own names for it
	ended  chan struct{} // closed when another request asks for its end

	mu      sync.Mutex
	place   context.CancelCauseFunc // ends the wait for a worker; nil while there is none
	attempt uint32
	aborted bool
}

// lives are the calls under way.
type lives struct {
	mu    sync.Mutex
	calls map[*call]struct{}
}

func (l *lives) add(c *call) {
	c.live.ended = make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = make(map[*call]struct{})
	}
	l.calls[c] = struct{}{}
}

func (l *lives) remove(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, c)
}

// abort ends the calls that a message names, and returns how many.
func (l *lives) abort(a *wire.Abort, caller uint64) (n int) {
	names := make(map[string]bool, len(a.Names))
	for _, name := range a.Names {
		names[name] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.calls {
		if c.live.caller == caller && (a.All || c.called(names)) && c.live.abort() {
			n++
		}
	}
	return n
}

// maxRids bounds the prompts of a batch whose engine's names are looked at.
const maxRids = 256

// called tells whether one of the names is the call's: its id, its label, its client's rid, or what an engine shows as its id.
func (c *call) called(names map[string]bool) bool {
	if names[c.id.String()] || names[c.label] {
		return true
	}
	for _, rid := range c.live.rids {
		if names[rid] {
			return true
		}
	}
	c.live.mu.Lock()
	attempt := c.live.attempt
	c.live.mu.Unlock()
	if attempt == 0 {
		return false
	}
	prompts := 1
	if c.req != nil {
		prompts = min(max(c.req.Prompts, 1), maxRids)
	}
	for i := range prompts {
		if names[wire.RidOf(c.id, attempt, i)] {
			return true
		}
	}
	for name := range names {
		if _, ok := wire.ParseReference(name); ok && strings.HasSuffix(name, wire.RidOf(c.id, attempt, 0)[:16]) {
			return true
		}
	}
	return false
}

// abort asks for the call's end, and tells whether nobody had before.
func (l *live) abort() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.aborted {
		return false
	}
	l.aborted = true
	close(l.ended)
	if l.place != nil {
		l.place(errAborted)
	}
	return true
}

func (c *call) isAborted() bool {
	select {
	case <-c.live.ended:
		return true
	default:
		return false
	}
}

// placing notes how to end the wait for a worker of an attempt; nil when it is over. It tells whether the call was aborted
// before.
func (l *live) placing(attempt uint32, place context.CancelCauseFunc) (aborted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt, l.place = attempt, place
	return l.aborted
}
