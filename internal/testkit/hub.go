package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/localbus"
)

// Patience is how long a test waits for what has to happen. It is generous: a loaded machine is no failure.
const Patience = 30 * time.Second

// A Hub is a bus for one test.
type Hub struct{ inProcess nats.Option }

// NewHub starts the embedded bus as `up` does.
func NewHub(t testing.TB) *Hub {
	t.Helper()
	s, err := localbus.Start(localbus.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop the bus: %v", err)
		}
	})
	return &Hub{s.InProcess()}
}

// NewSmallHub starts a bus whose messages have at most maxPayload bytes, as an external server may be set up.
func NewSmallHub(t testing.TB, maxPayload int32) *Hub {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoSystemAccount: true, NoLog: true, MaxPayload: maxPayload,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(Patience) {
		t.Fatal("the bus is not ready")
	}
	return &Hub{nats.InProcessServer(s)}
}

// Connect is a role's connections, closed by the test's cleanup.
func (h *Hub) Connect(t testing.TB, role, id string) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Config{Role: role, ID: id, Extra: []nats.Option{h.inProcess}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the connections of %s %s: %v", role, id, err)
		}
	})
	return b
}

// Start runs a service until the test is over, and fails the test when it ends badly. It returns once the service is
// ready; stop ends it earlier and waits.
func Start(t testing.TB, run func(ctx context.Context, ready func()) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx, func() { close(ready) }); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	select {
	case <-ready:
	case <-done:
		t.Fatal("the service ended before it was ready")
	case <-time.After(Patience):
		t.Fatal("the service is not ready")
	}
	return stop
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); ; time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("did not happen in %v: %s", Patience, what)
		}
	}
}

// Receive takes the next value of a channel.
func Receive[T any](t testing.TB, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(Patience):
		t.Fatalf("did not happen in %v: %s", Patience, what)
	}
	return v
}
