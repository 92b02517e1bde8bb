package workeradapter

import "context"

// Held counts what an adapter holds on to: attempts, bytes of bodies, streams that a gateway may still ask for.
func (a *Adapter) Held() (attempts int, bodies int64, streams int) {
	a.mu.Lock()
	bodies = a.bodies
	workers := a.workers
	for _, w := range workers {
		attempts += len(w.running)
	}
	a.mu.Unlock()
	for _, w := range workers {
		w.out.mu.Lock()
		for _, b := range w.out.all {
			b.mu.Lock()
			streams += len(b.streams)
			b.mu.Unlock()
		}
		w.out.mu.Unlock()
	}
	return attempts, bodies, streams
}

// Reclaim is what an adapter does that was away, or whose bus was.
func (a *Adapter) Reclaim(ctx context.Context, away bool) { a.reclaim(ctx, away) }
