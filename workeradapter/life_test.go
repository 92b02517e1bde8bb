package workeradapter_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

func hang(x *testkit.Exchange) { x.Hang() }

// cancelWithin is five times what is promised (100 ms): the machine that tests run on may be loaded.
const cancelWithin = 500 * time.Millisecond

func TestACancelledAttemptIsAbortedBeforeItsConnectionCloses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(x *testkit.Exchange)
	}{
		{"before the first event", hang},
		{"after the head", func(x *testkit.Exchange) { x.Begin(); x.Hang() }},
		{"in the middle of a stream", func(x *testkit.Exchange) {
			x.Begin()
			x.Event(first) //nolint:errcheck // the caller may be gone
			x.Hang()
		}},
		{"an engine that goes on", func(x *testkit.Exchange) {
			x.Begin()
			for x.Event(first) == nil {
				time.Sleep(5 * time.Millisecond)
			}
		}},
		{"an engine that does not stop", func(x *testkit.Exchange) { <-x.Gone.Done() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.engine.Answer(tt.answer)
			st := s.ask(prefix.Chat, stream)
			testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
			time.Sleep(50 * time.Millisecond)
			began := time.Now()
			st.Cancel()
			testkit.Eventually(t, "the abort", func() bool { return len(s.engine.Events()) > 1 })
			if took := time.Since(began); took > cancelWithin {
				t.Errorf("aborted after %v, want within %v", took, cancelWithin)
			}
			rid := strings.Trim(s.engine.Requests()[0].Field("rid"), `"`)
			if f := s.finished(st); f.End.Code != wire.CodeCancelled {
				t.Errorf("finished as %v", f.End.Code)
			}
			if e := s.engine.Events(); e[1] != "abort "+rid {
				t.Errorf("the engine saw %q, want the abort of %s before all else", e, rid)
			}
			s.idle()
		})
	}
	t.Run("several completions, whose names only the engine knows", func(t *testing.T) {
		s := newSite(t, nil)
		s.engine.Answer(hang)
		st := s.gateway.NewStream("w", s.now, prefix.Chat, stream[:len(stream)-1]+`,"n":2}`)
		st.N = 2
		st.Send()
		testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
		began := time.Now()
		st.Cancel()
		testkit.Eventually(t, "it hangs up", func() bool { return slices.Equal(s.engine.Events(), []string{"call", "hung up"}) })
		if took := time.Since(began); took > cancelWithin {
			t.Errorf("hung up after %v, want within %v", took, cancelWithin)
		}
		s.finished(st)
		s.idle()
	})
	t.Run("an engine without an abort", func(t *testing.T) {
		s := newSite(t, func(e *testkit.Engine, _ *workeradapter.Config) { e.PlainOpenAI() })
		s.engine.Answer(hang)
		st := s.ask(prefix.Chat, stream)
		testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
		st.Cancel()
		s.finished(st)
		testkit.Eventually(t, "it hangs up", func() bool { return slices.Equal(s.engine.Events(), []string{"call", "hung up"}) })
		s.idle()
	})
	t.Run("while the body arrives", func(t *testing.T) {
		s := newSite(t, nil)
		st := s.gateway.NewStream("w", s.now, prefix.Chat, whole)
		st.Body = st.Body[:10]
		st.Send()
		testkit.Eventually(t, "it is admitted", func() bool { return st.Answer().Accepted })
		st.Cancel()
		if f := s.finished(st); f.End.Code != wire.CodeCancelled {
			t.Errorf("finished as %v", f.End.Code)
		}
		s.idle()
	})
	t.Run("before the dispatch", func(t *testing.T) {
		s := newSite(t, nil)
		st := s.gateway.NewStream("w", s.now, prefix.Chat, whole)
		st.Cancel()
		s.gateway.Info("w") // the cancel has been heard
		st.Send()
		if got := st.Wait(); got.End.Code != wire.CodeCancelled {
			t.Errorf("got %v", got.End.Code)
		}
		if f := s.finished(st); f.End.Code != wire.CodeCancelled {
			t.Errorf("finished as %v", f.End.Code)
		}
		if n := len(s.engine.Requests()); n != 0 {
			t.Errorf("the engine saw %d requests", n)
		}
		s.idle()
	})
}

