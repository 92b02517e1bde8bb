package workeradapter_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// readyWorkers waits until these workers, and no others, have said that they are ready, and returns their instances.
func readyWorkers(t *testing.T, gw *testkit.Gateway, names ...string) map[string]wire.Instance {
	t.Helper()
	lives := make(map[string]wire.Instance)
	testkit.Eventually(t, "ready: "+strings.Join(names, ", "), func() bool {
		clear(lives)
		for _, up := range gw.Beats() {
			delete(lives, up.Worker)
			if up.State == wire.Ready {
				lives[up.Worker] = up.Instance
			}
		}
		for _, down := range gw.Downs() {
			if lives[down.Worker] == down.Instance {
				delete(lives, down.Worker)
			}
		}
		if len(lives) != len(names) {
			return false
		}
		for _, name := range names {
			if lives[name] == 0 {
				return false
			}
		}
		return true
	})
	return lives
}

func twoRanks(e *testkit.Engine, _ *workeradapter.Config) { e.SetInfo("dp_size", 2) }

func TestRanksAreWorkersOfOneEngine(t *testing.T) {
	t.Parallel()
	s := newSite(t, twoRanks)
	lives := readyWorkers(t, s.gateway, "w-r0", "w-r1")
	for rank, name := range []string{"w-r0", "w-r1"} {
		if info := s.gateway.Info(name); info.DPRank != rank || info.DPSize != 2 || info.Engine != "w" || // no address: on another host it is another one
			info.Worker != name || info.CapacityTokens != 100_000 {
			t.Errorf("%s registers %+v", name, info)
		}
	}
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	for _, name := range []string{"w-r1", "w-r0", "w-r1"} {
		if got := s.gateway.Send(name, lives[name], prefix.Chat, whole).Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("%s: %+v", name, got.End)
		}
	}
	var ranks []string
	for _, x := range s.engine.Requests() {
		ranks = append(ranks, x.R.Header.Get("X-Data-Parallel-Rank"))
	}
	if !slices.Equal(ranks, []string{"1", "0", "1"}) {
		t.Errorf("the engine was asked for ranks %q", ranks)
	}
	testkit.Eventually(t, "each tells the end of its own attempts", func() bool {
		count := map[string]int{}
		for _, f := range s.gateway.Finished() {
			count[f.Worker]++
		}
		return count["w-r0"] == 1 && count["w-r1"] == 2
	})

	// The engine is one: its end is that of all ranks.
	s.engine.Stop()
	testkit.Eventually(t, "both are down", func() bool {
		states := map[string]wire.State{}
		for _, up := range s.gateway.Beats() {
			states[up.Worker] = up.State
		}
		return states["w-r0"] == wire.Down && states["w-r1"] == wire.Down
	})
	s.engine.SetInfo("dp_size", 1) // and it comes back as another one
	s.engine.Start()
	readyWorkers(t, s.gateway, "w")
	testkit.Eventually(t, "the ranks have left", func() bool {
		var gone []string
		for _, d := range s.gateway.Downs() {
			gone = append(gone, d.Worker)
		}
		slices.Sort(gone)
		return slices.Equal(gone, []string{"w-r0", "w-r1"})
	})
	s.idle()
	if n := len(families(t, s.reg)["radixbus_worker_running"]); n != 1 {
		t.Errorf("figures of %d workers are registered, want 1", n)
	}
	s.engine.SetInfo("dp_size", 2) // and back: names and figures can be taken again
	s.engine.Stop()
	s.gateway.AwaitBeat(wire.Down, 0)
	s.engine.Start()
	readyWorkers(t, s.gateway, "w-r0", "w-r1")
}

// families are the metrics by name, each with the values of its worker label.
func families(t *testing.T, reg *prometheus.Registry) map[string][]string {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string][]string)
	for _, f := range all {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "worker" {
					names[f.GetName()] = append(names[f.GetName()], l.GetValue())
				}
			}
		}
	}
	return names
}

