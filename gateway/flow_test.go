package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// rawChat sends a chat request on a connection of its own and reads nothing.
func rawChat(t *testing.T, e *edge) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.gw.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	body := chat(true)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
	return conn
}

func TestAClientThatDoesNotReadStopsItsOwnStreamAlone(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, func(c *gateway.Config) { c.ClientStall = 2 * time.Second })
	event := "data: {\"x\":\"" + strings.Repeat("z", 16<<10) + "\"}\n\n"
	var mu sync.Mutex
	sent := 0
	e.workers[0].Answer(func(j *testkit.Job) {
		j.Accept()
		j.Head(200, testkit.EventStream)
		for {
			select {
			case <-j.Cancelled():
				return
			default:
				j.Flow(event)
				mu.Lock()
				sent += len(event)
				mu.Unlock()
			}
		}
	})
	began := time.Now()
	rawChat(t, e)
	j := firstJob(t, e.workers[0], 1)
	amount := func() int { mu.Lock(); defer mu.Unlock(); return sent }
	testkit.Eventually(t, "the stream stands still", func() bool {
		before := amount()
		time.Sleep(200 * time.Millisecond)
		return before > 0 && amount() == before
	})
	// What has left the worker lies in the window, and in the two sockets' buffers: the kernel lets those grow to 4 and 6 MiB.
	if n := amount(); n > 12<<20 {
		t.Errorf("%d bytes went to a client that reads nothing", n)
	}
	e.workers[0].Answer(func(j *testkit.Job) { j.Answer(`{}`) })
	if got := e.post(chatPath, chat(true)); got.status != 200 {
		t.Errorf("another client: %d %s", got.status, got.body)
	}
	testkit.Receive(t, "the cancel", j.Cancelled())
	at, code := j.CancelledAs()
	if code != wire.CodeSlowClient || at.Sub(began) < 2*time.Second {
		t.Errorf("cancelled as %v after %v, want slow_client after 2s", code, at.Sub(began))
	}
}

