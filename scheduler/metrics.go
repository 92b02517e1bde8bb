package scheduler

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

type metrics struct {
	decisions *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	overflow  prometheus.Counter
	malformed prometheus.Counter
	workers   *prometheus.GaugeVec
	leases    *prometheus.GaugeVec
	held      *prometheus.GaugeVec
	tree      *prometheus.GaugeVec
	running   *prometheus.GaugeVec
	heldBytes *prometheus.GaugeVec

	prompt, predicted, actual, wrong *prometheus.CounterVec
}

// newMetrics registers them. It fails when the registry has them already: two schedulers need a registry each.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	var errs []error
	register := func(c prometheus.Collector) { errs = append(errs, reg.Register(c)) }
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "radixbus_" + name, Help: help}, labels)
		register(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "radixbus_" + name, Help: help}, labels)
		register(g)
		return g
	}
	m := &metrics{
		decisions: counter("scheduler_decisions_total", "Questions answered, by verdict.", "pool", "verdict"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "radixbus_scheduler_decision_seconds", Help: "Time from taking a question to its answer, holds included.",
			Buckets: prometheus.ExponentialBuckets(0.000005, 4, 12), // 5 µs to 21 s
		}, []string{"pool"}),
		overflow:  prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_scheduler_queue_overflows_total", Help: "Messages that found a pool's queue full."}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_scheduler_malformed_total", Help: "Messages that could not be read."}),
		workers:   gauge("scheduler_workers", "Workers known, by state.", "pool", "state"),
		leases:    gauge("scheduler_leases", "Attempts counted.", "pool"),
		held:      gauge("scheduler_held_requests", "Requests that wait for room.", "pool"),
		tree:      gauge("scheduler_tree_bytes", "Memory of the tree, as it counts itself.", "pool"),
		running:   gauge("scheduler_worker_running", "Attempts counted on a worker.", "pool", "worker"),
		heldBytes: gauge("scheduler_worker_held_bytes", "Bytes of prompts believed cached on a worker.", "pool", "worker"),
		prompt:    counter("belief_prompt_tokens_total", "Prompt tokens of finished requests whose engine told its cached tokens.", "pool", "worker"),
		predicted: counter("belief_predicted_tokens_total", "Of them, believed cached when the worker was chosen.", "pool", "worker"),
		actual:    counter("belief_actual_tokens_total", "Of them, really cached.", "pool", "worker"),
		wrong:     counter("belief_error_tokens_total", "Sum of |predicted - actual|.", "pool", "worker"),
	}
	register(m.latency)
	register(m.overflow)
	register(m.malformed)
	return m, errors.Join(errs...)
}

// poolMetrics are the figures of one pool. Handles are looked up once.
type poolMetrics struct {
	m       *metrics
	pool    string
	placed  prometheus.Counter
	latency prometheus.Observer
	known   map[string]*workerMetrics // of the workers that are here
	belief  map[string]*beliefMetrics
}

type workerMetrics struct{ running, heldBytes prometheus.Gauge }

type beliefMetrics struct{ prompt, predicted, actual, wrong prometheus.Counter }

func (m *metrics) pool(name string) *poolMetrics {
	return &poolMetrics{
		m: m, pool: name, placed: m.decisions.WithLabelValues(name, "placed"), latency: m.latency.WithLabelValues(name),
		belief: make(map[string]*beliefMetrics),
	}
}

func (p *poolMetrics) decided(reply *wire.AssignReply, took time.Duration) {
	p.latency.Observe(took.Seconds())
	if reply.Verdict == wire.Placed {
		p.placed.Inc()
		return
	}
	p.m.decisions.WithLabelValues(p.pool, reply.Code.String()).Inc()
}

// Counters outlive their workers, so that sums only rise. maxNamed bounds the workers of a pool that have counters of
// their own; what comes after counts under the name otherWorkers.
const (
	maxNamed     = 4096
	otherWorkers = "_other"
)

func (p *poolMetrics) believe(b *core.Belief) {
	worker := b.Worker
	if p.belief[worker] == nil && len(p.belief) >= maxNamed {
		worker = otherWorkers
	}
	m := p.belief[worker]
	if m == nil {
		m = &beliefMetrics{
			prompt: p.m.prompt.WithLabelValues(p.pool, worker), predicted: p.m.predicted.WithLabelValues(p.pool, worker),
			actual: p.m.actual.WithLabelValues(p.pool, worker), wrong: p.m.wrong.WithLabelValues(p.pool, worker),
		}
		p.belief[worker] = m
	}
	m.prompt.Add(float64(b.Prompt))
	m.predicted.Add(float64(b.Predicted))
	m.actual.Add(float64(b.Actual))
	m.wrong.Add(float64(max(b.Predicted-b.Actual, b.Actual-b.Predicted)))
}

// measure brings the gauges up to date, and takes away those of workers that have left.
func (p *poolMetrics) measure(c *core.Pool) {
	status := c.Status()
	states := map[wire.State]int{wire.Ready: 0, wire.Draining: 0, wire.Down: 0}
	here := make(map[string]*workerMetrics, len(status))
	for i := range status {
		w := &status[i]
		states[w.State]++
		m := p.known[w.Worker]
		if m == nil {
			m = &workerMetrics{p.m.running.WithLabelValues(p.pool, w.Worker), p.m.heldBytes.WithLabelValues(p.pool, w.Worker)}
		}
		here[w.Worker] = m
		m.running.Set(float64(w.Running))
		m.heldBytes.Set(float64(w.HeldBytes))
	}
	for state, n := range states {
		p.m.workers.WithLabelValues(p.pool, state.String()).Set(float64(n))
	}
	for worker := range p.known {
		if here[worker] == nil {
			p.m.running.DeleteLabelValues(p.pool, worker)
			p.m.heldBytes.DeleteLabelValues(p.pool, worker)
		}
	}
	p.known = here
	p.m.leases.WithLabelValues(p.pool).Set(float64(c.Leases()))
	p.m.held.WithLabelValues(p.pool).Set(float64(c.Held()))
	p.m.tree.WithLabelValues(p.pool).Set(float64(c.Tree().Stats().Bytes))
}