func TestANameBelongsToOneAdapter(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	other := testkit.NewEngine(t, "m")
	second, err := workeradapter.New(workeradapter.Config{Bus: s.hub.Connect(t, "worker", "second"), Engine: other.URL(), Name: "w", Host: "elsewhere", Beat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	err = second.Run(t.Context(), func() { t.Error("ready with a name that is taken") })
	taken, ok := err.(*workeradapter.NameTakenError)
	if !ok || taken.Name != "w" || taken.Owner.Engine == "" || !strings.Contains(err.Error(), taken.Owner.Engine) {
		t.Fatalf("Run = %v, want the adapter that has the name", err)
	}
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("the first one: %+v", got.End)
	}
	s.idle()
	s.stop()
	third, err := workeradapter.New(workeradapter.Config{Bus: s.hub.Connect(t, "worker", "third"), Engine: other.URL(), Name: "w", ClaimWait: 20 * time.Millisecond, Beat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, third.Run) // the name is free again
	s.gateway.AwaitBeat(wire.Ready, s.now)
}

// Two that start at the same time hear each other: one of them keeps the name.
func TestOfTwoThatStartTogetherOneKeepsTheName(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	results := make(chan error, 2)
	for range 2 {
		e := testkit.NewEngine(t, "m")
		a, err := workeradapter.New(workeradapter.Config{Bus: hub.Connect(t, "worker", "w"), Engine: e.URL(), Name: "w", ClaimWait: time.Second, DrainTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		go func() { results <- a.Run(ctx, func() {}) }()
	}
	err := testkit.Receive(t, "one gives way", results)
	if _, ok := err.(*workeradapter.NameTakenError); !ok {
		t.Errorf("the one that gives way: %v", err)
	}
	select {
	case err := <-results:
		t.Errorf("and so does the other: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	reply := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); w.Write([]byte(body)) } //nolint:errcheck // a difference shows
	}
	s.engine.Handle("/flush_cache", reply(200, "Cache flushed.\n"))
	s.engine.Handle("/start_profile", reply(200, "Start profiling.\n"))
	s.engine.Handle("/stop_profile", reply(500, "no profile"))
	s.engine.Handle("/v1/loads", reply(200, `{"loads":[{"dp_rank":0,"num_running_reqs":3}]}`))

	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpLoad}); !told.OK || string(told.Body) != `{"dp_rank":0,"num_running_reqs":3}` {
		t.Errorf("load: %+v", told)
	}
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpProfileStart, Body: []byte(`{"num_steps":3}`)}); !told.OK || told.Message != "Start profiling." {
		t.Errorf("start of a profile: %+v", told)
	}
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpProfileStop}); told.OK || told.Status != 500 || told.Message != "no profile" {
		t.Errorf("end of a profile: %+v", told)
	}
	if told := s.gateway.Order("w", wire.Ask{Op: "dance"}); told.OK || told.Status != 501 {
		t.Errorf("an order that nobody knows: %+v", told)
	}
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpFlush, Millis: 9000}); !told.OK || told.Message != "Cache flushed." {
		t.Errorf("flush: %+v", told)
	}
	next := s.gateway.AwaitBeat(wire.Ready, s.now) // the cache is empty: another life
	if !slices.Contains(s.engine.Events(), "POST /flush_cache?timeout=4.000") {
		t.Errorf("the engine saw %q", s.engine.Events())
	}

	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpDrain}); !told.OK {
		t.Errorf("drain: %+v", told)
	}
	testkit.Eventually(t, "it says that it drains", func() bool { b := s.gateway.Beats(); return b[len(b)-1].State == wire.Draining })
	if s.adapter.Ready() == nil {
		t.Error("ready, though an operator has drained it")
	}
	if got := s.gateway.Send("w", next.Instance, prefix.Chat, whole).Wait(); got.End.Code != wire.CodeDraining {
		t.Errorf("a request: %+v", got.End)
	}
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpUndrain}); !told.OK {
		t.Errorf("undrain: %+v", told)
	}
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	if got := s.gateway.Send("w", next.Instance, prefix.Chat, whole).Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("a request after it: %+v", got.End)
	}
	s.idle()
}

func TestARemovedWorkerFinishesAndLeaves(t *testing.T) {
	t.Parallel()
	hub, engine := testkit.NewHub(t), testkit.NewEngine(t, "m")
	gw := testkit.NewGateway(t, hub, "g")
	a, err := workeradapter.New(workeradapter.Config{Bus: hub.Connect(t, "worker", "w"), Engine: engine.URL(), Name: "w", ClaimWait: 20 * time.Millisecond, Beat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- a.Run(ctx, func() {}) }()
	now := gw.AwaitBeat(wire.Ready, 0).Instance
	finish := make(chan struct{})
	engine.Answer(func(x *testkit.Exchange) { <-finish; x.Reply(200, "application/json", `{}`) })
	running := gw.Send("w", now, prefix.Chat, whole)
	testkit.Eventually(t, "the call", func() bool { return len(engine.Requests()) == 1 })
	if told := gw.Order("w", wire.Ask{Op: wire.OpRemove}); !told.OK {
		t.Errorf("remove: %+v", told)
	}
	gw.AwaitBeat(wire.Draining, 0)
	select {
	case err := <-ended:
		t.Fatalf("it left while a request was running: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(finish)
	if got := running.Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("the running one: %+v", got.End)
	}
	if err := testkit.Receive(t, "it leaves", ended); err != workeradapter.ErrRemoved {
		t.Errorf("Run = %v, want %v", err, workeradapter.ErrRemoved)
	}
}

func TestAnAbortByTheClientIsTheEnginesToEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Answer(func(x *testkit.Exchange) {
		x.Begin()
		x.Event(first) //nolint:errcheck // a difference shows
		<-x.Aborted
		x.Event(`{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}`) //nolint:errcheck // a difference shows
		x.Event("[DONE]")                                                                //nolint:errcheck // a difference shows
	})
	st := s.ask(prefix.Chat, stream)
	testkit.Eventually(t, "it has begun", func() bool { return st.Answer().Body != "" })
	st.CancelAs(wire.CodeAborted)
	if got := st.Wait(); got.End.Code != wire.CodeOK || got.End.Finish != "abort" || !strings.HasSuffix(got.Body, "[DONE]\n\n") {
		t.Errorf("got %+v with %q", got.End, got.Body)
	}
	s.idle()

	// An engine that has no word for it is hung up on.
	plain := newSite(t, func(e *testkit.Engine, _ *workeradapter.Config) { e.PlainOpenAI() })
	plain.engine.Answer(hang)
	st = plain.ask(prefix.Chat, stream)
	testkit.Eventually(t, "the call", func() bool { return len(plain.engine.Requests()) == 1 })
	st.CancelAs(wire.CodeAborted)
	if got := st.Wait(); got.End.Code != wire.CodeAborted {
		t.Errorf("got %+v", got.End)
	}
	plain.idle()
}