func TestDeadlineOfAnAttempt(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Answer(hang)
	st := s.gateway.NewStream("w", s.now, prefix.Chat, stream)
	st.RemainingMillis = 150
	st.Send()
	if got := st.Wait(); got.End.Code != wire.CodeDeadline {
		t.Errorf("got %v", got.End.Code)
	}
	if e := s.engine.Events(); len(e) < 2 || !strings.HasPrefix(e[1], "abort ") {
		t.Errorf("the engine saw %q", e)
	}
	s.idle()
}

func TestAnEngineThatRefusesConnectionsIsDownAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.Probe = time.Hour }) // nothing but the failed request can tell
	s.engine.Stop()
	if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeEngineDown {
		t.Errorf("got %+v", got.End)
	}
	if up := s.gateway.AwaitBeat(wire.Down, 0); up.Instance != s.now {
		t.Errorf("instance %v is down, want %v", up.Instance, s.now)
	}
	if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeEngineDown || got.Accepted {
		t.Errorf("then: %+v, accepted %v", got.End, got.Accepted)
	}
	if err := s.adapter.Ready(); err == nil {
		t.Error("ready without an engine")
	}
	s.idle()
}

// A probe may see that the engine's process has ended before the request does which it has ended of. That one is suspect all
// the same: given on and on, it would end engine after engine.
func TestAnEngineThatIsGoneHasBrokenOffWhatItHad(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Answer(func(x *testkit.Exchange) { <-x.R.Context().Done() })
	waiting := s.ask(prefix.Chat, whole)
	testkit.Eventually(t, "the engine has it", func() bool { return len(s.engine.Requests()) == 1 })
	s.engine.Refuse()
	if got := waiting.Wait(); got.End.Code != wire.CodeEngineBroke || got.End.Begun {
		t.Errorf("got %+v", got.End)
	}
	s.gateway.AwaitBeat(wire.Down, 0)
	s.idle()
}

func TestAnEngineThatHangsGivesBackWhatItHasNotBegun(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.ProbeTimeout = 100 * time.Millisecond })
	s.engine.Answer(func(x *testkit.Exchange) { <-x.R.Context().Done() })
	waiting := s.ask(prefix.Chat, whole)
	testkit.Eventually(t, "the engine has it", func() bool { return len(s.engine.Requests()) == 1 })
	s.engine.SetHealth(0)
	if got := waiting.Wait(); got.End.Code != wire.CodeEngineDown || got.End.Begun {
		t.Errorf("got %+v, want the request given back", got.End)
	}
	s.gateway.AwaitBeat(wire.Down, 0)
	s.engine.SetHealth(200) // the same process: its cache is there
	if up := s.gateway.AwaitBeat(wire.Ready, 0); up.Instance != s.now {
		t.Errorf("instance %v after a silence, want %v still", up.Instance, s.now)
	}
	s.engine.SetHealth(0)
	s.gateway.AwaitBeat(wire.Down, 0)
	s.engine.SetInfo("random_seed", 7) // another process
	s.engine.SetHealth(200)
	s.gateway.AwaitBeat(wire.Ready, s.now)
	s.idle()
}

// SGLang answers 503 on /health from SIGTERM on, and finishes what runs. Its whole answers were given up after three
// probes.
func TestADrainingEngineFinishesWhatItHas(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	finish := make(chan struct{})
	s.engine.Answer(func(x *testkit.Exchange) {
		<-finish
		x.Reply(200, "application/json", `{"id":"x","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1}}`)
	})
	st := s.ask(prefix.Chat, whole)
	testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
	s.engine.SetHealth(503)
	s.gateway.AwaitBeat(wire.Draining, 0)
	if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeDraining {
		t.Errorf("a new request: %v", got.End.Code)
	}
	time.Sleep(500 * time.Millisecond) // five probes
	close(finish)
	if got := st.Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("the running one: %v", got.End.Code)
	}
	s.idle()
}

