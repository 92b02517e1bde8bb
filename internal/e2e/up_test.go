package e2e

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/command"
)

// output collects what a command writes.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	first chan string // the first line, once
	told  bool
}

func newOutput() *output { return &output{first: make(chan string, 1)} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	if line, _, whole := strings.Cut(o.text.String(), "\n"); whole && !o.told {
		o.told = true
		o.first <- line
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// A hub is `radixbus up` in this process.
type hub struct {
	*client
	admin   *client
	bus     string   // URL
	engines []string // of the first screen
	stdout  *output
	stderr  *output
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
	case url := <-h.stdout.first:
		h.client = newClient(t, url)
	case err := <-h.done:
		h.done <- err
		t.Fatalf("up ended: %v\n%s", err, h.stderr)
	case <-time.After(patience):
		t.Fatalf("no first line in %v\n%s", patience, h.stderr)
	}
	h.ready(t)
	screen := h.stdout.String()
	admin, bus := adminLine.FindStringSubmatch(screen), busLine.FindStringSubmatch(screen)
	if admin == nil || bus == nil {
		t.Fatalf("the first screen lacks admin or bus:\n%s", screen)
	}
	h.admin, h.bus = newClient(t, admin[1]), bus[1]
	for _, m := range workerLine.FindAllStringSubmatch(screen, -1) {
		h.engines = append(h.engines, m[1])
	}
	return h
}

// begin starts a hub.
func begin(t *testing.T, args ...string) *hub {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	h := &hub{stdout: newOutput(), stderr: newOutput(), cancel: cancel, done: make(chan error, 1)}
	p := command.Process{Args: append([]string{"up", "--port", "0", "--admin-port", "0"}, args...), Stdout: h.stdout, Stderr: h.stderr}
	go func() { h.done <- command.Run(ctx, p) }()
	t.Cleanup(func() {
		h.stop(t) //nolint:errcheck // a test that minds has asked before
		if t.Failed() {
			t.Logf("the log of up %q:\n%s", args, tail(h.stderr.String()))
		}
	})
	return h
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

// stop asks the hub to stop, as a signal does, and waits for it. It may be called again.
func (h *hub) stop(t *testing.T) error {
	h.cancel(command.Signal("terminated"))
	select {
	case err := <-h.done:
		h.done <- err
		return err
	case <-time.After(2 * patience):
		t.Errorf("up did not stop in %v", 2*patience)
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
		eventually(t, name+" is back to zero", func() bool { return h.admin.metric(t, name) == 0 })
	}
}
