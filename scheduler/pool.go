package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

// A pool is the goroutine around one core.Pool: messages in, replies and events out.
type pool struct {
	s     *Scheduler
	name  string
	core  *core.Pool
	queue chan func(now time.Time)
	over  chan struct{} // closed when nobody reads the queue any more
	ready atomic.Int64  // workers that take requests
	gauge *poolMetrics

	askers map[askerKey]*asker // owned by the goroutine
}

// askerKey names a question as its answer does.
type askerKey struct {
	request wire.RequestID
	attempt uint32
}

// asker is where answers to a question go.
type asker struct {
	ctx     context.Context        // of a gateway in this process; ends when nobody waits
	answer  chan *wire.AssignReply // and its answer: one fits
	subject string                 // of a gateway on the bus
	asked   time.Time
}

func newPool(s *Scheduler, name string) (*pool, error) {
	c, err := core.New(core.Config{
		Scheduler: s.cfg.ID, Pool: name, Policy: s.cfg.Policy, Seed: seedOf(s.cfg),
		LeaseFor: s.cfg.LeaseFor, HoldFor: s.cfg.HoldFor, Cost: s.cfg.Cost,
	})
	if err != nil {
		return nil, err
	}
	return &pool{
		s: s, name: name, core: c, queue: make(chan func(time.Time), s.cfg.QueueLen), over: make(chan struct{}),
		gauge: s.metrics.pool(name), askers: make(map[askerKey]*asker),
	}, nil
}

// seedOf is another one for each replica: those that toss the same coins send their first requests to the same workers.
func seedOf(cfg Config) uint64 {
	if cfg.Seed != 0 {
		return cfg.Seed
	}
	h := fnv.New64a()
	h.Write([]byte(cfg.ID)) //nolint:errcheck // never fails
	return h.Sum64()
}

// run owns the pool's state until the scheduler stops.
func (p *pool) run() {
	defer close(p.over)
	conn, subjects := p.s.cfg.Bus.Control, p.s.cfg.Subjects
	var sub *nats.Subscription
	settled := p.s.roster.Settled() // another replica knows more until then, and "no worker" would be a guess
	if own, err := conn.Subscribe(subjects.SchedAt(p.name, p.s.cfg.ID), p.question); err != nil {
		p.s.cfg.Log.Error("pool hears no questions of its own", "pool", p.name, "error", err)
	} else {
		defer own.Unsubscribe() //nolint:errcheck // the connection may be gone already
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case work := <-p.queue:
			work(time.Now())
		case <-settled:
			settled = nil
			var err error
			if sub, err = conn.QueueSubscribe(subjects.Sched(p.name), wire.QueueGroup, p.question); err != nil {
				p.s.cfg.Log.Error("pool hears no questions", "pool", p.name, "error", err)
			}
		case <-tick.C:
			p.core.Tick(time.Now()) // not when it was due: that may be before what was done last
			p.gauge.measure(p.core)
		case <-p.s.ctx.Done():
			p.drain(sub)
			return
		}
		p.tell()
	}
}

// drainBound is how long the questions on their way may take to arrive once we stop. They are in this process already.
const drainBound = time.Second

// drain answers the questions that were sent to us before the bus knew that we stop.
func (p *pool) drain(sub *nats.Subscription) {
	heard := make(chan struct{})
	bound := time.NewTimer(drainBound)
	defer bound.Stop()
	if sub == nil {
		close(heard)
	} else {
		sub.SetClosedHandler(func(string) { close(heard) })
		if sub.Drain() != nil { // the connection is gone, and all questions with it
			bound.Reset(0)
		}
	}
	for hearing := true; hearing; {
		select {
		case work := <-p.queue:
			work(time.Now())
			p.tell()
		case <-heard:
			hearing = false
		case <-bound.C:
			hearing = false
		}
	}
	for len(p.queue) > 0 {
		(<-p.queue)(time.Now())
		p.tell()
	}
	for key, to := range p.askers { // another replica may serve them
		p.send(to, p.s.refusal(key.request, key.attempt, wire.CodeNoScheduler, ""))
	}
	clear(p.askers)
}

// do queues a change of state. State must not be lost, so unlike a question it waits for room: its callers are the
// roster's goroutine and nobody's request.
func (p *pool) do(change func(now time.Time)) {
	select {
	case p.queue <- func(now time.Time) { change(now); p.ready.Store(int64(p.core.Ready())) }:
	case <-p.over:
	}
}

// offer queues work that can be refused, and tells whether there was room.
func (p *pool) offer(work func(now time.Time)) bool {
	select {
	case p.queue <- work:
		return true
	default:
		p.s.metrics.overflow.Inc()
		return false
	}
}

// ask is a question from this process.
func (p *pool) ask(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error) {
	from := &asker{ctx: ctx, answer: make(chan *wire.AssignReply, 1)}
	if !p.offer(func(now time.Time) { p.decide(now, from, req) }) {
		return p.overloaded(req), nil
	}
	select {
	case reply := <-from.answer:
		return reply, nil
	case <-ctx.Done():
		p.offer(func(now time.Time) { p.forget(now, askerKey{req.Request, req.Attempt}, from) })
		return nil, context.Cause(ctx)
	case <-p.over:
	}
	select {
	case reply := <-from.answer:
		return reply, nil
	default: // it was queued behind the last thing that was done
		return p.s.refusal(req.Request, req.Attempt, wire.CodeNoScheduler, ""), nil
	}
}

