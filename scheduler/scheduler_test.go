package scheduler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler"
)

func TestQuestionOnTheBusIsAnswered(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s.1", nil)
	w := newWorker(t, hub.Connect(t, "worker", "w"), "w/1.a", model, 4).live()
	s.serves(t, model, 1)
	c := newClient(t, hub).heard(model)
	req := request(model, 1)
	c.send(model, req.AppendTo(nil))
	r := c.hear()
	if r.Verdict != wire.Placed || r.Request != req.Request || r.Attempt != 1 || r.Scheduler != "s.1" {
		t.Fatalf("got %+v, want a placement", r)
	}
	if p := r.Placements[0]; p.Worker != "w/1.a" || p.Instance != w.info.Instance || p.Region != "dc.1" || p.Prompt != 160 {
		t.Errorf("got %+v", p)
	}
	if n, _ := s.metric(t, "radixbus_scheduler_decisions_total", "pool", model, "verdict", "placed"); n != 1 {
		t.Errorf("%v placements counted, want 1", n)
	}
	if n, _ := s.metric(t, "radixbus_scheduler_decision_seconds", "pool", model); n != 1 {
		t.Errorf("%v decisions timed, want 1", n)
	}
}

func TestWhatIsNoQuestionIsRefusedWithACode(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", nil)
	newWorker(t, hub.Connect(t, "worker", "w"), "w1", model, 4).live()
	s.serves(t, model, 1)
	c := newClient(t, hub).heard(model)
	good := request(model, 1).AppendTo(nil)
	for _, tt := range []struct {
		name string
		doc  []byte
		want wire.Code
	}{
		{"another version", append([]byte{good[0] + 1}, good[1:]...), wire.CodeVersion},
		{"another kind", append([]byte{good[0], byte(wire.KindUp)}, good[2:]...), wire.CodeVersion},
		{"cut short", good[:len(good)-3], wire.CodeMalformed},
		{"a byte", []byte{1}, wire.CodeMalformed},
		{"nothing", nil, wire.CodeMalformed},
	} {
		c.send(model, tt.doc)
		if r := c.hear(); r.Verdict != wire.Refused || r.Code != tt.want || r.Scheduler != "s1" {
			t.Errorf("%s: got %+v, want %v", tt.name, r, tt.want)
		}
	}
	if n, _ := s.metric(t, "radixbus_scheduler_malformed_total"); n != 5 {
		t.Errorf("%v malformed messages counted, want 5", n)
	}
	if err := c.nc.Publish(wire.Subjects{}.Sched(model), good); err != nil { // nobody to answer: nothing happens
		t.Fatal(err)
	}
	for doc, want := range map[string]string{
		`{"op":"serves"}`: `{"serves":true}`, `{"op":"dance"}`: `{"error":"malformed_message"}`, `{`: `{"error":"malformed_message"}`,
	} {
		c.send(model, []byte(doc))
		if got := string(testkit.Receive(t, "an answer", c.answers).Data); got != want {
			t.Errorf("%s: got %s, want %s", doc, got, want)
		}
	}
	if n := s.status(t, model).Leases; n != 0 {
		t.Errorf("%d leases of what had no reply subject", n)
	}
}

