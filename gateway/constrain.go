package gateway

import (
	"context"
	"net/http"
	"strconv"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// constrain notes which workers alone may run the request: because its client says so, or because one of them keeps what it
// goes on with.
func (g *Gateway) constrain(r *http.Request, c *call) error {
	q, a := c.req, &c.assign
	rank := -1
	if v := r.Header.Get(headerRank); v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return badRequest("x-data-parallel-rank", "The header x-data-parallel-rank is a whole number from 0 on.")
		}
		rank = int(n)
	} else if q != nil && q.HasDPRank {
		rank = q.DPRank
	}
	if rank >= 0 {
		if !g.has(func(w *wire.WorkerInfo) bool { return w.Pool == a.Pool && w.DPRank == rank }) {
			return badRequest("routed_dp_rank", "No worker of this model has the data-parallel rank %d.", rank)
		}
		a.RankPlus1 = uint32(rank) + 1
	}
	if q == nil {
		return nil
	}
	if id := q.PreviousResponse; id != "" {
		keeper, err := g.keeper(r.Context(), id, "previous_response_id", a.Model)
		if err != nil {
			return err
		}
		if keeper.Info.Pool != a.Pool {
			return badRequest("previous_response_id", "The response %.100q is of another model: %s.", id, keeper.Info.Pool)
		}
		a.Engine = keeper.Info.Engine
	}
	if q.SessionID == "" {
		return nil
	}
	a.Session = clip(q.SessionID, wire.MaxName) // where it is said to be is where it was opened
	if c.route.Path == surface.OpenSession {
		a.Flags |= wire.FlagOpens
		return nil
	}
	at, ok := wire.ParseReference(q.SessionID)
	if !ok { // its client chose the name: the schedulers know where it was opened, or its adapter does
		a.Flags |= wire.FlagBound
		return nil
	}
	keeper := keeperOf(g.roster.View(), at)
	if keeper == nil {
		return gone("session_params.id", "The engine that held the session %.100q is gone.", q.SessionID)
	}
	if keeper.Info.Pool != a.Pool {
		return badRequest("session_params.id", "The session %.100q is of another model: %s.", q.SessionID, keeper.Info.Pool)
	}
	a.Engine, a.RankPlus1, a.Session = keeper.Info.Engine, uint32(at.Rank)+1, ""
	return nil
}

// keeper is a worker of the engine that keeps a response. A name that says nothing, because it was not given out here, is
// looked for where there is only one engine.
func (g *Gateway) keeper(ctx context.Context, id, field, model string) (*roster.Worker, error) {
	g.settle(ctx)
	view := g.roster.View()
	if at, ok := wire.ParseReference(id); ok {
		if w := keeperOf(view, at); w != nil {
			return w, nil
		}
		return nil, gone(field, "The engine that kept the response %.100q is gone.", id)
	}
	var only *roster.Worker
	for _, w := range view.Workers {
		if s := find(view, model); model != "" && (s == nil || s.Pool != w.Info.Pool) {
			continue
		}
		if only != nil && only.Info.Engine != w.Info.Engine {
			return nil, gone(field, "Response with id '%.100s' not found.", id)
		}
		only = w
	}
	if only == nil {
		return nil, noWorkerYet()
	}
	return only, nil
}

// keeperOf finds a worker of the engine that a reference names; nil when it has left.
func keeperOf(view *roster.View, at wire.Reference) *roster.Worker {
	for _, w := range view.Workers {
		if wire.EngineHash(w.Info.Engine) == at.Engine {
			return w
		}
	}
	return nil
}
