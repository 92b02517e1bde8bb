package scheduler_test

import (
	"fmt"
	"sync/atomic"
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

func TestMain(m *testing.M) { testkit.Main(m) }

const model = "org/Llama-3.1-8B" // dots and slashes must not matter

// A replica is a running scheduler.
type replica struct {
	*scheduler.Scheduler
	reg  *prometheus.Registry
	stop func()
}

func start(t *testing.T, hub *testkit.Hub, id string, edit func(*scheduler.Config)) *replica {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg := scheduler.Config{ID: id, Bus: hub.Connect(t, "scheduler", id), Cost: prefix.LadderBytes, Registry: reg}
	if edit != nil {
		edit(&cfg)
	}
	s, err := scheduler.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &replica{s, reg, testkit.Start(t, s.Run)}
}

// metric is the sum of a metric's series with the label values; ok tells whether there is one.
func (r *replica) metric(t *testing.T, name string, labels ...string) (sum float64, ok bool) {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue series
				}
			}
			ok = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum, ok
}

// status is what the replica knows of a pool.
func (r *replica) status(t *testing.T, pool string) (one scheduler.PoolStatus) {
	t.Helper()
	all, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Pool == pool {
			one = p
		}
	}
	return one
}

// serves waits until the replica knows that many ready workers of a pool.
func (r *replica) serves(t *testing.T, pool string, workers int) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%d workers ready", workers), func() bool {
		ready := 0
		for _, w := range r.status(t, pool).Workers {
			if w.State == "ready" {
				ready++
			}
		}
		return ready == workers && r.Serves(t.Context(), pool) == (workers > 0)
	})
}

// A worker is an adapter as a scheduler sees it.
type worker struct {
	t    *testing.T
	nc   *nats.Conn
	info wire.WorkerInfo
	doc  atomic.Pointer[[]byte] // its info
	hash uint64
	seq  atomic.Uint64
}

// newWorker answers questions and roll calls, and beats only when it is told to.
func newWorker(t *testing.T, b *bus.Bus, name, pool string, running int) *worker {
	t.Helper()
	w := &worker{t: t, nc: b.Control, info: wire.WorkerInfo{
		Worker: name, Instance: wire.NewInstance(), Region: "dc.1", Pool: pool, Models: []wire.Model{{Name: pool, Kind: wire.BaseModel}},
		Engine: name, EngineKind: "sglang", DPSize: 1, CapacityTokens: 1 << 20, PageSize: 1, MaxRunning: running,
	}}
	w.register()
	w.listen(wire.Subjects{}.Ctl(name), func(m *nats.Msg) { w.nc.Publish(m.Reply, *w.doc.Load()) }) //nolint:errcheck // it is asked again
	bus.Flush(t.Context(), w.nc)
	return w
}

// register makes its info what it tells.
func (w *worker) register() {
	w.t.Helper()
	doc, hash, err := w.info.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.doc.Store(&doc)
	w.hash = hash
}

func (w *worker) listen(subject string, on nats.MsgHandler) {
	w.t.Helper()
	sub, err := w.nc.Subscribe(subject, on)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { sub.Unsubscribe() }) //nolint:errcheck // the connection may be gone
}

func (w *worker) say(kind string, doc []byte) {
	w.t.Helper()
	if err := w.nc.Publish(wire.Subjects{}.Event(w.info.Region, w.info.Pool, kind, w.info.Worker), doc); err != nil {
		w.t.Fatal(err)
	}
}

func (w *worker) stamp() wire.Stamp { return wire.Stamp{Publisher: w.info.Worker, Seq: w.seq.Add(1)} }

func (w *worker) beat(state wire.State) {
	w.t.Helper()
	up := wire.Up{Stamp: w.stamp(), Worker: w.info.Worker, Instance: w.info.Instance, InfoHash: w.hash, State: state, BeatMillis: 50}
	w.say(wire.EventUp, up.AppendTo(nil))
}

// live beats until the test is over.
func (w *worker) live() *worker {
	w.beat(wire.Ready)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.beat(wire.Ready)
			case <-stop:
				return
			}
		}
	}()
	w.t.Cleanup(func() { close(stop); <-done })
	return w
}

func (w *worker) finish(r *wire.AssignReply, end wire.End) {
	w.t.Helper()
	f := wire.Finished{Stamp: w.stamp(), Worker: w.info.Worker, Instance: w.info.Instance, Request: r.Request, Attempt: r.Attempt, End: end}
	w.say(wire.EventFinished, f.AppendTo(nil))
}

func request(pool string, group uint64) *wire.AssignRequest {
	d := wire.Digest{KeyID: 1, Ladder: prefix.Ladder1, Bytes: 640}
	for i := range uint64(10) {
		d.Hashes = append(d.Hashes, group<<32|i+1)
	}
	return &wire.AssignRequest{Request: wire.NewRequestID(), Attempt: 1, Pool: pool, Model: pool, Digests: []wire.Digest{d}}
}

// A gateway asks on the bus, and hears every answer.
type client struct {
	t       *testing.T
	nc      *nats.Conn
	answers chan *nats.Msg
	inbox   string
}

func newClient(t *testing.T, hub *testkit.Hub) *client {
	t.Helper()
	b := hub.Connect(t, "gateway", "g1")
	c := &client{t: t, nc: b.Control, answers: make(chan *nats.Msg, 64), inbox: b.Control.NewInbox()}
	sub, err := c.nc.ChanSubscribe(c.inbox, c.answers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Unsubscribe() }) //nolint:errcheck // the connection may be gone
	return c
}

// heard waits until a scheduler hears questions about a pool.
func (c *client) heard(pool string) *client {
	c.t.Helper()
	testkit.Eventually(c.t, "a scheduler hears questions", func() bool {
		c.send(pool, []byte(`{"op":"serves"}`))
		return len(testkit.Receive(c.t, "an answer", c.answers).Data) > 0 // else the bus says that nobody listens
	})
	return c
}

func (c *client) send(pool string, doc []byte) {
	c.t.Helper()
	if err := c.nc.PublishRequest(wire.Subjects{}.Sched(pool), c.inbox, doc); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) hear() *wire.AssignReply {
	c.t.Helper()
	r, err := wire.ParseAssignReply(testkit.Receive(c.t, "an answer", c.answers).Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}