func TestAWorkerThatIgnoresTheWindowIsCutOff(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, func(c *gateway.Config) { c.ClientStall = testkit.Patience })
	for name, frame := range map[string]wire.Frame{
		"data":                dataFrame("data: " + strings.Repeat("z", 64<<10) + "\n\n"),
		"frames without data": {Type: wire.FrameAccept},
	} {
		t.Run(name, func(t *testing.T) {
			n := len(e.workers[0].Jobs())
			begun, filled := make(chan struct{}), make(chan struct{})
			e.workers[0].Answer(func(j *testkit.Job) {
				j.Accept()
				j.Head(200, testkit.EventStream)
				j.Data("data: {}\n\n")
				<-begun         // an answer that had not begun would be tried again, and rightly
				for range 200 { // 12 MiB of events: more than all buffers on the way hold
					j.Data("data: " + strings.Repeat("z", 64<<10) + "\n\n")
				}
				for range 40 {
					frames := make([]wire.Frame, 1000)
					for i := range frames {
						frames[i] = frame
					}
					if frame.Data != nil {
						frames = frames[:1]
					}
					j.Send(frames...)
				}
				close(filled)
			})
			conn := rawChat(t, e)
			conn.SetReadDeadline(time.Now().Add(testkit.Patience)) //nolint:errcheck // the read fails
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			close(begun)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			testkit.Receive(t, "the worker has sent everything", filled)
			j := firstJob(t, e.workers[0], n+1)
			time.Sleep(100 * time.Millisecond)
			got, err := io.ReadAll(resp.Body)
			if err != nil || !strings.Contains(string(got[max(0, len(got)-300):]), `"code":"lost_frames"`) {
				t.Errorf("the stream ends with %q (%v), want lost_frames", got[max(0, len(got)-300):], err)
			}
			testkit.Receive(t, "the cancel", j.Cancelled())
		})
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T, e *edge, c <-chan struct{}) (<-chan answer, *testkit.Job) {
		e.workers[0].Answer(func(j *testkit.Job) {
			j.Accept()
			j.Head(200, testkit.EventStream)
			j.Data("data: {\"a\":1}\n\n")
			select {
			case <-c:
			case <-j.Cancelled():
				return
			}
			j.Data("data: {\"b\":2}\n\n")
			j.Data("data: [DONE]\n\n")
			j.End(wire.CodeOK, "")
		})
		got := make(chan answer, 1)
		go func() { got <- e.post(chatPath, chat(true)) }()
		j := firstJob(t, e.workers[0], 1)
		time.Sleep(50 * time.Millisecond) // the first event is on its way
		return got, j
	}
	t.Run("answers under way finish", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t, 1, nil)
		finish := make(chan struct{})
		got, _ := begin(t, e, finish)
		stopped := make(chan struct{})
		go func() { e.stop(); close(stopped) }()
		testkit.Eventually(t, "it says that it is not ready", func() bool { return e.do(e.request("GET", "/readyz", "")).status == 503 })
		if late := e.post(chatPath, chat(false)); late.status != 503 || failureIn(t, late.body).Code != "gateway_draining" || late.header.Get("Retry-After") == "" {
			t.Errorf("a new request: %d %s", late.status, late.body)
		}
		if live := e.do(e.request("GET", "/livez", "")); live.status != 200 {
			t.Errorf("/livez = %d while it drains", live.status)
		}
		select {
		case <-stopped:
			t.Error("stopped while an answer was under way")
		default:
		}
		if err := e.gw.Ready(t.Context()); err == nil {
			t.Error("ready while it drains")
		}
		close(finish)
		if a := testkit.Receive(t, "the answer", got); a.body != streamed {
			t.Errorf("got %q", a.body)
		}
		testkit.Receive(t, "the gateway stops", stopped)
	})
	t.Run("a connection that says nothing does not hold it up", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t, 1, func(c *gateway.Config) { c.DrainTimeout = time.Second })
		conn, err := net.Dial("tcp", strings.TrimPrefix(e.gw.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(50 * time.Millisecond) // it is accepted
		began := time.Now()
		if e.stop(); time.Since(began) > 3*time.Second { // the HTTP server alone would wait for 5 s
			t.Errorf("stopped after %v with a bound of 1 s", time.Since(began))
		}
	})
	t.Run("those that outlast the bound are told", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t, 1, func(c *gateway.Config) { c.DrainTimeout = 300 * time.Millisecond })
		got, j := begin(t, e, nil)
		e.stop()
		a := testkit.Receive(t, "the answer", got)
		rest, ok := strings.CutPrefix(a.body, "data: {\"a\":1}\n\ndata: ")
		if !ok || failureIn(t, rest).Code != "worker_draining" || strings.Contains(a.body, "[DONE]") {
			t.Errorf("got %q", a.body)
		}
		testkit.Receive(t, "the cancel", j.Cancelled())
	})
	// Run once returned while the requests of clients that do not read were still on their way out.
	t.Run("clients that do not read do not outlive it", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t, 1, func(c *gateway.Config) { c.DrainTimeout = 100 * time.Millisecond })
		event := "data: {\"x\":\"" + strings.Repeat("z", 32<<10) + "\"}\n\n"
		e.workers[0].Answer(func(j *testkit.Job) {
			j.Accept()
			j.Head(200, testkit.EventStream)
			for range 1000 {
				j.Flow(event)
			}
		})
		rawChat(t, e)
		j := firstJob(t, e.workers[0], 1)
		testkit.Eventually(t, "the stream flows", func() bool { return j.Acked() > 10 })
		e.stop()
		if n := e.gw.Streams(); n != 0 {
			t.Errorf("%d streams after Run has returned", n)
		}
	})
}