func TestWorkersComeAndGo(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", func(c *scheduler.Config) { c.StaleAfter, c.ForgetAfter = 300*time.Millisecond, 4*time.Second })
	c := newClient(t, hub)
	if s.Serves(t.Context(), model) {
		t.Error("serves a model that nobody has")
	}
	if r, err := s.Assign(t.Context(), request(model, 1)); err != nil || r.Code != wire.CodeNoWorker {
		t.Errorf("got %+v, %v, want no_worker", r, err)
	}
	conn := hub.Connect(t, "worker", "w")
	newWorker(t, conn, "stays", model, 4).live()
	quiet := newWorker(t, conn, "quiet", model, 4)
	quiet.beat(wire.Ready)
	s.serves(t, model, 2)
	testkit.Eventually(t, "the silent worker is told", func() bool { return s.status(t, model).Workers[0].State == "silent" })
	testkit.Eventually(t, "the silent worker is dropped, and its gauges with it", func() bool {
		_, told := s.metric(t, "radixbus_scheduler_worker_running", "pool", model, "worker", "quiet")
		return len(s.status(t, model).Workers) == 1 && !told
	})
	if _, told := s.metric(t, "radixbus_scheduler_worker_running", "pool", model, "worker", "stays"); !told {
		t.Error("the gauge of the worker that stays is gone")
	}

	other := newWorker(t, conn, "other", "second.model", 4)
	testkit.Eventually(t, "the second pool serves", func() bool { other.beat(wire.Ready); return s.Serves(t.Context(), "second.model") })
	testkit.Eventually(t, "draining is known", func() bool { other.beat(wire.Draining); return !s.Serves(t.Context(), "second.model") })
	c.send("second.model", []byte(`{"op":"serves"}`))
	if got := string(testkit.Receive(t, "an answer", c.answers).Data); got != `{"serves":false}` {
		t.Errorf("got %s from a pool whose worker drains", got)
	}
	testkit.Eventually(t, "it is back", func() bool { other.beat(wire.Ready); return s.Serves(t.Context(), "second.model") })
	gone := wire.Gone{Stamp: other.stamp(), Worker: "other", Instance: other.info.Instance, Code: wire.CodeDraining}
	other.say(wire.EventDown, gone.AppendTo(nil))
	testkit.Eventually(t, "it has left", func() bool { return len(s.status(t, "second.model").Workers) == 0 })
}

// Weights loaded under another name are another base model: the worker once stayed in its old pool for ever.
func TestWorkerThatChangesItsModelLeavesItsPool(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", nil)
	conn := hub.Connect(t, "worker", "w")
	w := newWorker(t, conn, "w1", "old", 4)
	testkit.Eventually(t, "the old model is served", func() bool { w.beat(wire.Ready); return s.Serves(t.Context(), "old") })
	w.info.Pool, w.info.Models = "new", []wire.Model{{Name: "new", Kind: wire.BaseModel}}
	w.register()
	testkit.Eventually(t, "only the new model is served", func() bool {
		w.beat(wire.Ready)
		return s.Serves(t.Context(), "new") && !s.Serves(t.Context(), "old") && len(s.status(t, "old").Workers) == 0
	})
}

