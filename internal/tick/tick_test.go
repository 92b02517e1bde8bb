package tick_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/radixbus/radixbus/internal/tick"
)

// Whoever begins when: those of one period are woken at the same moments, and those of twice that at every other of them.
func TestTicksMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period, long = 50 * time.Millisecond, 200 * time.Millisecond
		next := func(d time.Duration) time.Time {
			wait := tick.Until(d)
			if wait <= 0 || wait > d {
				t.Fatalf("a wait of %v for a period of %v", wait, d)
			}
			return time.Now().Add(wait)
		}
		first := next(long)
		for range 500 {
			time.Sleep(3700 * time.Microsecond)
			if since := next(period).Sub(first); since%period != 0 {
				t.Fatalf("a period of %v meets after %v", period, since)
			}
			if since := next(long).Sub(first); since%long != 0 {
				t.Fatalf("a period of %v meets after %v", long, since)
			}
		}
		time.Sleep(time.Until(next(period))) // at one: the next is a whole period away
		if wait := tick.Until(period); wait != period {
			t.Errorf("at a tick the next one is %v away", wait)
		}
	})
}
