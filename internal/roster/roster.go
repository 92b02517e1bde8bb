// Package roster knows who is there: which workers live, what they serve and whether they take requests.
//
// Adapters beat ([wire.Up]) about once a second. A beat carries only a hash of what the worker registered; whoever
// does not know the hash asks the worker once. So a roster needs no store: it is right one beat after it started, and one
// beat after the bus came back. A worker that has been silent for the stale time, or for three of the beats that it has
// itself announced if that is longer, is shown as silent: it gets no requests. Only one that stays silent is forgotten,
// since what is known of its cache is worth more than a short absence. The silence of a bus is nobody's.
//
// [Roster] is the pure part: beats and `now` in, changes out. [Listener] feeds one from the bus.
//
// # Concurrency
//
// A Roster belongs to one goroutine. A Listener owns its Roster, and publishes an immutable [View] that any
// goroutine may read.
package roster

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// A Worker is one live worker. It is not modified after it was published.
type Worker struct {
	Info  *wire.WorkerInfo
	State wire.State
}

// A Change tells what became of a worker. One with another Instance than before has replaced its earlier life.
type Change struct {
	Worker *Worker // as it is now; as it was, when Gone
	Gone   bool
	Code   wire.Code // why, when Gone
}

type entry struct {
	worker   *Worker // nil until its info is known; silent and of an earlier life until that of this one is
	instance wire.Instance
	hash     uint64
	state    wire.State
	quiet    bool // not heard for too long, or known not to listen, since its last beat
	heard    time.Time
	asked    time.Time
	due      time.Duration // beats come within this
}

// Roster is a set of workers. The zero value is not usable; see [New].
type Roster struct {
	stale   time.Duration
	forget  time.Duration
	max     int
	deaf    time.Time // until then nobody could be heard
	workers map[string]*entry
}

// New makes an empty roster. A worker that has been silent for stale is shown as such, and dropped after forget; beats of
// more than max workers are not taken in.
func New(stale, forget time.Duration, max int) *Roster {
	return &Roster{stale: stale, forget: forget, max: max, workers: make(map[string]*entry)}
}

// maxBeat bounds the interval that a worker may announce: a wrong number must not keep a dead worker for days.
const maxBeat = 20 * time.Second

// askAgain is how long an answer to "what are you?" may take before it is asked again.
const askAgain = 500 * time.Millisecond

// Up takes a beat. ask tells that the worker's info is not known and must be asked for; changes tell what is
// different now.
func (r *Roster) Up(now time.Time, up wire.Up) (ask bool, changes []Change) {
	e := r.workers[up.Worker]
	switch {
	case e == nil:
		if len(r.workers) >= r.max {
			return false, nil
		}
		e = &entry{instance: up.Instance}
		r.workers[up.Worker] = e
	case up.Instance < e.instance && !e.quiet:
		return false, nil // an earlier life's last words
	case up.Instance != e.instance:
		// A smaller one is a later life all the same, on a host whose clock is behind: nobody else has said anything for a
		// while. If it was an earlier life's late word after all, the known life takes over again with its next beat, being the
		// greater, and until then it was silent anyway. If a late word of a dead life puts the greater number back, that one
		// is quiet after the stale time. Of two lives that are both heard, the greater one stays.
		*e = entry{instance: up.Instance, worker: e.worker}
		changes = e.hush(changes) // not gone: its model has a worker, and requests wait for that
	}
	e.heard, e.state, e.quiet = now, up.State, false
	e.due = min(time.Duration(up.BeatMillis)*time.Millisecond, maxBeat)
	if e.current() && e.hash == up.InfoHash {
		if e.worker.State != up.State {
			e.worker = &Worker{Info: e.worker.Info, State: up.State}
			changes = append(changes, Change{Worker: e.worker})
		}
		return false, changes
	}
	if now.Sub(e.asked) < askAgain {
		return false, changes
	}
	e.asked = now
	return true, changes
}

// current tells that what is known is of this life.
func (e *entry) current() bool { return e.worker != nil && e.worker.Info.Instance == e.instance }

// hush makes it silent.
func (e *entry) hush(changes []Change) []Change {
	if e.worker == nil || e.worker.State == wire.Silent {
		return changes
	}
	e.worker = &Worker{Info: e.worker.Info, State: wire.Silent}
	return append(changes, Change{Worker: e.worker})
}

// Info takes the answer to a question that Up asked for. One that tells nothing new changes nothing.
func (r *Roster) Info(info *wire.WorkerInfo, hash uint64) (changes []Change) {
	e := r.workers[info.Worker]
	if e == nil || e.instance != info.Instance || e.current() && e.hash == hash {
		return nil
	}
	if e.worker != nil && e.worker.Info.Pool != info.Pool {
		changes = append(changes, Change{Worker: e.worker, Gone: true, Code: wire.CodeStale})
	}
	e.hash = hash
	e.worker = &Worker{Info: info, State: e.state}
	return append(changes, Change{Worker: e.worker})
}

