package workeradapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/radixbus/radixbus/internal/jsonscan"
	"github.com/radixbus/radixbus/internal/wire"
)

// Causes that end an attempt from outside; errCancelled and errDrained stand with those who raise them.
var (
	errGatewayGone = errors.New("the gateway is gone")
	errDeadline    = errors.New("the request's time is over")
)

// paths are the engine's routes that a dispatch may name. No control route is among them.
var paths = map[string]bool{"/v1/chat/completions": true, "/v1/completions": true, "/generate": true}

// attempt is one dispatch from admission to its last frame.
type attempt struct {
	a      *Adapter
	d      *wire.Dispatch
	reply  string   // where parts are acknowledged
	rids   []string // the engine's names for it, once it is called; a batch has one for each prompt
	ctx    context.Context
	cancel context.CancelCauseFunc
	stream *sender

	admitted time.Time
	calledAt time.Time
	called   bool        // the engine has it; guarded by Adapter.mu
	begun    atomic.Bool // the head of its answer has been sent

	mu     sync.Mutex
	body   []byte // what has come of it in parts
	arrive chan struct{}
}

// newAttempt makes an attempt, whose context its maker ends.
func newAttempt(a *Adapter, d *wire.Dispatch, reply string) *attempt {
	t := &attempt{a: a, d: d, reply: reply, admitted: time.Now(), arrive: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancelCause(a.runCtx)
	return t
}

// open makes the outgoing side.
func (t *attempt) open() { t.stream = t.a.out.open(t.d, t.cancel) }

// gather begins to collect a body that comes in parts.
func (t *attempt) gather() {
	t.body = append(make([]byte, 0, min(t.d.Size, 8<<20)), t.d.Body...)
	t.d.Body = nil
	t.acknowledge(uint64(len(t.body)), t.reply)
	go t.collect()
}

// add takes a part. One that does not follow what is there is dropped: the gateway's clock, or ours, runs out.
func (t *attempt) add(p *wire.Part, reply string) {
	t.mu.Lock()
	if p.Offset == uint64(len(t.body)) && p.Offset+uint64(len(p.Body)) <= t.d.Size {
		t.body = append(t.body, p.Body...)
	}
	have := uint64(len(t.body))
	t.mu.Unlock()
	t.acknowledge(have, reply)
	select {
	case t.arrive <- struct{}{}:
	default:
	}
}

func (t *attempt) acknowledge(have uint64, reply string) {
	ack := wire.PartAck{Stream: t.d.Stream, Received: have}
	t.a.cfg.Bus.Bulk.Publish(reply, ack.AppendTo(nil)) //nolint:errcheck // the next one tells more
}

// collect waits for the whole body and runs the attempt.
func (t *attempt) collect() {
	still := time.NewTimer(t.a.cfg.PartTimeout)
	defer still.Stop()
	for {
		select {
		case <-t.arrive:
			t.mu.Lock()
			body := t.body
			t.mu.Unlock()
			if uint64(len(body)) == t.d.Size {
				t.run(body)
				return
			}
			still.Reset(t.a.cfg.PartTimeout)
		case <-still.C:
			t.finish(wire.End{Code: wire.CodeLost, Message: "The request's body did not arrive."})
			return
		case <-t.ctx.Done():
			t.finish(wire.End{Code: t.causeCode()})
			return
		}
	}
}

// run gives the request to the engine and relays its answer.
func (t *attempt) run(body []byte) {
	if t.d.RemainingMillis > 0 {
		ctx, cancel := context.WithTimeoutCause(t.ctx, time.Duration(t.d.RemainingMillis)*time.Millisecond, errDeadline)
		defer cancel()
		t.ctx = ctx
	}
	t.a.metrics.running.Inc()
	defer t.a.metrics.running.Dec()
	t.finish(t.serve(body))
}

// finish is the attempt's end: the gateway's last frame, the schedulers' event, the books.
func (t *attempt) finish(end wire.End) {
	t.stream.end(&end)
	t.a.finished(t, &end)
	t.cancel(nil)
	t.a.done(t)

	m := t.a.metrics
	m.attempts.WithLabelValues(end.Code.String()).Inc()
	m.total.Observe(time.Since(t.admitted).Seconds())
	m.prompt.Add(float64(end.Prompt))
	m.output.Add(float64(end.Completion))
	if cached, told := end.Cached(); told {
		m.cached.Add(float64(cached))
	}
	switch end.Code {
	case wire.CodeEngineDown, wire.CodeEngineBroke, wire.CodeEngineFault:
		t.a.suspectEngine()
		t.a.cfg.Log.Warn("attempt failed", "worker", t.a.cfg.Name, "request", t.d.Request.String(), "attempt", t.d.Attempt, "code", end.Code.String())
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
	}
	return wire.CodeCancelled
}

// abortGrace is how long the engine may take to end a stream that was aborted, before its connection is closed.
const abortGrace = 500 * time.Millisecond

// serve calls the engine. An attempt that is cancelled is aborted first; its connection is closed afterwards.
func (t *attempt) serve(body []byte) wire.End {
	info, err := t.a.current(t.d.Instance)
	if err != nil {
		return wire.End{Code: wire.CodeStale}
	}
	req, err := t.request(body, info.info)
	if err != nil {
		t.a.cfg.Log.Warn("dispatch not usable", "worker", t.a.cfg.Name, "request", t.d.Request.String(), "error", err)
		return wire.End{Code: wire.CodeMalformed}
	}
	call, hangUp := context.WithCancel(context.Background())
	over := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-over:
		case <-t.ctx.Done():
			if len(t.rids) == 0 || errors.Is(context.Cause(t.ctx), errEngineDown) {
				break // it knows no abort, or does not answer
			}
			t.abort()
			select {
			case <-over:
			case <-time.After(abortGrace):
			}
		}
		hangUp()
	})
	defer func() { close(over); watcher.Wait() }()

	t.a.mu.Lock()
	t.called, t.calledAt = true, time.Now()
	t.a.mu.Unlock()
	resp, err := t.a.engine.calls.Do(req.WithContext(call))
	if err != nil {
		return t.broken(err)
	}
	defer resp.Body.Close()
	r := &relay{t: t, resp: resp, info: info.info}
	end := r.run()
	if r.done { // what is left is the end of the body: a connection of which it was read can be used again
		bound := time.AfterFunc(afterDone, hangUp)
		defer bound.Stop()
		io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) //nolint:errcheck // see above
	}
	return end
}

