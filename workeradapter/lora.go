package workeradapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// loras loads adapters into the engine when they are first asked for. The engine drops the least recently used ones by
// itself when it has no room, and loads one that it has dropped again by itself.
type loras struct {
	a     *Adapter
	paths map[string]string // of those that may be loaded

	mu      sync.Mutex
	loading map[string]*loading
}

// A loading is a load under way, or one that succeeded.
type loading struct {
	done   chan struct{}
	err    error // read after done
	cancel context.CancelFunc

	waiting int // attempts; guarded by loras.mu
}

func (l *loras) init(a *Adapter) {
	l.a, l.paths, l.loading = a, make(map[string]string), make(map[string]*loading)
	for _, one := range a.cfg.LoRAs {
		l.paths[one.Name] = one.Path
	}
}

// forget takes it that the engine has none loaded: it is another one.
func (l *loras) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.loading)
}

// loadTime bounds the loading of one adapter.
const loadTime = 2 * time.Minute

// errNotLoaded is an engine's answer that it does not load an adapter, or no answer for too long.
var errNotLoaded = errors.New("not loaded")

// ensure returns once the adapter is loaded, if it is one that is loaded on demand; else there is nothing to wait for, and no
// loading. Requests that need the same one wait for one load; a load that failed is tried again by the next request, and one
// that nobody waits for any more is given up.
func (l *loras) ensure(t *attempt, name string) (*loading, error) {
	path, ours := l.paths[name]
	if !ours {
		return nil, nil // the engine's own
	}
	l.mu.Lock()
	one := l.loading[name]
	if one == nil {
		ctx, cancel := context.WithTimeoutCause(l.a.runCtx, loadTime, errNotLoaded)
		one = &loading{done: make(chan struct{}), cancel: cancel}
		l.loading[name] = one
		l.a.orders.Go(func() { defer cancel(); l.load(ctx, name, path, one) })
	}
	one.waiting++
	l.mu.Unlock()
	defer l.leave(name, one)
	t.waits(true)
	defer t.waits(false)
	select {
	case <-one.done:
		return one, one.err
	case <-t.aborts: // the engine does not have it yet
		t.cancel(errAborted)
	case <-t.ctx.Done():
	}
	return one, context.Cause(t.ctx)
}

// leave ends the wait of one attempt, and a load that has nobody else.
func (l *loras) leave(name string, one *loading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.waiting--
	select {
	case <-one.done:
	default:
		if one.waiting == 0 {
			l.drop(name, one)
			one.cancel()
		}
	}
}

// unloaded notes that the engine does not have what was loaded once.
func (l *loras) unloaded(name string, one *loading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(name, one)
}

// drop forgets a load, unless another one has begun since. The lock is held.
func (l *loras) drop(name string, one *loading) {
	if l.loading[name] == one {
		delete(l.loading, name)
	}
}

func (l *loras) load(ctx context.Context, name, path string, one *loading) {
	began := time.Now()
	one.err = l.a.engine.loadLoRA(ctx, name, path)
	if one.err != nil && errors.Is(context.Cause(ctx), errNotLoaded) {
		one.err = fmt.Errorf("%w after %v", errNotLoaded, loadTime)
	}
	switch {
	case one.err == nil:
		l.a.cfg.Log.Info("LoRA loaded", "worker", l.a.cfg.Name, "lora", name, "took", time.Since(began))
		l.a.engineChanged() // its list of models has grown
	case ctx.Err() != nil && !errors.Is(one.err, errNotLoaded):
		l.a.cfg.Log.Info("load of a LoRA given up: nobody waits for it", "worker", l.a.cfg.Name, "lora", name)
	default:
		l.a.cfg.Log.Warn("LoRA not loaded", "worker", l.a.cfg.Name, "lora", name, "error", one.err)
	}
	if one.err != nil {
		l.unloaded(name, one)
	}
	close(one.done)
}

// loadLoRA asks the engine to load an adapter. One that is there already is loaded.
func (e *engine) loadLoRA(ctx context.Context, name, path string) error {
	body, err := json.Marshal(map[string]string{"lora_name": name, "lora_path": path})
	if err != nil {
		return err
	}
	status, doc, err := e.post(ctx, "/load_lora_adapter", body)
	if err != nil {
		return err
	}
	var told struct {
		Success bool   `json:"success"`
		Error   string `json:"error_message"`
	}
	if json.Unmarshal(doc, &told) == nil && (told.Success || strings.Contains(told.Error, "already loaded")) {
		return nil
	}
	text := told.Error
	if text == "" {
		text = errorText(doc)
	}
	return fmt.Errorf("%w: the engine answered %d: %s", errNotLoaded, status, clip(text, textBound))
}

// notLoaded tells an engine's words for an adapter that it does not have: it loads what it has dropped itself, not what
// somebody has unloaded, and not what an earlier process had.
func notLoaded(words string) bool {
	return strings.Contains(words, "LoRA adapters are not loaded") || strings.Contains(words, "LoRA adapter that has never been loaded")
}
