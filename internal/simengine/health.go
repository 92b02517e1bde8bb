package simengine

import (
	"context"
	"net/http"
	"time"
)

// Of a generating health check: how often it looks for a sign of life, and how often before it fails (seen on
// SGLang 0.5.23).
const (
	healthTick  = time.Second
	healthTicks = 20
)

func writeStatus(w http.ResponseWriter, ok bool) {
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	writePlain(w, status, "")
}

// health answers at once, unless it is to generate.
func (e *Engine) health(w http.ResponseWriter, r *http.Request) {
	if e.cfg.GeneratingHealth {
		e.healthGenerate(w, r)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	writeStatus(w, e.state == serving)
}

// ready says whether new requests are taken up: not while the engine is paused.
func (e *Engine) ready(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	writeStatus(w, e.state == serving && !e.unhealthy && e.pausedBy == "")
}

func (e *Engine) ping(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	writeStatus(w, e.state == serving && !e.unhealthy)
}

// healthGenerate generates one token and waits for a sign of life, its own or another request's.
func (e *Engine) healthGenerate(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	serves, since := e.state == serving, e.now()
	e.mu.Unlock()
	if !serves {
		writeStatus(w, false)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	probe := make(chan struct{})
	defer func() {
		cancel()
		<-probe
	}()
	go func() {
		defer close(probe)
		e.probe(ctx)
	}()
	tick := time.NewTicker(max(e.real(healthTick), time.Microsecond))
	defer tick.Stop()
	for range healthTicks {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		e.mu.Lock()
		alive := e.lastSign > since
		e.unhealthy = e.unhealthy && !alive
		e.mu.Unlock()
		if alive {
			writeStatus(w, true)
			return
		}
	}
	e.mu.Lock()
	e.unhealthy = true
	e.mu.Unlock()
	writeStatus(w, false)
}

// probe generates a token, until ctx ends.
func (e *Engine) probe(ctx context.Context) {
	s := newSampling()
	s.limit, s.temperature = new(1), number{}
	q := e.newRequest(ask{}, prompts{all: []prompt{{tokens: []int32{firstPiece}}}}, s)
	q.embeds = e.cfg.Embedding
	if e.start(ctx, q) != nil {
		return
	}
	for {
		if _, how := q.seqs[0].progress(); how != Unended {
			return
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			e.abort(q.seqs...)
			return
		}
	}
}
