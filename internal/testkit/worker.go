package testkit

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/wire"
)

// A Worker is an adapter as a gateway sees it: it beats, tells what it is, takes dispatches and sends frames as its
// script tells it to.
type Worker struct {
	Name     string
	Instance wire.Instance
	// HoldParts keeps it from acknowledging parts.
	HoldParts atomic.Bool
	// Silent keeps it from saying by itself that its streams are alive.
	Silent atomic.Bool

	t     testing.TB
	bus   *bus.Bus
	info  wire.WorkerInfo
	doc   []byte
	hash  uint64
	seq   atomic.Uint64
	stop  chan struct{}
	tasks sync.WaitGroup
	work  *nats.Subscription
	ctl   *nats.Subscription

	mu     sync.Mutex
	script func(*Job)
	jobs   map[uint64]*Job
	all    []*Job
	state  wire.State
	obey   func(*wire.Ask) *wire.Told
	asked  []wire.Ask
}

// NewWorker starts a worker that serves the models, the first of which is its pool.
func NewWorker(t testing.TB, h *Hub, name string, models ...string) *Worker {
	t.Helper()
	return NewWorkerOf(t, h, name, nil, models...)
}

// NewWorkerOf is NewWorker of one that says something else of itself.
func NewWorkerOf(t testing.TB, h *Hub, name string, change func(*wire.WorkerInfo), models ...string) *Worker {
	t.Helper()
	w := &Worker{Name: name, Instance: wire.NewInstance(), t: t, bus: h.Connect(t, "worker", name), stop: make(chan struct{}), jobs: make(map[uint64]*Job)}
	w.info = wire.WorkerInfo{
		Worker: name, Instance: w.Instance, Region: "local", Pool: models[0], Engine: name, EngineKind: "sglang", DPSize: 1,
		CapacityTokens: 1 << 20, PageSize: 16, MaxRunning: 64, MaxPayload: 1 << 20, AdapterVersion: "test", WireVersion: wire.Version,
	}
	for i, m := range models {
		kind := wire.BaseModel
		if i > 0 {
			kind = wire.LoRAModel
		}
		w.info.Models = append(w.info.Models, wire.Model{Name: m, Kind: kind, ContextLength: 4096})
	}
	if change != nil {
		change(&w.info)
	}
	w.state = wire.Ready
	w.obey = func(*wire.Ask) *wire.Told { return &wire.Told{OK: true, Status: 200} }
	var err error
	if w.doc, w.hash, err = w.info.Encode(); err != nil {
		t.Fatal(err)
	}
	var s wire.Subjects
	w.work = w.listen(w.bus.Bulk, s.Work(name, w.Instance), w.take)
	w.ctl = w.listen(w.bus.Control, s.Ctl(name), w.control)
	w.listen(w.bus.Control, s.Roll(), func(*nats.Msg) { w.beat() })
	w.bus.Flush(t.Context())
	w.beat()
	w.tasks.Go(w.live)
	t.Cleanup(func() { close(w.stop); w.tasks.Wait() })
	return w
}

func (w *Worker) listen(nc *nats.Conn, subject string, on nats.MsgHandler) *nats.Subscription {
	w.t.Helper()
	sub, err := nc.Subscribe(subject, on)
	if err != nil {
		w.t.Fatal(err)
	}
	return sub
}

// Answer sets what becomes of the dispatches from now on. The script runs on a goroutine for each.
func (w *Worker) Answer(script func(*Job)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script = script
}

// Leave takes the worker's subjects away without a word, as a crash does.
func (w *Worker) Leave() {
	w.work.Unsubscribe() //nolint:errcheck // checked by what follows
	w.ctl.Unsubscribe()  //nolint:errcheck // checked by what follows
	w.bus.Flush(w.t.Context())
}

// Jobs are the dispatches so far.
func (w *Worker) Jobs() []*Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*Job(nil), w.all...)
}

func (w *Worker) live() {
	beat, ping := time.NewTicker(200*time.Millisecond), time.NewTicker(50*time.Millisecond)
	defer beat.Stop()
	defer ping.Stop()
	for {
		select {
		case <-beat.C:
			w.beat()
		case <-ping.C:
			if !w.Silent.Load() {
				w.ping()
			}
		case <-w.stop:
			return
		}
	}
}

func (w *Worker) beat() {
	w.mu.Lock()
	state := w.state
	w.mu.Unlock()
	up := wire.Up{Stamp: wire.Stamp{Publisher: w.Name, Seq: w.seq.Add(1)}, Worker: w.Name, Instance: w.Instance, InfoHash: w.hash, State: state, BeatMillis: 1000}
	w.bus.Control.Publish(wire.Subjects{}.Event("local", w.info.Pool, wire.EventUp, w.Name), up.AppendTo(nil)) //nolint:errcheck // the next one tells the same
}

