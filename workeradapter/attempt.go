package workeradapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/radixbus/radixbus/internal/buffer"
	"github.com/radixbus/radixbus/internal/h1"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// Causes that end an attempt from outside; errCancelled and errDrained stand with those who raise them.
var (
	errGatewayGone = errors.New("the gateway is gone")
	errDeadline    = errors.New("the request's time is over")
	errAborted     = errors.New("aborted by the client")
)

// attempt is one dispatch from admission to its last frame.
type attempt struct {
	w       *worker
	d       *wire.Dispatch
	route   *surface.Route // nil: there is none
	reply   string         // where parts are acknowledged
	session string         // that it opens or closes, by its client's name
	rids    []string       // the engine's names for it, once it is called; a batch has one for each prompt
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stream  *sender

	admitted time.Time
	calledAt time.Time
	called   bool         // the engine has it; guarded by Adapter.mu
	loading  bool         // it waits for an adapter to be loaded; guarded by Adapter.mu
	held     uint64       // bytes of the adapter's room for bodies; guarded by Adapter.mu
	tries    int          // calls of the engine before this one
	begun    atomic.Bool  // the head of its answer has been sent
	tail     *h1.Response // the engine's answer, of which all but its end has been read

	mu     sync.Mutex
	body   []byte // of the request: what has come of it; nil once nobody will ask for it any more
	full   bool   // all has come
	arrive chan struct{}
	call   *call // under way at the engine; nil: none

	aborts chan struct{} // has a token when the client wants it aborted, until somebody heeds it
}

// newAttempt makes an attempt, whose context its maker ends.
func newAttempt(w *worker, d *wire.Dispatch, reply string) *attempt {
	t := &attempt{
		w: w, d: d, route: surface.Lookup(d.Method, d.Path), reply: reply, admitted: time.Now(), body: d.Body,
		arrive: make(chan struct{}, 1), aborts: make(chan struct{}, 1),
	}
	d.Body = nil
	t.full = len(t.body) == int(d.Size)
	t.ctx, t.cancel = context.WithCancelCause(w.a.runCtx)
	return t
}

// open makes the outgoing side.
func (t *attempt) open() { t.stream = t.w.out.open(t.d, t.cancel) }

// letGo gives the request's body back: its answer has begun, and no engine will be asked again. It may be called again.
func (t *attempt) letGo() {
	t.mu.Lock()
	t.body = nil
	t.mu.Unlock()
	a := t.w.a
	a.mu.Lock()
	held := t.held
	t.held = 0
	a.bodies -= int64(held)
	a.mu.Unlock()
	buffer.Gone(int(held))
}

// abortSoftly has the engine end the request in its own words.
func (t *attempt) abortSoftly() {
	poke(t.aborts)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.call != nil {
		t.call.heed()
	}
}

// gather begins to collect a body that comes in parts. The room for all of it, which has been taken from the budget, is made at
// once: it costs nothing before bytes are in it, and moving what has come would.
func (t *attempt) gather() {
	t.body = append(make([]byte, 0, t.d.Size), t.body...)
	t.acknowledge(uint64(len(t.body)), t.reply)
	go t.collect()
}

// add takes a part. One that does not follow what is there is dropped: the gateway's clock, or ours, runs out.
func (t *attempt) add(p *wire.Part, reply string) {
	t.mu.Lock()
	if !t.full && p.Offset == uint64(len(t.body)) && p.Offset+uint64(len(p.Body)) <= t.d.Size {
		t.body = append(t.body, p.Body...)
		t.full = len(t.body) == int(t.d.Size)
	}
	have := t.d.Size
	if !t.full {
		have = uint64(len(t.body))
	}
	t.mu.Unlock()
	t.acknowledge(have, reply)
	poke(t.arrive)
}

func (t *attempt) acknowledge(have uint64, reply string) {
	ack := wire.PartAck{Stream: t.d.Stream, Received: have}
	t.w.a.cfg.Bus.Bulk.Publish(reply, ack.AppendTo(nil)) //nolint:errcheck // the next one tells more
}

// collect waits for the whole body and runs the attempt.
func (t *attempt) collect() {
	still := time.NewTimer(t.w.a.cfg.PartTimeout)
	defer still.Stop()
	for {
		select {
		case <-t.arrive:
			t.mu.Lock()
			full := t.full
			t.mu.Unlock()
			if full {
				t.run()
				return
			}
			still.Reset(t.w.a.cfg.PartTimeout)
		case <-still.C:
			t.finish(wire.End{Code: wire.CodeLost, Message: "The request's body did not arrive."})
			return
		case <-t.aborts:
			t.cancel(errAborted)
		case <-t.ctx.Done():
			t.finish(wire.End{Code: t.causeCode()})
			return
		}
	}
}