func TestEventsReachTheirPool(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s.1", nil)
	conn := hub.Connect(t, "worker", "w")
	w := newWorker(t, conn, "w/1", model, 4).live()
	newWorker(t, conn, "w/2", "other", 4).live()
	s.serves(t, model, 1)
	s.serves(t, "other", 1)
	assign := func(group uint64) *wire.AssignReply {
		t.Helper()
		r, err := s.Assign(t.Context(), request(model, group))
		if err != nil || r.Verdict != wire.Placed {
			t.Fatalf("got %+v, %v, want a placement", r, err)
		}
		return r
	}
	leases := func(n int) func() bool { return func() bool { return s.status(t, model).Leases == n } }

	r := assign(1)
	if !leases(1)() {
		t.Errorf("got %+v, want one lease", s.status(t, model))
	}
	w.finish(r, wire.End{Prompt: 160, CachedPlus1: 1, Completion: 5})
	testkit.Eventually(t, "the finished event ends the lease", leases(0))
	again := assign(1)
	if got := again.Placements[0].Predicted; got != 159 {
		t.Errorf("%d tokens believed held, want 159", got)
	}
	w.finish(again, wire.End{Prompt: 160, CachedPlus1: 101, Completion: 5})
	testkit.Eventually(t, "the second lease ends", leases(0))
	for name, want := range map[string]float64{"prompt": 320, "predicted": 159, "actual": 100, "error": 59} {
		if n, _ := s.metric(t, "radixbus_belief_"+name+"_tokens_total", "pool", model, "worker", "w/1"); n != want {
			t.Errorf("belief %s: %v tokens, want %v", name, n, want)
		}
	}

	r = assign(2)
	l := wire.Load{Stamp: w.stamp(), Worker: "w/1", Instance: w.info.Instance, Leases: []wire.LeaseRef{{Request: r.Request, Attempt: 1}, {Request: wire.NewRequestID(), Attempt: 1}}}
	w.say(wire.EventLoad, l.AppendTo(nil))
	testkit.Eventually(t, "the report's foreign attempt counts", func() bool {
		ws := s.status(t, model).Workers
		return len(ws) == 1 && ws[0].Running == 2
	})
	l = wire.Load{Stamp: w.stamp(), Worker: "w/1", Instance: w.info.Instance}
	w.say(wire.EventLoad, l.AppendTo(nil))
	testkit.Eventually(t, "the report ends what it names no more", leases(0))

	peer := wire.Assigned{
		Stamp: wire.Stamp{Publisher: "s2", Seq: 1}, Region: "dc.1", Pool: model, Request: wire.NewRequestID(), Attempt: 1,
		Worker: "w/1", Instance: w.info.Instance, LeaseMillis: 30_000, Prompt: 10,
	}
	if err := conn.Control.Publish(wire.Subjects{}.Event("dc.1", model, wire.EventAssigned, "s2"), peer.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the peer's decision counts", leases(1))
	// What cannot be read, or is of no pool of ours, is dropped.
	for _, subject := range []string{
		wire.Subjects{}.Event("r", model, wire.EventFinished, "x"), wire.Subjects{}.Event("r", model, wire.EventLoad, "x"),
		wire.Subjects{}.Event("r", model, wire.EventAssigned, "x"), wire.Subjects{}.Event("r", "none", wire.EventLoad, "x"), "rb.v1.ev.r._q.load.x",
	} {
		if err := conn.Control.Publish(subject, []byte{1, 2, 3}); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "four messages counted as malformed", func() bool {
		n, _ := s.metric(t, "radixbus_scheduler_malformed_total")
		return n == 4
	})
	if n := s.status(t, "other").Leases; n != 0 {
		t.Errorf("%d leases in the other pool", n)
	}
}

func TestReplicasShareTheirDecisions(t *testing.T) {
	hub := testkit.NewHub(t)
	replicas := []*replica{start(t, hub, "s1", nil), start(t, hub, "s2", nil)}
	conn := hub.Connect(t, "worker", "w")
	byName := make(map[string]*worker)
	for i := range 3 {
		name := fmt.Sprintf("w%d", i)
		byName[name] = newWorker(t, conn, name, model, 64).live()
	}
	for _, s := range replicas {
		s.serves(t, model, 3)
	}
	var placed []*wire.AssignReply
	for i := range 40 {
		r, err := replicas[i%2].Assign(t.Context(), request(model, uint64(i/4+1)))
		if err != nil || r.Verdict != wire.Placed {
			t.Fatalf("got %+v, %v", r, err)
		}
		placed = append(placed, r)
	}
	same := func(leases int) func() bool {
		return func() bool {
			a, b := replicas[0].status(t, model), replicas[1].status(t, model)
			if a.Leases != leases || b.Leases != leases {
				return false
			}
			for i := range a.Workers {
				if a.Workers[i].Running != b.Workers[i].Running || a.Workers[i].HeldBytes != b.Workers[i].HeldBytes {
					return false
				}
			}
			return true
		}
	}
	testkit.Eventually(t, "both count the same 40 leases and hold the same", same(40))
	for _, r := range placed {
		byName[r.Placements[0].Worker].finish(r, wire.End{Prompt: 160, CachedPlus1: 1})
	}
	testkit.Eventually(t, "both count none, and hold the same", same(0))
	if a := replicas[0].status(t, model); a.Workers[0].HeldBytes+a.Workers[1].HeldBytes+a.Workers[2].HeldBytes < 10*640 {
		t.Errorf("got %+v, want 10 prompts held", a)
	}
	// A question on the bus is answered by one of them, and the events are numbered without a gap.
	c := newClient(t, hub).heard(model)
	c.send(model, request(model, 99).AppendTo(nil))
	if r := c.hear(); r.Verdict != wire.Placed {
		t.Errorf("got %+v", r)
	}
	testkit.Eventually(t, "both count it once", same(1))
	if len(c.answers) != 0 {
		t.Error("answered twice")
	}
}

func TestEventsAreNumberedInOrder(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", nil)
	conn := hub.Connect(t, "worker", "w")
	pools := []string{"a", "b", "c"}
	for _, p := range pools {
		newWorker(t, conn, "w-"+p, p, 256).live()
	}
	for _, p := range pools {
		s.serves(t, p, 1)
	}
	events := make(chan *nats.Msg, 1024)
	sub, err := conn.Control.ChanSubscribe(wire.Subjects{}.EventsOf(wire.EventAssigned), events)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // ends with the connection
	bus.Flush(t.Context(), conn.Control)
	const each = 60
	done := make(chan error, len(pools))
	for _, p := range pools {
		go func() {
			for i := range each {
				if r, err := s.Assign(context.Background(), request(p, uint64(i))); err != nil || r.Verdict != wire.Placed {
					done <- fmt.Errorf("got %+v, %w", r, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range pools {
		if err := testkit.Receive(t, "a pool's placements", done); err != nil {
			t.Fatal(err)
		}
	}
	for want := uint64(1); want <= uint64(each*len(pools)); want++ {
		e, err := wire.ParseAssigned(testkit.Receive(t, "an event", events).Data)
		if err != nil || e.Seq != want || e.Publisher != "s1" {
			t.Fatalf("got number %d of %s, %v, want %d", e.Seq, e.Publisher, err, want)
		}
	}
}

func TestHeldRequestHearsBeatsAndIsForgotten(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", nil)
	w := newWorker(t, hub.Connect(t, "worker", "w"), "w1", model, 1).live()
	s.serves(t, model, 1)
	first, err := s.Assign(t.Context(), request(model, 1))
	if err != nil || first.Verdict != wire.Placed {
		t.Fatalf("got %+v, %v", first, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := errors.New("the client left")
	result := make(chan error, 1)
	go func() { _, err := s.Assign(ctx, request(model, 2)); result <- err }()
	testkit.Eventually(t, "one is held", func() bool { return s.status(t, model).Held == 1 })
	cancel(gaveUp)
	if err := testkit.Receive(t, "the cancelled question", result); !errors.Is(err, gaveUp) {
		t.Errorf("got %v, want the cause", err)
	}
	testkit.Eventually(t, "it is forgotten", func() bool { return s.status(t, model).Held == 0 })

	c := newClient(t, hub).heard(model)
	req := request(model, 3)
	c.send(model, req.AppendTo(nil))
	for i := range 2 { // at once, and a second later
		if r := c.hear(); r.Verdict != wire.Held || r.Request != req.Request {
			t.Fatalf("answer %d: got %+v, want held", i, r)
		}
	}
	w.finish(first, wire.End{Prompt: 160, CachedPlus1: 1})
	for r := c.hear(); r.Verdict != wire.Placed; r = c.hear() {
		if r.Verdict != wire.Held {
			t.Fatalf("got %+v, want a placement", r)
		}
	}
	if n := s.status(t, model).Leases; n != 1 {
		t.Errorf("%d leases, want that of the last request", n)
	}
}

func TestHoldEndsInARefusal(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", func(c *scheduler.Config) { c.HoldFor = 50 * time.Millisecond })
	newWorker(t, hub.Connect(t, "worker", "w"), "w1", model, 1).live()
	s.serves(t, model, 1)
	for i, want := range []wire.Verdict{wire.Placed, wire.Refused} {
		r, err := s.Assign(t.Context(), request(model, 1))
		if err != nil || r.Verdict != want || want == wire.Refused && (r.Code != wire.CodeOverloaded || r.RetryAfterMillis == 0) {
			t.Errorf("request %d: got %+v, %v, want verdict %d", i, r, err, want)
		}
	}
	if n, _ := s.metric(t, "radixbus_scheduler_decisions_total", "pool", model, "verdict", "overloaded"); n != 1 {
		t.Errorf("%v refusals counted, want 1", n)
	}
}

func TestStopAnswersWhoWaits(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", nil)
	newWorker(t, hub.Connect(t, "worker", "w"), "w1", model, 1).live()
	s.serves(t, model, 1)
	if _, err := s.Assign(t.Context(), request(model, 1)); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, hub).heard(model)
	c.send(model, request(model, 2).AppendTo(nil))
	if r := c.hear(); r.Verdict != wire.Held {
		t.Fatalf("got %+v, want held", r)
	}
	replies := make(chan *wire.AssignReply, 1)
	go func() {
		r, err := s.Assign(context.Background(), request(model, 3))
		if err != nil {
			t.Error(err)
		}
		replies <- r
	}()
	testkit.Eventually(t, "two are held", func() bool { return s.status(t, model).Held == 2 })
	s.stop()
	if r := testkit.Receive(t, "the answer in this process", replies); r.Verdict != wire.Refused || r.Code != wire.CodeNoScheduler {
		t.Errorf("got %+v, want no_scheduler", r)
	}
	for r := c.hear(); ; r = c.hear() { // beats may have come before
		if r.Verdict == wire.Refused && r.Code == wire.CodeNoScheduler {
			break
		}
		if r.Verdict != wire.Held {
			t.Fatalf("got %+v, want no_scheduler", r)
		}
	}
	if r, err := s.Assign(t.Context(), request(model, 4)); err != nil || r.Code != wire.CodeNoScheduler {
		t.Errorf("after the stop: got %+v, %v, want no_scheduler", r, err)
	}
	if _, err := s.Status(); err == nil {
		t.Error("a stopped scheduler tells a status")
	}
	c.send(model, request(model, 5).AppendTo(nil))
	if m := testkit.Receive(t, "the bus's answer", c.answers); m.Header.Get("Status") != "503" {
		t.Errorf("got %q: somebody still listens", m.Data)
	}
}

func TestConfigIsChecked(t *testing.T) {
	hub := testkit.NewHub(t)
	b := hub.Connect(t, "scheduler", "s1")
	reg := prometheus.NewRegistry()
	good := scheduler.Config{Bus: b, Cost: prefix.LadderBytes, Registry: reg}
	if _, err := scheduler.New(good); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*scheduler.Config){
		"no bus":              func(c *scheduler.Config) { c.Bus = nil },
		"no cost":             func(c *scheduler.Config) { c.Cost = nil },
		"unknown policy":      func(c *scheduler.Config) { c.Policy = "luck" },
		"negative hold":       func(c *scheduler.Config) { c.HoldFor = -1 },
		"negative queue":      func(c *scheduler.Config) { c.QueueLen = -1 },
		"registry used twice": func(*scheduler.Config) {},
	} {
		cfg := good
		if name != "registry used twice" {
			cfg.Registry = nil
		}
		edit(&cfg)
		if s, err := scheduler.New(cfg); err == nil {
			t.Errorf("%s: got %v, want an error", name, s)
		}
	}
	if _, err := scheduler.New(scheduler.Config{}); err == nil || !strings.Contains(err.Error(), "bus") || !strings.Contains(err.Error(), "cost") {
		t.Errorf("got %v, want all that is wrong", err)
	}
}

func TestPoolsAreBounded(t *testing.T) {
	hub := testkit.NewHub(t)
	s := start(t, hub, "s1", func(c *scheduler.Config) { c.MaxPools = 1 })
	conn := hub.Connect(t, "worker", "w")
	newWorker(t, conn, "w1", "first", 4).live()
	s.serves(t, "first", 1)
	w := newWorker(t, conn, "w2", "second", 4).live()
	w.beat(wire.Ready)
	newWorker(t, conn, "w3", "first", 4).live()
	s.serves(t, "first", 2)
	if r, err := s.Assign(t.Context(), request("second", 1)); err != nil || r.Code != wire.CodeNoWorker {
		t.Errorf("got %+v, %v, want no_worker", r, err)
	}
}

func TestSchedulersAreFoundOnTheBus(t *testing.T) {
	hub := testkit.NewHub(t)
	start(t, hub, "s1", func(c *scheduler.Config) { c.Version = "v1.2.3-rc.1"; c.Region = "dc.1" })
	s2 := start(t, hub, "s2", func(c *scheduler.Config) { c.Version = "devel" })
	newWorker(t, hub.Connect(t, "worker", "w"), "w1", model, 4).live()
	s2.serves(t, model, 1)
	c := newClient(t, hub)
	if err := c.nc.PublishRequest("$SRV.INFO."+scheduler.ServiceName, c.inbox, nil); err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	for len(versions) < 2 {
		var one struct {
			Version   string            `json:"version"`
			Metadata  map[string]string `json:"metadata"`
			Endpoints []struct {
				Subject string `json:"subject"`
			} `json:"endpoints"`
		}
		if err := json.Unmarshal(testkit.Receive(t, "a service's description", c.answers).Data, &one); err != nil {
			t.Fatal(err)
		}
		versions[one.Metadata["id"]] = one.Version
		if one.Metadata["policy"] != "radix" || len(one.Endpoints) != 1 || one.Endpoints[0].Subject != "rb.v1.status.scheduler" {
			t.Errorf("got %+v", one)
		}
	}
	if versions["s1"] != "1.2.3-rc.1" || versions["s2"] != "0.0.0" {
		t.Errorf("got %v", versions)
	}
	if err := c.nc.PublishRequest(scheduler.StatusSubject(wire.Subjects{}), c.inbox, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // each replica tells its own
		var all []scheduler.PoolStatus
		if err := json.Unmarshal(testkit.Receive(t, "a replica's status", c.answers).Data, &all); err != nil {
			t.Fatal(err)
		}
		if len(all) > 0 && (all[0].Pool != model || len(all[0].Workers) != 1 || all[0].Workers[0].State != "ready") {
			t.Errorf("got %+v", all)
		}
	}
}

// A replica that has just started knew one worker of twelve, and refused what goes on at the others, beside a replica that knew
// them all.
func TestAReplicaIsAskedOnceItKnowsTheFleet(t *testing.T) {
	hub := testkit.NewHub(t)
	old := start(t, hub, "old", nil)
	conn := hub.Connect(t, "worker", "w")
	newWorker(t, conn, "w0", model, 64).live()
	time.Sleep(50 * time.Millisecond) // their beats are apart, and so is when a new replica knows them
	late := newWorker(t, conn, "w1", model, 4096)
	late.info.Engine = "late"
	late.register()
	late.live()
	old.serves(t, model, 2)
	c := newClient(t, hub).heard(model)
	for range 3 {
		fresh := start(t, hub, "fresh", nil)
		for i := range 40 {
			req := request(model, uint64(i))
			req.Engine = "late"
			c.send(model, req.AppendTo(nil))
			if r := c.hear(); r.Verdict != wire.Placed || r.Placements[0].Worker != "w1" {
				t.Fatalf("got %+v from %s", r, r.Scheduler)
			}
			time.Sleep(2 * time.Millisecond)
		}
		fresh.stop()
	}
}
