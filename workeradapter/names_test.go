package workeradapter_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// A newcomer whose clock was ten minutes behind took the name, and the adapter that served under it ended.
func TestAnAdapterThatServesKeepsItsNameWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	s := newSite(t, twoRanks)
	readyWorkers(t, s.gateway, "w-r0", "w-r1")
	for _, name := range []string{"w", "w-r1"} {
		doc, err := json.Marshal(wire.Ask{Op: wire.OpClaim, Claim: &wire.Claim{Adapter: "a-other", Started: time.Now().Add(-10 * time.Minute).UnixMilli()}})
		if err != nil {
			t.Fatal(err)
		}
		conn := s.hub.Connect(t, "worker", "late").Control
		answer, err := conn.Request(wire.Subjects{}.Ctl(name), doc, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		var told wire.Told
		if err := json.Unmarshal(answer.Data, &told); err != nil || told.Worker != name || told.Claim == nil || !told.Claim.Held {
			t.Errorf("the newcomer hears %s, want that %s is held", answer.Data, name)
		}
	}
	if err := s.adapter.Ready(); err != nil {
		t.Errorf("the one that had the name: %v", err)
	}
}

// After a time in which an adapter could not be heard another one may serve under its name. One whose process stood still leaves,
// however early it began; when the bus was away, both served, and the older one stays.
func TestAnAdapterThatStoodStillComesLast(t *testing.T) {
	t.Parallel()
	hub, engine := testkit.NewHub(t), testkit.NewEngine(t, "m")
	a, err := workeradapter.New(workeradapter.Config{Bus: hub.Connect(t, "worker", "w"), Engine: engine.URL(), Name: "w", ClaimWait: 200 * time.Millisecond, Beat: time.Hour, DrainTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- a.Run(ctx, func() {}) }()
	testkit.Eventually(t, "it serves", func() bool { return a.Ready() == nil })

	asked := make(chan wire.Claim, 16)
	conn := hub.Connect(t, "worker", "meanwhile").Control
	_, err = conn.Subscribe(wire.Subjects{}.Ctl("w"), func(msg *nats.Msg) {
		var ask wire.Ask
		if json.Unmarshal(msg.Data, &ask) != nil || ask.Claim == nil {
			return
		}
		asked <- *ask.Claim
		doc, err := json.Marshal(wire.Told{Worker: "w", Claim: &wire.Claim{Adapter: "a-meanwhile", Started: time.Now().Add(time.Hour).UnixMilli(), Held: true}})
		if err == nil {
			msg.Respond(doc) //nolint:errcheck // a difference shows
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	a.Reclaim(ctx, false)
	if claim := testkit.Receive(t, "a claim", asked); !claim.Held {
		t.Errorf("after an outage of the bus it claims %+v", claim)
	}
	select {
	case err := <-ended:
		t.Fatalf("it gave way to a later one: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	a.Reclaim(ctx, true)
	if claim := testkit.Receive(t, "a claim", asked); claim.Held {
		t.Errorf("after it stood still it claims %+v", claim)
	}
	err = testkit.Receive(t, "it leaves", ended)
	if taken, ok := err.(*workeradapter.NameTakenError); !ok || taken.Owner.Adapter != "a-meanwhile" {
		t.Errorf("Run = %v, want the name is taken", err)
	}
}

// A cluster of NATS servers that was parted had an adapter of the name on each side, and no connection broke.
func TestOfTwoThatServeUnderANameTheYoungerLeaves(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	conn := s.hub.Connect(t, "worker", "the other side").Control
	asked := make(chan wire.Claim, 16)
	if _, err := conn.Subscribe(wire.Subjects{}.Ctl("w"), func(msg *nats.Msg) {
		var ask wire.Ask
		if json.Unmarshal(msg.Data, &ask) != nil || ask.Claim == nil || ask.Claim.Adapter == "a-other" {
			return
		}
		asked <- *ask.Claim
		other := wire.Claim{Adapter: "a-other", Started: time.Now().Add(time.Hour).UnixMilli(), Held: true} // younger than ours
		if doc, err := json.Marshal(wire.Told{Worker: "w", Claim: &other}); err == nil {
			msg.Respond(doc) //nolint:errcheck // a difference shows
		}
	}); err != nil {
		t.Fatal(err)
	}
	beat := func(n wire.Instance) {
		t.Helper()
		up := wire.Up{Stamp: wire.Stamp{Publisher: "w"}, Worker: "w", Instance: n, State: wire.Ready, BeatMillis: 750}
		if err := conn.Publish(wire.Subjects{}.Event("local", "m", wire.EventUp, "w"), up.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	beat(s.now) // our own is no reason
	select {
	case claim := <-asked:
		t.Fatalf("its own beat made it claim %+v", claim)
	case <-time.After(300 * time.Millisecond):
	}
	beat(wire.NewInstance())
	if claim := testkit.Receive(t, "a claim", asked); !claim.Held { // which makes a younger one leave, that hears it
		t.Errorf("it claims %+v", claim)
	}
	if err := s.adapter.Ready(); err != nil {
		t.Errorf("the older one: %v", err)
	}
}

// Here the name of a rank is taken before the ranks are known.
func TestANameOfARankMayBeTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.Name = "w-r1" })
	readyWorkers(t, s.gateway, "w-r1")
	engine := testkit.NewEngine(t, "m")
	engine.SetInfo("dp_size", 2)
	second, err := workeradapter.New(workeradapter.Config{Bus: s.hub.Connect(t, "worker", "second"), Engine: engine.URL(), Name: "w", ClaimWait: 100 * time.Millisecond, Beat: 50 * time.Millisecond, Probe: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, second.Run)
	time.Sleep(time.Second)
	if second.Ready() == nil {
		t.Error("ready, though another adapter has the name of one of its ranks")
	}
	if err := s.adapter.Ready(); err != nil {
		t.Errorf("the one that had the name: %v", err)
	}
}

// Sixteen ranks claimed their names one after the other, 300 ms each.
func TestManyRanksAreReadyWithinASecond(t *testing.T) {
	began := time.Now()
	s := newSite(t, func(e *testkit.Engine, c *workeradapter.Config) { e.SetInfo("dp_size", 16); c.ClaimWait = 0 })
	readyWorkers(t, s.gateway, rankNames(16)...)
	if took := time.Since(began); took > 3*time.Second { // one claim for the adapter, one for all ranks; the rest is for slow machines
		t.Errorf("16 ranks are ready after %v", took)
	}
}