// afterDone is how long an engine may take to close a stream whose [DONE] it has sent.
const afterDone = 20 * time.Millisecond

// broken names the failure of a call that had no answer.
func (t *attempt) broken(err error) wire.End {
	switch {
	case t.ctx.Err() != nil:
		return wire.End{Code: t.causeCode()}
	case dialing(err): // refused, or not reachable: it has not seen the request
		t.a.lost.CompareAndSwap(false, refused(err))
		return wire.End{Code: wire.CodeEngineDown}
	}
	return wire.End{Code: wire.CodeEngineBroke}
}

// abort tells the engine to stop, so that it stops now: a closed connection alone is noticed late.
func (t *attempt) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, rid := range t.rids {
		t.a.metrics.aborts.Inc()
		if err := t.a.engine.abort(ctx, rid); err != nil {
			t.a.cfg.Log.Debug("abort", "worker", t.a.cfg.Name, "request", t.d.Request.String(), "error", err)
			return
		}
	}
}

// request makes the engine's request: the client's body with our edits, all other bytes as they came.
func (t *attempt) request(body []byte, info *wire.WorkerInfo) (*http.Request, error) {
	if !paths[t.d.Path] || t.d.Method != http.MethodPost {
		return nil, errors.New("no inference route: " + t.d.Method + " " + t.d.Path)
	}
	points := jsonscan.Points{Open: int(t.d.Open), Empty: t.d.Empty}
	for _, p := range t.d.Points {
		points.Members = append(points.Members, jsonscan.Member{Key: p.Key, KeyStart: int(p.KeyStart), Start: int(p.Start), End: int(p.End)})
	}
	sets, err := t.edits(body, points, info)
	if err != nil {
		return nil, err
	}
	edited, err := points.Apply(body, sets)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(t.d.Method, t.a.engine.base+t.d.Path, bytes.NewReader(edited))
	if err != nil {
		return nil, err
	}
	for _, h := range t.d.Headers {
		if forwarded[h.Name] && sendable(h.Value) {
			req.Header.Set(h.Name, h.Value)
		}
	}
	if req.Header.Get("Content-Type") == "" || !strings.Contains(req.Header.Get("Content-Type"), "json") {
		req.Header.Set("Content-Type", "application/json") // engines insist, and it is what the gateway has parsed
	}
	t.a.engine.authorize(req)
	return req, nil
}

