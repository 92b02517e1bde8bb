package buffer

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Large room that was given back would stay with the process for minutes: nothing makes the garbage collector run on an idle one.
// After reliefAt bytes of it, and a quiet of reliefAfter, the system gets everything that is free.
const (
	reliefAt    = 64 << 20
	reliefAfter = 2 * time.Second
)

// A reliever returns memory to the system.
type reliever struct {
	free func()

	mu    sync.Mutex
	bytes int // given back since the last time
	timer *time.Timer
}

var relief = reliever{free: func() {
	runtime.GC() // what is not lent survives one round
	debug.FreeOSMemory()
}}

// Gone notes that room for n bytes was let go which had not been lent here.
func Gone(n int) {
	if n > 1<<mostBits {
		relief.gone(n)
	}
}

// gone notes that large room was given back.
func (r *reliever) gone(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.bytes += n; {
	case r.bytes < reliefAt:
	case r.timer == nil:
		r.timer = time.AfterFunc(reliefAfter, r.due)
	default:
		r.timer.Reset(reliefAfter)
	}
}

func (r *reliever) due() {
	r.mu.Lock()
	r.bytes, r.timer = 0, nil
	r.mu.Unlock()
	r.free()
}
