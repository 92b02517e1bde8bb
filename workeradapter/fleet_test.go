package workeradapter_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/workeradapter"
)

// dns is a resolver and the adapters of what it names.
type dns struct {
	mu       sync.Mutex
	addrs    []string
	err      error
	failWith map[string]error
	running  map[string]int
	started  map[string]int
}

func (d *dns) answer(err error, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs, d.err = addrs, err
}

func (d *dns) lookup(context.Context, string) (addrs []netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.addrs {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, d.err
}

func (d *dns) serve(ctx context.Context, engine string) error {
	d.mu.Lock()
	d.started[engine]++
	err := d.failWith[engine]
	if err == nil {
		d.running[engine]++
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	<-ctx.Done()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[engine]--; d.running[engine] == 0 {
		delete(d.running, engine)
	}
	return nil
}

func (d *dns) engines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for e, n := range d.running {
		if n != 1 {
			return []string{e + " twice"}
		}
	}
	return slices.Sorted(maps.Keys(d.running))
}

func (d *dns) starts(engine string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started[engine]
}

func newDNS(t *testing.T) *dns {
	t.Helper()
	d := &dns{running: make(map[string]int), started: make(map[string]int), failWith: make(map[string]error)}
	f, err := workeradapter.NewFleet(workeradapter.FleetConfig{
		Name: "dns://engines.example:30000", Serve: d.serve, Lookup: d.lookup, Every: 5 * time.Millisecond, Patience: 60 * time.Millisecond, Retry: 10 * time.Millisecond, Max: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := testkit.Start(t, f.Run)
	t.Cleanup(func() {
		stop()
		if left := d.engines(); len(left) > 0 {
			t.Errorf("adapters of %v outlive the fleet", left)
		}
	})
	return d
}

func (d *dns) await(t *testing.T, engines ...string) {
	t.Helper()
	testkit.Eventually(t, "the engines are those of the name", func() bool { return slices.Equal(d.engines(), engines) })
}

func TestAFleetFollowsItsName(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.answer(nil, "10.0.0.2", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1")
	d.await(t, "http://10.0.0.1:30000", "http://10.0.0.2:30000")
	d.answer(nil, "10.0.0.2", "10.0.0.3")
	d.await(t, "http://10.0.0.2:30000", "http://10.0.0.3:30000")
	if n := d.starts("http://10.0.0.2:30000"); n != 1 {
		t.Errorf("the adapter of an engine that stayed was started %d times", n)
	}
	d.answer(nil, "fd00::1")
	d.await(t, "http://[fd00::1]:30000")
	d.answer(nil, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")
	d.await(t, "http://10.0.0.1:30000", "http://10.0.0.2:30000", "http://10.0.0.3:30000") // at most three
	d.answer(&net.DNSError{IsNotFound: true})
	d.await(t)
}

func TestAnAddressThatCannotBeLookedUpStays(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.answer(nil, "10.0.0.1")
	d.await(t, "http://10.0.0.1:30000")
	d.answer(errors.New("no route to the resolver"))
	time.Sleep(200 * time.Millisecond) // more than three times the patience
	d.await(t, "http://10.0.0.1:30000")
	d.answer(nil)
	time.Sleep(15 * time.Millisecond) // less than it: an answer that left one out
	d.answer(nil, "10.0.0.1")
	time.Sleep(200 * time.Millisecond)
	d.await(t, "http://10.0.0.1:30000")
	if n := d.starts("http://10.0.0.1:30000"); n != 1 {
		t.Errorf("its adapter was started %d times", n)
	}
}

func TestAnEngineWhoseAdapterEndedGetsAnother(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	const engine = "http://10.0.0.1:30000"
	d.failWith[engine] = errors.New("the name is taken")
	d.answer(nil, "10.0.0.1")
	testkit.Eventually(t, "it is tried again", func() bool { return d.starts(engine) > 2 })
	d.mu.Lock()
	delete(d.failWith, engine)
	d.mu.Unlock()
	d.await(t, engine)
}

func TestARemovedEngineStaysRemovedUntilItComesAgain(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	const engine = "http://10.0.0.1:30000"
	d.failWith[engine] = workeradapter.ErrRemoved
	d.answer(nil, "10.0.0.1")
	testkit.Eventually(t, "it is removed", func() bool { return d.starts(engine) == 1 })
	d.mu.Lock()
	delete(d.failWith, engine)
	d.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	if n := d.starts(engine); n != 1 {
		t.Errorf("its adapter was started %d times", n)
	}
	d.answer(nil)
	time.Sleep(200 * time.Millisecond)
	d.answer(nil, "10.0.0.1")
	d.await(t, engine)
}

func TestTheNameOfAFleetIsChecked(t *testing.T) {
	serve := func(context.Context, string) error { return nil }
	for _, name := range []string{"", "dns://", "dns://host", "dns://:30000", "dns://host:0", "dns://host:99999", "dns://host:http", "dns://host:1/path", "dns://u:p@host:1", "http://host:1", "dns://host:1?x=y"} {
		if _, err := workeradapter.NewFleet(workeradapter.FleetConfig{Name: name, Serve: serve}); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"dns://engines:30000", "dns://a.b.svc.cluster.local:80", "dns://127.0.0.1:30000"} {
		if _, err := workeradapter.NewFleet(workeradapter.FleetConfig{Name: name, Serve: serve}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if !workeradapter.IsFleet("dns://x:1") || workeradapter.IsFleet("http://x:1") {
		t.Error("IsFleet")
	}
}
