package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/tick"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

// A pool is one core.Pool behind a lock: messages in, replies and events out. A decision takes microseconds, so whoever brings
// a question decides it: handing it to another goroutine would cost more than the decision.
type pool struct {
	s      *Scheduler
	name   string
	ready  atomic.Int64 // workers that take requests
	asking atomic.Int64 // questions of this process on their way through the lock
	gauge  *poolMetrics

	mu     sync.Mutex
	core   *core.Pool
	askers map[askerKey]*asker
	over   bool // the scheduler has stopped: nothing is decided any more
}

// askerKey names a question as its answer does.
type askerKey struct {
	request wire.RequestID
	attempt uint32
}

// asker is where answers to a question go: to a subject, or to who waits in this process. The pool's lock guards it.
type asker struct {
	subject string // of a gateway on the bus
	asked   time.Time

	ctx   context.Context // of a gateway in this process; ends when nobody waits
	reply *wire.AssignReply
	wake  chan struct{} // closed when the reply is there; nil while nobody had to wait
}

func newPool(s *Scheduler, name string) (*pool, error) {
	c, err := core.New(core.Config{
		Scheduler: s.cfg.ID, Pool: name, Policy: s.cfg.Policy, Seed: seedOf(s.cfg),
		LeaseFor: s.cfg.LeaseFor, HoldFor: s.cfg.HoldFor, Cost: s.cfg.Cost,
	})
	if err != nil {
		return nil, err
	}
	return &pool{s: s, name: name, core: c, gauge: s.metrics.pool(name), askers: make(map[askerKey]*asker)}, nil
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

// run hears questions and lets time pass until the scheduler stops.
func (p *pool) run() {
	conn, subjects := p.s.cfg.Bus.Control, p.s.cfg.Subjects
	var subs []*nats.Subscription
	hear := func(sub *nats.Subscription, err error) {
		if err != nil {
			p.s.cfg.Log.Error("pool hears no questions", "pool", p.name, "error", err)
			return
		}
		subs = append(subs, sub)
	}
	hear(conn.Subscribe(subjects.SchedAt(p.name, p.s.cfg.ID), p.question))
	settled := p.s.roster.Settled() // another replica knows more until then, and "no worker" would be a guess
	const every = 200 * time.Millisecond
	wait := time.NewTimer(tick.Until(every))
	defer wait.Stop()
	for {
		select {
		case <-settled:
			settled = nil
			hear(conn.QueueSubscribe(subjects.Sched(p.name), wire.QueueGroup, p.question))
		case <-wait.C:
			wait.Reset(tick.Until(every))
			p.do(func(now time.Time) {
				p.core.Tick(now)
				p.gauge.measure(p.core)
			})
		case <-p.s.ctx.Done():
			drain(subs)
			p.stop()
			return
		}
	}
}

// drainBound is how long the questions on their way may take to arrive once we stop. They are in this process already.
const drainBound = time.Second

// drain lets the questions be answered that were sent to us before the bus knew that we stop.
func drain(subs []*nats.Subscription) {
	var hearing sync.WaitGroup
	for _, sub := range subs {
		hearing.Add(1)
		heard := sync.OnceFunc(hearing.Done)
		sub.SetClosedHandler(func(string) { heard() })
		if sub.Drain() != nil { // the connection is gone, and all questions with it
			heard()
		}
	}
	done := make(chan struct{})
	go func() { hearing.Wait(); close(done) }()
	bound := time.NewTimer(drainBound)
	defer bound.Stop()
	select {
	case <-done:
	case <-bound.C: // the waiter ends with the connection, which closes its subscriptions
	}
}

// stop sends whoever still waits to another replica.
func (p *pool) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for key, to := range p.askers {
		p.send(to, p.stopped(key))
	}
	clear(p.askers)
}

func (p *pool) stopped(key askerKey) *wire.AssignReply {
	return p.s.refusal(key.request, key.attempt, wire.CodeNoScheduler, "")
}

// do changes the state, and passes on what that brings about. It tells whether it was done: once stopped, nothing is. The time is
// taken under the lock: it never runs backwards.
func (p *pool) do(change func(now time.Time)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	change(time.Now())
	p.tell()
	return true
}

// ask is a question from this process. Most are answered before it returns to wait.
func (p *pool) ask(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	key, from := askerKey{req.Request, req.Attempt}, &asker{ctx: ctx}
	defer p.asking.Add(-1)
	if p.asking.Add(1) > int64(p.s.cfg.QueueLen) {
		return p.overloaded(req), nil
	}
	done := p.do(func(now time.Time) {
		p.decide(now, from, req)
		if p.tell(); from.reply == nil {
			from.wake = make(chan struct{})
		}
	})
	switch {
	case !done:
		return p.stopped(key), nil
	case from.wake == nil:
		return from.reply, nil
	}
	select {
	case <-from.wake:
		return from.reply, nil
	case <-ctx.Done():
		p.do(func(now time.Time) { p.forget(now, key, from) })
		return nil, context.Cause(ctx)
	}
}

// question runs on the client's goroutine. One that finds too many behind it is refused, so that they are not answered late.
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
	if pending, _, err := msg.Sub.Pending(); err == nil && pending-1 > p.s.cfg.QueueLen { // of which this is one
		p.s.publish(msg.Reply, p.overloaded(req).AppendTo(nil))
		return
	}
	p.do(func(now time.Time) { p.decide(now, &asker{subject: msg.Reply}, req) })
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
	p.s.metrics.overflow.Inc()
	return p.s.refusal(req.Request, req.Attempt, wire.CodeOverloaded, "The scheduler's own queue is full.")
}

// decide takes a question up. One that is asked again has one asker: the newest.
func (p *pool) decide(now time.Time, from *asker, req *wire.AssignRequest) {
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
	} else if from.reply != nil {
		p.takeBack(now, from.reply)
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
	p.do(func(now time.Time) { p.core.Finished(now, f) })
}

func (p *pool) report(doc []byte) {
	r, err := wire.ParseLoad(doc)
	if err != nil {
		p.s.metrics.malformed.Inc()
		return
	}
	p.do(func(now time.Time) { p.core.Report(now, r) })
}

func (p *pool) peer(doc []byte) {
	e, err := wire.ParseAssigned(doc)
	if err != nil {
		p.s.metrics.malformed.Inc()
		return
	}
	p.do(func(now time.Time) { p.core.Peer(now, e) })
}

// join takes a worker in, or what has changed about it.
func (p *pool) join(info *wire.WorkerInfo, state wire.State) {
	p.do(func(now time.Time) {
		p.core.Join(now, info, state)
		p.ready.Store(int64(p.core.Ready()))
	})
}

func (p *pool) leave(worker string, n wire.Instance) {
	p.do(func(now time.Time) {
		p.core.Leave(now, worker, n)
		p.ready.Store(int64(p.core.Ready()))
	})
}

// tell passes on what the core has to say, and what that brings about. The lock is held: what is said keeps the order in which
// it was decided.
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
		if to.ctx == nil { // one in this process sees for itself that we live
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
	if to.ctx == nil {
		p.s.publish(to.subject, reply.AppendTo(nil))
		return
	}
	to.reply = reply
	if to.wake != nil {
		close(to.wake)
	}
}
