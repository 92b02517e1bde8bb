package gateway

import "sync"

// doors count the requests inside, and close for new ones.
type doors struct {
	mu      sync.Mutex
	inside  int
	closing chan struct{} // closed with the doors
	empty   chan struct{} // closed once nobody is inside any more
}

func newDoors() *doors { return &doors{closing: make(chan struct{}), empty: make(chan struct{})} }

// enter lets a request in, which has to leave, or tells that the doors are closed.
func (d *doors) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut() {
		return false
	}
	d.inside++
	return true
}

func (d *doors) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside--; d.inside == 0 && d.shut() {
		close(d.empty)
	}
}

// close closes them, once, and returns what is closed when the last one has left.
func (d *doors) close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.closing)
	if d.inside == 0 {
		close(d.empty)
	}
	return d.empty
}

func (d *doors) shut() bool {
	select {
	case <-d.closing:
		return true
	default:
		return false
	}
}
