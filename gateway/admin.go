package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// Admin serves operators' orders to the fleet: they go to the adapters, which carry them out at their engines. Whoever mounts
// it sees to it that only operators reach it. It may be served before Run, and answers 503 until the gateway has joined.
//
// Orders about one worker name it in the query, worker=NAME, or in the path. The answer to an order tells of each worker what
// its engine said; its status is 200 when all carried it out, 206 when some did, 502 when none did.
func (g *Gateway) Admin() http.Handler {
	mux := &methods{ServeMux: http.NewServeMux(), byPath: make(map[string]map[string]handler)}
	order := func(op wire.Op) handler {
		return func(w http.ResponseWriter, r *http.Request, _ who) { g.order(w, r, op) }
	}
	for _, one := range []struct {
		method, path string
		h            handler
	}{
		{"GET", "/workers", func(w http.ResponseWriter, r *http.Request, _ who) { writeJSON(w, g.workerList(r.Context(), true)) }},
		{"POST", "/workers", g.noWorkersByPost},
		{"GET", "/workers/{worker}", g.worker},
		{"DELETE", "/workers/{worker}", g.removeWorker},
		{"GET", "/get_loads", g.smgLoads}, {"GET", "/v1/loads", g.loads},
		{"POST", "/flush_cache", order(wire.OpFlush)}, {"POST", "/workers/{worker}/flush_cache", order(wire.OpFlush)},
		{"POST", "/drain", order(wire.OpDrain)}, {"POST", "/workers/{worker}/drain", order(wire.OpDrain)},
		{"POST", "/undrain", order(wire.OpUndrain)}, {"POST", "/workers/{worker}/undrain", order(wire.OpUndrain)},
		{"POST", "/start_profile", order(wire.OpProfileStart)}, {"POST", "/workers/{worker}/start_profile", order(wire.OpProfileStart)},
		{"POST", "/stop_profile", order(wire.OpProfileStop)}, {"POST", "/workers/{worker}/stop_profile", order(wire.OpProfileStop)},
	} {
		mux.handle(one.method, one.path, func(w http.ResponseWriter, r *http.Request, who who) {
			select {
			case <-g.joined:
			default:
				failureOf(wire.CodeNoBus, "", 0).write(w, r.URL.Path)
				return
			}
			g.settle(r.Context())
			one.h(w, r, who)
		})
	}
	mux.HandleFunc("/", unknownRoute)
	return mux
}

// named finds the workers that an order is for: the one that is named, or all. Draining all of them takes saying so.
func (g *Gateway) named(r *http.Request, op wire.Op) ([]*roster.Worker, error) {
	workers := g.roster.View().Workers
	switch name := cmp.Or(r.PathValue("worker"), r.URL.Query().Get("worker")); {
	case name == "" && op == wire.OpDrain:
		return nil, badRequest("worker", "Name the worker to drain in the query: worker=NAME, or worker=* for all of them.")
	case name != "" && (name != "*" || op == wire.OpRemove):
		i := slices.IndexFunc(workers, func(w *roster.Worker) bool { return w.Info.Worker == name })
		if i < 0 {
			return nil, unknownWorker(name)
		}
		return workers[i : i+1], nil
	case len(workers) == 0:
		return nil, failureOf(wire.CodeNoWorker, "No worker is there.", 0)
	}
	return workers, nil
}

func unknownWorker(name string) *Failure {
	return &Failure{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "worker_not_found", Param: "worker", Message: fmt.Sprintf("There is no worker %.200q.", name)}
}

// How long orders may take.
const (
	orderTime    = 30 * time.Second
	orderTimeMax = 10 * time.Minute
	orderSlack   = 5 * time.Second // for the engine's work, after it has waited to be idle
)

// An outcome is what became of an order at one worker.
type outcome struct {
	Worker  string `json:"worker"`
	Engine  string `json:"engine"` // its ranks were asked once
	OK      bool   `json:"ok"`
	Status  int    `json:"status,omitempty"` // of the engine's answer
	Message string `json:"message,omitempty"`
}

// order carries out one order at the workers that it names, and tells what became of it at each.
func (g *Gateway) order(w http.ResponseWriter, r *http.Request, op wire.Op) {
	workers, err := g.named(r, op)
	ask, bound, bad := readOrder(w, r, op)
	if err = cmp.Or(err, bad); err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), bound+orderSlack)
	defer cancel()
	outcomes := g.carryOut(ctx, workers, ask)
	good := 0
	failed := []string{}
	for _, o := range outcomes {
		if o.OK {
			good++
		} else {
			failed = append(failed, o.Worker)
		}
	}
	status, word := http.StatusOK, "success"
	switch {
	case good == 0:
		status, word = http.StatusBadGateway, "failed"
	case len(failed) > 0:
		status, word = http.StatusPartialContent, "partial_success"
	}
	g.cfg.Log.Info("order", "op", string(op), "workers", len(outcomes), "done", good)
	told := map[string]any{
		"status": word, "message": fmt.Sprintf("%s: %d of %d workers.", op, good, len(outcomes)),
		"total_http_workers": len(outcomes), "total_workers": len(outcomes), "successful": good, "failed": failed, "workers": outcomes,
	}
	if op == wire.OpFlush { // as SMG tells it
		told["workers_flushed"] = good
	}
	doc := encode(told)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(doc, '\n')) //nolint:errcheck // the client may be gone
}

