package bus_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/bus"
)

// eventually waits for what must come true; the bound is generous because the machine may be busy.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// serve starts a server; port -1 picks a free one.
func serve(t *testing.T, port int, change func(*server.Options)) *server.Server {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, NoSystemAccount: true}
	if change != nil {
		change(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func port(s *server.Server) int { return s.Addr().(*net.TCPAddr).Port }

func connect(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := bus.Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPlanesHaveConnectionsAndInboxesOfTheirOwn(t *testing.T) {
	s := serve(t, -1, nil)
	defer stop(s)
	b := connect(t, bus.Config{URL: s.ClientURL(), Role: "gateway", ID: "g-1"})
	other := connect(t, bus.Config{URL: s.ClientURL(), Role: "gateway", ID: "g-2"})
	defer other.Close()
	defer b.Close()
	if got := s.NumClients(); got != 6 {
		t.Errorf("%d connections for two roles, want 6", got)
	}
	seen := map[string]bool{}
	for plane, nc := range map[string]*nats.Conn{"control": b.Control, "tokens": b.Tokens, "bulk": b.Bulk} {
		inbox, want := nc.NewInbox(), bus.InboxPrefix("gateway", "g-1", plane)
		if !strings.HasPrefix(inbox, want+".") {
			t.Errorf("inbox of %s is %s, want it under %s", plane, inbox, want)
		}
		seen[want] = true
		if !strings.Contains(nc.Opts.Name, plane) || !strings.Contains(nc.Opts.Name, "g-1") {
			t.Errorf("the connection of %s is called %q", plane, nc.Opts.Name)
		}
	}
	for _, nc := range []*nats.Conn{other.Control, other.Tokens, other.Bulk} {
		for prefix := range seen {
			if strings.HasPrefix(nc.NewInbox(), prefix+".") {
				t.Errorf("two gateways share the inbox prefix %s", prefix)
			}
		}
	}
	if len(seen) != 3 || !b.Connected() || !other.Connected() {
		t.Errorf("prefixes %v, connected %v %v", seen, b.Connected(), other.Connected())
	}
}

func TestConnectWaitsForTheServer(t *testing.T) {
	s := serve(t, -1, nil)
	at, url := port(s), s.ClientURL()
	stop(s)
	found := make(chan *bus.Bus, 1)
	go func() {
		b, err := bus.Connect(t.Context(), bus.Config{URL: url, Role: "worker", ID: "w"})
		if err != nil {
			t.Error(err)
		}
		found <- b
	}()
	select {
	case <-found:
		t.Fatal("Connect returned without a server")
	case <-time.After(300 * time.Millisecond):
	}
	s = serve(t, at, nil)
	defer stop(s)
	select {
	case b := <-found:
		if b == nil || !b.Connected() {
			t.Fatal("not connected")
		}
		b.Close()
	case <-time.After(20 * time.Second):
		t.Fatal("Connect did not find the server in 20 s")
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cause := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	if _, err := bus.Connect(ctx, bus.Config{URL: "nats://127.0.0.1:1", Role: "worker", ID: "w"}); !errors.Is(err, cause) {
		t.Errorf("Connect = %v, want the cause %v", err, cause)
	}
}

// These waited for ever once, with a line in the log.
func TestMistakesAreNotWaitedFor(t *testing.T) {
	s := serve(t, -1, func(o *server.Options) { o.Username, o.Password = "somebody", "else" })
	defer stop(s)
	absent := filepath.Join(t.TempDir(), "absent.creds")
	for name, tt := range map[string]struct {
		cfg  bus.Config
		want error
	}{
		"no URL":             {bus.Config{URL: "nats://[::1"}, bus.ErrConfig},
		"no URL among two":   {bus.Config{URL: s.ClientURL() + ",nats://a b"}, bus.ErrConfig},
		"absent credentials": {bus.Config{URL: s.ClientURL(), Creds: absent}, os.ErrNotExist},
		"wrong credentials":  {bus.Config{URL: s.ClientURL()}, nats.ErrAuthorization},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := bus.Connect(ctx, tt.cfg)
		if !errors.Is(err, tt.want) || ctx.Err() != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		cancel()
	}
	for range 100 { // the server notices an end in its own time
		if s.NumClients() == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d connections left behind", s.NumClients())
}

func TestRoleOutlivesItsServer(t *testing.T) {
	s := serve(t, -1, nil)
	at := port(s)
	b := connect(t, bus.Config{URL: s.ClientURL(), Role: "gateway", ID: "g"})
	defer b.Close()
	got := make(chan string, 8)
	if _, err := b.Control.Subscribe("hello", func(m *nats.Msg) { got <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	stop(s)
	eventually(t, "the loss is seen", func() bool { return !b.Tokens.IsConnected() && !b.Bulk.IsConnected() })
	if err := b.Tokens.Publish("frame", []byte("x")); err == nil {
		t.Error("a frame was kept for later: it must be an error")
	}
	if err := b.Bulk.Publish("body", []byte("x")); err == nil {
		t.Error("a body was kept for later: it must be an error")
	}
	began := time.Now()
	b.Flush(t.Context())
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Flush without a server took %v", took)
	}
	s = serve(t, at, nil)
	defer stop(s)
	eventually(t, "all three connections are back", func() bool { return b.Connected() && b.Reconnects() == 3 })
	b.Flush(t.Context())
	if err := b.Tokens.Publish("hello", []byte("again")); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got:
		if m != "again" {
			t.Errorf("got %q", m)
		}
	case <-time.After(20 * time.Second):
		t.Error("the subscription did not come back")
	}
}

// nats.go closes a connection for good when a server refuses its credentials twice in a row: a role that met a server
// which had not loaded its accounts yet never came back.
func TestRefusalWhileReconnectingIsNotFinal(t *testing.T) {
	s := serve(t, -1, nil)
	at := port(s)
	b := connect(t, bus.Config{URL: s.ClientURL(), Role: "gateway", ID: "g"})
	defer b.Close()
	stop(s)
	s = serve(t, at, func(o *server.Options) { o.Username, o.Password = "somebody", "else" })
	refused := func(nc *nats.Conn) bool { return errors.Is(nc.LastError(), nats.ErrAuthorization) }
	eventually(t, "the server has refused all three", func() bool { return refused(b.Control) && refused(b.Tokens) && refused(b.Bulk) })
	time.Sleep(time.Second) // time for a second refusal, and the third
	stop(s)
	s = serve(t, at, nil)
	defer stop(s)
	eventually(t, "all three connections are back", b.Connected)
}

func TestCloseDrainsAndLeavesNothing(t *testing.T) {
	s := serve(t, -1, nil)
	defer stop(s)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := connect(t, bus.Config{URL: s.ClientURL(), Role: "worker", ID: "w"})
	var handled atomic.Int32
	if _, err := b.Control.Subscribe("work", func(*nats.Msg) { time.Sleep(time.Millisecond); handled.Add(1) }); err != nil {
		t.Fatal(err)
	}
	b.Flush(t.Context())
	for range 100 {
		if err := b.Tokens.Publish("work", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	b.Flush(t.Context())
	eventually(t, "the first message is handled", func() bool { return handled.Load() > 0 })
	if err := b.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if got := handled.Load(); got != 100 {
		t.Errorf("%d of 100 messages were handled before the connections closed", got)
	}
	eventually(t, "the server has let go of the connections", func() bool { return s.NumClients() == 0 })
	if b.Connected() {
		t.Error("connected after Close")
	}
}

func TestCloseWhileTheServerIsAway(t *testing.T) {
	s := serve(t, -1, nil)
	b := connect(t, bus.Config{URL: s.ClientURL(), Role: "worker", ID: "w"})
	stop(s)
	eventually(t, "the loss is seen", func() bool { return !b.Connected() })
	done := make(chan error, 1)
	go func() { done <- b.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Close = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for a server that is gone")
	}
}

func TestSlowReaderIsCounted(t *testing.T) {
	s := serve(t, -1, nil)
	defer stop(s)
	b := connect(t, bus.Config{URL: s.ClientURL(), Role: "worker", ID: "w"})
	defer b.Close()
	release := make(chan struct{})
	sub, err := b.Control.Subscribe("work", func(*nats.Msg) { <-release })
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(2, -1); err != nil {
		t.Fatal(err)
	}
	b.Flush(t.Context())
	for range 20 {
		if err := b.Tokens.Publish("work", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the loss is counted", func() bool { return b.SlowConsumers() > 0 })
	close(release)
}
