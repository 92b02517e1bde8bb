package workeradapter

import "sync"

// A crew runs attempts on goroutines that wait for the next one afterwards: an attempt goes deep, and a goroutine that has been
// there before has its stack already. Make one with newCrew; whoever makes it stops it once nothing runs any more.
type crew struct {
	next chan func()
	over chan struct{}
	idle chan struct{} // has a token for each that waits
	all  sync.WaitGroup
}

// crewIdle bounds the goroutines that wait.
const crewIdle = 64

func newCrew() *crew {
	return &crew{next: make(chan func()), over: make(chan struct{}), idle: make(chan struct{}, crewIdle)}
}

// run runs f at once, on a goroutine that waits or on a new one.
func (c *crew) run(f func()) {
	select {
	case c.next <- f:
	default:
		c.all.Go(func() { c.serve(f) })
	}
}

func (c *crew) serve(f func()) {
	for {
		f()
		select {
		case c.idle <- struct{}{}:
		default:
			return // enough wait
		}
		select {
		case f = <-c.next:
			<-c.idle
		case <-c.over:
			return
		}
	}
}

func (c *crew) stop() {
	close(c.over)
	c.all.Wait()
}
