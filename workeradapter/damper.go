package workeradapter

import "time"

// A damper keeps an engine that comes and goes from being taken in each time that it comes: what it is given it drops. The
// first returns are taken at once.
type damper struct {
	falls []time.Time // of late, oldest first
}

const (
	fallsFree = 3                // within fallsKept: an engine that was restarted a few times is no fault
	fallsKept = 2 * time.Minute  // for which a fall counts
	dampFirst = 4 * time.Second  // after the fall, for the first that is too many
	dampMost  = 30 * time.Second // it doubles from fall to fall
	fallsMost = 32               // remembered
)

// fell notes that the engine has gone.
func (d *damper) fell(now time.Time) {
	d.forget(now)
	if len(d.falls) == fallsMost {
		d.falls = d.falls[1:]
	}
	d.falls = append(d.falls, now)
}

// wait is how long an engine that is there again has to stay so before it is taken in.
func (d *damper) wait(now time.Time) time.Duration {
	d.forget(now)
	over := len(d.falls) - fallsFree - 1
	if over < 0 {
		return 0
	}
	last := d.falls[len(d.falls)-1]
	return max(0, min(dampFirst<<min(over, 16), dampMost)-now.Sub(last))
}

func (d *damper) forget(now time.Time) {
	for len(d.falls) > 0 && now.Sub(d.falls[0]) > fallsKept {
		d.falls = d.falls[1:]
	}
}
