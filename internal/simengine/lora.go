package simengine

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// An Adapter is a LoRA that an engine can serve.
type Adapter struct {
	Name string
	Path string
}

// An adapter is one that is loaded. Each loading has a cache namespace of its own.
type adapter struct {
	Adapter
	space  string
	pinned bool
	users  int           // requests
	unused chan struct{} // closed when it is unloaded and has no users
}

// adapters are the loaded ones, the least recently used first, and all that ever were: those come back by
// themselves when they are asked for.
type adapters struct {
	loaded []*adapter
	known  []Adapter
	loads  int
	turn   chan struct{} // holds a token while nobody loads or unloads
}

// maxAdapters is our own bound of the names that are remembered.
const maxAdapters = 1024

func newAdapters(initial []Adapter) *adapters {
	a := &adapters{turn: make(chan struct{}, 1)}
	a.turn <- struct{}{}
	for _, one := range initial {
		a.add(one, false)
	}
	return a
}

func (a *adapters) add(one Adapter, pinned bool) {
	a.loads++
	a.loaded = append(a.loaded, &adapter{Adapter: one, space: fmt.Sprintf("lora %d", a.loads), pinned: pinned, unused: make(chan struct{})})
	i := slices.IndexFunc(a.known, func(k Adapter) bool { return k.Name == one.Name })
	if i < 0 {
		i = len(a.known)
		a.known = append(a.known, one)
	}
	a.known[i] = one
}

