package simengine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// controlBody reads the JSON object of a control route into v and answers for itself when it cannot.
func (e *Engine) controlBody(w http.ResponseWriter, r *http.Request, v any) bool {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		writeFlat(w, failure{message: err.Error(), kind: "Bad Request", status: http.StatusBadRequest})
		return false
	}
	return true
}

func (e *Engine) abortRequest(w http.ResponseWriter, r *http.Request) {
	var body struct {
		RID      string `json:"rid"`
		AbortAll bool   `json:"abort_all"`
	}
	if !e.controlBody(w, r, &body) {
		return
	}
	if body.AbortAll {
		e.AbortAll()
	} else {
		e.Abort(body.RID)
	}
	w.WriteHeader(http.StatusOK)
}

// flushCache answers 200 when the cache is empty, 400 when requests are live and stay so for ?timeout=
// seconds.
func (e *Engine) flushCache(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if seconds, err := strconv.ParseFloat(r.FormValue("timeout"), 64); err == nil && seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(min(seconds, 3600)*float64(time.Second)))
		defer cancel()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	for !e.Flush() {
		if !e.awaitIdle(ctx) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "Flush cache failed: requests are running or waiting.\n")
			return
		}
	}
	_, _ = io.WriteString(w, "Cache flushed.\n")
}

// awaitIdle waits until nothing is live; false when ctx ends first.
func (e *Engine) awaitIdle(ctx context.Context) bool {
	e.mu.Lock()
	idle := e.whenIdle()
	e.mu.Unlock()
	select {
	case <-idle:
		return true
	default:
	}
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}

// pauseGeneration stops the engine between two steps: "abort" ends all requests, "retract" gives up their
// memory and computes them again later, "in_place" only freezes them.
func (e *Engine) pauseGeneration(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Mode string `json:"mode"`
	}
	if !e.controlBody(w, r, &body) {
		return
	}
	switch body.Mode {
	case "":
		body.Mode = "abort"
	case "abort", "retract", "in_place":
	default:
		writeFlat(w, explain(badf("unknown mode %q: abort, retract or in_place", body.Mode)))
		return
	}
	if body.Mode == "abort" {
		e.AbortAll()
	}
	e.mu.Lock()
	e.core.Pause(body.Mode == "retract")
	e.pausedBy = body.Mode
	e.announce()
	e.mu.Unlock()
	e.poke()
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "message": "Generation paused."})
}

func (e *Engine) continueGeneration(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	e.core.Resume()
	e.pausedBy = ""
	e.announce()
	e.mu.Unlock()
	e.poke()
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "message": "Generation continued."})
}

type weightsBody struct {
	ModelPath        string  `json:"model_path"`
	WeightVersion    *string `json:"weight_version"`
	AbortAllRequests bool    `json:"abort_all_requests"`
	FlushCache       *bool   `json:"flush_cache"` // default true
}

// updateWeights holds new requests back, waits for the running ones, and takes on the new path as the
// model's name. The label changes only when the body has one; the cache stays only when the body says so.
func (e *Engine) updateWeights(w http.ResponseWriter, r *http.Request) {
	var body weightsBody
	if !e.controlBody(w, r, &body) {
		return
	}
	err := e.UpdateWeights(r.Context(), body.ModelPath, body.WeightVersion, body.AbortAllRequests,
		body.FlushCache == nil || *body.FlushCache)
	status, message := http.StatusOK, "Succeeded to update model weights."
	if err != nil {
		status, message = http.StatusBadRequest, err.Error()
	}
	writeJSON(w, status, map[string]any{"success": err == nil, "message": message, "num_paused_requests": 0})
}

var errUpdating = errors.New("simengine: another update of the weights is under way")

// UpdateWeights pretends to load a checkpoint. It fails on an empty path, when another update is under
// way, or when ctx ends before the running requests have.
func (e *Engine) UpdateWeights(ctx context.Context, path string, version *string, abort, flush bool) error {
	if path == "" {
		return badf("model_path is empty")
	}
	e.mu.Lock()
	if e.hold != nil {
		e.mu.Unlock()
		return errUpdating
	}
	hold := make(chan struct{})
	e.hold = hold
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.hold = nil
		e.mu.Unlock()
		close(hold)
	}()
	if abort {
		e.AbortAll()
	}
	if !e.awaitIdle(ctx) {
		return ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if flush {
		e.core.Flush()
	}
	e.model = path
	if version != nil {
		e.weights = *version
	}
	e.log.Info("engine has new weights", "model", e.model, "version", e.weights, "flushed", flush)
	return nil
}
