package roster_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/localbus"
	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// dial connects to a bus of the test's own.
func dial(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := localbus.Start(localbus.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL(), s.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); s.Stop() })
	return nc
}

// speaker is an adapter that only talks.
type speaker struct {
	t    *testing.T
	nc   *nats.Conn
	info *wire.WorkerInfo
	hash uint64

	mu    sync.Mutex
	asked int
	rolls int
}

func newSpeaker(t *testing.T, nc *nats.Conn, worker string) *speaker {
	t.Helper()
	s := &speaker{t: t, nc: nc, info: info(worker, "Llama-3.1-8B", 3)}
	doc, hash, err := s.info.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.hash = hash
	for subject, on := range map[string]nats.MsgHandler{
		wire.Subjects{}.Ctl(worker): func(m *nats.Msg) {
			var q wire.Ask
			if json.Unmarshal(m.Data, &q) == nil && q.Op == wire.OpInfo {
				s.mu.Lock()
				s.asked++
				s.mu.Unlock()
				m.Respond(doc) //nolint:errcheck // a lost answer is asked for again
			}
		},
		wire.Subjects{}.Roll(): func(*nats.Msg) { s.mu.Lock(); s.rolls++; s.mu.Unlock(); s.beat(wire.Ready) },
	} {
		if _, err := nc.Subscribe(subject, on); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *speaker) beat(state wire.State) {
	up := beat(s.info.Worker, s.info.Instance, s.hash, state)
	s.say(wire.EventUp, up.AppendTo(nil))
}

func (s *speaker) say(kind string, doc []byte) {
	if err := s.nc.Publish(wire.Subjects{}.Event("local", s.info.Pool, kind, s.info.Worker), doc); err != nil {
		s.t.Error(err)
	}
}

func (s *speaker) counts() (asked, rolls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.rolls
}

func TestListenerLearnsWhoIsThereAndForgetsWhoLeft(t *testing.T) {
	nc := dial(t)
	w := newSpeaker(t, nc, "w.0")
	before := nc.NumSubscriptions()
	changes := make(chan roster.Change, 64)
	l, err := roster.NewListener(roster.Config{Conn: nc, Stale: time.Second, OnChange: func(c roster.Change) { changes <- c }})
	if err != nil {
		t.Fatal(err)
	}
	if v := l.View(); len(v.Workers) != 0 || v.Lookup("m") != nil {
		t.Errorf("the view before Run: %+v", v)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- l.Run(ctx, func() { close(ready) }) }()
	<-ready
	ready2 := func() bool { return l.View().Ready == 1 } // by the roll call alone: nobody has beaten yet
	eventually(t, "the roll call finds the worker", ready2)
	if asked, rolls := w.counts(); asked != 1 || rolls != 1 {
		t.Errorf("%d questions and %d roll calls, want one of each", asked, rolls)
	}
	select {
	case <-l.Settled():
	case <-time.After(20 * time.Second):
		t.Fatal("never settled")
	}

	for _, junk := range []string{"", "{", "{}", `{"worker":"w.0","models":7}`, "\x01\xff", "\x07", "\x01\x0a\xff\xff\xff"} {
		w.say(wire.EventUp, []byte(junk))
		w.say(wire.EventDown, []byte(junk))
	}
	w.beat(wire.Draining)
	eventually(t, "the worker drains, whatever nonsense came before", func() bool {
		v := l.View()
		return v.Ready == 0 && len(v.Workers) == 1 && v.Workers[0].State == wire.Draining
	})
	w.beat(wire.Ready)
	eventually(t, "the worker is back", ready2)
	gone := wire.Gone{Worker: "w.0", Instance: w.info.Instance, Code: wire.CodeDraining}
	w.say(wire.EventDown, gone.AppendTo(nil))
	eventually(t, "its last word counts", func() bool { return len(l.View().Workers) == 0 })
	w.info.Instance++ // a new life, which still answers with the old one's info: that must not count
	w.beat(wire.Ready)
	eventually(t, "the new life is asked", func() bool {
		asked, _ := w.counts()
		return asked >= 2
	})
	time.Sleep(50 * time.Millisecond)
	if v := l.View(); len(v.Workers) != 0 {
		t.Errorf("info of an earlier life was taken: %v", names(v))
	}

	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if got := nc.NumSubscriptions(); got != before {
		t.Errorf("%d subscriptions after it stopped, want %d", got, before)
	}
	var states []bool
	for len(changes) > 0 {
		states = append(states, (<-changes).Gone)
	}
	if len(states) != 4 || !states[3] || states[0] { // joined, draining, ready, gone
		t.Errorf("changes (gone?) = %v, want three and then one gone", states)
	}
}

func TestListenerTellsAndDropsTheSilent(t *testing.T) {
	nc := dial(t)
	w := newSpeaker(t, nc, "w0")
	l, err := roster.NewListener(roster.Config{Conn: nc, Stale: 300 * time.Millisecond, Forget: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, func() {}) }()
	defer func() { cancel(); <-done }()
	eventually(t, "the worker is there", func() bool { w.beat(wire.Ready); return l.View().Ready == 1 })
	began := time.Now()
	eventually(t, "it is silent", func() bool { return l.View().Workers[0].State == wire.Silent })
	if took := time.Since(began); took < 2*time.Second { // it announces beats a second apart
		t.Errorf("silent after %v, though its next beat was due within 1 s", took)
	}
	eventually(t, "it is gone", func() bool { return len(l.View().Workers) == 0 })
}

func TestListenerNeedsAConnection(t *testing.T) {
	if _, err := roster.NewListener(roster.Config{}); err == nil {
		t.Error("no error")
	}
}

// Beats that lie in the listener's own queue while it is held up are no silence.
func TestListenerThatIsLateDoesNotTakeItForTheWorkersSilence(t *testing.T) {
	nc := dial(t)
	w := newSpeaker(t, nc, "w0")
	gone := make(chan roster.Change, 64)
	held := false
	l, err := roster.NewListener(roster.Config{Conn: nc, Stale: 300 * time.Millisecond, OnChange: func(c roster.Change) {
		if c.Gone {
			gone <- c
		}
		if !held && c.Worker.State == wire.Draining {
			held = true
			time.Sleep(1500 * time.Millisecond)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait() }()
	running.Go(func() { l.Run(ctx, func() {}) }) //nolint:errcheck // nil by contract
	beats := time.NewTicker(20 * time.Millisecond)
	defer beats.Stop()
	for i, end := 0, time.Now().Add(3*time.Second); time.Now().Before(end); i++ {
		<-beats.C
		up := beat("w0", w.info.Instance, w.hash, wire.Ready)
		up.BeatMillis = 20
		if i == 20 {
			up.State = wire.Draining
		}
		w.say(wire.EventUp, up.AppendTo(nil))
	}
	if len(gone) > 0 {
		t.Errorf("the worker was dropped %d times, though it never was silent", len(gone))
	}
	if l.View().Ready != 1 {
		t.Error("the worker is not there")
	}
}