// question runs on the client's goroutine and must not block: a full queue is an answer, not a wait.
func (p *pool) question(msg *nats.Msg) {
	if msg.Reply == "" {
		return
	}
	if wire.IsJSON(msg.Data) {
		p.s.publish(msg.Reply, p.signOfLife(msg.Data))
		return
	}
	req, err := wire.ParseAssignRequest(msg.Data)
	if err != nil {
		p.s.metrics.malformed.Inc()
		code := wire.CodeMalformed
		if errors.Is(err, wire.ErrVersion) {
			code = wire.CodeVersion
		}
		p.s.publish(msg.Reply, p.s.refusal(wire.RequestID{}, 0, code, "").AppendTo(nil))
		return
	}
	from := &asker{subject: msg.Reply}
	if !p.offer(func(now time.Time) { p.decide(now, from, req) }) {
		p.s.publish(msg.Reply, p.overloaded(req).AppendTo(nil))
	}
}

// signOfLife answers {"op":"serves"}.
func (p *pool) signOfLife(question []byte) []byte {
	var ask wire.Ask
	if json.Unmarshal(question, &ask) != nil || ask.Op != "serves" {
		p.s.metrics.malformed.Inc()
		return fmt.Appendf(nil, `{"error":%q}`, wire.CodeMalformed)
	}
	return fmt.Appendf(nil, `{"serves":%t}`, p.ready.Load() > 0)
}

func (p *pool) overloaded(req *wire.AssignRequest) *wire.AssignReply {
	return p.s.refusal(req.Request, req.Attempt, wire.CodeOverloaded, "The scheduler's own queue is full.")
}

// decide takes a question up. One that is asked again has one asker: the newest.
func (p *pool) decide(now time.Time, from *asker, req *wire.AssignRequest) {
	if from.ctx != nil && from.ctx.Err() != nil {
		return
	}
	from.asked = now
	key := askerKey{req.Request, req.Attempt}
	if before := p.askers[key]; before != nil {
		p.send(before, p.s.refusal(req.Request, req.Attempt, wire.CodeCancelled, "The same question was asked again."))
	}
	p.askers[key] = from
	p.core.Assign(now, req)
}

// forget drops a question whose asker has given it up, or what it was given.
func (p *pool) forget(now time.Time, key askerKey, from *asker) {
	if p.askers[key] == from {
		delete(p.askers, key)
		p.core.Forget(key.request, key.attempt)
		return
	}
	select {
	case reply := <-from.answer:
		p.takeBack(now, reply)
	default:
	}
}

// takeBack ends the lease of a placement that nobody will use, here and for the other replicas.
func (p *pool) takeBack(now time.Time, reply *wire.AssignReply) {
	for i := range reply.Placements {
		at := &reply.Placements[i]
		f := &wire.Finished{
			Worker: at.Worker, Instance: at.Instance, Request: reply.Request, Attempt: reply.Attempt, Lease: at.Lease,
			Predicted: at.Predicted, End: wire.End{Code: wire.CodeCancelled},
		}
		p.core.Finished(now, f)
		p.s.publishEvent(p.s.cfg.Subjects.Event(at.Region, p.name, wire.EventFinished, p.s.cfg.ID), &f.Stamp, f)
	}
}

func (p *pool) finished(doc []byte) {
	f, err := wire.ParseFinished(doc)
	if err != nil {
		p.s.metrics.malformed.Inc()
		return
	}
	p.offer(func(now time.Time) { p.core.Finished(now, f) }) // a lost one is made good by the adapter's report
}

func (p *pool) report(doc []byte) {
	r, err := wire.ParseLoad(doc)
	if err != nil {
		p.s.metrics.malformed.Inc()
		return
	}
	p.offer(func(now time.Time) { p.core.Report(now, r) })
}

func (p *pool) peer(doc []byte) {
	e, err := wire.ParseAssigned(doc)
	if err != nil {
		p.s.metrics.malformed.Inc()
		return
	}
	p.offer(func(now time.Time) { p.core.Peer(now, e) })
}

// tell passes on what the core has to say, and what that brings about.
func (p *pool) tell() {
	for outs := p.core.Outputs(); len(outs) > 0; outs = p.core.Outputs() {
		for _, out := range outs {
			switch {
			case out.Reply != nil:
				p.answer(out.Reply)
			case out.Event != nil:
				p.s.publishEvent(p.s.cfg.Subjects.Event(out.Event.Region, p.name, wire.EventAssigned, p.s.cfg.ID), &out.Event.Stamp, out.Event)
			case out.Belief != nil:
				p.gauge.believe(out.Belief)
			}
		}
	}
}

func (p *pool) answer(reply *wire.AssignReply) {
	key := askerKey{reply.Request, reply.Attempt}
	to, ok := p.askers[key]
	if !ok {
		return
	}
	if reply.Verdict == wire.Held {
		if to.answer == nil { // one in this process sees for itself that we live
			p.send(to, reply)
		}
		return
	}
	delete(p.askers, key)
	p.gauge.decided(reply, time.Since(to.asked))
	if to.ctx != nil && to.ctx.Err() != nil {
		p.takeBack(time.Now(), reply)
		return
	}
	p.send(to, reply)
}

func (p *pool) send(to *asker, reply *wire.AssignReply) {
	if to.answer != nil {
		to.answer <- reply // has room: it is sent once
		return
	}
	p.s.publish(to.subject, reply.AppendTo(nil))
}
