// Package tick makes what happens at intervals happen together. A process at rest pays for each time it is woken, a tenth of a
// millisecond with all that the runtime and the kernel do around it, and little for what it then does.
package tick

import (
	"math/rand/v2"
	"time"
)

// began is no process's own, so that those of a fleet do not tick as one.
var began = time.Now().Add(-rand.N(time.Minute))

// Until is the time until the next tick of a period, for a timer that is set again each time: more than nothing, and at most the
// period. Ticks of one process meet where their periods are multiples of one another.
func Until(period time.Duration) time.Duration {
	late := time.Since(began) % period
	if late < 0 { // another clock, as tests have
		late += period
	}
	return period - late
}
