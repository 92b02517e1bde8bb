package simengine

import "time"

// Stats is an engine's state at a moment, summed over its ranks.
type Stats struct {
	Load
	Totals
	Live     int    // sequences whose end has not been published
	State    string // starting, serving, draining, drained, crashed or over
	Model    string
	Weights  string        // weight version
	Capacity int           // tokens of one rank
	Time     time.Duration // engine time
}

// Stats returns the current state.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Stats{Live: len(e.live), State: e.state.String(), Model: e.model, Weights: e.weights,
		Capacity: e.ranks[0].core.Config().Capacity, Time: e.now()}
	for _, k := range e.ranks {
		s.Load.add(k.core.Load())
		s.Totals.add(k.core.Totals())
	}
	return s
}

func (l *Load) add(o Load) {
	l.Running += o.Running
	l.Waiting += o.Waiting
	l.WaitingPrompt += o.WaitingPrompt
	l.WaitingNew += o.WaitingNew
	l.Used += o.Used
	l.Evictable += o.Evictable
	l.Free += o.Free
	l.Contexts += o.Contexts
	l.NewTokenRatio = max(l.NewTokenRatio, o.NewTokenRatio)
	l.LastThroughput += o.LastThroughput
}

func (t *Totals) add(o Totals) {
	t.Jobs += o.Jobs
	t.Finished += o.Finished
	t.Aborted += o.Aborted
	t.Prompt += o.Prompt
	t.Cached += o.Cached
	t.Output += o.Output
	t.Computed += o.Computed
	t.Evicted += o.Evicted
	t.Retractions += o.Retractions
	t.Prefills += o.Prefills
	t.Decodes += o.Decodes
	t.Busy += o.Busy
	t.PrefillBusy += o.PrefillBusy
}

// measures are the latencies that /metrics shows, in engine time.
type measures struct {
	ttft, between, e2e, queue histogram
}

func (m *measures) observe(out *Outcome) {
	for _, j := range out.Admitted {
		m.queue.add(j.Admitted - j.Submitted)
	}
	step := out.End - out.Start
	for _, j := range out.Emitted {
		if j.Produced == 1 {
			m.ttft.add(j.First - j.Submitted)
		} else if !out.Prefill {
			m.between.add(step)
		}
	}
}

func (m *measures) ended(j *Job) {
	if j.Ended == Finished {
		m.e2e.add(j.Last - j.Submitted)
	}
}

// bucketBounds are the upper bounds of a histogram's buckets, in seconds; one more bucket is open.
var bucketBounds = [...]float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8,
	10, 20, 40, 60, 80, 100, 200, 400}

type histogram struct {
	buckets [len(bucketBounds) + 1]int64
	sum     float64 // seconds
	count   int64
}

func (h *histogram) add(d time.Duration) {
	s := d.Seconds()
	i := 0
	for i < len(bucketBounds) && s > bucketBounds[i] {
		i++
	}
	h.buckets[i]++
	h.sum += s
	h.count++
}