// forwarded are the headers of a request that its engine sees. Credentials are not among them.
var forwarded = map[string]bool{"Accept": true, "Content-Type": true, "Traceparent": true, "Tracestate": true, "X-Request-Id": true}

// sendable tells whether a header value can be sent: the HTTP client fails the whole request over one that cannot.
func sendable(value string) bool {
	return !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// edits are what we need of the engine that the client did not ask for: a name to abort by, and to be told how many
// tokens were cached.
func (t *attempt) edits(body []byte, points jsonscan.Points, info *wire.WorkerInfo) ([]jsonscan.Set, error) {
	var sets []jsonscan.Set
	for _, e := range t.d.Edits {
		sets = append(sets, jsonscan.Set{Key: e.Key, Value: e.Value})
	}
	if info.EngineKind == "sglang" {
		rid, err := t.mint()
		if err != nil {
			return nil, err
		}
		sets = append(sets, jsonscan.Set{Key: "rid", Value: rid})
	}
	if t.d.Path == "/generate" { // tells everything by itself
		return sets, nil
	}
	if t.hidesDetails(info) {
		sets = append(sets, jsonscan.Set{Key: "return_cached_tokens_details", Value: []byte("true")})
	}
	if t.hidesUsage() {
		sets = append(sets, jsonscan.Set{Key: "stream_options", Value: withUsage(body, points)})
	}
	return sets, nil
}

// mint makes the names by which the engine can be told to abort, and returns them as the body has them. The prompts of a
// list, be it a list of one, have a name each. Of several completions of a prompt each gets a name that only the engine
// knows: closing the connection is all that ends them.
func (t *attempt) mint() (rid []byte, err error) {
	names := make([]string, min(max(t.d.Prompts, 1), 1<<16))
	for i := range names {
		names[i] = wire.RidOf(t.d.Request, t.d.Attempt, i)
	}
	if t.d.N <= 1 {
		t.rids = names
	}
	if t.d.Flags&wire.FlagBatch != 0 {
		return json.Marshal(names)
	}
	return json.Marshal(names[0])
}

// hidesUsage: the stream's usage is asked for by us alone, so the client does not see it.
func (t *attempt) hidesUsage() bool {
	return t.d.Path != "/generate" && t.d.Flags&wire.FlagStream != 0 && t.d.Flags&wire.FlagUsage == 0
}

// hidesDetails: the engine tells cached tokens only when asked to, and the client did not ask.
func (t *attempt) hidesDetails(info *wire.WorkerInfo) bool {
	return t.d.Path != "/generate" && info.EngineKind == "sglang" && !info.CacheReport && t.d.Flags&wire.FlagDetails == 0
}

// withUsage is the client's stream_options with usage asked for. Options that name include_usage twice, or cannot be
// read, are replaced.
func withUsage(body []byte, points jsonscan.Points) []byte {
	ask := []byte(`{"include_usage":true}`)
	for _, m := range points.Members {
		if m.Key != "stream_options" || m.Start < 0 || m.End > len(body) || m.Start >= m.End || body[m.Start] != '{' {
			continue // absent, or null
		}
		value := body[m.Start:m.End]
		var doc jsonscan.Doc
		err := jsonscan.Scan(&doc, value, func(key []byte) (string, jsonscan.Mode) {
			if string(key) == "include_usage" {
				return "include_usage", jsonscan.Note
			}
			return "", jsonscan.Skip
		})
		if err != nil {
			return ask
		}
		merged, err := doc.Points(nil).Apply(value, []jsonscan.Set{{Key: "include_usage", Value: []byte("true")}})
		if err != nil {
			return ask
		}
		return merged
	}
	return ask
}
