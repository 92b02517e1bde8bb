// Package heap fits how far the heap grows before it is collected to what lives in it.
//
// Where little lives, collecting is worth putting off: a router makes garbage fast, and a collection costs the same however
// much of it there is. Where much lives, which is where many streams are open, a multiple of it would be memory that nobody
// gets anything for.
package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/radixbus/radixbus/internal/tick"
)

// The heap may grow by slack over what lives, or by half of what lives where that is more.
const (
	slack = 64 << 20
	least = 50 // percent, as GOGC
)

// Most is the GOGC of a heap in which little lives: it may grow to five times that.
const Most = 400

// Percent is the GOGC for a heap in which, with the stacks, so many bytes live.
func Percent(live uint64) int {
	return int(min(max(slack*100/max(live, 1), least), Most))
}

// lookEvery is how often what lives is looked at. It is known after each collection.
const lookEvery = 400 * time.Millisecond

// Keep fits the process's heap until ctx ends, and leaves it as it was. One Keep runs in a process.
func Keep(ctx context.Context) {
	before := debug.SetGCPercent(Most)
	defer debug.SetGCPercent(before)
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	wait := time.NewTimer(tick.Until(lookEvery))
	defer wait.Stop()
	for percent := Most; ; {
		select {
		case <-wait.C:
			wait.Reset(tick.Until(lookEvery))
			metrics.Read(samples)
			live := uint64(0)
			for i := range samples {
				if samples[i].Value.Kind() == metrics.KindUint64 {
					live += samples[i].Value.Uint64()
				}
			}
			if next := Percent(live); far(next, percent) {
				percent = next
				debug.SetGCPercent(percent) // stops the world for a moment
			}
		case <-ctx.Done():
			return
		}
	}
}

// far tells whether a change is worth making.
func far(a, b int) bool { return 10*max(a, b) > 11*min(a, b) }
