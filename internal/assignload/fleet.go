package assignload

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/wire"
)

// beatEvery is how often adapters beat and report.
const beatEvery = 750 * time.Millisecond

// A fleet is workers that only say that they are there. Its beats are one goroutine's; placements come from any.
type fleet struct {
	conn     *nats.Conn
	subjects wire.Subjects
	pool     string
	workers  []*worker
	byName   map[string]*worker
	byCtl    map[string]*worker // by the subject where each is asked what it is
	known    atomic.Int64       // workers that somebody has asked what they are
	asks     chan *nats.Msg
}

// A worker is one of a fleet.
type worker struct {
	name     string
	instance wire.Instance
	doc      []byte // of its info
	hash     uint64
	up, load string // subjects
	finished string
	asked    bool // what it is; owned by the fleet's goroutine

	seq  atomic.Uint64
	mu   sync.Mutex
	open []placement // oldest first
}

// A placement is an attempt that was given to a worker and has not ended.
type placement struct {
	request           wire.RequestID
	lease             uint64
	prompt, predicted uint32
}

const region = "local"

func newFleet(conn *nats.Conn, s wire.Subjects, pool string, n int) (*fleet, error) {
	f := &fleet{
		conn: conn, subjects: s, pool: pool, asks: make(chan *nats.Msg, 2*n),
		byName: make(map[string]*worker, n), byCtl: make(map[string]*worker, n),
	}
	for i := range n {
		w := &worker{name: fmt.Sprintf("%s-%05d", pool, i), instance: wire.NewInstance()}
		info := wire.WorkerInfo{
			Worker: w.name, Instance: w.instance, Region: region, Pool: pool, Models: []wire.Model{{Name: pool, Kind: wire.BaseModel}},
			Engine: w.name, EngineKind: "sglang", DPSize: 1, CapacityTokens: 1 << 19, PageSize: 1, MaxRunning: 256,
			MaxPayload: 1 << 20, AdapterVersion: "bench", WireVersion: wire.Version,
		}
		var err error
		if w.doc, w.hash, err = info.Encode(); err != nil {
			return nil, err
		}
		w.up = s.Event(region, pool, wire.EventUp, w.name)
		w.load = s.Event(region, pool, wire.EventLoad, w.name)
		w.finished = s.Event(region, pool, wire.EventFinished, w.name)
		f.workers, f.byName[w.name], f.byCtl[s.Ctl(w.name)] = append(f.workers, w), w, w
	}
	return f, nil
}

// run beats until ctx ends, and then says that the workers are gone.
func (f *fleet) run(ctx context.Context) error {
	for _, w := range f.workers { // a channel in place of a goroutine each
		sub, err := f.conn.ChanSubscribe(f.subjects.Ctl(w.name), f.asks)
		if err != nil {
			return fmt.Errorf("listen as worker %s: %w", w.name, err)
		}
		defer sub.Unsubscribe() //nolint:errcheck // the connection is closed next
	}
	bus.Flush(ctx, f.conn)
	const steps = 75 // the fleet does not beat as one
	tick := time.NewTicker(beatEvery / steps)
	defer tick.Stop()
	defer f.leave()
	for step := 0; ; {
		select {
		case msg := <-f.asks:
			if err := f.tell(msg); err != nil {
				return err
			}
		case <-tick.C:
			from, to := step*len(f.workers)/steps, (step+1)*len(f.workers)/steps
			for _, w := range f.workers[from:to] {
				if err := f.beat(w); err != nil {
					return err
				}
			}
			step = (step + 1) % steps
		case <-ctx.Done():
			return nil
		}
	}
}

// tell answers who asks what a worker is.
func (f *fleet) tell(msg *nats.Msg) error {
	w := f.byCtl[msg.Subject]
	if w == nil || msg.Reply == "" {
		return nil
	}
	if !w.asked {
		w.asked = true
		f.known.Add(1)
	}
	return f.conn.Publish(msg.Reply, w.doc)
}

func (f *fleet) beat(w *worker) error {
	up := wire.Up{Stamp: w.stamp(), Worker: w.name, Instance: w.instance, InfoHash: w.hash, State: wire.Ready, BeatMillis: uint32(beatEvery.Milliseconds())}
	if err := f.conn.Publish(w.up, up.AppendTo(nil)); err != nil {
		return err
	}
	load := wire.Load{Stamp: w.stamp(), Worker: w.name, Instance: w.instance}
	w.mu.Lock()
	for _, p := range w.open {
		load.Leases = append(load.Leases, wire.LeaseRef{Request: p.request, Attempt: 1})
	}
	w.mu.Unlock()
	load.Running = uint32(len(load.Leases))
	return f.conn.Publish(w.load, load.AppendTo(nil))
}

func (f *fleet) leave() {
	for _, w := range f.workers {
		gone := wire.Gone{Stamp: w.stamp(), Worker: w.name, Instance: w.instance, Code: wire.CodeWorkerGone}
		f.conn.Publish(f.subjects.Event(region, f.pool, wire.EventDown, w.name), gone.AppendTo(nil)) //nolint:errcheck // silence says the same
	}
	bus.Flush(context.Background(), f.conn)
}

func (w *worker) stamp() wire.Stamp {
	return wire.Stamp{Publisher: w.name, Seq: w.seq.Add(1), AtMicros: uint64(time.Now().UnixMicro())}
}

// take gives the worker a placement. When it has more than running, its oldest is over and returned.
func (w *worker) take(p placement, running int) (over placement, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, p)
	if len(w.open) <= running {
		return placement{}, false
	}
	over = w.open[0]
	w.open = append(w.open[:0], w.open[1:]...)
	return over, true
}

// ended is what the worker's adapter says when a placement is over: its engine had cached what was predicted, and took
// as long as one that prefills 20,000 tokens a second.
func (w *worker) ended(p placement) wire.Finished {
	computed := uint64(p.prompt - p.predicted)
	ttft := computed * 50
	return wire.Finished{
		Stamp: w.stamp(), Worker: w.name, Instance: w.instance, Request: p.request, Attempt: 1, Lease: p.lease, Predicted: p.predicted,
		End: wire.End{
			Prompt: p.prompt, CachedPlus1: p.predicted + 1, Completion: 64, TTFTMicros: ttft, TotalMicros: ttft + 640_000,
			Finish: "stop", Begun: true,
		},
	}
}
