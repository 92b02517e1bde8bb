package e2e

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/command"
	"github.com/radixbus/radixbus/internal/testkit"
)

// A hub is `radixbus up` in this process.
type hub struct {
	*testkit.Client
	admin   *testkit.Client
	bus     string   // URL
	engines []string // of the first screen
	stdout  *testkit.Output
	stderr  *testkit.Output
	cancel  context.CancelCauseFunc
	done    chan error
}

var (
	adminLine  = regexp.MustCompile(`(?m)^  admin +(http://\S+)/metrics$`)
	busLine    = regexp.MustCompile(`(?m)^  bus +(nats://\S+)$`)
	workerLine = regexp.MustCompile(`(?m)^ +w\d+ +(http://\S+)$`)
)

// up starts a hub on free ports and waits until it takes requests.
func up(t *testing.T, args ...string) *hub {
	t.Helper()
	h := begin(t, args...)
	select {
	case url := <-h.stdout.First:
		h.Client = testkit.NewClient(t, url)
	case err := <-h.done:
		h.done <- err
		t.Fatalf("up ended: %v\n%s", err, h.stderr)
	case <-time.After(testkit.Patience):
		t.Fatalf("no first line in %v\n%s", testkit.Patience, h.stderr)
	}
	h.Ready(t)
	screen := h.stdout.String()
	admin, bus := adminLine.FindStringSubmatch(screen), busLine.FindStringSubmatch(screen)
	if admin == nil || bus == nil {
		t.Fatalf("the first screen lacks admin or bus:\n%s", screen)
	}
	h.admin, h.bus = testkit.NewClient(t, admin[1]), bus[1]
	for _, m := range workerLine.FindAllStringSubmatch(screen, -1) {
		h.engines = append(h.engines, m[1])
	}
	return h
}

// begin starts a hub.
func begin(t *testing.T, args ...string) *hub {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	h := &hub{stdout: testkit.NewOutput(), stderr: testkit.NewOutput(), cancel: cancel, done: make(chan error, 1)}
	p := command.Process{Args: append([]string{"up", "--port", "0", "--admin-port", "0"}, args...), Stdout: h.stdout, Stderr: h.stderr}
	go func() { h.done <- command.Run(ctx, p) }()
	t.Cleanup(func() {
		h.stop(t) //nolint:errcheck // a test that minds has asked before
		if t.Failed() {
			t.Logf("the log of up %q:\n%s", args, testkit.Tail(h.stderr.String()))
		}
	})
	return h
}

// stop asks the hub to stop, as a signal does, and waits for it. It may be called again.
func (h *hub) stop(t *testing.T) error {
	h.cancel(command.Signal("terminated"))
	select {
	case err := <-h.done:
		h.done <- err
		return err
	case <-time.After(2 * testkit.Patience):
		t.Errorf("up did not stop in %v", 2*testkit.Patience)
		return nil
	}
}

// idle waits until everything that counts requests is back to zero.
func (h *hub) idle(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"radixbus_gateway_requests_in_flight", "radixbus_worker_running", "radixbus_scheduler_leases",
		"radixbus_scheduler_held_requests", "radixbus_scheduler_worker_running",
	} {
		testkit.Eventually(t, name+" is back to zero", func() bool { return h.admin.Metric(t, name) == 0 })
	}
}
