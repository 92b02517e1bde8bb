package gateway

import (
	"context"
	"net/http"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// workerCard is a worker in SMG's shape, where it means the same, and what we know more.
type workerCard struct {
	ID         string            `json:"id"`
	ModelID    string            `json:"model_id"`
	URL        string            `json:"url"` // of the engine; only for operators
	Models     []string          `json:"models"`
	Type       string            `json:"worker_type"`
	Connection string            `json:"connection_mode"`
	Runtime    string            `json:"runtime_type"`
	Labels     map[string]string `json:"labels"`
	Priority   int               `json:"priority"`
	Cost       float64           `json:"cost"`
	DPRank     int               `json:"dp_rank"`
	DPSize     int               `json:"dp_size"`
	BlockSize  int               `json:"kv_block_size"` // tokens of a page
	Healthy    bool              `json:"is_healthy"`
	Status     string            `json:"status"`
	Load       int               `json:"load"` // requests of this gateway that the worker has

	Instance      string `json:"instance"`
	Region        string `json:"region"`
	Capacity      int64  `json:"capacity_tokens"`
	MaxRunning    int    `json:"max_running_requests"`
	Engine        string `json:"engine,omitempty"` // ranks with the same one share flush, crash and weights
	EngineVersion string `json:"engine_version,omitempty"`
	Weights       string `json:"weight_version,omitempty"`
	Adapter       string `json:"adapter_version,omitempty"`
}

func (g *Gateway) workerCard(w *roster.Worker, open map[string]int, operator bool) workerCard {
	i := w.Info
	c := workerCard{
		ID: i.Worker, ModelID: i.Pool, Models: []string{}, Type: "regular", Connection: "http", Runtime: i.EngineKind, Labels: map[string]string{},
		Priority: 50, Cost: 1, DPRank: i.DPRank, DPSize: i.DPSize, BlockSize: i.PageSize, Healthy: w.State == wire.Ready, Status: w.State.String(),
		Load: open[i.Worker], Instance: i.Instance.String(), Region: i.Region, Capacity: i.CapacityTokens, MaxRunning: i.MaxRunning,
		EngineVersion: i.EngineVersion, Weights: i.WeightVersion, Adapter: i.AdapterVersion,
	}
	for _, m := range i.Models {
		c.Models = append(c.Models, m.Name)
	}
	if operator {
		c.URL, c.Engine = i.URL, i.Engine
	}
	return c
}

// workerList is what GET /workers answers.
type workerList struct {
	Workers []workerCard `json:"workers"`
	Total   int          `json:"total"`
	Stats   workerStats  `json:"stats"`
}

type workerStats struct {
	Total   int            `json:"total_workers"`
	Healthy int            `json:"healthy_workers"`
	Models  int            `json:"total_models"`
	Load    int            `json:"total_load"`
	ByType  map[string]int `json:"by_type"`
}

func (g *Gateway) workerList(ctx context.Context, operator bool) workerList {
	g.settle(ctx)
	view, open := g.roster.View(), g.demux.perWorker()
	list := workerList{Workers: make([]workerCard, 0, len(view.Workers)), Total: len(view.Workers)}
	list.Stats = workerStats{Total: len(view.Workers), Healthy: view.Ready, Models: len(view.Models), ByType: map[string]int{"regular": len(view.Workers)}}
	for _, w := range view.Workers {
		c := g.workerCard(w, open, operator)
		list.Stats.Load += c.Load
		list.Workers = append(list.Workers, c)
	}
	return list
}

func (g *Gateway) publicWorkers(w http.ResponseWriter, r *http.Request, _ who) {
	writeJSON(w, g.workerList(r.Context(), false))
}
