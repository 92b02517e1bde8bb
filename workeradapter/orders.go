package workeradapter

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// Bounds of orders.
const (
	maxOrders    = 8 // carried out at a time; more are refused
	orderTime    = 30 * time.Second
	orderTimeMax = 10 * time.Minute
)

// ask takes a question or an order. What takes time runs on a goroutine of its own.
func (w *worker) ask(msg *nats.Msg) {
	var q wire.Ask
	if json.Unmarshal(msg.Data, &q) != nil {
		return
	}
	switch q.Op {
	case wire.OpInfo:
		if l := w.alive(); l != nil && msg.Reply != "" {
			w.a.publish(msg.Reply, l.doc)
		}
	case wire.OpClaim:
		if w.name != w.a.cfg.Name { // which the adapter itself listens for
			w.a.claimed(msg, w.name, q.Claim)
		}
	case wire.OpDrain, wire.OpUndrain:
		w.pause(q.Op == wire.OpDrain)
		w.a.tell(msg.Reply, &wire.Told{Worker: w.name, OK: true})
	case wire.OpRemove:
		w.a.cfg.Log.Info("removed by an operator", "worker", w.name)
		w.a.tell(msg.Reply, &wire.Told{Worker: w.name, OK: true})
		w.a.leave(ErrRemoved)
	case wire.OpSession:
		at, open := w.sessions.opened(q.ID)
		w.a.tell(msg.Reply, &wire.Told{Worker: w.name, OK: open, At: at.UnixMilli()})
	case wire.OpLoad:
		w.askLoad(&q, msg.Reply)
	case wire.OpFlush, wire.OpProfileStart, wire.OpProfileStop:
		w.order(&q, msg.Reply)
	default:
		w.a.tell(msg.Reply, &wire.Told{Worker: w.name, Status: http.StatusNotImplemented, Message: fmt.Sprintf("This adapter knows no order %.40q.", string(q.Op))})
	}
}

// pause stops, or resumes, the taking of requests.
func (w *worker) pause(paused bool) {
	w.a.mu.Lock()
	changed := w.paused != paused
	w.paused = paused
	w.a.mu.Unlock()
	if changed {
		w.a.cfg.Log.Info("drained by an operator", "worker", w.name, "drained", paused)
		w.beat()
	}
}

// order carries out what the engine has to do.
func (w *worker) order(q *wire.Ask, reply string) {
	select {
	case w.a.busy <- struct{}{}:
	default:
		w.a.tell(reply, &wire.Told{Worker: w.name, Status: http.StatusTooManyRequests, Message: "Too many orders at a time."})
		return
	}
	started := w.a.goOrder(func() {
		defer func() { <-w.a.busy }()
		bound := orderBound(q)
		ctx, cancel := context.WithTimeout(w.a.ordersCtx, bound)
		defer cancel()
		told := w.carryOut(ctx, q, bound)
		if !told.OK && w.a.ordersCtx.Err() != nil {
			told = leaving(w)
		}
		told.Worker = w.name
		w.a.tell(reply, told)
	})
	if !started {
		<-w.a.busy
		w.a.tell(reply, leaving(w))
	}
}

// orderBound is how long an order may take.
func orderBound(q *wire.Ask) time.Duration {
	if q.Millis <= 0 {
		return orderTime
	}
	return time.Duration(min(q.Millis, orderTimeMax.Milliseconds())) * time.Millisecond // not the product of any number
}

// leaving answers an order that is not carried out any more.
func leaving(w *worker) *wire.Told {
	return &wire.Told{Worker: w.name, Status: http.StatusServiceUnavailable, Message: "The worker is shutting down."}
}

// goOrder runs what Run waits for; not once it waits.
func (a *Adapter) goOrder(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		return false
	}
	a.orders.Go(f)
	return true
}

func (w *worker) carryOut(ctx context.Context, q *wire.Ask, bound time.Duration) *wire.Told {
	l := w.alive()
	switch {
	case l == nil || l.info.EngineKind != kindSGLang:
		return &wire.Told{Status: http.StatusNotImplemented, Message: "The engine is no SGLang, or has not been seen yet."}
	case q.Op == wire.OpFlush:
		const slack = 5 * time.Second // for its work, and the answer, after the engine has given up
		wait := max(0, bound-slack).Seconds()
		told := w.engineOrder(ctx, "/flush_cache?timeout="+strconv.FormatFloat(wait, 'f', 3, 64), nil)
		if told.OK {
			w.a.lost.Store(true) // the cache is empty: what follows is another life
			w.a.engineChanged()
		}
		return told
	case q.Op == wire.OpProfileStart:
		return w.engineOrder(ctx, "/start_profile", q.Body)
	default:
		return w.engineOrder(ctx, "/stop_profile", nil)
	}
}

// engineOrder posts to one of the engine's control routes, and passes on its words.
func (w *worker) engineOrder(ctx context.Context, path string, body json.RawMessage) *wire.Told {
	status, doc, err := w.a.engine.post(ctx, path, body)
	if err != nil {
		w.a.cfg.Log.Warn("order not carried out", "worker", w.name, "error", err)
		return &wire.Told{Status: http.StatusBadGateway, Message: "The engine did not answer."}
	}
	return &wire.Told{OK: status == http.StatusOK, Status: status, Message: clip(strings.TrimSpace(errorText(doc)), textBound)}
}
