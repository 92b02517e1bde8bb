package workeradapter_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// rankNames are the workers of an engine of n ranks.
func rankNames(n int) (names []string) {
	for rank := range n {
		names = append(names, fmt.Sprintf("w-r%d", rank))
	}
	return names
}

// A gateway asks all workers at once. Of 16 ranks 5 to 8 were refused: the bound of an adapter's orders is 8.
func TestTheLoadsOfManyRanksAreTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(e *testkit.Engine, _ *workeradapter.Config) { e.SetInfo("dp_size", 16) })
	names := rankNames(16)
	readyWorkers(t, s.gateway, names...)
	var asked atomic.Int32
	s.engine.Handle("/v1/loads", func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		time.Sleep(10 * time.Millisecond)
		var loads []string
		for rank := range 15 { // of one it does not tell
			loads = append(loads, fmt.Sprintf(`{"dp_rank":%d,"num_used_tokens":%d}`, rank, 100+rank))
		}
		fmt.Fprintf(w, `{"loads":[%s]}`, strings.Join(loads, ",")) //nolint:errcheck // a difference shows
	})
	told := make([]wire.Told, len(names))
	var asks sync.WaitGroup
	for rank, name := range names {
		asks.Go(func() { told[rank] = s.gateway.Order(name, wire.Ask{Op: wire.OpLoad}) })
	}
	asks.Wait()
	for rank, name := range names {
		want := fmt.Sprintf(`{"dp_rank":%d,"num_used_tokens":%d}`, rank, 100+rank)
		if rank == 15 {
			want = `{"dp_rank":15,"num_running_reqs":0,"num_waiting_reqs":0}`
		}
		if got := told[rank]; !got.OK || got.Worker != name || string(got.Body) != want {
			t.Errorf("%s: %+v, want %s", name, got, want)
		}
	}
	if n := asked.Load(); n > 8 {
		t.Errorf("the engine was asked %d times for 16 ranks that asked together", n)
	}
}

// A flush that waits for an idle engine took its minute although the worker was asked to stop.
func TestAWorkerThatIsAskedToStopWaitsForNoOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Handle("/flush_cache", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	told := make(chan wire.Told, 1)
	go func() { told <- s.gateway.Order("w", wire.Ask{Op: wire.OpFlush, Millis: 60_000}) }()
	testkit.Eventually(t, "the order is with the engine", func() bool { return strings.Contains(fmt.Sprint(s.engine.Events()), "/flush_cache") })
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it left after %v", took)
	}
	if got := testkit.Receive(t, "an answer", told); got.OK || got.Status != http.StatusServiceUnavailable {
		t.Errorf("the order: %+v", got)
	}
}

// An engine of 64 ranks: 64 workers on one adapter, none of which leaves anything behind.
func TestAnEngineOfManyRanksComesAndGoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(e *testkit.Engine, _ *workeradapter.Config) { e.SetInfo("dp_size", 64) })
	names := rankNames(64)
	lives := readyWorkers(t, s.gateway, names...)
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	s.gateway.NoAcks.Store(true) // each worker waited a second in turn for a gateway that is behind
	for _, name := range names[:16] {
		if got := s.gateway.Send(name, lives[name], prefix.Chat, whole).Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("%s: %+v", name, got.End)
		}
	}
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it left after %v", took)
	}
	testkit.Eventually(t, "all have said goodbye", func() bool { return len(s.gateway.Downs()) == len(names) })
	if n := len(families(t, s.reg)); n != 0 {
		t.Errorf("figures of %d kinds are left", n)
	}
} // goroutines that are left fail the package: see TestMain