// find returns a loaded adapter, which is then the one used last; nil if there is none of that name.
func (a *adapters) find(name string) *adapter {
	i := slices.IndexFunc(a.loaded, func(l *adapter) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	found := a.loaded[i]
	a.loaded = append(slices.Delete(a.loaded, i, i+1), found)
	return found
}

// take removes a loaded adapter; its channel closes once nobody uses it.
func (a *adapters) take(i int) *adapter {
	gone := a.loaded[i]
	a.loaded = slices.Delete(a.loaded, i, i+1)
	a.settle(gone)
	return gone
}

func (a *adapters) settle(gone *adapter) {
	if gone.users == 0 && !slices.Contains(a.loaded, gone) {
		close(gone.unused)
	}
}

func (a *adapters) paths() map[string]string {
	paths := map[string]string{}
	for _, l := range a.loaded {
		paths[l.Name] = l.Path
	}
	return paths
}

// pyKeys lists names as Python prints a dictionary's keys.
func pyKeys[T any](kind string, all []T, name func(T) string) string {
	quoted := make([]string, len(all))
	for i, one := range all {
		quoted[i] = pyText(name(one))
	}
	return kind + "([" + strings.Join(quoted, ", ") + "])"
}

// acquire finds the adapters that a request names, and loads again those that were unloaded.
func (e *Engine) acquire(ctx context.Context, q *request) error {
	q.adapters = make([]*adapter, len(q.prompts))
	if q.lora == nil || q.lora.first() == "" {
		return nil
	}
	switch {
	case !e.cfg.LoRA:
		return valuef("LoRA adapter '%s' was requested, but LoRA is not enabled. Please launch the server with --enable-lora flag "+
			"and preload adapters using --lora-paths or /load_lora_adapter endpoint.", q.lora.first())
	case !q.batch && q.lora.list:
		return e.kills("lora_path is a list, but there is one prompt.")
	}
	for i := range q.prompts {
		name := q.lora.at(i)
		if name == "" {
			continue
		}
		a, err := e.adapter(ctx, name)
		if err != nil {
			return err
		}
		q.adapters[i] = a
	}
	return nil
}

// adapter returns a loaded adapter with one more user.
func (e *Engine) adapter(ctx context.Context, name string) (*adapter, error) {
	for {
		e.mu.Lock()
		a := e.adapters.find(name)
		if a != nil {
			a.users++
		}
		known := e.adapters.known
		e.mu.Unlock()
		if a != nil {
			return a, nil
		}
		i := slices.IndexFunc(known, func(k Adapter) bool { return k.Name == name })
		if i < 0 {
			return nil, valuef("Got LoRA adapter that has never been loaded: %s\nAll loaded adapters: %s.", name,
				pyKeys("dict_keys", known, func(k Adapter) string { return k.Name }))
		}
		if err := e.LoadAdapter(ctx, known[i], false); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
}

func (e *Engine) releaseAdapters(q *request) {
	for _, a := range q.adapters {
		if a != nil {
			a.users--
			e.adapters.settle(a)
		}
	}
	q.adapters = nil
}

// LoadAdapter loads a LoRA. Beyond Config.MaxLoadedAdapters the least recently used one that is not pinned
// is unloaded, once its requests have ended.
func (e *Engine) LoadAdapter(ctx context.Context, a Adapter, pinned bool) error {
	return e.changeAdapters(ctx, func() ([]*adapter, error) {
		if a.Path == "" || len(e.adapters.known) >= maxAdapters {
			return nil, valuef("lora_path is empty, or %d adapters are known already", maxAdapters)
		}
		if slices.ContainsFunc(e.adapters.loaded, func(l *adapter) bool { return l.Name == a.Name }) {
			return nil, valuef("Failed to load LoRA adapter %s because it is already loaded", a.Name)
		}
		e.adapters.add(a, pinned)
		var gone []*adapter
		for len(e.adapters.loaded) > e.cfg.MaxLoadedAdapters {
			i := slices.IndexFunc(e.adapters.loaded, func(l *adapter) bool { return !l.pinned })
			if i < 0 {
				return gone, valuef("Didn't find any LoRA adapters when trying to evict LRU LoRA adapter.")
			}
			gone = append(gone, e.adapters.take(i))
		}
		return gone, nil
	})
}

// UnloadAdapter unloads a LoRA, once its requests have ended. A later request for it loads it again.
func (e *Engine) UnloadAdapter(ctx context.Context, name string) error {
	return e.changeAdapters(ctx, func() ([]*adapter, error) {
		i := slices.IndexFunc(e.adapters.loaded, func(l *adapter) bool { return l.Name == name })
		if i < 0 {
			return nil, valuef("LoRA with name %s does not exist. Loaded LoRAs: %s", name,
				pyKeys("odict_keys", e.adapters.loaded, func(l *adapter) string { return l.Name }))
		}
		return []*adapter{e.adapters.take(i)}, nil
	})
}

// changeAdapters makes one change at a time and waits until what it unloads is unused.
func (e *Engine) changeAdapters(ctx context.Context, change func() ([]*adapter, error)) error {
	if !e.cfg.LoRA {
		return valuef("LoRA is not enabled. Please set `--enable-lora` to enable LoRA.")
	}
	e.mu.Lock()
	turn := e.adapters.turn
	e.mu.Unlock()
	select {
	case <-turn:
		defer func() { turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	e.mu.Lock()
	gone, err := change()
	e.mu.Unlock()
	for _, a := range gone {
		select {
		case <-a.unused:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// adapterOf is the adapter that a model's name asks for: what follows the served name and a colon, or the
// first colon. Any other name is the base model's, an adapter's own included.
func (e *Engine) adapterOf(model string) string {
	served := e.servedModel()
	if model == served {
		return ""
	}
	rest, ok := strings.CutPrefix(model, served+":")
	if !ok {
		_, rest, _ = strings.Cut(model, ":")
	}
	return strings.TrimSpace(rest)
}

func (e *Engine) servedModel() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model
}

func (e *Engine) loadAdapter(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	a := Adapter{must(f, "lora_name", asText), must(f, "lora_path", asText)}
	pinned := false
	may(f, "pinned", asBool, &pinned)
	e.answerAdapters(w, r, f, func() error { return e.LoadAdapter(r.Context(), a, pinned) })
}

func (e *Engine) unloadAdapter(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	name := must(f, "lora_name", asText)
	e.answerAdapters(w, r, f, func() error { return e.UnloadAdapter(r.Context(), name) })
}

// answerAdapters makes the change and tells what is loaded then. An engine with several ranks cannot change
// its adapters.
func (e *Engine) answerAdapters(w http.ResponseWriter, r *http.Request, f *fields, change func() error) {
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	if e.cfg.LoRA && e.cfg.DP > 1 {
		internalError(w)
		return
	}
	answer := struct {
		RID     *string           `json:"rid"`
		IPC     *string           `json:"http_worker_ipc"`
		Success bool              `json:"success"`
		Error   string            `json:"error_message"`
		Loaded  map[string]string `json:"loaded_adapters"`
	}{Success: true}
	status := http.StatusOK
	if err := change(); err != nil {
		status, answer.Success, answer.Error = http.StatusBadRequest, false, err.Error()
	}
	if e.cfg.LoRA && (answer.Success || r.URL.Path == "/load_lora_adapter") {
		e.mu.Lock()
		answer.Loaded = e.adapters.paths()
		e.mu.Unlock()
	}
	writeJSON(w, status, answer)
}