// readOrder reads the parameters of an order: how long it may take, and what the engine is to be given.
func readOrder(w http.ResponseWriter, r *http.Request, op wire.Op) (*wire.Ask, time.Duration, error) {
	ask, bound := &wire.Ask{Op: op}, orderTime
	if op == wire.OpFlush { // as in SGLang: at once, unless it is said how long to wait for an idle engine
		bound = orderSlack
		if v := r.URL.Query().Get("timeout"); v != "" {
			s, err := strconv.ParseFloat(v, 64)
			if err != nil || !(s >= 0) || s > orderTimeMax.Seconds() {
				return nil, 0, badRequest("timeout", "The query timeout is a number of seconds from 0 to %g.", orderTimeMax.Seconds())
			}
			bound += time.Duration(s * float64(time.Second))
		}
		bound = min(bound, orderTimeMax)
	}
	ask.Millis = bound.Milliseconds()
	if op != wire.OpProfileStart {
		return ask, bound, nil
	}
	const most = 64 << 10
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var object map[string]json.RawMessage
	switch {
	case err != nil:
		return nil, 0, tooLarge(most)
	case len(body) > 0 && json.Unmarshal(body, &object) != nil:
		return nil, 0, badRequest("", "The body is the engine's own parameters, a JSON object.")
	case len(body) > 0:
		ask.Body = body
	}
	return ask, bound, nil
}

// carryOut asks the workers. What an engine does for all its ranks, one of them is asked for.
func (g *Gateway) carryOut(ctx context.Context, workers []*roster.Worker, ask *wire.Ask) []outcome {
	var asked []*roster.Worker
	speaker := make(map[string]int) // whose answer is that of the engine
	perEngine := ask.Op != wire.OpDrain && ask.Op != wire.OpUndrain
	for _, w := range workers {
		if _, ok := speaker[w.Info.Engine]; !ok || !perEngine {
			speaker[w.Info.Engine] = len(asked)
			asked = append(asked, w)
		}
	}
	told := g.tell(ctx, asked, ask)
	outcomes := make([]outcome, len(workers))
	for i, w := range workers {
		at := i
		if perEngine {
			at = speaker[w.Info.Engine]
		}
		t := &told[at]
		outcomes[i] = outcome{Worker: w.Info.Worker, Engine: w.Info.Engine, OK: t.OK, Status: t.Status, Message: t.Message}
	}
	return outcomes
}

func (g *Gateway) worker(w http.ResponseWriter, r *http.Request, _ who) {
	for _, one := range g.roster.View().Workers {
		if one.Info.Worker == r.PathValue("worker") {
			writeJSON(w, g.workerCard(one, g.demux.perWorker(), true))
			return
		}
	}
	unknownWorker(r.PathValue("worker")).write(w, r.URL.Path)
}

// removeWorker has an adapter finish what it has and leave. Of one that is gone without a word, everybody is told.
func (g *Gateway) removeWorker(w http.ResponseWriter, r *http.Request, _ who) {
	workers, err := g.named(r, wire.OpRemove)
	if err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	one := workers[0].Info
	message := "The worker finishes what it has and leaves."
	if one.DPSize > 1 {
		message = "The engine's adapter finishes what it has and leaves, with all ranks."
	}
	if told := g.tell(ctx, workers, &wire.Ask{Op: wire.OpRemove})[0]; !told.OK {
		gone := wire.Gone{
			Stamp:  wire.Stamp{Publisher: g.cfg.ID, AtMicros: uint64(time.Now().UnixMicro())},
			Worker: one.Worker, Instance: one.Instance, Code: wire.CodeWorkerGone,
		}
		if err := g.bus.Control.Publish(g.cfg.Subjects.Event(one.Region, one.Pool, wire.EventDown, g.cfg.ID), gone.AppendTo(nil)); err != nil {
			failureOf(wire.CodeNoBus, "", 0).write(w, r.URL.Path)
			return
		}
		message = "The worker's adapter does not answer: the fleet was told that it is gone."
	}
	g.cfg.Log.Info("worker removed by an operator", "worker", one.Worker)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	w.Write(append(encode(map[string]string{"status": "accepted", "worker_id": one.Worker, "message": message}), '\n')) //nolint:errcheck // the client may be gone
}

func (g *Gateway) noWorkersByPost(w http.ResponseWriter, r *http.Request, _ who) {
	notHere("Workers join by themselves: start radixbus worker --engine URL beside the engine.").write(w, r.URL.Path)
}
