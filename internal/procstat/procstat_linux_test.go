package procstat

import (
	"os"
	"testing"
	"time"
)

func TestItsOwnUseGrows(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for sum := 0; time.Since(begin) < 5*time.Millisecond; sum++ {
	}
	after, err := CPU(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("CPU went from %v to %v (%v), want more", before, after, err)
	}
	m, err := MemoryOf(os.Getpid(), os.Getpid())
	if err != nil || m.Resident < 1<<20 || m.Peak < m.Resident {
		t.Errorf("memory of this process twice: %+v (%v), want some, and the peak to be the most", m, err)
	}
}

func TestAProcessThatIsGoneIsAnError(t *testing.T) {
	for _, pid := range []int{-1, 0, 1<<22 + 1, 1 << 40} { // beyond the kernel's largest number
		if used, err := CPU(pid); err == nil {
			t.Errorf("CPU(%d) = %v, want an error", pid, used)
		}
		if m, err := MemoryOf(os.Getpid(), pid); err == nil {
			t.Errorf("MemoryOf(%d) = %+v, want an error", pid, m)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name, status string
		want         Memory
		ok           bool
	}{
		{"a process", "Name:\tx VmRSS: 7 kB\nVmHWM:\t    9000 kB\nVmRSS:\t    8000 kB\nThreads:\t3\n", Memory{8000 << 10, 9000 << 10}, true},
		{"one that has ended", "Name:\tx\nState:\tZ (zombie)\n", Memory{}, false},
		{"another unit", "Name:\tx\nVmHWM:\t9000 MB\nVmRSS:\t8000 MB\n", Memory{}, false},
		{"nothing", "", Memory{}, false},
	} {
		got, err := parseStatus([]byte(tt.status))
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: got %+v (%v), want %+v", tt.name, got, err, tt.want)
		}
	}
}