func TestAnEngineThatIsNotWhatItWasIsANewInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.Describe = time.Millisecond })
	for range 3 { // probes that find the same engine begin no new life
		s.gateway.AwaitBeat(wire.Ready, 0)
		time.Sleep(150 * time.Millisecond)
	}
	if info := s.gateway.Info("w"); info.Instance != s.now {
		t.Fatalf("instance %v became %v, and nothing had changed", s.now, info.Instance)
	}
	s.engine.SetInfo("max_total_num_tokens", 50_000)
	next := s.gateway.AwaitBeat(wire.Ready, s.now)
	if info := s.gateway.Info("w"); info.Instance != next.Instance || info.CapacityTokens != 50_000 {
		t.Errorf("info = %+v", info)
	}
}

func TestAnEngineThatComesBackIsANewInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	s.engine.Stop()
	s.gateway.AwaitBeat(wire.Down, 0)
	s.engine.Start()
	next := s.gateway.AwaitBeat(wire.Ready, s.now)
	if next.Instance <= s.now {
		t.Errorf("instance %v after %v", next.Instance, s.now)
	}
	if info := s.gateway.Info("w"); info.Instance != next.Instance || info.MaxRunning != 64 || info.CapacityTokens != 100_000 || info.WeightVersion != "v1" {
		t.Errorf("info = %+v", info)
	}
	// A dispatch for the life that is over, on the subject of the one that is.
	stale := s.gateway.NewStream("w", s.now, prefix.Chat, whole)
	s.gateway.Publish("w", next.Instance, stale.AppendTo(nil))
	if got := stale.Wait(); got.End.Code != wire.CodeStale || got.Accepted {
		t.Errorf("got %v, accepted %v", got.End.Code, got.Accepted)
	}
	if got := s.gateway.Send("w", next.Instance, prefix.Chat, whole).Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("got %v", got.End.Code)
	}
	if n := len(s.engine.Requests()); n != 1 {
		t.Errorf("the engine saw %d requests", n)
	}
	s.idle()
}

// One ping spoke for all streams, with the instance of any of them: a stale dispatch had the gateway deny those of the
// current instance, and all of them were aborted.
func TestAStaleDispatchHurtsNoOtherStream(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.gateway.NoAcks.Store(true) // the stale stream's end is kept, and so it is among those that pings tell of
	finish := make(chan struct{})
	s.engine.Answer(func(x *testkit.Exchange) {
		x.Begin()
		x.Event(first) //nolint:errcheck // the caller may be gone
		select {
		case <-finish:
			x.Event("[DONE]") //nolint:errcheck // a difference shows
		case <-x.Aborted:
		}
	})
	var streams []*testkit.Stream
	for range 3 {
		streams = append(streams, s.ask(prefix.Chat, stream))
	}
	stale := s.gateway.NewStream("w", s.now-1, prefix.Chat, whole)
	s.gateway.Publish("w", s.now, stale.AppendTo(nil))
	if got := stale.Wait(); got.End.Code != wire.CodeStale {
		t.Errorf("got %v", got.End.Code)
	}
	time.Sleep(800 * time.Millisecond) // three pings
	close(finish)
	for _, st := range streams {
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("another stream: %v", got.End.Code)
		}
	}
	s.gateway.NoAcks.Store(false)
	s.idle()
}

func TestAdmissionIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.MaxRunning, c.MaxBodies = 2, 1000 })
	finish := make(chan struct{})
	s.engine.Answer(func(x *testkit.Exchange) { <-finish; x.Reply(200, "application/json", `{}`) })
	running := []*testkit.Stream{s.ask(prefix.Chat, whole), s.ask(prefix.Chat, whole)}
	for _, st := range running {
		testkit.Eventually(t, "it is admitted", func() bool { return st.Answer().Accepted })
	}
	refused := s.ask(prefix.Chat, whole)
	if got := refused.Wait(); got.End.Code != wire.CodeBusy || got.Accepted {
		t.Errorf("got %v, accepted %v", got.End.Code, got.Accepted)
	}
	testkit.Eventually(t, "a load report that names both", func() bool {
		for _, l := range s.gateway.Loads() {
			if l.Running == 2 && len(l.Leases) == 2 && l.Worker == "w" && l.Instance == s.now &&
				slices.Contains(l.Leases, wire.LeaseRef{Request: running[0].Request, Attempt: 1}) && slices.Contains(l.Leases, wire.LeaseRef{Request: running[1].Request, Attempt: 1}) {
				return true
			}
		}
		return false
	})
	close(finish)
	for _, st := range running {
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("got %v", got.End.Code)
		}
		s.finished(st)
	}
	testkit.Eventually(t, "a load report that names none", func() bool { l := s.gateway.Loads(); return len(l[len(l)-1].Leases) == 0 })
	s.idle()
	// Bytes are a bound of their own.
	long := s.gateway.NewStream("w", s.now, prefix.Chat, whole)
	long.Size = 1001
	long.Send()
	if got := long.Wait(); got.End.Code != wire.CodeBusy {
		t.Errorf("over the bytes: %v", got.End.Code)
	}
	s.idle()
}

// Streams last for minutes: they hold no room for prompts once they have begun.
func TestAStreamThatHasBegunHoldsNoRoomForItsPrompt(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.MaxBodies = int64(len(stream)) + 1 })
	finish := make(chan struct{})
	s.engine.Answer(func(x *testkit.Exchange) { x.Begin(); x.Event(first); <-finish; x.Event("[DONE]") }) //nolint:errcheck // shows in the answer
	one := s.ask(prefix.Chat, stream)
	testkit.Eventually(t, "it has begun", func() bool { return len(one.Answer().Body) > 0 })
	if _, bodies, _ := s.adapter.Held(); bodies != 0 {
		t.Errorf("%d bytes are held", bodies)
	}
	two := s.ask(prefix.Chat, stream)
	testkit.Eventually(t, "there is room for another", func() bool { return len(two.Answer().Body) > 0 })
	close(finish)
	for _, st := range []*testkit.Stream{one, two} {
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("got %v", got.End.Code)
		}
		s.finished(st)
	}
	s.idle()
}

func TestAGatewayThatIsSilentHasItsAttemptsAborted(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.GatewayTimeout = time.Second })
	s.engine.Answer(func(x *testkit.Exchange) { x.Begin(); x.Event(first); x.Hang() }) //nolint:errcheck // the caller may be gone
	st := s.ask(prefix.Chat, stream)
	testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
	time.Sleep(1500 * time.Millisecond)
	if e := s.engine.Events(); len(e) != 1 {
		t.Fatalf("the gateway answers, and the engine saw %q", e)
	}
	s.gateway.Mute.Store(true)
	muted := time.Now()
	testkit.Eventually(t, "the abort", func() bool { e := s.engine.Events(); return len(e) > 1 && strings.HasPrefix(e[1], "abort ") })
	if after := time.Since(muted); after < 500*time.Millisecond {
		t.Errorf("aborted after %v", after)
	}
	if f := s.finished(st); f.End.Code != wire.CodeCancelled {
		t.Errorf("finished as %v", f.End.Code)
	}
	s.idle()
}

func TestAStreamThatItsGatewayDeniesIsAborted(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Answer(hang)
	st := s.ask(prefix.Chat, stream)
	testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
	st.Forget()
	if f := s.finished(st); f.End.Code != wire.CodeCancelled {
		t.Errorf("finished as %v", f.End.Code)
	}
	s.idle()
}

