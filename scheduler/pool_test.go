package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

// lone is a pool that nobody runs, with one worker that admits one attempt.
func lone(t *testing.T, queue int) (*pool, *nats.Conn) {
	t.Helper()
	b := testkit.NewHub(t).Connect(t, "scheduler", "s1")
	s, err := New(Config{ID: "s1", Bus: b, Registry: prometheus.NewRegistry(), Cost: func(n int) int64 { return int64(n) * 64 }, QueueLen: queue})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.events.Close)
	p, err := newPool(s, "m")
	if err != nil {
		t.Fatal(err)
	}
	p.join(&wire.WorkerInfo{
		Worker: "w1", Instance: 1, Region: "local", Pool: "m", Models: []wire.Model{{Name: "m"}}, MaxRunning: 1,
	}, wire.Ready)
	return p, b.Control
}

// finish ends a request as the worker tells it.
func (p *pool) finish(id byte) {
	p.finished((&wire.Finished{Worker: "w1", Instance: 1, Request: wire.RequestID{id}, Attempt: 1}).AppendTo(nil))
}

// books are what a pool counts: leases, held requests, and who waits for an answer.
func (p *pool) books() [3]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return [3]int{p.core.Leases(), p.core.Held(), len(p.askers)}
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

func TestQuestionThatFindsTooManyWaitingIsRefused(t *testing.T) {
	p, nc := lone(t, 1)
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	questions, err := nc.Subscribe("questions", p.question)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock() // a decision that takes its time
	waiting := p.start(t.Context(), question(1))
	testkit.Eventually(t, "it waits", func() bool { return p.asking.Load() == 1 })
	if r, err := p.ask(t.Context(), question(2)); err != nil || r.Verdict != wire.Refused || r.Code != wire.CodeOverloaded || r.RetryAfterMillis == 0 {
		t.Errorf("in this process: got %+v, %v, want overloaded", r, err)
	}
	for i, behind := range []int{0, 1, 2, 3} { // the first is being decided when the others come
		if err := nc.PublishRequest("questions", inbox, question(3+byte(i)).AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "it is here", func() bool {
			waiting, _, err := questions.Pending()
			taken, errTaken := questions.Delivered()
			return err == nil && errTaken == nil && waiting == 1+behind && taken == 1
		})
	}
	p.mu.Unlock()
	if got := testkit.Receive(t, "the first answer", waiting); got.err != nil || got.reply.Verdict != wire.Placed {
		t.Errorf("got %+v, want a placement", got)
	}
	got := map[byte]string{}
	for range 4 {
		msg, err := answers.NextMsg(testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := wire.ParseAssignReply(msg.Data); err == nil {
			got[r.Request[0]] = r.Code.String()
		}
	}
	// The second had two behind it, which is more than the bound. The others are held.
	if want := map[byte]string{3: "ok", 4: "overloaded", 5: "ok", 6: "ok"}; !maps.Equal(got, want) {
		t.Errorf("on the bus: got %v, want %v", got, want)
	}
	if series, sum := p.counted(t, "radixbus_scheduler_queue_overflows_total"); series != 1 || sum != 2 {
		t.Errorf("%v overflows counted, want 2", sum)
	}
	if _, err := p.s.Status(); err != nil {
		t.Errorf("status without pools: %v", err)
	}
}

// A gateway that gives up while its answer is on the way has left a lease behind: it once counted for the whole
// lease time, here and with every peer.
func TestPlacementThatNobodyTookIsTakenBack(t *testing.T) {
	p, nc := lone(t, 8)
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
		if got := p.books(); got != [3]int{} {
			t.Errorf("%v leases, held and askers are left", got)
		}
	}
	t.Run("decided just before it was cancelled", func(t *testing.T) {
		from := &asker{ctx: t.Context()}
		p.do(func(now time.Time) { p.decide(now, from, question(1)) })
		if got := p.books(); got != [3]int{1, 0, 0} || from.reply == nil {
			t.Fatalf("%v leases, held and askers, reply %v", got, from.reply)
		}
		p.do(func(now time.Time) { p.forget(now, askerKey{wire.RequestID{1}, 1}, from) })
		released(1)
	})
	t.Run("placed after it was cancelled", func(t *testing.T) {
		if _, err := p.ask(t.Context(), question(2)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		p.do(func(now time.Time) { p.decide(now, &asker{ctx: ctx}, question(3)) })
		if got := p.books(); got != [3]int{1, 1, 1} {
			t.Fatalf("%v leases, held and askers, want one each", got)
		}
		cancel() // and room comes before its asker says so
		p.finish(2)
		released(3)
	})
	t.Run("cancelled while it is held", func(t *testing.T) {
		if _, err := p.ask(t.Context(), question(4)); err != nil {
			t.Fatal(err)
		}
		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		held := p.start(ctx, question(5))
		testkit.Eventually(t, "it is held", func() bool { return p.books() == [3]int{1, 1, 1} })
		cancel(cause)
		if got := testkit.Receive(t, "the answer", held); !errors.Is(got.err, cause) {
			t.Errorf("got %+v, want the cause", got)
		}
		if got := p.books(); got != [3]int{1, 0, 0} {
			t.Errorf("%v leases, held and askers, want the first one's lease", got)
		}
		p.finish(4)
	})
	t.Run("cancelled before it was asked", func(t *testing.T) {
		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if r, err := p.ask(ctx, question(6)); !errors.Is(err, cause) {
			t.Errorf("got %+v, %v, want the cause", r, err)
		}
		if got := p.books(); got != [3]int{} {
			t.Errorf("%v leases, held and askers, want none", got)
		}
	})
}

func TestQuestionAskedAgainHasOneAsker(t *testing.T) {
	p, _ := lone(t, 8)
	p.do(func(now time.Time) { p.decide(now, &asker{subject: "nobody"}, question(1)) })
	first := p.start(t.Context(), question(2))
	testkit.Eventually(t, "it is held", func() bool { return p.books() == [3]int{1, 1, 1} })
	second := p.start(t.Context(), question(2))
	if got := testkit.Receive(t, "the first's answer", first); got.err != nil || got.reply.Code != wire.CodeCancelled {
		t.Errorf("got %+v, want cancelled", got)
	}
	p.finish(1)
	if got := testkit.Receive(t, "the second's answer", second); got.err != nil || got.reply.Verdict != wire.Placed {
		t.Errorf("got %+v, want a placement", got)
	}
	if got := p.books(); got != [3]int{1, 0, 0} {
		t.Errorf("%v leases, held and askers, want 1, 0, 0", got)
	}
}

// Whoever waits when the scheduler stops is answered, and so is who asks afterwards.
func TestStopAnswersWhoWaits(t *testing.T) {
	p, _ := lone(t, 8)
	if r, err := p.ask(t.Context(), question(1)); err != nil || r.Code != wire.CodeOK {
		t.Fatalf("got %+v, %v, want a placement", r, err)
	}
	held := p.start(t.Context(), question(2))
	testkit.Eventually(t, "it is held", func() bool { return p.books() == [3]int{1, 1, 1} })
	p.stop()
	if got := testkit.Receive(t, "the answer", held); got.err != nil || got.reply.Code != wire.CodeNoScheduler {
		t.Errorf("got %+v, want no_scheduler", got)
	}
	if r, err := p.ask(t.Context(), question(3)); err != nil || r.Code != wire.CodeNoScheduler {
		t.Errorf("after the stop: got %+v, %v, want no_scheduler", r, err)
	}
}

func TestBeliefCountersAreBounded(t *testing.T) {
	p, _ := lone(t, 1)
	for i := range maxNamed + 10 {
		p.gauge.believe(&core.Belief{Worker: fmt.Sprint("w", i), Prompt: 3, Predicted: 2, Actual: 1})
	}
	if series, sum := p.counted(t, "radixbus_belief_prompt_tokens_total"); series != maxNamed+1 || sum != 3*(maxNamed+10) {
		t.Errorf("%d series with %v tokens, want %d with %d", series, sum, maxNamed+1, 3*(maxNamed+10))
	}
}

func TestNotBeingListedIsNoError(t *testing.T) {
	p, nc := lone(t, 1)
	nc.Close()
	p.s.discoverable()() // warns
}
