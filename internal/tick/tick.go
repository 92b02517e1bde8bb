// Package tick makes what happens at intervals happen together. A process at rest pays for each time it is woken, a tenth of a
// millisecond with all that the runtime and the kernel do around it, and little for what it then does.
package tick

import "time"

var began = time.Now()

// Until is the time until the next multiple of a period since the process began, for a timer that is set again each time: more than
// nothing, and at most the period. Periods that are multiples of one another meet.
func Until(period time.Duration) time.Duration {
	late := time.Since(began) % period
	if late < 0 { // another clock, as tests have
		late += period
	}
	return period - late
}
