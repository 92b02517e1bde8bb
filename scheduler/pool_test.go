package scheduler

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

// stalled is a pool whose goroutine does only what a test tells it to, with one worker that admits one attempt.
func stalled(t *testing.T, queue int) (*pool, *nats.Conn) {
	t.Helper()
	b := testkit.NewHub(t).Connect(t, "scheduler", "s1")
	s, err := New(Config{ID: "s1", Bus: b, Registry: prometheus.NewRegistry(), Cost: func(n int) int64 { return int64(n) * 64 }, QueueLen: queue})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s.ctx = ctx
	p, err := newPool(s, "m")
	if err != nil {
		t.Fatal(err)
	}
	p.core.Join(time.Now(), &wire.WorkerInfo{
		Worker: "w1", Instance: 1, Region: "local", Pool: "m", Models: []wire.Model{{Name: "m"}}, MaxRunning: 1,
	}, wire.Ready)
	return p, b.Control
}

// step does the next thing that is queued.
func (p *pool) step(t *testing.T) {
	t.Helper()
	testkit.Receive(t, "something queued", p.queue)(time.Now())
	p.tell()
}

func question(id byte) *wire.AssignRequest {
	return &wire.AssignRequest{Request: wire.RequestID{id}, Attempt: 1, Pool: "m", Model: "m", BodyBytes: 100}
}

// counted is how many series a counter has, and their sum.
func (p *pool) counted(t *testing.T, name string) (series int, sum float64) {
	t.Helper()
	families, err := p.s.cfg.Registry.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				series++
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return series, sum
}

type outcome struct {
	reply *wire.AssignReply
	err   error
}

// start asks as a gateway in this process does.
func (p *pool) start(ctx context.Context, req *wire.AssignRequest) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		r, err := p.ask(ctx, req)
		done <- outcome{r, err}
	}()
	return done
}