// run gives the request to the engine and relays its answer.
func (t *attempt) run() {
	if t.d.RemainingMillis > 0 {
		late := time.AfterFunc(time.Duration(t.d.RemainingMillis)*time.Millisecond, func() { t.cancel(errDeadline) })
		defer late.Stop()
	}
	t.w.metrics.running.Inc()
	defer t.w.metrics.running.Dec()
	end := t.serve()
	t.noteSession(end.Code)
	t.finish(end)
}

// finish is the attempt's end: the gateway's last frame, the schedulers' event, the books.
func (t *attempt) finish(end wire.End) {
	defer t.w.a.attempts.Done()
	if t.tail != nil {
		defer t.tail.Settle(afterDone) // nobody waits for that
	}
	t.stream.end(&end)
	t.w.finished(t, &end)
	t.cancel(nil)
	t.w.done(t)

	m := t.w.metrics
	m.attempts.WithLabelValues(end.Code.String()).Inc()
	m.total.Observe(time.Since(t.admitted).Seconds())
	m.prompt.Add(float64(end.Prompt))
	m.output.Add(float64(end.Completion))
	if cached, told := end.Cached(); told {
		m.cached.Add(float64(cached))
	}
	switch end.Code {
	case wire.CodeEngineDown, wire.CodeEngineBroke, wire.CodeEngineFault:
		t.w.a.suspectEngine()
		t.w.a.cfg.Log.Warn("attempt failed", "worker", t.w.name, "request", t.d.Request.String(), "attempt", t.d.Attempt, "code", end.Code.String())
	}
}

// causeCode tells why the attempt's context ended.
func (t *attempt) causeCode() wire.Code {
	switch cause := context.Cause(t.ctx); {
	case errors.Is(cause, errDeadline):
		return wire.CodeDeadline
	case errors.Is(cause, errDrained):
		return wire.CodeDraining
	case errors.Is(cause, errEngineDown):
		return wire.CodeEngineDown
	case errors.Is(cause, errEngineBroke):
		return wire.CodeEngineBroke
	case errors.Is(cause, errAborted):
		return wire.CodeAborted
	}
	return wire.CodeCancelled
}

// How long the engine may take to end a stream that was aborted before its connection is closed: one that nobody reads
// any more, and one that its client waits for.
const (
	abortGrace = 500 * time.Millisecond
	softGrace  = 5 * time.Second
)

// serve gives the request to the engine. An engine that has lost an adapter which we have loaded is asked once more.
func (t *attempt) serve() wire.End {
	l, err := t.w.current(t.d.Instance)
	if err != nil {
		return wire.End{Code: wire.CodeStale}
	}
	name := ""
	if l.info.EngineKind == kindSGLang {
		name = lora(l.modelOf(t.d.Model))
	}
	for ; ; t.tries++ {
		var one *loading
		if name != "" {
			if one, err = t.w.a.loras.ensure(t, name); err != nil {
				return t.unserved(name, err)
			}
		}
		end, unloaded := t.ask(l, one != nil && t.tries == 0)
		if !unloaded {
			return end
		}
		t.w.a.cfg.Log.Info("LoRA was unloaded at the engine", "worker", t.w.name, "lora", name)
		t.w.a.loras.unloaded(name, one)
	}
}

// unserved is the end of an attempt that did not get the adapter it needs. An engine's words about that may hold paths, and an
// error of the network holds its address: both are in the log alone.
func (t *attempt) unserved(name string, err error) wire.End {
	if t.ctx.Err() == nil && errors.Is(err, errNotLoaded) {
		return wire.End{Code: wire.CodeEngineFault, Message: fmt.Sprintf("The engine could not load the adapter %q.", name)}
	}
	return t.broken(err) // by the adapter, it may be
}

// waits notes whether the attempt waits for an adapter: such are given back when the engine goes.
func (t *attempt) waits(loading bool) {
	t.w.a.mu.Lock()
	defer t.w.a.mu.Unlock()
	t.loading = loading
	if loading {
		t.called = false
	}
}

