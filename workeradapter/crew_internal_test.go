package workeradapter

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Everything runs, at once: what waits for each other on a crew does not stand in each other's way.
func TestCrew(t *testing.T) {
	c := newCrew()
	for range 3 {
		const together = 3 * crewIdle
		var met, done sync.WaitGroup
		var ran atomic.Int64
		met.Add(together)
		for range together {
			done.Add(1)
			c.run(func() {
				defer done.Done()
				met.Done()
				met.Wait()
				ran.Add(1)
			})
		}
		done.Wait()
		if ran.Load() != together {
			t.Errorf("%d ran of %d", ran.Load(), together)
		}
	}
	if n := len(c.idle); n > crewIdle {
		t.Errorf("%d wait, at most %d are to", n, crewIdle)
	}
	c.stop()
}
