package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// giveUp makes a request, leaves it once until has returned, and tells when that was.
func giveUp(t *testing.T, e *edge, body string, until func()) time.Time {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", e.gw.URL()+chatPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := e.client.Do(r)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("request: %v", err)
			}
			return
		}
		io.Copy(io.Discard, resp.Body) //nolint:errcheck // it is cut
		resp.Body.Close()
	}()
	until()
	at := time.Now()
	cancel()
	<-done
	return at
}

// cancelWithin is five times what is promised (100 ms): the machine that tests run on may be loaded.
const cancelWithin = 500 * time.Millisecond

func TestAClientThatLeavesHasItsAttemptCancelled(t *testing.T) {
	for _, tt := range []struct {
		name string
		body string
		hold bool
		job  func(j *testkit.Job)
		far  func(j *testkit.Job) bool // the phase is reached
	}{
		{"while parts are sent", padded(9 << 20), true, nil, func(j *testkit.Job) bool { return len(j.Body()) > wire.PartWindow-2*wire.MaxPart }},
		{"before the accept", chat(true), false, nil, func(*testkit.Job) bool { return true }},
		{"before the head", chat(true), false, func(j *testkit.Job) { j.Accept() }, func(*testkit.Job) bool { return true }},
		{"in the middle of a stream", chat(true), false, func(j *testkit.Job) {
			j.Accept()
			j.Head(200, testkit.EventStream)
			j.Data("data: {}\n\n")
		}, func(*testkit.Job) bool { return true }},
		{"in the middle of a whole answer", chat(false), false, func(j *testkit.Job) {
			j.Accept()
			j.Head(200, "application/json")
			j.Data("{")
		}, func(*testkit.Job) bool { return true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := testkit.NewHub(t)
			w := testkit.NewWorker(t, hub, "w0", model)
			w.HoldParts.Store(tt.hold)
			e := newEdgeOn(t, hub, 0, func(c *gateway.Config) { c.AcceptTimeout, c.SilenceTimeout = testkit.Patience, testkit.Patience })
			e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) { return testkit.Placed(w), nil })
			w.Answer(func(j *testkit.Job) {
				if tt.job != nil {
					tt.job(j)
				}
			})
			left := giveUp(t, e, tt.body, func() {
				j := firstJob(t, w, 1)
				testkit.Eventually(t, "the phase is reached", func() bool { return tt.far(j) })
				time.Sleep(50 * time.Millisecond) // frames are on their way
			})
			j := firstJob(t, w, 1)
			testkit.Receive(t, "the cancel", j.Cancelled())
			if at, code := j.CancelledAs(); at.Sub(left) > cancelWithin || code != wire.CodeCancelled {
				t.Errorf("cancelled as %v after %v, want within %v", code, at.Sub(left), cancelWithin)
			}
			if n := len(e.sched.Requests()); n != 1 {
				t.Errorf("%d attempts for a client that left", n)
			}
		})
	}
	t.Run("while a worker is looked for", func(t *testing.T) {
		e := newEdge(t, 1, nil)
		asked, gone := make(chan struct{}), make(chan time.Time, 1)
		e.sched.Decide(func(ctx context.Context, _ *wire.AssignRequest) (*wire.AssignReply, error) {
			close(asked)
			<-ctx.Done()
			gone <- time.Now()
			return nil, context.Cause(ctx)
		})
		left := giveUp(t, e, chat(true), func() { testkit.Receive(t, "the question", asked) })
		if after := testkit.Receive(t, "the scheduler hears of it", gone).Sub(left); after > cancelWithin {
			t.Errorf("the scheduler heard of it after %v, want within %v", after, cancelWithin)
		}
		if n := len(e.workers[0].Jobs()); n != 0 {
			t.Errorf("%d dispatches", n)
		}
	})
}

func TestLongBodiesGoInPartsWithinTheWindow(t *testing.T) {
	t.Parallel()
	for name, hub := range map[string]func(*testing.T) *testkit.Hub{
		"embedded bus":    func(t *testing.T) *testkit.Hub { return testkit.NewHub(t) },
		"1 MiB a message": func(t *testing.T) *testkit.Hub { return testkit.NewSmallHub(t, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdgeOn(t, hub(t), 1, nil)
			body := padded(11 << 20)
			e.workers[0].Answer(func(j *testkit.Job) {
				<-j.Whole()
				j.Reply(200, `{}`)
			})
			if got := e.post(chatPath, body); got.status != 200 {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			j := e.workers[0].Jobs()[0]
			if string(j.Body()) != body {
				t.Error("the body is not what was sent")
			}
			if len(j.Dispatch.Body) > wire.MaxPart {
				t.Errorf("the first part has %d bytes", len(j.Dispatch.Body))
			}
			if a := j.Ahead(); a > wire.PartWindow {
				t.Errorf("%d bytes unacknowledged, want at most %d", a, wire.PartWindow)
			}
		})
	}
	t.Run("not acknowledged", func(t *testing.T) {
		t.Parallel()
		hub := testkit.NewHub(t)
		w := testkit.NewWorker(t, hub, "w0", model)
		w.HoldParts.Store(true)
		e := newEdgeOn(t, hub, 0, nil)
		e.sched.Decide(func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) { return testkit.Placed(w), nil })
		giveUp(t, e, padded(9<<20), func() {
			j := firstJob(t, w, 1)
			testkit.Eventually(t, "the window is full", func() bool { return len(j.Body()) > wire.PartWindow-wire.MaxPart })
			time.Sleep(200 * time.Millisecond)
			if n := len(j.Body()); n > wire.PartWindow {
				t.Errorf("%d bytes sent without an acknowledgement, want at most %d", n, wire.PartWindow)
			}
		})
	})
	// A worker that is full says so when the first part comes. The gateway once went on waiting for it to take the rest,
	// for as long as its pings came.
	t.Run("refused on the way", func(t *testing.T) {
		t.Parallel()
		hub := testkit.NewHub(t)
		full := testkit.NewWorker(t, hub, "w0", model)
		full.HoldParts.Store(true)
		full.Answer(func(j *testkit.Job) { j.End(wire.CodeBusy, "") })
		free := testkit.NewWorker(t, hub, "w1", model)
		free.Answer(func(j *testkit.Job) { <-j.Whole(); j.Reply(200, `{}`) })
		e := newEdgeOn(t, hub, 0, func(c *gateway.Config) { c.SilenceTimeout = 2 * testkit.Patience })
		e.sched.Decide(func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
			return testkit.Placed([]*testkit.Worker{full, free}[r.Attempt-1]), nil
		})
		if got := e.post(chatPath, padded(9<<20)); got.status != 200 {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		if h := history(e.sched.Requests()[1]); !slices.Equal(h, []wire.Code{wire.CodeBusy}) {
			t.Errorf("history = %v", h)
		}
	})
}