func TestFramesAreKeptUntilTheyAreConsumed(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.gateway.NoAcks.Store(true)
	s.engine.Answer(func(x *testkit.Exchange) { x.Stream(first, last) })
	st := s.ask(prefix.Chat, stream)
	got := st.Wait()
	n := int(st.Seq())
	st.Resend(1)
	testkit.Eventually(t, "all frames come again", func() bool { return st.Repeated() == n })
	st.Resend(uint64(n))
	testkit.Eventually(t, "the last frame comes again", func() bool { return st.Repeated() == n+1 })
	st.Resend(uint64(n) + 1) // there is none
	st.Ack(uint64(n) - 1)
	s.gateway.Info("w")
	st.Resend(1)
	testkit.Eventually(t, "what is left comes again", func() bool { return st.Repeated() >= n+2 })
	if again := st.Repeated(); again != n+2 {
		t.Errorf("%d frames came again, want %d", again, n+2)
	}
	if got.End.Code != wire.CodeOK {
		t.Errorf("got %v", got.End.Code)
	}
	s.gateway.NoAcks.Store(false)
	s.idle()
}

func TestAFullWindowStopsTheReadingOfTheEngine(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]string{
		"long events":  sse(strings.Repeat("x", 16<<10)),
		"short events": strings.Repeat(":\n\n", 1), // their frames cost more than their bytes
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.gateway.NoAcks.Store(true)
			sent, over := make(chan int, 1<<20), make(chan struct{})
			s.engine.Answer(func(x *testkit.Exchange) {
				x.Begin()
				x.Event(first) //nolint:errcheck // what follows tells
				for total := 0; ; {
					select {
					case <-over:
						x.Event("[DONE]") //nolint:errcheck // a difference shows
						return
					default:
					}
					if x.Send(event) != nil {
						return
					}
					total += len(event)
					select {
					case sent <- total:
					default:
					}
				}
			})
			st := s.ask(prefix.Chat, stream)
			// An engine that is read at all is never still for that long.
			most := 0
			for still := false; !still; {
				select {
				case most = <-sent:
				case <-time.After(700 * time.Millisecond):
					still = true
				}
			}
			if bytes := len(st.Answer().Body); bytes > wire.StreamWindow+256<<10 {
				t.Errorf("%d bytes sent beyond the window", bytes)
			}
			if n := st.Seq(); n > 3*(wire.StreamWindow/wire.FrameOverhead) {
				t.Errorf("%d frames sent beyond the window", n)
			}
			if most > 16<<20 {
				t.Errorf("the engine could write %d bytes", most)
			}
			if s.count("window_full_total", "") == 0 {
				t.Error("the full window is not counted")
			}
			s.gateway.NoAcks.Store(false)
			st.Ack(st.Seq())
			testkit.Receive(t, "the engine can write again", sent)
			close(over)
			if got := st.Wait(); got.End.Code != wire.CodeOK || !strings.HasSuffix(got.Body, "[DONE]\n\n") {
				t.Errorf("got %v", got.End.Code)
			}
			s.idle()
		})
	}
}

func TestBodiesInParts(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.PartTimeout = 300 * time.Millisecond })
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	body := `{"text":"` + strings.Repeat("0123456789", 300) + `"}`
	st := s.gateway.NewStream("w", s.now, prefix.Generate, body)
	st.Body = st.Body[:1000]
	st.Send()
	st.Part(2000, []byte(body[2000:])) // too early: dropped
	st.Part(1000, []byte(body[1000:2000]))
	st.Part(1000, []byte(body[1000:2000])) // again: dropped
	st.Part(2000, []byte(body[2000:]))
	if got := st.Wait(); got.End.Code != wire.CodeOK {
		t.Fatalf("got %+v", got.End)
	}
	if got := string(s.engine.Requests()[0].Body); !strings.HasSuffix(got, body[1:]) {
		t.Errorf("the engine got %.80s…", got)
	}
	slow := s.gateway.NewStream("w", s.now, prefix.Generate, body)
	slow.Body = slow.Body[:1000]
	slow.Send()
	testkit.Eventually(t, "what is here is acknowledged", func() bool { return slices.Contains(slow.PartAcks(), 1000) })
	if got := slow.Wait(); got.End.Code != wire.CodeLost || !got.Accepted {
		t.Errorf("a body that stands still: %v", got.End.Code)
	}
	s.idle()
}

