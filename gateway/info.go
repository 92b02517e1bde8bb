package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// asked is the model that a question is about: the one that is named, or the only one.
func (g *Gateway) asked(r *http.Request) (*roster.Served, error) {
	return g.meant(r.Context(), cmp.Or(r.URL.Query().Get("model"), r.Header.Get(headerModel)))
}

// modelInfo is SGLang's /model_info, as an engine of the model has told it to its adapter.
func (g *Gateway) modelInfo(w http.ResponseWriter, r *http.Request, _ who) {
	served, err := g.asked(r)
	if err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	if len(served.Info.ModelInfo) > 0 {
		writeJSON(w, served.Info.ModelInfo)
		return
	}
	writeJSON(w, map[string]any{ // of an engine that has no such route
		"model_path": served.Pool, "served_model_name": served.Pool, "is_generation": true, "weight_version": served.Info.WeightVersion,
	})
}

// rankInfo is what /server_info tells of one worker, under SGLang's names.
type rankInfo struct {
	Worker         string `json:"worker"`
	State          string `json:"state"`
	DPRank         int    `json:"dp_rank"`
	DPSize         int    `json:"dp_size"`
	Engine         string `json:"engine_kind"`
	Version        string `json:"version"`
	Capacity       int64  `json:"max_total_num_tokens"`
	PageSize       int    `json:"page_size"`
	ContextLength  int    `json:"context_length"`
	MaxRunning     int    `json:"max_running_requests"`
	EvictionPolicy string `json:"radix_eviction_policy"`
	WeightVersion  string `json:"weight_version"`
}

// serverInfo is made of what adapters have registered, never an engine's own answer: that one holds its API keys.
func (g *Gateway) serverInfo(w http.ResponseWriter, r *http.Request, _ who) {
	served, err := g.asked(r)
	if err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	ranks := []rankInfo{}
	for _, w := range g.roster.View().Workers {
		if i := w.Info; i.Pool == served.Pool {
			ranks = append(ranks, rankInfo{
				Worker: i.Worker, State: w.State.String(), DPRank: i.DPRank, DPSize: i.DPSize, Engine: i.EngineKind, Version: i.EngineVersion,
				Capacity: i.CapacityTokens, PageSize: i.PageSize, ContextLength: i.ContextLength, MaxRunning: i.MaxRunning,
				EvictionPolicy: i.EvictionPolicy, WeightVersion: i.WeightVersion,
			})
		}
	}
	i := served.Info
	writeJSON(w, map[string]any{
		"router": "radixbus", "status": "ready", "model_path": served.Pool, "served_model_name": served.Pool, "version": i.EngineVersion,
		"dp_size": i.DPSize, "max_total_num_tokens": i.CapacityTokens, "page_size": i.PageSize, "context_length": i.ContextLength,
		"max_running_requests": i.MaxRunning, "radix_eviction_policy": i.EvictionPolicy, "weight_version": i.WeightVersion,
		"internal_states": ranks,
	})
}

// A loadOf is what one worker's engine says of its load.
type loadOf struct {
	worker *roster.Worker
	rank   map[string]json.RawMessage // SGLang's fields; nil when it did not say
	why    string                     // it did not
}

// loadsFor is how long an answer about loads is good for all who ask: an engine takes milliseconds to make one.
const loadsFor = 250 * time.Millisecond

// loadBook holds the last answer about loads.
type loadBook struct {
	mu   sync.Mutex
	at   time.Time
	last []loadOf
}

// askLoads asks the engines of all workers, unless that has just been done.
func (g *Gateway) askLoads(ctx context.Context) []loadOf {
	b := &g.loadBook
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.at) < loadsFor {
		return b.last
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // others wait for it too
	defer cancel()
	workers := g.roster.View().Workers
	loads := make([]loadOf, len(workers))
	for i, t := range g.tell(ctx, workers, &wire.Ask{Op: wire.OpLoad, Millis: patience.Milliseconds()}) {
		loads[i] = loadOf{worker: workers[i], why: t.Message}
		if !t.OK || json.Unmarshal(t.Body, &loads[i].rank) != nil {
			loads[i].rank, loads[i].why = nil, cmp.Or(t.Message, "The answer could not be understood.")
		}
	}
	b.at, b.last = time.Now(), loads
	return loads
}

// picked are the loads that a query asks for: of a model, a rank, a worker.
func (g *Gateway) picked(r *http.Request) ([]loadOf, error) {
	q := r.URL.Query()
	if f := q.Get("format"); f != "" && f != "json" {
		return nil, badRequest("format", "Loads are told as JSON here; Prometheus finds them at /metrics of the admin listener and of the engines.")
	}
	rank := -1
	if v := q.Get("dp_rank"); v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return nil, badRequest("dp_rank", "The query dp_rank is a whole number from 0 on.")
		}
		rank = int(n)
	}
	pool := ""
	if model := cmp.Or(q.Get("model"), r.Header.Get(headerModel)); model != "" {
		served, err := g.meant(r.Context(), model)
		if err != nil {
			return nil, err
		}
		pool = served.Pool
	}
	g.settle(r.Context())
	var loads []loadOf
	for _, l := range g.askLoads(r.Context()) {
		i := l.worker.Info
		if (rank < 0 || i.DPRank == rank) && (pool == "" || i.Pool == pool) && (q.Get("worker") == "" || q.Get("worker") == i.Worker) {
			loads = append(loads, l)
		}
	}
	return loads, nil
}

