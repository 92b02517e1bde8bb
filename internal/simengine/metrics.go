package simengine

import (
	"net/http"
	"strconv"
	"strings"
)

// metrics writes the main sglang: series in Prometheus' text format: the schedulers' by rank, and those of
// the HTTP side, which knows of no ranks.
func (e *Engine) metrics(w http.ResponseWriter, _ *http.Request) {
	s := e.Stats()
	e.mu.Lock()
	m := e.measures
	all := make([]Load, len(e.ranks))
	totals := make([]Totals, len(e.ranks))
	for i, k := range e.ranks {
		all[i], totals[i] = k.core.Load(), k.core.Totals()
	}
	e.mu.Unlock()
	x := exposition{labels: `engine_type="unified",model_name=` + strconv.Quote(s.Model)}
	per := func(name string, value func(Load, Totals) float64) {
		x.head(name, "gauge")
		for i := range all {
			labels := []string{`moe_ep_rank="0",pp_rank="0",tp_rank="0"`}
			if len(all) > 1 {
				labels = append(labels, `dp_rank="`+strconv.Itoa(i)+`"`)
			}
			x.line(name, value(all[i], totals[i]), labels...)
		}
	}
	capacity := float64(s.Capacity)
	usage := func(l Load, _ Totals) float64 { return float64(l.Used) / capacity }
	per("num_running_reqs", func(l Load, _ Totals) float64 { return float64(l.Running) })
	per("num_queue_reqs", func(l Load, _ Totals) float64 { return float64(l.Waiting) })
	per("num_used_tokens", func(l Load, _ Totals) float64 { return float64(l.Used) })
	per("token_usage", usage)
	per("utilization", usage)
	per("gen_throughput", func(l Load, _ Totals) float64 { return l.LastThroughput })
	per("cache_hit_rate", func(_ Load, t Totals) float64 { return hitRate(t) })
	per("num_retracted_reqs", func(_ Load, t Totals) float64 { return float64(t.Retractions) })
	per("kv_available_tokens", func(l Load, _ Totals) float64 { return float64(l.Free) })
	per("kv_evictable_tokens", func(l Load, _ Totals) float64 { return float64(l.Evictable) })
	per("max_total_num_tokens", func(Load, Totals) float64 { return capacity })
	per("new_token_ratio", func(l Load, _ Totals) float64 { return l.NewTokenRatio })
	x.sample("prompt_tokens_total", "counter", float64(s.Prompt))
	x.sample("generation_tokens_total", "counter", float64(s.Output))
	x.sample("cached_tokens_total", "counter", float64(s.Totals.Cached), `cache_source="device"`)
	x.sample("num_requests_total", "counter", float64(s.Jobs))
	x.sample("num_aborted_requests_total", "counter", float64(s.Aborted))
	x.histogram("time_to_first_token_seconds", &m.ttft)
	x.histogram("inter_token_latency_seconds", &m.between)
	x.histogram("e2e_request_latency_seconds", &m.e2e)
	x.histogram("queue_time_seconds", &m.queue)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(x.b.String())) // a client that is gone reads nothing
}

type exposition struct {
	labels string
	b      strings.Builder
}

func (x *exposition) head(name, kind string) {
	x.b.WriteString("# TYPE sglang:" + name + " " + kind + "\n")
}

func (x *exposition) sample(name, kind string, value float64, more ...string) {
	x.head(name, kind)
	x.line(name, value, more...)
}

func (x *exposition) line(name string, value float64, more ...string) {
	labels := strings.Join(append([]string{x.labels}, more...), ",")
	x.b.WriteString("sglang:" + name + "{" + labels + "} " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

func (x *exposition) histogram(name string, h *histogram) {
	x.head(name, "histogram")
	sum := int64(0)
	for i, bound := range bucketBounds {
		sum += h.buckets[i]
		x.line(name+"_bucket", float64(sum), `le="`+strconv.FormatFloat(bound, 'g', -1, 64)+`"`)
	}
	x.line(name+"_bucket", float64(h.count), `le="+Inf"`)
	x.line(name+"_sum", h.sum)
	x.line(name+"_count", float64(h.count))
}
