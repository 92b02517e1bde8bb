package gateway_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

const streamed = "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n"

// dataFrame is bytes of an answer.
func dataFrame(s string) wire.Frame { return wire.Frame{Type: wire.FrameData, Data: []byte(s)} }

// script is the frames of the answer streamed, in order.
func script(j *testkit.Job) []wire.Frame {
	frames := []wire.Frame{
		{Type: wire.FrameAccept}, testkit.HeadFrame(200, testkit.EventStream),
		dataFrame("data: {\"a\":1}\n\n"), dataFrame("data: {\"b\":2}\n\n"), dataFrame("data: [DONE]\n\n"), testkit.EndFrame(wire.CodeOK, ""),
	}
	for i := range frames {
		frames[i] = j.Make(frames[i])
	}
	return frames
}

func TestFramesReachTheClientOnceAndInOrder(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	for _, tt := range []struct {
		name    string
		resends bool // frames have to be asked for
		send    func(j *testkit.Job, f []wire.Frame)
	}{
		{"one message", false, func(j *testkit.Job, f []wire.Frame) { j.Put(f...) }},
		{"a message each", false, func(j *testkit.Job, f []wire.Frame) {
			for i := range f {
				j.Put(f[i])
			}
		}},
		{"each twice", false, func(j *testkit.Job, f []wire.Frame) {
			for i := range f {
				j.Put(f[i], f[i])
				j.Put(f[:i+1]...)
			}
		}},
		{"the first is lost", true, func(j *testkit.Job, f []wire.Frame) { j.Put(f[1:]...) }},
		{"one in the middle is lost", true, func(j *testkit.Job, f []wire.Frame) { j.Put(f[:3]...); j.Put(f[4:]...) }},
		{"the last is lost", true, func(j *testkit.Job, f []wire.Frame) { j.Put(f[:len(f)-1]...) }},
		{"all are lost", true, func(*testkit.Job, []wire.Frame) {}},
		{"backwards", true, func(j *testkit.Job, f []wire.Frame) {
			for _, one := range slices.Backward(f) {
				j.Put(one)
			}
		}},
		{"strays in between", false, func(j *testkit.Job, f []wire.Frame) {
			for i := range f {
				other := f[i]
				other.Attempt++
				elsewhere := f[i]
				elsewhere.Stream += 1000
				j.Put(other, elsewhere, f[i])
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := len(e.workers[0].Jobs())
			e.workers[0].Answer(func(j *testkit.Job) {
				tt.send(j, script(j))
				if tt.resends {
					j.Owe()
				}
			})
			if got := e.post(chatPath, chat(true)); got.status != 200 || got.body != streamed {
				t.Errorf("got %d %q, want %q", got.status, got.body, streamed)
			}
			if asked := firstJob(t, e.workers[0], n+1).Resends() > 0; asked != tt.resends {
				t.Errorf("frames were asked for again: %v, want %v", asked, tt.resends)
			}
		})
	}
}

func TestHeadersOfAStream(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	e.workers[0].Answer(func(j *testkit.Job) { j.Answer(`{}`) })
	got := e.post(chatPath, chat(true))
	for name, want := range map[string]string{"Content-Type": testkit.EventStream, "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Radixbus-Worker": "w0"} {
		if got.header.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, got.header.Get(name), want)
		}
	}
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(200, `{"x":1}`) })
	if got := e.post(chatPath, chat(false)); got.body != `{"x":1}` || got.header.Get("Content-Length") != "7" {
		t.Errorf("whole: %q, %v", got.body, got.header)
	}
}

func TestRetriesBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	end := func(code wire.Code) func(*testkit.Job) {
		return func(j *testkit.Job) { j.Accept(); j.End(code, "words of the engine") }
	}
	for _, tt := range []struct {
		name  string
		first func(*testkit.Job)
		code  wire.Code // told to the scheduler
	}{
		{"busy", func(j *testkit.Job) { j.End(wire.CodeBusy, "") }, wire.CodeBusy},
		{"draining", func(j *testkit.Job) { j.End(wire.CodeDraining, "") }, wire.CodeDraining},
		{"stale", func(j *testkit.Job) { j.End(wire.CodeStale, "") }, wire.CodeStale},
		{"engine down", end(wire.CodeEngineDown), wire.CodeEngineDown},
		{"engine broke", end(wire.CodeEngineBroke), wire.CodeEngineBroke},
		{"engine busy", end(wire.CodeEngineBusy), wire.CodeEngineBusy},
		{"engine answers 500", end(wire.CodeEngineFault), wire.CodeEngineFault},
		{"silent before the accept", func(*testkit.Job) {}, wire.CodeWorkerGone},
		// The adapter gives up a gateway that it has not heard; a gateway that is there after all once answered an empty 200.
		{"given up by the adapter", end(wire.CodeCancelled), wire.CodeWorkerGone},
		{"broke after a head without bytes", func(j *testkit.Job) {
			j.Accept()
			j.Head(200, testkit.EventStream)
			j.End(wire.CodeEngineBroke, "")
		}, wire.CodeEngineBroke},
		{"whole answer that broke in the middle", func(j *testkit.Job) {
			j.Accept()
			j.Head(200, "application/json")
			j.Data(`{"half":`)
			j.End(wire.CodeEngineBroke, "")
		}, wire.CodeEngineBroke},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, 2, func(c *gateway.Config) { c.AcceptTimeout = time.Second })
			e.workers[0].Answer(tt.first)
			e.workers[1].Answer(func(j *testkit.Job) { j.Answer(`{"a":1}`, `{"b":2}`) })
			got := e.post(chatPath, chat(true))
			if got.status != 200 || got.body != streamed || got.header.Get("X-Radixbus-Worker") != "w1" {
				t.Fatalf("got %d %q from %s", got.status, got.body, got.header.Get("X-Radixbus-Worker"))
			}
			asked := e.sched.Requests()
			if len(asked) != 2 || asked[1].Attempt != 2 || !slices.Equal(history(asked[1]), []wire.Code{tt.code}) || asked[1].History[0].Worker != "w0" || asked[1].History[0].Instance != e.workers[0].Instance {
				t.Errorf("asked for workers with %+v, want the history %v", asked, tt.code)
			}
			if asked[0].Request != asked[1].Request {
				t.Error("the attempts are of different requests")
			}
		})
	}
}

// An adapter that is not there is known at once, by the bus, and not by its silence.
func TestNobodyListensMeansTheNextWorkerAtOnce(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 2, func(c *gateway.Config) { c.AcceptTimeout = testkit.Patience })
	e.workers[0].Leave()
	e.workers[1].Answer(func(j *testkit.Job) { j.Reply(200, `{}`) })
	if got := e.post(chatPath, chat(false)); got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if h := history(e.sched.Requests()[1]); !slices.Equal(h, []wire.Code{wire.CodeWorkerGone}) {
		t.Errorf("history = %v", h)
	}
}

