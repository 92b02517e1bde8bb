package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// errDeadline is the cause that ends a request whose time is over.
var errDeadline = errors.New("the request's time is over")

// serve answers one request that an engine has to do with.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, who who, route *surface.Route) {
	c := &call{who: who, route: route, method: r.Method, path: route.Called(), arrived: time.Now()}
	if c.method == http.MethodHead { // engines know no such method; the HTTP server leaves the answer's body out
		c.method = http.MethodGet
	}
	c.live.caller = g.callerOf(r)
	g.metrics.inFlight.Inc()
	a := &answer{g: g, w: w, c: c, rc: http.NewResponseController(w), line: lineOf(r)}
	defer func() {
		a.rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // the connection's next answer has its own, or none
		g.metrics.inFlight.Dec()
		g.metrics.total.Observe(time.Since(c.arrived).Seconds())
		g.metrics.requests.WithLabelValues(route.Path, strconv.Itoa(a.status)).Inc()
	}()
	limit, err := g.deadline(r)
	if err != nil {
		a.fail(asFailure(err))
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), limit, errDeadline)
	defer cancel()
	g.live.add(c) // before its body has come: it can be aborted by then
	defer g.live.remove(c)
	defer c.letGo()
	if err := g.read(ctx, a, r); err != nil {
		a.fail(asFailure(err))
		return
	}
	g.answer(ctx, a)
}

// answer gives the request to one worker after the other until one has answered it, or it is the client's to know.
func (g *Gateway) answer(ctx context.Context, a *answer) {
	c := a.c
	var last ending
	for c.assign.Attempt = 1; ; c.assign.Attempt++ {
		p, err := g.place(ctx, c)
		if err != nil {
			a.finish(g.unplaced(ctx, c, err, last))
			return
		}
		last = g.try(ctx, a, p)
		for last.absent && g.bus.Settling() && ctx.Err() == nil {
			time.Sleep(settlePause) // the adapter has lost the same bus: it may be back in a moment
			last = g.try(ctx, a, p)
		}
		if !g.again(ctx, a, p, &last) {
			a.finish(last)
			return
		}
	}
}

// again tells whether there is to be another attempt after one that ended so, which it notes.
func (g *Gateway) again(ctx context.Context, a *answer, p *wire.Placement, last *ending) bool {
	c := a.c
	if last.absent {
		g.roster.Absent(p.Worker, p.Instance)
	}
	g.metrics.attempts.WithLabelValues(last.code.String()).Inc()
	if ctx.Err() != nil && !last.complete() { // whatever it was, this is why there is no other attempt
		*last = ending{code: causeCode(ctx)}
	}
	aborted := c.isAborted()
	if aborted && !last.complete() && ctx.Err() == nil {
		*last = ending{code: wire.CodeAborted}
	}
	if a.begun || !last.code.Retryable() || ctx.Err() != nil || aborted {
		return false
	}
	attempt := c.assign.Attempt
	g.cfg.Log.Debug("attempt failed", "request", c.id.String(), "attempt", attempt, "worker", p.Worker, "code", last.code.String(), "detail", last.detail)
	c.assign.History = append(c.assign.History, wire.Outcome{Attempt: attempt, Worker: p.Worker, Instance: p.Instance, Code: last.code})
	return int(attempt) < g.cfg.MaxAttempts && !g.poison(c.assign.History)
}

// poison tells whether so many engines have failed on a request that it must be what they fail on: given on and on, it
// would take down worker after worker. Ranks of one engine fail together; a worker that had it twice has restarted.
func (g *Gateway) poison(history []wire.Outcome) bool {
	const enough = 2
	failed, engines := 0, make(map[string]string) // the worker that is counted, by engine
	for _, o := range history {
		if o.Code != wire.CodeEngineBroke && o.Code != wire.CodeEngineFault {
			continue
		}
		engine := o.Worker
		workers := g.roster.View().Workers
		if i := slices.IndexFunc(workers, func(w *roster.Worker) bool { return w.Info.Worker == o.Worker }); i >= 0 {
			engine = workers[i].Info.Engine
		}
		if worker, known := engines[engine]; !known || worker == o.Worker {
			engines[engine] = o.Worker
			failed++
		}
	}
	return failed >= enough
}

