package workeradapter

import (
	"context"
	"encoding/json"
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
	done chan struct{}
	err  error // read after done
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

// ensure returns once the adapter is loaded, if it is one that is loaded on demand. Requests that need the same one wait for
// one load; a load that failed is tried again by the next request.
func (l *loras) ensure(ctx context.Context, name string) error {
	path, ours := l.paths[name]
	if !ours {
		return nil // the engine's own
	}
	l.mu.Lock()
	one := l.loading[name]
	if one == nil {
		one = &loading{done: make(chan struct{})}
		l.loading[name] = one
		l.a.orders.Go(func() { l.load(name, path, one) })
	}
	l.mu.Unlock()
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *loras) load(name, path string, one *loading) {
	ctx, cancel := context.WithTimeout(l.a.runCtx, loadTime)
	defer cancel()
	began := time.Now()
	one.err = l.a.engine.loadLoRA(ctx, name, path)
	if one.err != nil {
		l.mu.Lock()
		if l.loading[name] == one {
			delete(l.loading, name)
		}
		l.mu.Unlock()
		l.a.cfg.Log.Warn("LoRA not loaded", "worker", l.a.cfg.Name, "lora", name, "error", one.err)
	} else {
		l.a.cfg.Log.Info("LoRA loaded", "worker", l.a.cfg.Name, "lora", name, "took", time.Since(began))
		l.a.engineChanged() // its list of models has grown
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
	return fmt.Errorf("the engine answered %d: %s", status, clip(text, textBound))
}
