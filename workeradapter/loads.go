package workeradapter

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// maxLoadAsks bounds who waits for an answer about load; more are refused. Each rank may be asked by a few gateways at a time.
const maxLoadAsks = 4 * maxRanks

// A loadAsk is somebody who wants to know a worker's load.
type loadAsk struct {
	w     *worker
	reply string
	bound time.Duration
}

// askLoad has the worker's load told. A gateway asks all ranks of an engine at once: they share one question to it, and
// those that ask while it is put share the next.
func (w *worker) askLoad(q *wire.Ask, reply string) {
	a := w.a
	a.mu.Lock()
	refused, full := a.draining, len(a.loadAsks) >= maxLoadAsks
	if !refused && !full {
		a.loadAsks = append(a.loadAsks, loadAsk{w, reply, orderBound(q)})
		if !a.askingLoad {
			a.askingLoad = true
			a.orders.Go(a.tellLoads)
		}
	}
	a.mu.Unlock()
	switch {
	case refused:
		a.tell(reply, leaving(w))
	case full:
		a.tell(reply, &wire.Told{Worker: w.name, Status: http.StatusTooManyRequests, Message: "Too many questions at a time."})
	}
}

// tellLoads answers until nobody asks any more.
func (a *Adapter) tellLoads() {
	for {
		a.mu.Lock()
		asks := a.loadAsks
		a.loadAsks, a.askingLoad = nil, len(asks) > 0
		a.mu.Unlock()
		if len(asks) == 0 {
			return
		}
		bound := asks[0].bound
		for _, ask := range asks {
			bound = min(bound, ask.bound)
		}
		ctx, cancel := context.WithTimeout(a.ordersCtx, bound)
		told := a.engineLoads(ctx, asks[0].w.alive())
		cancel()
		for _, ask := range asks {
			body := told[ask.w.rank]
			if body == nil {
				body = ask.w.ownLoad()
			}
			a.tell(ask.reply, &wire.Told{Worker: ask.w.name, OK: true, Body: body})
		}
	}
}

// engineLoads is what the engine says of its ranks' load, by rank; nothing of an engine that does not tell.
func (a *Adapter) engineLoads(ctx context.Context, l *life) map[int]json.RawMessage {
	if l == nil || l.info.EngineKind != kindSGLang {
		return nil
	}
	var doc struct {
		Loads []json.RawMessage `json:"loads"`
	}
	if found, err := a.engine.firstOf(ctx, &doc, "/v1/loads"); err != nil || !found {
		return nil
	}
	loads := make(map[int]json.RawMessage, len(doc.Loads))
	for _, load := range doc.Loads {
		var of struct {
			Rank int `json:"dp_rank"`
		}
		if json.Unmarshal(load, &of) == nil {
			loads[of.Rank] = load
		}
	}
	return loads
}

// ownLoad is what we know ourselves of the worker's load.
func (w *worker) ownLoad() json.RawMessage {
	running, waiting := 0, 0
	w.a.mu.Lock()
	for _, t := range w.running {
		if t.called {
			running++
		} else {
			waiting++
		}
	}
	w.a.mu.Unlock()
	return fmt.Appendf(nil, `{"dp_rank":%d,"num_running_reqs":%d,"num_waiting_reqs":%d}`, w.rank, running, waiting)
}
