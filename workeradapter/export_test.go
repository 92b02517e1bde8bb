package workeradapter

// Held counts what an adapter holds on to: attempts, bytes of bodies, streams that a gateway may still ask for.
func (a *Adapter) Held() (attempts int, bodies int64, streams int) {
	a.mu.Lock()
	attempts, bodies = len(a.running), a.bodies
	a.mu.Unlock()
	a.out.mu.Lock()
	defer a.out.mu.Unlock()
	for _, b := range a.out.all {
		b.mu.Lock()
		streams += len(b.streams)
		b.mu.Unlock()
	}
	return attempts, bodies, streams
}
