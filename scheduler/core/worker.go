package core

import (
	"cmp"
	"iter"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// A worker is one life of one routable unit, with what it has been given to do.
type worker struct {
	index    tree.Worker
	info     *wire.WorkerInfo
	models   []string // that it answers to, sorted
	state    wire.State
	joined   time.Time
	loaded   map[string]bool // adapters that its engine has in memory, or was given requests for
	capacity int64           // bytes, as told to the tree
	at       int             // its place among the candidates, if it is one; see Pool.candidate

	// suspect: a gateway or the worker's own failure says that it is not there; its next report clears it.
	suspect bool
	// busyUntil: it turned a request away although it looked free.
	busyUntil time.Time
	// troubledUntil: its engine failed that it was given; others are preferred until then.
	troubledUntil time.Time
	failures      int // in a row

	newest  *lease // its leases, a list: those that expire last come first
	oldest  *lease
	count   int
	aside   int    // of them, those that take no slot
	foreign int    // attempts that its adapter reports and no lease stands for
	reports uint64 // heard

	done     float64 // when what it was given is prefilled, on the clock of its scale
	uncached int64   // prefill tokens of all leases: what waits to be prefilled can be no more
	context  int64   // prompt tokens of all leases: what a decode step has to read
	rate     float64 // prefill tokens per second, learnt
	samples  int     // behind rate; see Pool.rateOf
	work     float64 // prefill tokens given so far
	coin     float64 // in [0, 1): breaks ties of work
	shelf    *shelf  // of the pool's, where the worker's figures are; nil: it is open to nobody
}

// engine is what the worker is a rank of.
func (w *worker) engine() string { return cmp.Or(w.info.Engine, w.info.Worker) }

// ranksOf yields all workers of the engine that w is one of: they fail together.
func (p *Pool) ranksOf(w *worker) iter.Seq[*worker] {
	return func(yield func(*worker) bool) {
		if w.info.DPSize <= 1 {
			yield(w)
			return
		}
		for _, other := range p.order {
			if (other == w || other.engine() == w.engine()) && !yield(other) {
				return
			}
		}
	}
}

func (w *worker) running() int { return w.count + w.foreign }

// occupied is how many slots are taken.
func (w *worker) occupied() int { return max(0, w.running()-w.aside) }

// leases yields them from the newest. The body may take out the one it is given.
func (w *worker) leases() iter.Seq[*lease] {
	return func(yield func(*lease) bool) {
		for l := w.newest; l != nil; {
			older := l.older
			if !yield(l) {
				return
			}
			l = older
		}
	}
}

// add counts a lease; remove takes it out of the counts. What waits to be prefilled is the caller's.
func (w *worker) add(l *lease) {
	w.link(l)
	w.count++
	w.aside += asideOf(l)
	w.uncached += l.uncached()
	w.context += l.prompt
	w.work += float64(l.uncached())
}

func (w *worker) remove(l *lease) {
	w.unlink(l)
	w.count--
	w.aside -= asideOf(l)
	w.uncached -= l.uncached()
	w.context -= l.prompt
}

func (w *worker) link(l *lease) {
	l.older, l.newer = w.newest, nil
	if w.newest != nil {
		w.newest.newer = l
	} else {
		w.oldest = l
	}
	w.newest = l
}

func (w *worker) unlink(l *lease) {
	if l.newer != nil {
		l.newer.older = l.older
	} else {
		w.newest = l.older
	}
	if l.older != nil {
		l.older.newer = l.newer
	} else {
		w.oldest = l.newer
	}
	l.newer, l.older = nil, nil
}

// defaultRunning is taken for a worker that does not tell how many attempts it admits.
const defaultRunning = 256

// Bounds of how long a worker whose engine fails is passed over, where others can serve. It doubles from failure to failure,
// so one that fails at once, and so looks idle, does not attract the pool's load.
const (
	troubleLeast = 100 * time.Millisecond
	troubleMost  = 10 * time.Second
)

// well takes it that the engine has answered, failed that it has not.
func (w *worker) well() { w.failures, w.troubledUntil = 0, time.Time{} }

// shade passes a worker over for a moment, because another rank of its engine has failed.
func (w *worker) shade(now time.Time) {
	if until := now.Add(troubleLeast); w.troubledUntil.Before(until) {
		w.troubledUntil = until
	}
}

func (w *worker) failed(now time.Time) {
	w.troubledUntil = now.Add(min(troubleLeast<<min(w.failures, 16), troubleMost))
	w.failures++
}

func asideOf(l *lease) int {
	if l.aside {
		return 1
	}
	return 0
}

// hasRoom tells whether the worker admits the request.
func (w *worker) hasRoom(now time.Time, req *wire.AssignRequest) bool {
	if req.Flags&wire.FlagLight != 0 { // adapters bound them
		return !now.Before(w.busyUntil)
	}
	return w.free(now) > 0
}

// free tells how many more attempts the worker admits.
func (w *worker) free(now time.Time) int {
	if now.Before(w.busyUntil) {
		return 0
	}
	return w.slots()
}

// slots is how many are free.
func (w *worker) slots() int {
	return max(0, min(cmp.Or(w.info.MaxRunning, defaultRunning), wire.MaxLeases)-w.occupied())
}