// Down takes a worker's last word.
func (r *Roster) Down(g wire.Gone) []Change {
	e := r.workers[g.Worker]
	if e == nil || e.instance > g.Instance {
		return nil
	}
	delete(r.workers, g.Worker)
	if e.worker == nil {
		return nil
	}
	return []Change{{Worker: e.worker, Gone: true, Code: g.Code}}
}

// Absent takes it that a life of a worker does not listen, as the bus has said: it is silent until its next beat.
func (r *Roster) Absent(worker string, n wire.Instance) []Change {
	e := r.workers[worker]
	if e == nil || e.instance != n {
		return nil
	}
	e.quiet = true
	return e.hush(nil)
}

// Deaf tells that nobody could be heard until now: the bus was away.
func (r *Roster) Deaf(now time.Time) { r.deaf = now }

// Expire marks the workers that have been silent for too long, and drops those that stay so.
func (r *Roster) Expire(now time.Time) (changes []Change) {
	for name, e := range r.workers {
		heard := e.heard
		if r.deaf.After(heard) {
			heard = r.deaf
		}
		stale := max(r.stale, 3*e.due)
		switch silent := now.Sub(heard); {
		case silent <= stale:
		case e.worker == nil:
			delete(r.workers, name)
		case silent > max(r.forget, stale):
			delete(r.workers, name)
			changes = append(changes, Change{Worker: e.worker, Gone: true, Code: wire.CodeWorkerGone})
		default:
			e.quiet = true
			changes = e.hush(changes)
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Worker.Info.Worker, b.Worker.Info.Worker) })
	return changes
}

// View makes an immutable picture of the workers that are known.
func (r *Roster) View() *View {
	v := &View{models: make(map[string]*Served), in: make(map[place]*Served)}
	for _, e := range r.workers {
		if e.worker != nil {
			v.Workers = append(v.Workers, e.worker)
		}
	}
	slices.SortFunc(v.Workers, func(a, b *Worker) int { return strings.Compare(a.Info.Worker, b.Info.Worker) })
	for _, w := range v.Workers {
		if w.State == wire.Ready {
			v.Ready++
		}
		for _, m := range w.Info.Models {
			at := place{m.Name, w.Info.Pool}
			s := v.in[at]
			if s == nil {
				s = &Served{Model: m, Pool: w.Info.Pool, Info: w.Info}
				v.in[at] = s
			}
			if w.State == wire.Ready && s.Ready == 0 {
				s.Info = w.Info
			}
			s.Workers++
			if w.State == wire.Ready {
				s.Ready++
			}
		}
	}
	for _, s := range v.in {
		if s.before(v.models[s.Model.Name]) {
			v.models[s.Model.Name] = s
		}
	}
	v.Models = slices.SortedFunc(maps.Values(v.models), func(a, b *Served) int { return strings.Compare(a.Model.Name, b.Model.Name) })
	return v
}

// before tells which of two pools that serve one name gets its requests: the one whose base model has it, since an alias or an
// adapter of the same name is another model; then the one with more ready workers, then with more live ones, then the first by
// name.
func (s *Served) before(t *Served) bool {
	if t == nil {
		return true
	}
	if base := s.Model.Kind == wire.BaseModel; base != (t.Model.Kind == wire.BaseModel) {
		return base
	}
	return cmp.Or(cmp.Compare(t.Ready, s.Ready), cmp.Compare(t.Workers, s.Workers), strings.Compare(s.Pool, t.Pool)) < 0
}

// A View is what was known at one moment. It is immutable.
type View struct {
	Workers []*Worker // by name
	Models  []*Served // by name
	Ready   int       // workers that take requests
	models  map[string]*Served
	in      map[place]*Served
}

// A place is a model name in one pool.
type place struct{ model, pool string }

// Served is a model name and the pool behind it.
type Served struct {
	Model   wire.Model
	Pool    string
	Info    *wire.WorkerInfo // of one of the pool's workers, of a ready one if there is one: what is the same for all
	Workers int              // live workers of the pool that serve the name
	Ready   int              // of them, taking requests
}

// Lookup finds who serves a model name; nil when nobody does.
func (v *View) Lookup(model string) *Served { return v.models[model] }

// LookupIn finds a model of one pool; nil when the pool has none of that name.
func (v *View) LookupIn(pool, model string) *Served { return v.in[place{model, pool}] }

// Names lists the model names there are, at most limit of them.
func (v *View) Names(limit int) []string {
	names := make([]string, 0, min(limit, len(v.Models)))
	for _, s := range v.Models[:min(limit, len(v.Models))] {
		names = append(names, s.Model.Name)
	}
	return names
}