func TestFullQueueRefusesAndDoesNotBlock(t *testing.T) {
	p, nc := stalled(t, 1)
	waiting := p.start(t.Context(), question(1))
	testkit.Eventually(t, "the queue is full", func() bool { return len(p.queue) == 1 })
	if r, err := p.ask(t.Context(), question(2)); err != nil || r.Verdict != wire.Refused || r.Code != wire.CodeOverloaded || r.RetryAfterMillis == 0 {
		t.Errorf("in this process: got %+v, %v, want overloaded", r, err)
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	p.question(&nats.Msg{Reply: inbox, Data: question(3).AppendTo(nil)})
	msg, err := sub.NextMsg(testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := wire.ParseAssignReply(msg.Data); err != nil || r.Code != wire.CodeOverloaded || r.Request != (wire.RequestID{3}) {
		t.Errorf("on the bus: got %+v, %v, want overloaded", r, err)
	}
	p.finished((&wire.Finished{Worker: "w1"}).AppendTo(nil)) // an event is dropped
	if series, got := p.counted(t, "radixbus_scheduler_queue_overflows_total"); series != 1 || got != 3 {
		t.Errorf("%v overflows counted, want 3", got)
	}
	if _, err := p.s.Status(t.Context()); err != nil {
		t.Errorf("status without pools: %v", err)
	}
	p.step(t)
	if got := testkit.Receive(t, "the first answer", waiting); got.err != nil || got.reply.Verdict != wire.Placed {
		t.Errorf("got %+v, want a placement", got)
	}
}

// A gateway that gives up while its answer is on the way has left a lease behind: it once counted for the whole
// lease time, here and with every peer.
func TestPlacementThatNobodyTookIsTakenBack(t *testing.T) {
	p, nc := stalled(t, 8)
	events, err := nc.SubscribeSync(wire.Subjects{}.EventsOf(wire.EventFinished))
	if err != nil {
		t.Fatal(err)
	}
	released := func(id byte) {
		t.Helper()
		msg, err := events.NextMsg(testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		f, err := wire.ParseFinished(msg.Data)
		if err != nil || f.Request != (wire.RequestID{id}) || f.Worker != "w1" || f.Instance != 1 || f.End.Code != wire.CodeCancelled || f.Publisher != "s1" {
			t.Errorf("got %+v, %v, want the end of request %d", f, err, id)
		}
		if n := p.core.Leases(); n != 0 {
			t.Errorf("%d leases are left", n)
		}
	}
	t.Run("decided before it was cancelled", func(t *testing.T) {
		from := &asker{ctx: t.Context(), answer: make(chan *wire.AssignReply, 1)}
		p.decide(time.Now(), from, question(1))
		p.tell()
		if p.core.Leases() != 1 || len(from.answer) != 1 {
			t.Fatalf("%d leases and %d answers, want 1", p.core.Leases(), len(from.answer))
		}
		p.forget(time.Now(), askerKey{wire.RequestID{1}, 1}, from)
		p.tell()
		released(1)
	})
	t.Run("cancelled while it was held", func(t *testing.T) {
		first := &asker{ctx: context.Background(), answer: make(chan *wire.AssignReply, 1)}
		p.decide(time.Now(), first, question(2))
		ctx, cancel := context.WithCancel(context.Background())
		p.decide(time.Now(), &asker{ctx: ctx, answer: make(chan *wire.AssignReply, 1)}, question(3))
		p.tell()
		if p.core.Held() != 1 {
			t.Fatalf("%d held, want 1", p.core.Held())
		}
		cancel() // and the queue was full, so nobody said so
		p.core.Finished(time.Now(), &wire.Finished{Worker: "w1", Instance: 1, Request: wire.RequestID{2}, Attempt: 1})
		p.tell()
		released(3)
	})
	t.Run("cancelled before it was taken up", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("gone")
		cancel(cause)
		if got := testkit.Receive(t, "the answer", p.start(ctx, question(4))); !errors.Is(got.err, cause) {
			t.Errorf("got %+v, want the cause", got)
		}
		p.step(t)
		p.step(t)
		if p.core.Leases() != 0 || p.core.Held() != 0 || len(p.askers) != 0 {
			t.Errorf("%d leases, %d held, %d askers, want none", p.core.Leases(), p.core.Held(), len(p.askers))
		}
	})
}

func TestQuestionAskedAgainHasOneAsker(t *testing.T) {
	p, _ := stalled(t, 8)
	p.decide(time.Now(), &asker{subject: "nobody"}, question(1))
	first := p.start(t.Context(), question(2))
	p.step(t)
	second := p.start(t.Context(), question(2))
	p.step(t)
	if got := testkit.Receive(t, "the first's answer", first); got.err != nil || got.reply.Code != wire.CodeCancelled {
		t.Errorf("got %+v, want cancelled", got)
	}
	p.core.Finished(time.Now(), &wire.Finished{Worker: "w1", Instance: 1, Request: wire.RequestID{1}, Attempt: 1})
	p.tell()
	if got := testkit.Receive(t, "the second's answer", second); got.err != nil || got.reply.Verdict != wire.Placed {
		t.Errorf("got %+v, want a placement", got)
	}
	if p.core.Leases() != 1 || p.core.Held() != 0 || len(p.askers) != 0 {
		t.Errorf("%d leases, %d held, %d askers, want 1, 0, 0", p.core.Leases(), p.core.Held(), len(p.askers))
	}
}

// What is queued when the scheduler stops is answered too.
func TestStopAnswersWhatIsQueued(t *testing.T) {
	p, _ := stalled(t, 8)
	var asked []<-chan outcome
	for i := range byte(3) {
		asked = append(asked, p.start(t.Context(), question(i+1)))
		testkit.Eventually(t, "it is queued", func() bool { return len(p.queue) == int(i)+1 })
	}
	p.drain(nil)
	close(p.over)
	for i, want := range []wire.Code{wire.CodeOK, wire.CodeNoScheduler, wire.CodeNoScheduler} {
		if got := testkit.Receive(t, "an answer", asked[i]); got.err != nil || got.reply.Code != want {
			t.Errorf("question %d: got %+v, want %v", i+1, got, want)
		}
	}
}

func TestBeliefCountersAreBounded(t *testing.T) {
	p, _ := stalled(t, 1)
	for i := range maxNamed + 10 {
		p.gauge.believe(&core.Belief{Worker: fmt.Sprint("w", i), Prompt: 3, Predicted: 2, Actual: 1})
	}
	if series, sum := p.counted(t, "radixbus_belief_prompt_tokens_total"); series != maxNamed+1 || sum != 3*(maxNamed+10) {
		t.Errorf("%d series with %v tokens, want %d with %d", series, sum, maxNamed+1, 3*(maxNamed+10))
	}
}

func TestNotBeingListedIsNoError(t *testing.T) {
	p, nc := stalled(t, 1)
	nc.Close()
	p.s.discoverable()() // warns
}