func TestDrain(t *testing.T) {
	t.Parallel()
	t.Run("what runs finishes", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		finish := make(chan struct{})
		s.engine.Answer(func(x *testkit.Exchange) { <-finish; x.Stream(first, last) })
		st := s.ask(prefix.Chat, stream)
		testkit.Eventually(t, "it is admitted", func() bool { return st.Answer().Accepted })
		stopped := make(chan struct{})
		go func() { s.stop(); close(stopped) }()
		s.gateway.AwaitBeat(wire.Draining, 0)
		if got := s.ask(prefix.Chat, whole).Wait(); got.End.Code != wire.CodeDraining {
			t.Errorf("a new request: %v", got.End.Code)
		}
		if n := len(s.gateway.Downs()); n != 0 {
			t.Errorf("gone while a request runs")
		}
		close(finish)
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("the running one: %v", got.End.Code)
		}
		testkit.Receive(t, "it stops", stopped)
		testkit.Eventually(t, "the last word", func() bool { return len(s.gateway.Downs()) == 1 })
		if d := s.gateway.Downs()[0]; d.Instance != s.now || d.Code != wire.CodeDraining {
			t.Errorf("last word %+v", d)
		}
	})
	t.Run("what outlasts the bound is aborted", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.DrainTimeout = 200 * time.Millisecond })
		s.engine.Answer(hang)
		st := s.ask(prefix.Chat, stream)
		testkit.Eventually(t, "the call", func() bool { return len(s.engine.Requests()) == 1 })
		s.stop()
		if got := st.Wait(); got.End.Code != wire.CodeDraining {
			t.Errorf("got %v", got.End.Code)
		}
		if e := s.engine.Events(); len(e) < 2 || !strings.HasPrefix(e[1], "abort ") {
			t.Errorf("the engine saw %q", e)
		}
	})
}

func TestAWorkerWaitsForItsEngine(t *testing.T) {
	t.Parallel()
	hub, engine := testkit.NewHub(t), testkit.NewEngine(t, "m")
	gw := testkit.NewGateway(t, hub, "g")
	engine.SetHealth(503)
	a, err := workeradapter.New(workeradapter.Config{Bus: hub.Connect(t, "worker", "w"), Engine: engine.URL() + "/", Name: "w", Beat: 20 * time.Millisecond, Probe: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, a.Run)
	time.Sleep(200 * time.Millisecond)
	if n := len(gw.Beats()); n != 0 || a.Ready() == nil {
		t.Errorf("%d beats without an engine, ready: %v", n, a.Ready())
	}
	engine.SetInfo("page_size", -5) // a worker that nobody would take in is not announced
	engine.SetInfo("max_total_num_tokens", -1)
	engine.SetHealth(200)
	time.Sleep(200 * time.Millisecond)
	if n := len(gw.Beats()); n != 0 {
		t.Errorf("%d beats with an info that nobody can read", n)
	}
	engine.SetInfo("max_total_num_tokens", 5)
	gw.AwaitBeat(wire.Ready, 0)
	if a.Ready() != nil {
		t.Errorf("ready: %v", a.Ready())
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := workeradapter.New(workeradapter.Config{Engine: "ftp://x", Name: strings.Repeat("x", 300), MaxRunning: -1, Beat: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, what := range []string{"no bus", "no http URL", "name or region", "attempts at a time", "negative bound"} {
		if !strings.Contains(err.Error(), what) {
			t.Errorf("%q is not among %v", what, err)
		}
	}
	hub := testkit.NewHub(t)
	a, err := workeradapter.New(workeradapter.Config{Bus: hub.Connect(t, "worker", "w"), Engine: "http://10.0.0.1:30000"})
	if err != nil || a.Name() != "w-10-0-0-1-30000" {
		t.Errorf("name %q, %v", a.Name(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx, func() {}); err != nil {
		t.Errorf("run, stopped at once: %v", err)
	}
}
