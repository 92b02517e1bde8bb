package procstat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu reads a process's own clock. /proc/PID/stat says the same in hundredths of a second, too coarse for short runs.
func cpu(pid int) (time.Duration, error) {
	if pid <= 0 || pid >= 1<<28 {
		return 0, errors.New("no such process")
	}
	const scheduled = 2 // CPUCLOCK_SCHED of linux/posix-timers.h: all that the process's threads ran
	clock := int32(^pid)<<3 | scheduled
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return 0, errors.New("no such process")
		}
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

func memory(pid int) (Memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	return parseStatus(status)
}

// parseStatus reads two fields of proc_pid_status(5). A process that has ended and was not waited for has neither.
func parseStatus(status []byte) (Memory, error) {
	var m Memory
	var errs [2]error
	m.Resident, errs[0] = kibibytes(status, "VmRSS:")
	m.Peak, errs[1] = kibibytes(status, "VmHWM:")
	return m, errors.Join(errs[:]...)
}

func kibibytes(status []byte, name string) (int64, error) {
	_, rest, _ := bytes.Cut(status, []byte("\n"+name))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	value, found := strings.CutSuffix(strings.TrimSpace(string(line)), " kB")
	n, err := strconv.ParseInt(value, 10, 54)
	if !found || err != nil {
		return 0, fmt.Errorf("no %s in its status", strings.TrimSuffix(name, ":"))
	}
	return n << 10, nil
}

// names are those of the kernel's release and of the processor.
func names() (kernel, processor string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return kernel, ""
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return kernel, strings.TrimSpace(value)
		}
	}
	return kernel, ""
}
