// Package procs fits the number of processors that Go code runs on to the work that there is.
//
// Whenever a goroutine becomes ready, the Go runtime wakes a thread for an idle processor, which looks for work and sleeps
// again. A request passes through a dozen goroutines, one after the other, so that on a router that is not busy this is a fifth
// of all the processor time, and each hand-over to another core costs latency. One processor does the same work for less, until
// it is busy: then there have to be more at once, and all of them when the work is there for them.
package procs

import (
	"context"
	"runtime"
	"time"

	"github.com/radixbus/radixbus/internal/tick"
)

// How the number is found: it doubles when those that there are have been busy for the greater part of a window, and falls by
// half when half of them would have been idle enough for calmFor.
const (
	window  = 50 * time.Millisecond
	upAt    = 0.8
	downAt  = 0.6
	calmFor = 2 * time.Second
)

// atRest is a process that needs less than that part of a processor: it is looked at half as often.
const atRest = 10

// A Fit is a number of processors, and how long fewer would have done.
type Fit struct {
	Procs int
	calm  time.Duration
}

// Next is the fit after a window of time in which used processor time was spent, of most processors at most.
func (f Fit) Next(used, window time.Duration, most int) Fit {
	busy := used.Seconds() / window.Seconds()
	switch {
	case f.Procs < most && busy > upAt*float64(f.Procs):
		return Fit{Procs: min(2*f.Procs, most)}
	case f.Procs > most:
		return Fit{Procs: most}
	case f.Procs == 1 || busy > downAt*float64(f.Procs/2):
		return Fit{Procs: f.Procs}
	case f.calm+window < calmFor:
		return Fit{Procs: f.Procs, calm: f.calm + window}
	}
	return Fit{Procs: f.Procs / 2}
}

// Keep fits the process's processors to its work until ctx ends, and then gives it all that the machine, or its container,
// grants. Where processor time cannot be read it changes nothing. One Keep runs in a process.
func Keep(ctx context.Context) {
	before, ok := used()
	if !ok {
		<-ctx.Done()
		return
	}
	most := runtime.GOMAXPROCS(0)
	fit := Fit{Procs: 1}
	set(fit, most)
	defer runtime.SetDefaultGOMAXPROCS()
	wait := time.NewTimer(tick.Until(window))
	defer wait.Stop()
	for began := time.Now(); ; {
		select {
		case now := <-wait.C:
			spent, _ := used()
			passed := max(now.Sub(began), time.Millisecond)
			next := fit.Next(spent-before, passed, most)
			if next.Procs != fit.Procs {
				most = set(next, most)
			}
			every := window
			if (spent-before)*atRest < passed {
				every *= 2
			}
			wait.Reset(tick.Until(every))
			fit, before, began = next, spent, now
		case <-ctx.Done():
			return
		}
	}
}

// set tells the runtime, and returns the most that there may be: a container's share may have changed, which is looked up
// whenever all are wanted.
func set(f Fit, most int) int {
	if f.Procs < most {
		runtime.GOMAXPROCS(f.Procs)
		return most
	}
	runtime.SetDefaultGOMAXPROCS()
	return runtime.GOMAXPROCS(0)
}
