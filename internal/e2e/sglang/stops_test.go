package sglang

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
)

// An engine that is asked to stop finishes what it has, streams and whole answers, and gets nothing new.
func TestDrainingEngineFinishesWhatItHas(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	var all []*follower
	for i := range 8 {
		all = append(all, follow(t, h.Client, chatRoute, chat(fmt.Sprintf("%d counts: %s", i, prose(200+i, 10)), long(600), object{"stream": i%2 == 0})))
	}
	leaves, stays := h.engines[0], h.engines[1]
	testkit.Eventually(t, "both engines compute", func() bool {
		return leaves.running(t)+stays.running(t) == 8 && leaves.running(t) > 1 && stays.running(t) > 0
	})
	leaves.terminate(t)
	asked := time.Now()
	ready := func() float64 { return h.admin.Metric(t, "radixbus_scheduler_workers", `state="ready"`) }
	testkit.Eventually(t, "the scheduler hears of it", func() bool { return ready() == 1 })
	t.Logf("the scheduler knows after %v; the engine has %d requests then", time.Since(asked).Round(time.Millisecond), leaves.running(t))
	for i := range 6 {
		if r := h.ask(t, chatRoute, chat(fmt.Sprintf("New question %d", i), object{"stream": i%2 == 0})); h.by(t, r) != stays {
			t.Errorf("a new question was given to the engine that leaves")
		}
	}
	served := map[*engine]int{}
	for i, f := range all {
		r := f.wait(t, time.Minute)
		if !r.OK() || r.Finish != "length" {
			t.Errorf("request %d (stream: %v): %v", i, i%2 == 0, r)
			continue
		}
		served[h.by(t, r)]++
	}
	if served[leaves] == 0 {
		t.Errorf("the engine that left has finished nothing: %v", served)
	}
	select {
	case <-leaves.done:
	case <-time.After(time.Minute):
		t.Error("the engine does not end")
	}
	if r := h.ask(t, chatRoute, chat("And now?")); h.by(t, r) != stays {
		t.Error("answered by an engine that is gone")
	}
	h.idle(t)
}

// A crash under load costs the streams that had begun, and nothing else; and the engine's next life is used as soon as it
// serves.
func TestKilledEngineCostsNothingThatHadNotBegunAndIsUsedAgain(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	victim, other := h.engines[0], h.engines[1]
	l := h.roster(t)
	before := l.View().Workers[0].Info.Instance

	var users sync.WaitGroup
	var whole, begun, again atomic.Int64
	end := make(chan struct{})
	back := make(chan struct{}) // closed when the victim serves again
	for u := range 8 {
		users.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				case <-time.After(50 * time.Millisecond): // two cores
				}
				stream := u%4 == 0
				r := h.Ask(t.Context(), chatRoute, chat(fmt.Sprintf("User %d, question %d: %s", u, i, prose(1000*u+i, 30)), long(40), object{"stream": stream}))
				switch {
				case r.OK():
					whole.Add(1)
				case stream && r.Events > 0 && r.Failure != "" && r.Err == nil && !r.Done:
					begun.Add(1)
					continue
				default:
					t.Errorf("user %d, question %d (stream: %v): %v", u, i, stream, r)
					continue
				}
				select {
				case <-back:
					if h.by(t, r) == victim {
						again.Add(1)
					}
				default:
				}
			}
		})
	}
	stop := sync.OnceFunc(func() { close(end); users.Wait() })
	defer stop()
	testkit.Eventually(t, "both engines compute", func() bool { return whole.Load() > 20 && victim.running(t) > 1 && other.running(t) > 1 })
	victim.kill()
	n := whole.Load()
	testkit.Eventually(t, "the other engine serves", func() bool { return whole.Load() > n+30 })
	if n := begun.Load(); n > 2 {
		t.Errorf("%d streams broke, two were asked for at a time", n)
	}

	victim.start(t, home(t))
	serves := victim.serves(t)
	close(back)
	for again.Load() == 0 && time.Since(serves) < testkit.Patience {
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(serves).Round(time.Millisecond)
	stop()
	t.Logf("%d answers, %d streams broke off; the new engine has answered %v after it served", whole.Load(), begun.Load(), took)
	if took > 2*time.Second {
		t.Errorf("the new engine has answered %v after it served, want at most 2 s", took)
	}
	if after := l.View().Workers[0].Info.Instance; after == before {
		t.Error("the engine's next life is the same instance")
	}
	if log := h.process.Stderr.String(); strings.Contains(log, "panic") {
		t.Errorf("the hub panicked:\n%s", testkit.Tail(log))
	}
	h.idle(t)
}
