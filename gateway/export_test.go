package gateway

// Streams counts the streams that are open.
func (g *Gateway) Streams() (n int) {
	if g.demux == nil {
		return 0
	}
	for i := range g.demux.shards {
		sh := &g.demux.shards[i]
		sh.mu.Lock()
		n += len(sh.streams)
		sh.mu.Unlock()
	}
	return n
}

// InFlight is the number of bytes taken from the budget of bodies.
func (g *Gateway) InFlight() int64 { return g.inFlight.Load() }

// Calls counts the requests that can be aborted, and Names the names by which they are known.
func (g *Gateway) Calls() (calls, names int) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	return len(g.live.calls), len(g.live.named)
}