// Two ranks of one engine are one engine that fails, not two.
func TestAnotherEngineIsTriedAfterTheRanksOfOne(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	var workers []*testkit.Worker
	for i, engine := range []string{"e0", "e0", "e1", "e2"} {
		w := testkit.NewWorkerOf(t, hub, fmt.Sprint("w", i), func(i *wire.WorkerInfo) { i.Engine = engine }, model)
		w.Answer(func(j *testkit.Job) { j.Accept(); j.End(wire.CodeEngineFault, "") })
		workers = append(workers, w)
	}
	workers[3].Answer(func(j *testkit.Job) { j.Reply(200, `{}`) })
	e := newEdgeOn(t, hub, 0, nil)
	testkit.Eventually(t, "all are there", func() bool { return strings.Contains(e.do(e.request("GET", "/workers", "")).body, `"total":4`) })
	order := []int{0, 1, 3}
	e.sched.Decide(func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
		return testkit.Placed(workers[order[r.Attempt-1]]), nil
	})
	if got := e.post(chatPath, chat(false)); got.status != 200 {
		t.Errorf("two ranks of an engine fail, another engine does not: %d %s", got.status, got.body)
	}
	order = []int{1, 0, 2, 3}
	if got := e.post(chatPath, chat(false)); got.status != 502 {
		t.Errorf("two engines fail: %d %s, want no third", got.status, got.body)
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, func(c *gateway.Config) { c.MaxAttempts = 4 })
	for _, tt := range []struct {
		code     wire.Code
		attempts int
		status   int
	}{
		{wire.CodeBusy, 4, 503},
		{wire.CodeEngineBroke, 2, 502}, // it may be the request that breaks them
		{wire.CodeEngineFault, 2, 502}, // and so is this
		{wire.CodeMalformed, 1, 502},
	} {
		n := len(e.sched.Requests())
		e.workers[0].Answer(func(j *testkit.Job) { j.Accept(); j.End(tt.code, "The engine's own words.") })
		got := e.post(chatPath, chat(true))
		f := failureIn(t, got.body)
		if asked := len(e.sched.Requests()) - n; got.status != tt.status || f.Code != tt.code.String() || asked != tt.attempts || !strings.Contains(f.Message, "own words") {
			t.Errorf("%v: %d %+v after %d attempts, want %d after %d", tt.code, got.status, f, asked, tt.status, tt.attempts)
		}
		if retry := got.header.Get("Retry-After"); (tt.status == 503) != (retry != "") {
			t.Errorf("%v: Retry-After %q", tt.code, retry)
		}
	}
	t.Run("nobody left", func(t *testing.T) {
		e.sched.Decide(func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
			if r.Attempt > 1 {
				return testkit.Refused(wire.CodeNoWorker, 0, ""), nil
			}
			return testkit.Placed(e.workers[0]), nil
		})
		e.workers[0].Answer(func(j *testkit.Job) { j.End(wire.CodeEngineBroke, "") })
		if got := e.post(chatPath, chat(true)); got.status != 502 || failureIn(t, got.body).Code != "engine_broke" {
			t.Errorf("got %d %s, want the failure rather than that nobody is left", got.status, got.body)
		}
	})
}

func TestAStreamThatBreaksEndsWithAnErrorEvent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		code  string
		after func(e *edge, j *testkit.Job)
	}{
		{"the engine breaks", "engine_broke", func(_ *edge, j *testkit.Job) { j.End(wire.CodeEngineBroke, "") }},
		{"the engine reports an error", "engine_fault", func(_ *edge, j *testkit.Job) { j.End(wire.CodeEngineFault, "CUDA") }},
		{"the adapter gives up", "worker_gone", func(_ *edge, j *testkit.Job) { j.End(wire.CodeCancelled, "") }},
		{"the adapter dies", "worker_gone", func(e *edge, _ *testkit.Job) { e.workers[0].Leave() }},
		{"the adapter is silent", "worker_gone", func(*edge, *testkit.Job) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hub := testkit.NewHub(t)
			w := testkit.NewWorker(t, hub, "w0", model)
			w.Silent.Store(true)
			e := newEdgeOn(t, hub, 0, func(c *gateway.Config) { c.SilenceTimeout = 2 * time.Second })
			e.workers = []*testkit.Worker{w}
			e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) { return testkit.Placed(w), nil })
			w.Answer(func(j *testkit.Job) {
				j.Accept()
				j.Head(200, testkit.EventStream)
				j.Data("data: {\"a\":1}\n\n")
				tt.after(e, j)
			})
			got := e.post(chatPath, chat(true))
			rest, ok := strings.CutPrefix(got.body, "data: {\"a\":1}\n\ndata: ")
			if !ok || !strings.HasSuffix(rest, "}}\n\n") || failureIn(t, rest).Code != tt.code || strings.Contains(got.body, "[DONE]") {
				t.Errorf("got %q, want the error event %s", got.body, tt.code)
			}
			if n := len(e.sched.Requests()); n != 1 {
				t.Errorf("%d attempts after the first byte", n)
			}
		})
	}
}

