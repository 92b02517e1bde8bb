package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A watchdog notices that the machine does not let this process run. Then beats and frames come late, and a router may
// take a live worker for a dead one: honest errors are no failure of a test that saw such a stall.
type watchdog struct {
	stop  func()
	worst atomic.Int64 // nanoseconds
}

// stall is a delay that only a starved process knows. A worker counts as gone after seconds.
const stall = 250 * time.Millisecond

func newWatchdog(t *testing.T) *watchdog {
	w, done, over := new(watchdog), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		const every = 20 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-tick.C:
				now := time.Now()
				w.worst.Store(max(w.worst.Load(), int64(now.Sub(last)-every)))
				last = now
			case <-done:
				return
			}
		}
	}()
	w.stop = sync.OnceFunc(func() { close(done); <-over })
	t.Cleanup(w.stop)
	return w
}

// starved tells whether the process has stood still since the start.
func (w *watchdog) starved() bool { return w.worst.Load() > int64(stall) }

type object = map[string]any

// chat is a chat request for one short question.
func chat(model, question string, more ...object) object {
	b := object{"model": model, "temperature": 0, "max_tokens": 16, "messages": []object{{"role": "user", "content": question}}}
	for _, m := range more {
		for k, v := range m {
			b[k] = v
		}
	}
	return b
}

// counted is the text of n tokens of a counting engine.
func counted(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "t%d ", i)
	}
	return b.String()
}
