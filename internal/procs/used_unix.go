//go:build unix

package procs

import (
	"syscall"
	"time"
)

// used is the processor time that the process has spent, and whether that is known.
func used() (time.Duration, bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