// number is a field of a load; 0 when the engine does not tell it.
func (l *loadOf) number(field string) (n int64) {
	json.Unmarshal(l.rank[field], &n) //nolint:errcheck // an engine that says otherwise has said nothing
	return n
}

// loads is SGLang's /v1/loads over the whole fleet: one entry per rank, with the names of worker, engine and model.
func (g *Gateway) loads(w http.ResponseWriter, r *http.Request, _ who) {
	type failed struct {
		Worker string `json:"worker"`
		Error  string `json:"error"`
	}
	loads, err := g.picked(r)
	if err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	entries, silent := []map[string]any{}, []failed{}
	for _, l := range loads {
		if l.rank == nil {
			silent = append(silent, failed{l.worker.Info.Worker, l.why})
			continue
		}
		entry := map[string]any{"worker": l.worker.Info.Worker, "model": l.worker.Info.Pool, "dp_rank": l.worker.Info.DPRank}
		for field, v := range l.rank {
			if _, ours := entry[field]; !ours {
				entry[field] = v
			}
		}
		entries = append(entries, entry)
	}
	writeJSON(w, map[string]any{"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "version": "radixbus", "loads": entries, "failed": silent})
}

// oldLoads is SGLang's old /get_load.
func (g *Gateway) oldLoads(w http.ResponseWriter, r *http.Request, _ who) {
	type load struct {
		Worker  string  `json:"worker"`
		DPRank  int     `json:"dp_rank"`
		Reqs    int64   `json:"num_reqs"`
		Waiting int64   `json:"num_waiting_reqs"`
		Tokens  int64   `json:"num_tokens"`
		Pending int64   `json:"num_pending_tokens"`
		At      float64 `json:"ts_tic"`
	}
	loads, err := g.picked(r)
	if err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	told := []load{}
	for _, l := range loads {
		if l.rank != nil {
			told = append(told, load{
				Worker: l.worker.Info.Worker, DPRank: l.worker.Info.DPRank, Reqs: l.number("num_running_reqs") + l.number("num_waiting_reqs"),
				Waiting: l.number("num_waiting_reqs"), Tokens: cmp.Or(l.number("num_total_tokens"), l.number("num_used_tokens")),
				Pending: l.number("num_waiting_uncached_tokens"), At: float64(time.Now().UnixMicro()) / 1e6,
			})
		}
	}
	writeJSON(w, told)
}

// smgLoads is SMG's /get_loads.
func (g *Gateway) smgLoads(w http.ResponseWriter, r *http.Request, _ who) {
	type details struct {
		Timestamp string                       `json:"timestamp"`
		Ranks     int                          `json:"dp_rank_count"`
		Loads     []map[string]json.RawMessage `json:"loads"`
	}
	type load struct {
		Worker  string   `json:"worker"`
		Type    string   `json:"worker_type"`
		Load    int64    `json:"load"` // requests; -1: not known
		Details *details `json:"details,omitempty"`
	}
	loads, err := g.picked(r)
	if err != nil {
		asFailure(err).write(w, r.URL.Path)
		return
	}
	told, good := []load{}, 0
	for _, l := range loads {
		one := load{Worker: l.worker.Info.Worker, Type: "regular", Load: -1}
		if l.rank != nil {
			good++
			one.Load = l.number("num_running_reqs") + l.number("num_waiting_reqs")
			one.Details = &details{Timestamp: time.Now().UTC().Format(time.RFC3339Nano), Ranks: l.worker.Info.DPSize, Loads: []map[string]json.RawMessage{l.rank}}
		}
		told = append(told, one)
	}
	writeJSON(w, map[string]any{"workers": told, "total_workers": len(told), "successful": good, "failed": len(told) - good})
}

// healthGenerate has an engine of each model generate a token, unless one model is named. Engines that are no SGLang are left
// out where there are others: they have no such route.
func (g *Gateway) healthGenerate(w http.ResponseWriter, r *http.Request, who who) {
	route := surface.Lookup(http.MethodGet, "/health_generate")
	g.settle(r.Context())
	var pools []string
	for _, w := range g.roster.View().Workers {
		if w.Info.EngineKind == sglang {
			pools = append(pools, w.Info.Pool)
		}
	}
	slices.Sort(pools)
	pools = slices.Compact(pools)
	if len(pools) == 1 && r.Header.Get(headerModel) == "" {
		r.Header.Set(headerModel, pools[0])
	}
	if len(pools) == 0 || r.Header.Get(headerModel) != "" {
		g.serve(w, r, who, route)
		return
	}
	const atATime = 8
	answers := make([]recorder, len(pools))
	var asking sync.WaitGroup
	free := make(chan struct{}, atATime)
	for i, pool := range pools {
		free <- struct{}{}
		asking.Go(func() {
			defer func() { <-free }()
			to := r.Clone(r.Context())
			to.Header.Set(headerModel, pool)
			one := who
			one.id = wire.NewRequestID()
			defer func() { recover() }() //nolint:errcheck // its client is gone, and ours with it
			g.serve(&answers[i], to, one, route)
		})
	}
	asking.Wait()
	for i := range answers {
		if a := &answers[i]; a.status != http.StatusOK {
			for name, values := range a.header {
				w.Header()[name] = values
			}
			w.WriteHeader(cmp.Or(a.status, http.StatusServiceUnavailable))
			w.Write(a.body.Bytes()) //nolint:errcheck // the client may be gone
			return
		}
	}
}

// A recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(b []byte) (int, error) {
	r.status = cmp.Or(r.status, http.StatusOK)
	return r.body.Write(b)
}

func (r *recorder) Flush() {}
