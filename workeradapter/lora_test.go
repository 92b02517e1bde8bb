package workeradapter_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// withSQL has an adapter that is loaded on demand, and an engine that is soon known to hang.
func withSQL(_ *testkit.Engine, c *workeradapter.Config) {
	c.LoRAs = []workeradapter.LoRA{{Name: "sql", Path: "/secret/sql"}}
	c.ProbeTimeout = 100 * time.Millisecond
}

func (s *site) askSQL() *testkit.Stream {
	s.t.Helper()
	st := s.gateway.NewStream("w", s.now, prefix.Chat, strings.Replace(whole, `"m"`, `"sql"`, 1))
	st.Model = "sql"
	st.Send()
	return st
}

// loading has the engine load for ever, and tells how many loads it has been asked for and how many of them were given up.
func (s *site) loading() (asked, given *atomic.Int32) {
	asked, given = new(atomic.Int32), new(atomic.Int32)
	s.engine.Handle("/load_lora_adapter", func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // only then is the caller's leaving seen
		asked.Add(1)
		<-r.Context().Done()
		given.Add(1)
	})
	return asked, given
}

// awaitLoads waits for a number of loads.
func awaitLoads(t *testing.T, what string, n *atomic.Int32, want int32) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("loads that are %s: %d", what, want), func() bool { return n.Load() == want })
}

// A request that waited for its adapter was over when the adapter was loaded, whatever its client did.
func TestAnAbortedRequestWaitsForNoAdapter(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSQL)
	asked, given := s.loading()
	one, other := s.askSQL(), s.askSQL()
	awaitLoads(t, "asked for", asked, 1)
	began := time.Now()
	one.CancelAs(wire.CodeAborted)
	if got := one.Wait(); got.End.Code != wire.CodeAborted || time.Since(began) > 3*time.Second {
		t.Errorf("the aborted one: %+v after %v", got.End, time.Since(began))
	}
	if given.Load() != 0 {
		t.Error("the load was given up, though somebody else waits for it")
	}
	other.Cancel()
	awaitLoads(t, "given up", given, 1)
	if n := asked.Load(); n != 1 {
		t.Errorf("%d loads, want one", n)
	}
	s.idle()
	next := s.askSQL() // is loaded for anew
	awaitLoads(t, "asked for", asked, 2)
	next.Cancel()
	s.idle()
}

// An engine that hangs gave its requests back, but not those that waited for an adapter.
func TestAnEngineThatHangsGivesBackWhatWaitsForAnAdapter(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSQL)
	asked, given := s.loading()
	st := s.askSQL()
	awaitLoads(t, "asked for", asked, 1)
	s.engine.SetHealth(0)
	if got := st.Wait(); got.End.Code != wire.CodeEngineDown || got.End.Message != "" {
		t.Errorf("got %+v", got.End)
	}
	awaitLoads(t, "given up", given, 1)
	s.idle()
}

// What the client read was: Post "http://127.0.0.1:46405/load_lora_adapter": EOF.
func TestAnEngineThatBreaksOffALoadIsNotNamedToClients(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSQL)
	s.engine.Handle("/load_lora_adapter", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if got := s.askSQL().Wait(); got.End.Code != wire.CodeEngineBroke || got.End.Message != "" {
		t.Errorf("got %+v", got.End)
	}
	s.engine.Handle("/load_lora_adapter", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"success":false,"error_message":"No such file: /secret/sql"}`, http.StatusBadRequest)
	})
	if got := s.askSQL().Wait(); got.End.Code != wire.CodeEngineFault || got.End.Message != `The engine could not load the adapter "sql".` {
		t.Errorf("got %+v", got.End)
	}
	s.engine.Handle("/start_profile", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpProfileStart}); told.OK || told.Message != "The engine did not answer." {
		t.Errorf("an order: %+v", told)
	}
	s.idle()
}

// An adapter that somebody unloaded at the engine was refused from then on: we took it for loaded.
func TestAnAdapterThatSomebodyUnloadedIsLoadedAgain(t *testing.T) {
	t.Parallel()
	const chat = `{"object":"error","message":"Got LoRA adapter that has never been loaded: sql\nAll loaded adapters: dict_keys([]).","code":400}`
	const older = `{"error":{"message":"The following requested LoRA adapters are not loaded: {'sql'}","code":400}}`
	s := newSite(t, withSQL)
	var loads atomic.Int32
	var loaded, useless atomic.Bool
	s.engine.Handle("/load_lora_adapter", func(w http.ResponseWriter, _ *http.Request) {
		loads.Add(1)
		loaded.Store(!useless.Load())
		w.Write([]byte(`{"success":true}`)) //nolint:errcheck // a difference shows
	})
	serve := func(refuse func(*testkit.Exchange)) {
		s.engine.Answer(func(x *testkit.Exchange) {
			if !loaded.Load() {
				refuse(x)
				return
			}
			x.Reply(200, "application/json", `{}`)
		})
	}
	serve(func(x *testkit.Exchange) { x.Reply(500, "application/json", `{}`) })
	if got := s.askSQL().Wait(); got.End.Code != wire.CodeOK {
		t.Fatalf("got %+v", got.End)
	}
	for what, refuse := range map[string]func(*testkit.Exchange){
		"with a status": func(x *testkit.Exchange) { x.Reply(400, "application/json", chat) },
		"in a stream":   func(x *testkit.Exchange) { x.Stream(older) },
	} {
		serve(refuse)
		loaded.Store(false)
		before, calls := loads.Load(), len(s.engine.Requests())
		if got := s.askSQL().Wait(); got.End.Code != wire.CodeOK || got.Status != 200 {
			t.Errorf("refused %s: %+v", what, got.End)
		}
		if n := loads.Load() - before; n != 1 {
			t.Errorf("refused %s: loaded %d times, want once", what, n)
		}
		if x := s.engine.Requests()[calls:]; len(x) != 2 || x[0].Field("rid") == x[1].Field("rid") {
			t.Errorf("refused %s: %d tries, want two of another rid each: engines take none twice", what, len(x))
		}
	}

	// An engine that says so again is believed.
	serve(func(x *testkit.Exchange) { x.Reply(400, "application/json", chat) })
	loaded.Store(false)
	useless.Store(true)
	calls := len(s.engine.Requests())
	if got := s.askSQL().Wait(); got.End.Code != wire.CodeEngineRefused || got.Status != 400 || got.Body != chat {
		t.Errorf("refused twice: %+v with %q", got.End, got.Body)
	}
	if n := len(s.engine.Requests()) - calls; n != 2 {
		t.Errorf("the engine was called %d times, want twice", n)
	}
	s.idle()
}
