package localbus_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/localbus"
)

// tempBuses counts the temporary stores that are there.
func tempBuses(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "radixbus-bus-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestClientsReachItThroughThePipeAndTheSocket(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := localbus.Start(localbus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	pipe, err := nats.Connect(s.URL(), s.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	socket, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if got := pipe.MaxPayload(); got != localbus.MaxPayload {
		t.Errorf("max payload %d, want %d", got, localbus.MaxPayload)
	}
	sub, err := socket.SubscribeSync("hello")
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Publish("hello", []byte("there")); err != nil {
		t.Fatal(err)
	}
	if msg, err := sub.NextMsg(10 * time.Second); err != nil || string(msg.Data) != "there" {
		t.Errorf("got %v, %v, want there", msg, err)
	}
}

func TestStopRemovesTheTemporaryStoreAndLeavesNothingRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Setenv("TMPDIR", t.TempDir())
	for range 3 {
		s, err := localbus.Start(localbus.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := tempBuses(t); got != 1 {
			t.Errorf("%d temporary stores while it runs, want 1", got)
		}
		if err := s.Stop(); err != nil {
			t.Errorf("Stop = %v", err)
		}
		if got := tempBuses(t); got != 0 {
			t.Errorf("%d temporary stores after it stopped", got)
		}
	}
}

func TestNamedStoreOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	round := func(do func(jetstream.KeyValue)) {
		t.Helper()
		s, err := localbus.Start(localbus.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		nc, err := nats.Connect(s.URL(), s.InProcess())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		do(kv)
	}
	round(func(kv jetstream.KeyValue) {
		if _, err := kv.PutString(t.Context(), "k", "kept"); err != nil {
			t.Fatal(err)
		}
	})
	round(func(kv jetstream.KeyValue) {
		if e, err := kv.Get(t.Context(), "k"); err != nil || string(e.Value()) != "kept" {
			t.Errorf("after a restart: %v, %v, want kept", e, err)
		}
	})
}

func TestOpenHostsAreRefused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, host := range []string{"0.0.0.0", "::", "10.1.2.3", "example.com", "127.0.0.1.example.com", " "} {
		s, err := localbus.Start(localbus.Config{Host: host})
		if !errors.Is(err, localbus.ErrOpenBus) {
			t.Errorf("host %q: %v, want ErrOpenBus", host, err)
		}
		if err == nil {
			s.Stop() //nolint:errcheck // it has failed already
		}
	}
	for _, host := range []string{"", "localhost", "127.0.0.2"} {
		s, err := localbus.Start(localbus.Config{Host: host})
		if err != nil {
			t.Errorf("host %q: %v", host, err)
			continue
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	if got := tempBuses(t); got != 0 {
		t.Errorf("%d temporary stores left behind", got)
	}
}

// It took the server 20 s to give up a port that another had.
func TestTakenPortIsToldAtOnceAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	began := time.Now()
	if s, err := localbus.Start(localbus.Config{Port: port}); err == nil {
		s.Stop() //nolint:errcheck // it has failed already
		t.Fatal("it started on a taken port")
	} else if !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("error %q does not name the port", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := tempBuses(t); got != 0 {
		t.Errorf("%d temporary stores left behind", got)
	}
}