// ask calls the engine and relays its answer. With reload, an engine that does not have the request's adapter is reported as such
// instead of to the client.
func (t *attempt) ask(l *life, reload bool) (end wire.End, unloaded bool) {
	req, err := t.request(l)
	if err != nil {
		t.w.a.cfg.Log.Warn("dispatch not usable", "worker", t.w.name, "request", t.d.Request.String(), "error", err)
		return wire.End{Code: wire.CodeMalformed}, false
	}
	t.w.a.mu.Lock()
	t.called, t.calledAt = true, time.Now()
	t.w.a.mu.Unlock()
	c, ctx := t.begin()
	defer c.end()
	resp, err := t.w.a.engine.calls.Do(ctx, req)
	req.Body = nil
	if err != nil {
		return t.broken(err), false
	}
	r := &relay{t: t, status: resp.Status, contentType: resp.Header("Content-Type"), body: resp, info: l.info, reload: reload}
	end = r.run()
	if r.done { // what is left is the end of the body, and its client does not wait for that
		t.tail = resp
	} else {
		resp.Close()
	}
	if end.WeightVersion != "" && end.WeightVersion != l.info.WeightVersion {
		t.w.a.engineChanged()
	}
	return end, r.unloaded
}

// A call is one request at the engine, from the moment it is sent until its answer is over. When it is to end before that, the
// engine is told first, and its connection is closed afterwards.
type call struct {
	t        *attempt
	over     chan struct{}
	hangUp   context.CancelFunc
	calm     func() bool // stops watching the attempt
	watchers sync.WaitGroup
}

// begin makes a call, and the context that ends with it.
func (t *attempt) begin() (*call, context.Context) {
	ctx, hangUp := context.WithCancel(context.Background())
	c := &call{t: t, over: make(chan struct{}), hangUp: hangUp}
	c.watchers.Add(1)
	c.calm = context.AfterFunc(t.ctx, func() { defer c.watchers.Done(); c.breakOff() })
	t.mu.Lock()
	t.call = c
	c.heed()
	t.mu.Unlock()
	return c, ctx
}

// end waits for those who were ending the call. What is left of its answer can be read still.
func (c *call) end() {
	c.t.mu.Lock()
	c.t.call = nil
	c.t.mu.Unlock()
	close(c.over)
	if c.calm() {
		c.watchers.Done()
	}
	c.watchers.Wait()
}

// heed ends the call softly when its client wants that. The attempt's lock is held.
func (c *call) heed() {
	select {
	case <-c.t.aborts:
		c.watchers.Go(c.endSoftly)
	default:
	}
}

// endSoftly has the engine end its answer.
func (c *call) endSoftly() {
	c.t.abort()
	if len(c.t.rids) == 0 || !wait(c.over, softGrace) {
		c.t.cancel(errAborted)
		c.hangUp()
	}
}

// breakOff ends a call whose attempt is over.
func (c *call) breakOff() {
	defer c.hangUp()
	if cause := context.Cause(c.t.ctx); errors.Is(cause, errEngineDown) || errors.Is(cause, errEngineBroke) {
		return // it does not answer
	}
	c.t.abort()
	if len(c.t.rids) > 0 {
		wait(c.over, abortGrace)
	}
}

// wait tells whether the channel was closed in time.
func wait(over <-chan struct{}, bound time.Duration) bool {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-over:
		return true
	case <-timer.C:
		return false
	}
}

// afterDone is how long an engine may take to close a stream whose [DONE] it has sent.
const afterDone = 20 * time.Millisecond

// broken names the failure of a call that had no answer. A request that was never sent is not to blame for an engine's end.
func (t *attempt) broken(err error) wire.End {
	unsent := unseen(err)
	switch {
	case t.ctx.Err() != nil && t.called && unsent && errors.Is(context.Cause(t.ctx), errEngineBroke):
		return wire.End{Code: wire.CodeEngineDown}
	case t.ctx.Err() != nil:
		return wire.End{Code: t.causeCode()}
	case unsent: // refused, or not reachable: it has not seen the request
		t.w.a.lost.CompareAndSwap(false, refused(err))
		return wire.End{Code: wire.CodeEngineDown}
	}
	return wire.End{Code: wire.CodeEngineBroke}
}

// abort tells the engine to stop, so that it stops now: a closed connection alone is noticed late.
func (t *attempt) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, rid := range t.rids {
		t.w.metrics.aborts.Inc()
		if err := t.w.a.engine.abort(ctx, rid); err != nil {
			t.w.a.cfg.Log.Debug("abort", "worker", t.w.name, "request", t.d.Request.String(), "error", err)
			return
		}
	}
}
