package simengine

import (
	"context"
	"fmt"
)

// stop breaks off what is live. Requests that come later are refused.
func (e *Engine) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop()
	e.fault = Fault{}
	e.setState(over)
}

// Shutdown drains: health checks fail at once, running and even new requests are served until none is
// left, and from then on the engine refuses everything. It returns ctx's error if that comes first; the
// engine goes on draining.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	if e.state == serving || e.state == starting {
		e.setState(draining)
		e.settleDrain()
	}
	changed, state := e.changed, e.state
	e.mu.Unlock()
	for state == draining {
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("simengine: drain: %w", context.Cause(ctx))
		}
		e.mu.Lock()
		changed, state = e.changed, e.state
		e.mu.Unlock()
	}
	return nil
}

// settleDrain completes a drain once nothing is live.
func (e *Engine) settleDrain() {
	if e.state == draining && len(e.live) == 0 {
		e.setState(drained)
	}
}

func (e *Engine) setState(s state) {
	if e.state != s {
		e.log.Debug("engine changed", "model", e.model, "from", e.state.String(), "to", s.String())
	}
	e.state = s
	e.announce()
}

func (e *Engine) announce() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// whenIdle returns a channel that closes when no request is past the gate.
func (e *Engine) whenIdle() <-chan struct{} {
	if e.idle == nil {
		e.idle = make(chan struct{})
	}
	idle := e.idle
	e.settleIdle()
	return idle
}

func (e *Engine) settleIdle() {
	if e.inside == 0 && e.idle != nil {
		close(e.idle)
		e.idle = nil
	}
}
