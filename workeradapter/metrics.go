package workeradapter

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	attempts  *prometheus.CounterVec
	refused   *prometheus.CounterVec
	running   prometheus.Gauge
	firstByte prometheus.Histogram
	total     prometheus.Histogram
	prompt    prometheus.Counter
	cached    prometheus.Counter
	output    prometheus.Counter
	aborts    prometheus.Counter
	frames    prometheus.Counter
	messages  prometheus.Counter
	resent    prometheus.Counter
	full      prometheus.Counter
	all       []prometheus.Collector
}

// newMetrics registers the figures of one worker; several adapters of a process differ by the label.
func newMetrics(reg prometheus.Registerer, worker string) *metrics {
	labels := prometheus.Labels{"worker": worker}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_worker_" + name, Help: help, ConstLabels: labels})
	}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 20) // 0.5 ms to 4 minutes
	m := &metrics{
		attempts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "radixbus_worker_attempts_total", Help: "Attempts that ran, by how they ended.", ConstLabels: labels}, []string{"outcome"}),
		refused:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "radixbus_worker_refused_total", Help: "Dispatches not taken, by reason.", ConstLabels: labels}, []string{"reason"}),
		running:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "radixbus_worker_running", Help: "Attempts admitted and not over.", ConstLabels: labels}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "radixbus_worker_first_event_seconds", Help: "Time from the engine call to its first event.", Buckets: seconds, ConstLabels: labels}),
		total:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "radixbus_worker_attempt_seconds", Help: "Time from admission to the end.", Buckets: seconds, ConstLabels: labels}),
		prompt:    counter("prompt_tokens_total", "Prompt tokens, as the engine counted."),
		cached:    counter("cached_tokens_total", "Prompt tokens that the engine had cached, as it counted."),
		output:    counter("output_tokens_total", "Output tokens, as the engine counted."),
		aborts:    counter("aborts_total", "Requests aborted at the engine."),
		frames:    counter("frames_total", "Frames sent."),
		messages:  counter("messages_total", "Bus messages that carried them."),
		resent:    counter("resent_frames_total", "Frames sent again."),
		full:      counter("window_full_total", "Times that the reading of an engine stream had to wait for the client."),
	}
	m.all = []prometheus.Collector{m.attempts, m.refused, m.running, m.firstByte, m.total, m.prompt, m.cached, m.output, m.aborts, m.frames, m.messages, m.resent, m.full}
	reg.MustRegister(m.all...)
	return m
}

// unregister takes the figures of a worker that has left out of the registry.
func (m *metrics) unregister(reg prometheus.Registerer) {
	for _, c := range m.all {
		reg.Unregister(c)
	}
}
