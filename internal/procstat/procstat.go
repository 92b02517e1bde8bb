// Package procstat tells what processes of this machine have used: processor time and memory.
//
// It reads the counters of the kernel and keeps nothing. On systems other than Linux nothing is known.
package procstat

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// ErrUnknown reports a system that does not tell what its processes use.
var ErrUnknown = errors.New("procstat: not known on " + runtime.GOOS)

// CPU is the processor time, user and system, that processes have used since they began, threads that have ended
// included, children not. It is exact to the nanosecond as far as the kernel is. A process that is gone is an error.
func CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		used, err := cpu(pid)
		if err != nil {
			return 0, fmt.Errorf("procstat: process %d: %w", pid, err)
		}
		sum += used
	}
	return sum, nil
}

// A Memory is what processes hold of the machine's memory, in bytes. Pages that they share count for each.
type Memory struct {
	Resident int64 // now
	Peak     int64 // the most since each began; for several processes, the sum of their peaks
}

// MemoryOf adds up the memory of processes. A process that is gone is an error.
func MemoryOf(pids ...int) (Memory, error) {
	var sum Memory
	for _, pid := range pids {
		m, err := memory(pid)
		if err != nil {
			return Memory{}, fmt.Errorf("procstat: process %d: %w", pid, err)
		}
		sum.Resident += m.Resident
		sum.Peak += m.Peak
	}
	return sum, nil
}

// A Machine is what a measurement was made on. Unknown fields are empty.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	CPU    string `json:"cpu,omitempty"` // the processor's name
	Cores  int    `json:"cores"`         // that this process may use
	Go     string `json:"go"`            // the release this program was built with
}

// ThisMachine describes the machine that it runs on.
func ThisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	m.Kernel, m.CPU = names()
	return m
}
