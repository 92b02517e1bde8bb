package simengine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// writePlain answers a text without saying that it is one.
func writePlain(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = nil
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that is gone reads nothing
}

func (e *Engine) abortRequest(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	rid, all := "", false
	may(f, "rid", asText, &rid)
	may(f, "abort_all", asBool, &all)
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	if all {
		e.AbortAll()
	} else {
		e.Abort(rid)
	}
	writePlain(w, http.StatusOK, "")
}

// flushCache answers 200 when the cache is empty, 400 when requests run and go on doing so for ?timeout=
// seconds.
func (e *Engine) flushCache(w http.ResponseWriter, r *http.Request) {
	seconds := 0.0
	if text := r.URL.Query().Get("timeout"); text != "" {
		var err error
		if seconds, err = strconv.ParseFloat(text, 64); err != nil {
			refuseFlat(w, r, invalid("float_parsing", "Input should be a valid number, unable to parse string as a number",
				appendJSON(nil, text), "'query'", "'timeout'"))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(min(max(seconds, 0), 3600)*float64(time.Second)))
	defer cancel()
	for !e.Flush() {
		if !e.awaitIdle(ctx) {
			writePlain(w, http.StatusBadRequest, "Flush cache failed.\n")
			return
		}
	}
	writePlain(w, http.StatusOK, "Cache flushed.\nPlease check backend logs for more details. "+
		"(When there are running or waiting requests, the operation will not be performed.)\n")
}

// awaitIdle waits until no request is past the gate; false when ctx ends first.
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

// pauseGeneration holds new requests back and stops the running ones between two steps: "abort" ends them,
// "retract" gives up their memory and computes them again later, "in_place" only freezes them.
func (e *Engine) pauseGeneration(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	mode := "abort"
	may(f, "mode", asChoice("abort", "retract", "in_place"), &mode)
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	e.mu.Lock()
	e.pausedBy = mode
	for _, k := range e.ranks {
		if mode != "abort" {
			k.core.Pause(mode == "retract")
		}
	}
	e.announce()
	e.mu.Unlock()
	if mode == "abort" {
		e.AbortAll()
	}
	e.poke()
	writeJSON(w, http.StatusOK, map[string]string{"message": "Generation paused successfully.", "status": "ok"})
}

func (e *Engine) continueGeneration(w http.ResponseWriter, r *http.Request) {
	if _, ok := e.controlBody(w, r); !ok {
		return
	}
	e.mu.Lock()
	e.resume()
	e.announce()
	e.mu.Unlock()
	e.poke()
	writeJSON(w, http.StatusOK, map[string]string{"message": "Generation continued successfully.", "status": "ok"})
}

func (e *Engine) resume() {
	e.pausedBy = ""
	for _, k := range e.ranks {
		k.core.Resume()
	}
}

// updateWeights takes on the new path as the model's name. The label changes only when the body has one; the
// cache stays only when the body says so.
func (e *Engine) updateWeights(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	path := must(f, "model_path", asText)
	version := maybe(f, "weight_version", asText)
	abort, flush := false, true
	may(f, "abort_all_requests", asBool, &abort)
	may(f, "flush_cache", asBool, &flush)
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	err := e.UpdateWeights(r.Context(), path, version, abort, flush)
	status, message := http.StatusOK, "Succeeded to update model weights."
	switch {
	case err != nil:
		status, message = http.StatusBadRequest, err.Error()
	case version != nil:
		message += " Weight version updated to " + *version + "."
	}
	writeJSON(w, status, map[string]any{"success": err == nil, "message": message, "num_paused_requests": 0})
}

var (
	errUpdating   = errors.New("simengine: another update of the weights is under way")
	errNotFlushed = errors.New("Weights were updated, but the cache was not flushed because requests are still running or queued. " +
		"Retract or finish them, then call /flush_cache.")
)

// UpdateWeights pretends to load a checkpoint. It holds new requests back and waits for the running ones,
// unless the engine is paused. It fails on an empty path, when another update is under way, when ctx ends
// before the running requests have, or when the cache cannot be flushed.
func (e *Engine) UpdateWeights(ctx context.Context, path string, version *string, abort, flush bool) error {
	if path == "" {
		return valuef("model_path is empty")
	}
	e.mu.Lock()
	if e.updating {
		e.mu.Unlock()
		return errUpdating
	}
	e.updating = true
	paused := e.pausedBy != ""
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.updating = false
		e.announce()
		e.mu.Unlock()
	}()
	if abort {
		e.AbortAll()
	}
	if !paused && !e.awaitIdle(ctx) {
		return ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.model = path
	if version != nil {
		e.weights = *version
	}
	e.log.Info("engine has new weights", "model", e.model, "version", e.weights, "flush", flush)
	if flush && !e.flush() {
		return errNotFlushed
	}
	return nil
}

// profile answers as if a profiler were started or stopped.
func profile(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writePlain(w, http.StatusOK, text) }
}