// A gateway is there before its bus: it says that it is not ready, and requests wait with it.
func TestAGatewayWithoutABusYet(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	w := testkit.NewWorker(t, hub, "w0", model)
	w.Answer(func(j *testkit.Job) { j.Reply(200, `{"x":1}`) })
	key, err := prefix.NewKey([]byte("a secret for tests only"))
	if err != nil {
		t.Fatal(err)
	}
	parts := gateway.Parts{Bus: hub.Connect(t, "gateway", "g"), Scheduler: testkit.NewScheduler(w), Key: key}
	arrives := make(chan struct{})
	gw, err := gateway.New(gateway.Config{BusPatience: 500 * time.Millisecond, Join: func(ctx context.Context) (gateway.Parts, error) {
		select {
		case <-arrives:
			return parts, nil
		case <-ctx.Done():
			return gateway.Parts{}, context.Cause(ctx)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gw.Run(ctx, func() {}) }()
	e := &edge{t: t, gw: gw, client: &http.Client{Transport: &http.Transport{}, Timeout: testkit.Patience}}
	defer e.client.CloseIdleConnections()
	if got := e.do(e.request("GET", "/livez", "")); got.status != 200 {
		t.Errorf("/livez = %d", got.status)
	}
	if got := e.do(e.request("GET", "/readyz", "")); got.status != 503 || !strings.Contains(got.body, "waiting for the bus") {
		t.Errorf("/readyz = %d %s", got.status, got.body)
	}
	if got := e.post(chatPath, chat(false)); got.status != 503 || failureIn(t, got.body).Code != "no_bus" {
		t.Errorf("a request that waited for too long: %d %s", got.status, got.body)
	}
	waiting := make(chan answer, 1)
	go func() { waiting <- e.post(chatPath, chat(false)) }()
	time.Sleep(100 * time.Millisecond)
	close(arrives)
	if got := testkit.Receive(t, "the answer", waiting); got.status != 200 || got.body != `{"x":1}` {
		t.Errorf("a request that waited: %d %s", got.status, got.body)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// counter is the value of a metric without labels.
func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestNonsenseOnTheBusIsCountedAndHurtsNobody(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	hub := testkit.NewHub(t)
	e := newEdgeOn(t, hub, 1, func(c *gateway.Config) { c.Registry = reg })
	e.workers[0].Answer(func(j *testkit.Job) { j.Answer(`{"a":1}`, `{"b":2}`) })
	stranger := hub.Connect(t, "stranger", "s")
	out := wire.Subjects{}.Out("g", "w0", 0)
	frames := wire.AppendFrames(nil, "w0", 5)
	frames = wire.AppendFrame(frames, &wire.Frame{Type: wire.FrameAccept, Stream: 1, Attempt: 1, Seq: 1})
	ping := wire.Ping{Worker: "w0", Instance: 5, Sent: []wire.Mark{{Stream: 123, Seq: 1}}}
	inbox := stranger.Tokens.NewInbox()
	pongs, err := stranger.Tokens.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range [][]byte{nil, {0}, []byte("nonsense"), frames, frames[:len(frames)-3], ping.AppendTo(nil)[:3]} {
		stranger.Tokens.PublishRequest(out, inbox, msg) //nolint:errcheck // counted below
	}
	stranger.Tokens.Publish(out, ping.AppendTo(nil)) //nolint:errcheck // a ping without a way to answer
	testkit.Eventually(t, "strays are counted", func() bool { return counter(t, reg, "radixbus_gateway_stray_frames_total") >= 5 })
	stranger.Tokens.PublishRequest(out, inbox, ping.AppendTo(nil)) //nolint:errcheck // answered below
	var pong wire.Pong
	testkit.Eventually(t, "a pong", func() bool {
		msg, err := pongs.NextMsg(testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		pong, err = wire.ParsePong(msg.Data)
		return err == nil
	})
	if len(pong.Unknown) != 1 || pong.Unknown[0] != 123 {
		t.Errorf("pong = %+v, want stream 123 unknown", pong)
	}
	if got := e.post(chatPath, chat(true)); got.body != streamed {
		t.Errorf("got %q", got.body)
	}
	if n := counter(t, reg, "radixbus_gateway_requests_in_flight"); n != 0 {
		t.Errorf("%v requests in flight", n)
	}
}

func TestBusScheduler(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	asking, deciding := hub.Connect(t, "gateway", "g"), hub.Connect(t, "scheduler", "s")
	s, err := gateway.NewBusScheduler(asking.Control, wire.Subjects{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	assign := func() (*wire.AssignReply, error) {
		return s.Assign(t.Context(), &wire.AssignRequest{Request: wire.NewRequestID(), Attempt: 1, Pool: "m", Digests: []wire.Digest{{Hashes: []uint64{1, 2}}}})
	}
	absent := func(err error) {
		t.Helper()
		if e, ok := err.(*gateway.AssignError); !ok || e.Code != wire.CodeNoScheduler {
			t.Errorf("got %v, want that no scheduler answered", err)
		}
	}
	_, err = assign()
	absent(err)
	if s.Serves(t.Context(), "m") {
		t.Error("nobody serves")
	}
	reply := func(v wire.Verdict) []byte {
		r := wire.AssignReply{Verdict: v, Placements: []wire.Placement{{Worker: "w", Instance: 9}}}
		return r.AppendTo(nil)
	}
	answers := func(f func(*nats.Msg)) (stop func()) {
		sub, err := deciding.Control.QueueSubscribe(wire.Subjects{}.Sched("m"), wire.QueueGroup, f)
		if err != nil {
			t.Fatal(err)
		}
		deciding.Flush(t.Context())
		return func() { sub.Unsubscribe() } //nolint:errcheck // the next answers would be doubled
	}
	stop := answers(func(m *nats.Msg) {
		if wire.IsJSON(m.Data) {
			m.Respond([]byte(`{"serves":true}`)) //nolint:errcheck // missed below
			return
		}
		for _, v := range []wire.Verdict{wire.Held, wire.Held, wire.Placed, wire.Refused} {
			m.Respond(reply(v)) //nolint:errcheck // missed below
		}
	})
	if r, err := assign(); err != nil || r.Verdict != wire.Placed || r.Placements[0].Worker != "w" {
		t.Errorf("got %+v, %v", r, err)
	}
	if !s.Serves(t.Context(), "m") {
		t.Error("it serves")
	}
	stop()
	stop = answers(func(m *nats.Msg) { m.Respond([]byte("nonsense")) }) //nolint:errcheck // missed below
	if r, err := assign(); err == nil {
		t.Errorf("nonsense was read as %+v", r)
	}
	stop()
	defer answers(func(*nats.Msg) {})()
	_, err = assign() // it listens, and says nothing
	absent(err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := fmt.Errorf("left")
	cancel(cause)
	if _, err := s.Assign(ctx, &wire.AssignRequest{Pool: "m"}); err != cause {
		t.Errorf("got %v, want the cause", err)
	}
}

// The bus gives every other question to a scheduler that is stuck: it is asked once, and then passed over.
func TestASilentSchedulerIsPassedOver(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	asking, deciding := hub.Connect(t, "gateway", "g"), hub.Connect(t, "scheduler", "s").Control
	s, err := gateway.NewBusScheduler(asking.Control, wire.Subjects{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var stuck atomic.Bool
	var group, named atomic.Int32
	for subject, asked := range map[string]*atomic.Int32{wire.Subjects{}.Sched("m"): &group, wire.Subjects{}.SchedAt("m", "alive"): &named} {
		sub, err := deciding.Subscribe(subject, func(m *nats.Msg) {
			if asked.Add(1); asked == &group && stuck.Load() {
				return
			}
			if wire.IsJSON(m.Data) {
				m.Respond([]byte(`{"serves":true}`)) //nolint:errcheck // missed below
				return
			}
			r := wire.AssignReply{Scheduler: "alive", Verdict: wire.Placed, Placements: []wire.Placement{{Worker: "w", Instance: 9}}}
			m.Respond(r.AppendTo(nil)) //nolint:errcheck // missed below
		})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Unsubscribe() //nolint:errcheck // the test is over
	}
	if err := deciding.Flush(); err != nil {
		t.Fatal(err)
	}
	assign := func(n int) {
		t.Helper()
		for range n {
			if r, err := s.Assign(t.Context(), &wire.AssignRequest{Request: wire.NewRequestID(), Attempt: 1, Pool: "m"}); err != nil || r.Verdict != wire.Placed {
				t.Fatalf("got %+v, %v, want a placement", r, err)
			}
		}
	}
	assign(3)
	if group.Load() != 3 || named.Load() != 0 {
		t.Errorf("asked %d times as a group and %d by name, want 3 and 0", group.Load(), named.Load())
	}
	stuck.Store(true)
	assign(50)
	if n := group.Load() - 3; n < 1 || n > 5 || named.Load() != 50 {
		t.Errorf("asked %d times as a group and %d by name, want a few probes and 50", n, named.Load())
	}
	if !s.Serves(t.Context(), "m") {
		t.Error("it serves, though the group is silent")
	}
}

func TestTheDigestSecretIsSharedByAllGateways(t *testing.T) {
	t.Parallel()
	hub := testkit.NewHub(t)
	var secrets [4]string
	var g sync.WaitGroup
	for i := range secrets {
		conn := hub.Connect(t, "gateway", fmt.Sprint(i)).Control
		g.Go(func() {
			secret, err := gateway.SharedSecret(t.Context(), conn)
			if err != nil {
				t.Error(err)
			}
			secrets[i] = string(secret)
		})
	}
	g.Wait()
	if len(secrets[0]) != 32 {
		t.Errorf("a secret of %d bytes", len(secrets[0]))
	}
	for _, s := range secrets[1:] {
		if s != secrets[0] {
			t.Error("gateways do not agree")
		}
	}
	if _, err := gateway.SharedSecret(t.Context(), testkit.NewSmallHub(t, 1<<20).Connect(t, "gateway", "g").Control); err == nil {
		t.Error("a bus without a store gave a secret")
	}
}
