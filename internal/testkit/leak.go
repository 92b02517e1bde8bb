package testkit

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs a package's tests and fails when goroutines are left. All tests' cleanups have run by then.
//
// Nothing is ignored, but it waits for a while: the bus server and its client leave goroutines that sleep or have a
// timer when their owner has already returned from its last call, and end by themselves.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		err := goleak.Find()
		for end := time.Now().Add(Patience / 2); err != nil && time.Now().Before(end); {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}
