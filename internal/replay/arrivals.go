package replay

import (
	"iter"
	"math/rand/v2"
	"time"
)

// Arrivals is what decides when conversations begin.
type Arrivals string

const (
	// Closed: users hold one conversation after the other, so that a slow endpoint is asked less often.
	Closed Arrivals = "closed"
	// Poisson: at random, independent of each other and of replies, [Config.Rate] a second on average.
	Poisson Arrivals = "poisson"
	// Fixed: [Config.Rate] a second, equally spaced, whatever the replies.
	Fixed Arrivals = "fixed"
	// Recorded: at the times of a trace, [Config.Speed] times as fast, whatever the replies.
	Recorded Arrivals = "trace"
)

// A schedule yields the conversations of an open loop in the order in which they are due, each with its number and its
// time from the run's start.
type schedule iter.Seq2[int, time.Duration]

// newSchedule makes the schedule of a Config with its defaults whose arrivals are open.
func newSchedule(c Config) schedule {
	switch c.Arrivals {
	case Poisson:
		return poisson(c.Seed, c.Rate)
	case Fixed:
		return fixed(c.Rate)
	}
	return func(yield func(int, time.Duration) bool) {
		for n, at := range c.Workload.(Timed).Times(c.Seed) {
			if !yield(n, time.Duration(float64(at)/c.Speed)) {
				return
			}
		}
	}
}

// poisson has exponential gaps of 1/rate seconds on average. The first conversation is due at once.
func poisson(seed uint64, rate float64) schedule {
	return func(yield func(int, time.Duration) bool) {
		rng := rand.New(stream(seed, arrivalTimes, 0))
		at := 0.0 // seconds; summed as they are, so that rounding does not add up
		for n := 0; yield(n, inSeconds(at)); n++ {
			at += rng.ExpFloat64() / rate
		}
	}
}

// fixed has equal gaps. The first conversation is due at once.
func fixed(rate float64) schedule {
	return func(yield func(int, time.Duration) bool) {
		for n := 0; yield(n, inSeconds(float64(n)/rate)); n++ {
		}
	}
}

// inSeconds is a duration of s seconds, or the longest there is.
func inSeconds(s float64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second)
	if s >= most {
		return 1<<63 - 1
	}
	return time.Duration(s * float64(time.Second))
}
