package gateway

import (
	"context"
	"slices"
	"sync"

	"github.com/radixbus/radixbus/internal/wire"
)

// live is what is needed to end a call from outside.
type live struct {
	caller uint64        // a keyed hash of its credentials
	ended  chan struct{} // closed when another request asks for its end
	names  []callName    // by which lives knows it; its request's goroutine alone looks at them
	fixed  int           // of them, those that are not an attempt's

	mu      sync.Mutex
	wake    context.CancelCauseFunc // ends what it waits for; nil while it waits for nothing
	aborted bool
}

// lives are the calls under way, by each of their names: what an abort costs does not depend on how many there are.
type lives struct {
	mu    sync.Mutex
	calls map[*call]struct{}
	named map[callName][]*call // a client may give several calls one name
}

// A callName is a name of a caller's request.
type callName struct {
	caller uint64
	name   string
	unique bool // it is the end of an engine's rid, which is part of the id of what the engine keeps; see [wire.Reference]
}

// add makes a call known by its id and its label.
func (l *lives) add(c *call) {
	c.live.ended = make(chan struct{})
	l.mu.Lock()
	if l.calls == nil {
		l.calls, l.named = make(map[*call]struct{}), make(map[callName][]*call)
	}
	l.calls[c] = struct{}{}
	l.mu.Unlock()
	l.name(c, c.id.String(), c.label)
}

// name makes it known by its client's own names, in whatever order. It comes before the first attempt.
func (l *lives) name(c *call, names ...string) {
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		c.live.names = append(c.live.names, callName{caller: c.live.caller, name: name})
	}
	l.link(c, c.live.names[c.live.fixed:])
	c.live.fixed = len(c.live.names)
}

// maxRids bounds the prompts of a batch whose engine's names are known.
const maxRids = 256

// attempt makes it known by the names that engines give an attempt of it, instead of those of the attempt before.
func (l *lives) attempt(c *call, attempt uint32) {
	l.unlink(c, c.live.names[c.live.fixed:])
	names, prompts := c.live.names[:c.live.fixed], 1
	if c.req != nil {
		prompts = min(max(c.req.Prompts, 1), maxRids)
	}
	for i := range prompts {
		rid := wire.RidOf(c.id, attempt, i)
		if names = append(names, callName{caller: c.live.caller, name: rid}); i == 0 {
			names = append(names, callName{caller: c.live.caller, name: wire.UniqueOf(rid), unique: true})
		}
	}
	if c.assign.LoRA != "" { // its adapter may have to be loaded again, and the request given a second name
		names = append(names, callName{caller: c.live.caller, name: wire.RidOf(c.id, attempt, wire.MostRids)})
	}
	c.live.names = names
	l.link(c, names[c.live.fixed:])
}

// shown makes it known, until its next attempt, by a name that its answer shows.
func (l *lives) shown(c *call, name string) {
	if name == "" {
		return
	}
	at := len(c.live.names)
	c.live.names = append(c.live.names, callName{caller: c.live.caller, name: name})
	l.link(c, c.live.names[at:])
}

func (l *lives) remove(c *call) {
	l.mu.Lock()
	delete(l.calls, c)
	l.mu.Unlock()
	l.unlink(c, c.live.names)
}

// linkMost bounds the names that are put in or taken out at a time: a batch has up to tens of thousands, and others wait for
// the lock.
const linkMost = 256

func (l *lives) link(c *call, names []callName) {
	for some := range slices.Chunk(names, linkMost) {
		l.mu.Lock()
		for _, name := range some {
			l.named[name] = append(l.named[name], c)
		}
		l.mu.Unlock()
	}
}

func (l *lives) unlink(c *call, names []callName) {
	for some := range slices.Chunk(names, linkMost) {
		l.mu.Lock()
		for _, name := range some {
			of := l.named[name]
			last := len(of) - 1
			if last <= 0 {
				delete(l.named, name)
				continue
			}
			of[slices.Index(of, c)] = of[last]
			of[last] = nil
			l.named[name] = of[:last]
		}
		l.mu.Unlock()
	}
}

// abort ends the caller's calls that a message names, and returns how many.
func (l *lives) abort(a *wire.Abort, caller uint64) (n int) {
	end := func(found []*call) {
		for _, c := range found {
			if c.live.abort() {
				n++
			}
		}
	}
	if a.All {
		end(l.all(caller))
		return n
	}
	seen := make(map[string]bool, len(a.Names))
	for _, name := range a.Names {
		if seen[name] {
			continue
		}
		seen[name] = true
		end(l.find(callName{caller: caller, name: name}))
		if unique, ok := wire.UniqueIn(name); ok {
			end(l.find(callName{caller: caller, name: unique, unique: true}))
		}
	}
	return n
}

func (l *lives) find(name callName) []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.named[name])
}

func (l *lives) all(caller uint64) (found []*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.calls {
		if c.live.caller == caller {
			found = append(found, c)
		}
	}
	return found
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
	if l.wake != nil {
		l.wake(errAborted)
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

// waiting notes what ends the call's wait; nil when it waits no more. It tells whether the call was aborted before.
func (l *live) waiting(wake context.CancelCauseFunc) (aborted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = wake
	return l.aborted
}
