package simengine

// A rank is one data-parallel replica behind the engine's HTTP: a scheduler with a cache of its own. What it
// holds is guarded by the engine's mutex.
type rank struct {
	index    int
	core     *Core
	sessions map[string]*session
}

// pick is the rank that a request is routed to, else the next in turn.
func (e *Engine) pick(routed *int) *rank {
	if routed != nil {
		return e.ranks[*routed]
	}
	k := e.ranks[e.turns%len(e.ranks)]
	e.turns++
	return k
}
