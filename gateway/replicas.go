package gateway

import (
	"slices"
	"sync"
	"time"
)

// replicas remembers which schedulers have answered lately. The bus gives a question to any one of them; one that is stuck
// and still connected would let every other question run into its silence. So who is silent is passed over: for a while
// questions go to the scheduler that answered last, but for one in a while that finds out whether all is well again.
type replicas struct {
	mu       sync.Mutex
	answered map[string]time.Time // by scheduler
	shyUntil time.Time            // the group is not asked before, but for probes
	probed   time.Time
}

const (
	replicaKept  = time.Minute     // how long one that has not answered since is asked by name
	maxReplicas  = 64              // remembered
	shyFor       = 5 * time.Second // after the group was silent
	probeReplica = time.Second     // between probes of the group
)

// heard notes an answer.
func (r *replicas) heard(now time.Time, scheduler string) {
	if scheduler == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered == nil {
		r.answered = make(map[string]time.Time)
	}
	if _, known := r.answered[scheduler]; !known && len(r.answered) >= maxReplicas {
		for name, at := range r.answered {
			if now.Sub(at) > replicaKept {
				delete(r.answered, name)
			}
		}
		if len(r.answered) >= maxReplicas {
			return
		}
	}
	r.answered[scheduler] = now
}

// first tells whom to ask first: a scheduler by name, or the group ("").
func (r *replicas) first(now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(r.shyUntil) {
		return ""
	}
	if now.Sub(r.probed) > probeReplica {
		r.probed = now
		return ""
	}
	return r.best(now, nil)
}

// next tells whom to ask once those that were asked have been silent; "" when nobody else is known.
func (r *replicas) next(now time.Time, silent []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range silent {
		if name == "" {
			r.shyUntil, r.probed = now.Add(shyFor), now
		} else {
			delete(r.answered, name)
		}
	}
	return r.best(now, silent)
}

// best is the one that answered last. The lock is held.
func (r *replicas) best(now time.Time, except []string) (best string) {
	var latest time.Time
	for name, at := range r.answered {
		if now.Sub(at) <= replicaKept && at.After(latest) && !slices.Contains(except, name) {
			best, latest = name, at
		}
	}
	return best
}
