// Package run starts the parts of a process in order and stops them in reverse, so that nothing outlives what it
// stands on.
//
// A part is a function that blocks until its context ends, drains, and returns nil. When one returns early, or the
// outer context ends, the parts are asked to stop one after the other, the last started first; each has its bound. A
// part that returns before it was asked to is an error, whatever it returned: the process stands on it.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Part is one thing that runs.
type Part struct {
	Name string
	// Run blocks until ctx ends and it has drained. It calls ready once it serves; parts after it start then. Further
	// calls do nothing.
	Run func(ctx context.Context, ready func()) error
	// Grace bounds the drain. Default 30s. A part that overstays is left behind with an error.
	Grace time.Duration
}

// ErrOverstayed reports a part that did not stop within its grace.
var ErrOverstayed = errors.New("did not stop in time")

// ErrEarly reports a part that returned nil before it was asked to stop.
var ErrEarly = errors.New("stopped without being asked to")

type running struct {
	part   Part
	cancel context.CancelCauseFunc
	done   chan error
	early  bool // returned before it was asked to; read once done has been
}

// All runs the parts until ctx ends or one of them returns. It returns nil when all stopped because ctx ended.
func All(ctx context.Context, parts ...Part) error {
	early := make(chan struct{}, len(parts)) // a part returned
	var up []*running
	var errs []error
	stopping := false
start:
	for _, p := range parts {
		pctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		r := &running{part: p, cancel: cancel, done: make(chan error, 1)}
		ready := make(chan struct{})
		go func() {
			err := p.Run(pctx, sync.OnceFunc(func() { close(ready) }))
			r.early = pctx.Err() == nil
			r.done <- err
			early <- struct{}{}
		}()
		up = append(up, r)
		select {
		case <-ready:
		case <-early:
			stopping = true
			break start
		case <-ctx.Done():
			stopping = true
			break start
		}
	}
	if !stopping {
		select {
		case <-early:
		case <-ctx.Done():
		}
	}
	for i := len(up) - 1; i >= 0; i-- {
		if err := up[i].stop(context.Cause(ctx)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *running) stop(cause error) error {
	if cause == nil {
		cause = context.Canceled
	}
	r.cancel(cause)
	grace := r.part.Grace
	if grace == 0 {
		grace = 30 * time.Second
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case err := <-r.done:
		switch {
		case r.early && err == nil:
			return fmt.Errorf("%s: %w", r.part.Name, ErrEarly)
		case err == nil || !r.early && (errors.Is(err, context.Canceled) || errors.Is(err, cause)):
			return nil
		}
		return fmt.Errorf("%s: %w", r.part.Name, err)
	case <-t.C:
		return fmt.Errorf("%s: %w (%v)", r.part.Name, ErrOverstayed, grace)
	}
}

// Together makes one part of several that do not stand on each other: they start and stop at the same time. It is ready once
// all of them are, and stops when one returns before it was asked to.
func Together(name string, parts ...Part) Part {
	together := Part{Name: name}
	for _, p := range parts {
		together.Grace = max(together.Grace, p.Grace)
	}
	together.Run = func(ctx context.Context, ready func()) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		var g sync.WaitGroup
		var mu sync.Mutex
		var errs []error
		left := len(parts)
		if left == 0 {
			ready()
		}
		for _, p := range parts {
			up := sync.OnceFunc(func() {
				mu.Lock()
				left--
				all := left == 0
				mu.Unlock()
				if all {
					ready()
				}
			})
			g.Go(func() {
				err := p.Run(ctx, up)
				early := ctx.Err() == nil
				if err == nil && early {
					err = ErrEarly
				}
				if err != nil && (early || !errors.Is(err, context.Canceled) && !errors.Is(err, context.Cause(ctx))) {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
					mu.Unlock()
				}
				if early {
					stop(errStopped)
				}
			})
		}
		if len(parts) == 0 {
			<-ctx.Done()
		}
		g.Wait()
		return errors.Join(errs...)
	}
	return together
}

// errStopped is why the others of a group stop.
var errStopped = errors.New("a part beside it has stopped")