func (w *Worker) ping() {
	byGateway := make(map[string]*wire.Ping)
	w.mu.Lock()
	for id, j := range w.jobs {
		p := byGateway[j.Gateway]
		if p == nil {
			p = &wire.Ping{Worker: w.Name, Instance: w.Instance}
			byGateway[j.Gateway] = p
		}
		j.mu.Lock()
		p.Sent = append(p.Sent, wire.Mark{Stream: id, Seq: j.told})
		j.mu.Unlock()
	}
	w.mu.Unlock()
	for gateway, p := range byGateway {
		w.bus.Tokens.PublishRequest(wire.Subjects{}.Out(gateway, w.Name, 0), w.bus.Tokens.NewInbox(), p.AppendTo(nil)) //nolint:errcheck // the next one tells the same
	}
}

func (w *Worker) take(msg *nats.Msg) {
	switch kind, err := wire.KindOf(msg.Data); {
	case err != nil:
		w.t.Errorf("worker %s: %v", w.Name, err)
	case kind == wire.KindDispatch:
		d, err := wire.ParseDispatch(msg.Data)
		if err != nil {
			w.t.Errorf("worker %s: %v", w.Name, err)
			return
		}
		w.begin(d, msg.Reply)
	case kind == wire.KindPart:
		p, err := wire.ParsePart(msg.Data)
		if err != nil {
			w.t.Errorf("worker %s: %v", w.Name, err)
			return
		}
		w.mu.Lock()
		j := w.jobs[p.Stream]
		w.mu.Unlock()
		if j != nil {
			j.part(p)
		}
	}
}

func (w *Worker) begin(d *wire.Dispatch, reply string) {
	j := &Job{Dispatch: d, w: w, reply: reply, cancelled: make(chan struct{}), whole: make(chan struct{}), body: append([]byte(nil), d.Body...)}
	if uint64(len(j.body)) == d.Size {
		close(j.whole)
	}
	w.mu.Lock()
	w.jobs[d.Stream] = j
	w.all = append(w.all, j)
	script := w.script
	w.mu.Unlock()
	if len(d.Body) < int(d.Size) && !w.HoldParts.Load() {
		j.ackParts()
	}
	if script != nil {
		w.tasks.Go(func() { script(j) })
	}
}

func (w *Worker) control(msg *nats.Msg) {
	if wire.IsJSON(msg.Data) {
		w.ask(msg)
		return
	}
	kind, err := wire.KindOf(msg.Data)
	if err != nil {
		w.t.Errorf("worker %s: %v", w.Name, err)
		return
	}
	switch kind {
	case wire.KindCancel:
		c, err := wire.ParseCancel(msg.Data)
		if j := w.job(c.Stream); err == nil && j != nil {
			j.cancel(c)
		}
	case wire.KindAck:
		if a, err := wire.ParseAck(msg.Data); err == nil {
			for _, m := range a.Through {
				if j := w.job(m.Stream); j != nil {
					j.mu.Lock()
					j.acked = max(j.acked, m.Seq)
					j.mu.Unlock()
				}
			}
		}
	case wire.KindResend:
		r, err := wire.ParseResend(msg.Data)
		if j := w.job(r.Stream); err == nil && j != nil {
			j.again(r.From)
		}
	}
}

func (w *Worker) ask(msg *nats.Msg) {
	var q wire.Ask
	if err := json.Unmarshal(msg.Data, &q); err != nil {
		w.t.Errorf("worker %s: %v", w.Name, err)
		return
	}
	if q.Op == wire.OpInfo {
		w.bus.Control.Publish(msg.Reply, w.doc) //nolint:errcheck // it is asked for again
		return
	}
	w.mu.Lock()
	w.asked = append(w.asked, q)
	obey := w.obey
	w.mu.Unlock()
	if doc, err := json.Marshal(obey(&q)); err == nil {
		w.bus.Control.Publish(msg.Reply, doc) //nolint:errcheck // its asker has a bound
	}
}

// Obey sets what becomes of orders from now on.
func (w *Worker) Obey(f func(*wire.Ask) *wire.Told) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.obey = f
}

// Asked are the orders so far.
func (w *Worker) Asked() []wire.Ask {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]wire.Ask(nil), w.asked...)
}

// Become says that the worker is in another state.
func (w *Worker) Become(state wire.State) {
	w.mu.Lock()
	w.state = state
	w.mu.Unlock()
	w.beat()
}

func (w *Worker) job(stream uint64) *Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jobs[stream]
}
