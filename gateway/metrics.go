package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests  *prometheus.CounterVec
	inFlight  prometheus.Gauge
	bodyBytes prometheus.Counter
	attempts  *prometheus.CounterVec
	assign    prometheus.Histogram
	accept    prometheus.Histogram
	firstByte prometheus.Histogram
	total     prometheus.Histogram
	frames    prometheus.Counter
	bytes     prometheus.Counter
	resends   prometheus.Counter
	strays    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 20) // 0.5 ms to 4 minutes
	m := &metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "radixbus_gateway_requests_total", Help: "Requests answered, by route and HTTP status; 499: the client left."}, []string{"route", "status"}),
		inFlight:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "radixbus_gateway_requests_in_flight", Help: "Requests being answered."}),
		bodyBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_gateway_body_bytes_total", Help: "Bytes of request bodies read."}),
		attempts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "radixbus_gateway_attempts_total", Help: "Attempts on workers, by how they ended."}, []string{"outcome"}),
		assign:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "radixbus_gateway_assign_seconds", Help: "Time until a scheduler answered.", Buckets: seconds}),
		accept:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "radixbus_gateway_accept_seconds", Help: "Time from the last byte of a dispatch to the adapter's first word.", Buckets: seconds}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "radixbus_gateway_first_byte_seconds", Help: "Time from a request's arrival to the first byte of its answer.", Buckets: seconds}),
		total:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "radixbus_gateway_request_seconds", Help: "Time from a request's arrival to the end of its answer.", Buckets: seconds}),
		frames:    prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_gateway_frames_total", Help: "Frames received."}),
		bytes:     prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_gateway_answer_bytes_total", Help: "Bytes of answers written to clients."}),
		resends:   prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_gateway_resends_total", Help: "Times that missing frames were asked for again."}),
		strays:    prometheus.NewCounter(prometheus.CounterOpts{Name: "radixbus_gateway_stray_frames_total", Help: "Frames of streams that are not (any more) open."}),
	}
	reg.MustRegister(m.requests, m.inFlight, m.bodyBytes, m.attempts, m.assign, m.accept, m.firstByte, m.total, m.frames, m.bytes, m.resends, m.strays)
	return m
}