// An event that was cut in the middle is closed before the error event, or no client would see that one.
func TestAnEventCutInTheMiddleDoesNotSwallowTheError(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	for _, half := range []string{"data: {\"te", "d"} {
		e.workers[0].Answer(func(j *testkit.Job) {
			j.Accept()
			j.Head(200, testkit.EventStream)
			j.Data(half)
			j.End(wire.CodeEngineBroke, "")
		})
		if got := e.post(chatPath, chat(true)); !strings.HasPrefix(got.body, half+"\n\ndata: {\"error\":") {
			t.Errorf("got %q", got.body)
		}
	}
}

func TestAWholeAnswerIsNeverTruncated(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	t.Run("beyond what is held back", func(t *testing.T) {
		const size = 6 << 20
		piece := strings.Repeat("y", 64<<10)
		e.workers[0].Answer(func(j *testkit.Job) {
			j.Accept()
			j.Head(200, "application/json")
			for range size / len(piece) {
				j.Flow(piece)
			}
			j.End(wire.CodeOK, "")
		})
		if got := e.post(chatPath, chat(false)); got.status != 200 || len(got.body) != size {
			t.Errorf("got %d, %d bytes", got.status, len(got.body))
		}
		e.workers[0].Answer(func(j *testkit.Job) {
			j.Accept()
			j.Head(200, "application/json")
			for range 5 << 20 / len(piece) {
				j.Flow(piece)
			}
			j.End(wire.CodeEngineBroke, "")
		})
		resp, err := e.client.Do(e.request("POST", chatPath, chat(false)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%d bytes of a broken answer look whole", len(got))
		}
	})
	t.Run("ends that make no sense", func(t *testing.T) {
		// Each of these once became a 200, or a panic inside the gateway.
		for name, frames := range map[string][]wire.Frame{
			"end without a head":   {{Type: wire.FrameAccept}, testkit.EndFrame(wire.CodeOK, "")},
			"data without a head":  {{Type: wire.FrameAccept}, dataFrame("x"), testkit.EndFrame(wire.CodeOK, "")},
			"status 0":             {testkit.HeadFrame(0, "application/json"), dataFrame("x"), testkit.EndFrame(wire.CodeOK, "")},
			"status 101":           {testkit.HeadFrame(101, "application/json"), testkit.EndFrame(wire.CodeOK, "")},
			"status 1000":          {testkit.HeadFrame(1000, "application/json"), testkit.EndFrame(wire.CodeOK, "")},
			"two heads":            {testkit.HeadFrame(200, "application/json"), testkit.HeadFrame(200, "application/json"), testkit.EndFrame(wire.CodeOK, "")},
			"refused without head": {testkit.EndFrame(wire.CodeEngineRefused, "")},
		} {
			e.workers[0].Answer(func(j *testkit.Job) { j.Send(frames...) })
			if got := e.post(chatPath, chat(false)); got.status != 502 || failureIn(t, got.body).Code != "malformed_message" {
				t.Errorf("%s: got %d %s", name, got.status, got.body)
			}
		}
	})
	t.Run("an earlier attempt's bytes", func(t *testing.T) {
		e.workers[0].Answer(func(j *testkit.Job) {
			if j.Attempt == 1 {
				j.Send(testkit.HeadFrame(200, "application/json"), dataFrame("of the first"), testkit.EndFrame(wire.CodeEngineBroke, ""))
				return
			}
			j.Send(wire.Frame{Type: wire.FrameAccept}, testkit.EndFrame(wire.CodeOK, ""))
		})
		if got := e.post(chatPath, chat(false)); got.status != 502 || strings.Contains(got.body, "of the first") {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestMistakesThatTheEngineSeesAreItsOwnWords(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	const words = `{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}`
	e.workers[0].Answer(func(j *testkit.Job) { j.Reply(422, words) })
	for _, stream := range []bool{false, true} {
		if got := e.post(chatPath, chat(stream)); got.status != 422 || got.body != words || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	if n := len(e.sched.Requests()); n != 2 {
		t.Errorf("%d attempts for 2 requests", n)
	}
}
