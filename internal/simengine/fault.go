package simengine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Fault is a way for an engine to misbehave.
type Fault struct {
	// Mode is "" (none), "refuse" (connections are closed), "hang" (no answer until the fault changes),
	// "status" (inference is answered with Status), "die" (an inference connection breaks after After
	// tokens, without an end) or "slow" (steps take Factor times as long).
	Mode string `json:"mode"`
	// Status is 400 to 599; default 500.
	Status int `json:"status"`
	// After is how many tokens a request still gets before it dies.
	After int `json:"after"`
	// Count is how many requests are hit before the fault goes; 0: all. Not for "slow".
	Count int `json:"count"`
	// Factor is at least 1; default 10.
	Factor float64 `json:"factor"`
}

// SetFault makes the engine misbehave from now on, or behave again.
func (e *Engine) SetFault(f Fault) error {
	switch f.Mode {
	case "", "refuse", "hang", "die":
	case "status":
		if f.Status == 0 {
			f.Status = http.StatusInternalServerError
		}
		if f.Status < 400 || f.Status > 599 {
			return fmt.Errorf("simengine: fault status %d is not in 400 to 599", f.Status)
		}
	case "slow":
		if f.Factor == 0 {
			f.Factor = 10
		}
		if !(f.Factor >= 1) || f.Factor > 1e6 {
			return fmt.Errorf("simengine: fault factor %v is not in 1 to 1e6", f.Factor)
		}
	default:
		return fmt.Errorf("simengine: unknown fault mode %q", f.Mode)
	}
	if f.After < 0 || f.Count < 0 {
		return fmt.Errorf("simengine: fault after %d or count %d is negative", f.After, f.Count)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setFault(f)
	return nil
}

func (e *Engine) setFault(f Fault) {
	e.fault = f
	for _, k := range e.ranks {
		k.core.Slow(f.Factor)
	}
	e.dying.Store(f.Mode == "die")
	e.announce()
}

// Crash kills the engine: live connections break, the cache is gone, and connections are refused until
// Restart.
func (e *Engine) Crash() { e.crash(0) }

// poisonHang is how long an engine that a request killed still takes connections (seen on SGLang 0.5.23).
const poisonHang = 5 * time.Second

func (e *Engine) poison() { e.crash(poisonHang) }

func (e *Engine) crash(hang time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == over {
		return
	}
	e.hangs = time.Now().Add(hang)
	e.setState(crashed)
	e.drop()
}

// Restart brings a crashed or drained engine back, empty and without faults.
func (e *Engine) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != crashed && e.state != drained {
		return
	}
	e.drawn = drawSeed()
	e.drop()
	e.resume()
	e.unhealthy = false
	e.model, e.weights, e.adapters = e.cfg.Model, "default", newAdapters(e.cfg.Adapters)
	e.responses = newResponses(e.cfg.MaxResponses)
	e.setFault(Fault{})
	e.setState(serving)
}

// pass applies the state and the fault to a request that has just come in, and says whether it may go on.
func (e *Engine) pass(w http.ResponseWriter, r *http.Request) bool {
	inference := r.Method != http.MethodGet && (strings.HasPrefix(r.URL.Path, "/v1/") ||
		slices.Contains([]string{"/generate", "/encode", "/classify"}, r.URL.Path))
	for {
		e.mu.Lock()
		state, f, changed, hang := e.state, e.fault, e.changed, time.Until(e.hangs)
		switch {
		case state == crashed && hang > 0:
			e.mu.Unlock()
			await(r.Context(), changed, hang)
			if r.Context().Err() != nil {
				return false
			}
			continue
		case state == crashed || state == drained || state == over || f.Mode == "refuse":
			if state == serving {
				e.spend()
			}
			e.mu.Unlock()
			breakOff(w)
			return false
		case f.Mode == "hang":
			e.spend()
			e.mu.Unlock()
			e.hangOn(w, r)
			return false
		case f.Mode == "status" && inference:
			e.spend()
			e.mu.Unlock()
			e.discard(w, r)
			writeFlat(w, "injected fault", "InternalServerError", f.Status)
			return false
		}
		e.mu.Unlock()
		return true
	}
}

// spend counts a request that the fault hit.
func (e *Engine) spend() {
	if e.fault.Count == 0 {
		return
	}
	if e.fault.Count--; e.fault.Count == 0 {
		e.setFault(Fault{})
	}
}

// hangOn keeps a request without an answer until its client leaves or the engine ends, crashes or is
// given another fault; then it breaks off.
func (e *Engine) hangOn(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	changed := e.changed
	e.mu.Unlock()
	e.discard(w, r)
	await(r.Context(), changed, 0)
	breakOff(w)
}

// discard reads the body: before that, net/http neither notices that a client left nor keeps an answer from
// being lost to a reset.
func (e *Engine) discard(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, e.cfg.MaxBody)) // a broken body is as good as none
}

// await returns when ctx ends, changed closes, or the span, if positive, is over.
func await(ctx context.Context, changed <-chan struct{}, span time.Duration) {
	var timeout <-chan time.Time
	if span > 0 {
		timer := time.NewTimer(span)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timeout:
	}
}

// dies says by how many tokens a request with that many has outlived the fault that kills it; 0: it lives.
func (e *Engine) dies(tokens int) (over int) {
	if !e.dying.Load() {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fault.Mode != "die" || tokens <= e.fault.After {
		return 0
	}
	over = tokens - e.fault.After
	e.spend()
	return over
}

// breakOff closes the connection without completing the answer. Where it cannot be taken over (HTTP/2),
// the server is asked to.
func breakOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's documented way; it recovers this value silently
	}
	_ = conn.Close() // nothing was promised
}

func (e *Engine) postFault(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	var f Fault
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err == nil {
		switch f.Mode {
		case "crash":
			e.Crash()
		case "restart":
			e.Restart()
		default:
			err = e.SetFault(f)
		}
	}
	if err != nil {
		writeFlat(w, err.Error(), "BadRequestError", http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"mode": f.Mode})
}