// settlePause is how long a worker is waited for that has not found the bus again, until it is asked again.
const settlePause = 50 * time.Millisecond

// An ending is how an attempt, or a request, ended.
type ending struct {
	code       wire.Code
	detail     string // the engine's own words, bounded
	retryAfter time.Duration
	absent     bool // nobody listened for the worker
}

// complete tells whether the client gets what the engine answered, all of it.
func (e ending) complete() bool { return e.code == wire.CodeOK || e.code == wire.CodeEngineRefused }

// A refusal is a scheduler's no.
type refusal struct{ reply *wire.AssignReply }

func (e *refusal) Error() string { return "refused: " + e.reply.Code.String() }

// schedulerPatience is how long a request waits for a scheduler to come back.
const schedulerPatience = 5 * time.Second

// place asks for a worker. A scheduler that is not there is asked for again for a while: another one may be. The time that
// the bus is away is not the schedulers'.
func (g *Gateway) place(ctx context.Context, c *call) (*wire.Placement, error) {
	asked := time.Now()
	defer func() { g.metrics.assign.Observe(time.Since(asked).Seconds()) }()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	g.live.attempt(c, c.assign.Attempt)
	if c.live.waiting(abort) {
		return nil, errAborted
	}
	defer c.live.waiting(nil)
	began := asked
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		if waited, err := g.awaitBus(ctx); err != nil {
			return nil, err
		} else if waited {
			began, wait = time.Now(), 20*time.Millisecond
		}
		if end, ok := ctx.Deadline(); ok {
			c.assign.RemainingMillis = uint32(max(1, min(time.Until(end).Milliseconds(), 1<<32-1)))
		}
		req := c.assign // a scheduler in this process keeps what it is given
		reply, err := g.scheduler.Assign(ctx, &req)
		switch {
		case err != nil:
		case reply.Verdict == wire.Placed && len(reply.Placements) > 0:
			return &reply.Placements[0], nil
		case reply.Code == wire.CodeNoSession && g.findSession(ctx, &c.assign):
			continue
		case reply.Code == wire.CodeNoScheduler: // this one is leaving
			err = &AssignError{reply.Code}
		default:
			return nil, &refusal{reply}
		}
		if _, absent := errors.AsType[*AssignError](err); !absent || g.bus.Connected() && time.Since(began)+wait > schedulerPatience {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// awaitBus waits for a bus that is away, within its bound, and tells whether it had to.
func (g *Gateway) awaitBus(ctx context.Context) (waited bool, err error) {
	const pause = 20 * time.Millisecond
	for began := time.Now(); !g.bus.Connected(); waited = true {
		if time.Since(began) > g.cfg.BusPatience {
			return true, &AssignError{wire.CodeNoBus}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return true, context.Cause(ctx)
		}
	}
	return waited, nil
}

// unplaced is how a request ends for which there was no worker. After a failed attempt the failure says more than
// the fact that nobody is left.
func (g *Gateway) unplaced(ctx context.Context, c *call, err error, last ending) ending {
	switch {
	case ctx.Err() != nil:
		return ending{code: causeCode(ctx)}
	case errors.Is(err, errAborted):
		return ending{code: wire.CodeAborted}
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		if r.reply.Code == wire.CodeNoWorker && last.code != wire.CodeOK {
			return last
		}
		if r.reply.Code == wire.CodeNoWorker && c.assign.Engine != "" {
			return ending{code: r.reply.Code, detail: "It goes on with what one engine keeps, and that one takes nothing now."}
		}
		// A verdict without a reason is a queue that is not there yet.
		return ending{code: cmp.Or(r.reply.Code, wire.CodeOverloaded), detail: r.reply.Message, retryAfter: time.Duration(r.reply.RetryAfterMillis) * time.Millisecond}
	}
	if e, ok := errors.AsType[*AssignError](err); ok {
		return ending{code: e.Code}
	}
	g.cfg.Log.Error("no placement", "request", c.id.String(), "error", err)
	return ending{code: wire.CodeInternal}
}

// causeCode tells why a request's context ended.
func causeCode(ctx context.Context) wire.Code {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errDeadline):
		return wire.CodeDeadline
	case errors.Is(cause, errShutdown):
		return wire.CodeDraining
	}
	return wire.CodeCancelled
}
