package simengine

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// version is the SGLang release whose behaviour is simulated.
const version = "0.5.23-radixbus-sim"

// pausedHealth is how long a paused engine lets a health check wait before it fails it (seen on SGLang
// 0.5.23).
const pausedHealth = 20 * time.Second

// health answers like an engine whose health checks do not generate.
func (e *Engine) health(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	state, paused, changed := e.state, e.pausedBy != "", e.changed
	e.mu.Unlock()
	if paused && state == serving {
		await(r.Context(), changed, pausedHealth)
		e.mu.Lock()
		state, paused = e.state, e.pausedBy != ""
		e.mu.Unlock()
	}
	if state != serving || paused {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// healthGenerate generates one token to see whether the engine still can.
func (e *Engine) healthGenerate(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pausedHealth)
	defer cancel()
	req, err := e.newRequest(&common{}, sampling{limit: new(1), temperature: new(0.0)}, [][]int32{{firstPiece}})
	if err == nil {
		err = e.start(ctx, req)
	}
	e.mu.Lock()
	ready := e.state == serving
	e.mu.Unlock()
	if err != nil || !ready {
		if err == nil {
			e.abort(req.seqs...)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for {
		switch _, how := req.seqs[0].progress(); how {
		case Unended:
		case Finished:
			w.WriteHeader(http.StatusOK)
			return
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case <-req.wake:
		case <-ctx.Done():
			e.abort(req.seqs...)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
	}
}

func (e *Engine) modelInfo(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	model, weights := e.model, e.weights
	e.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{
		"model_path": model, "tokenizer_path": model, "is_generation": true, "preferred_sampling_params": nil,
		"weight_version": weights, "has_image_understanding": false, "has_audio_understanding": false,
		"model_type": "simulated", "architectures": []string{"SimulatedForCausalLM"},
	})
}

func (e *Engine) serverInfo(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	model, weights, load := e.model, e.weights, e.core.Load()
	e.mu.Unlock()
	core := e.core.Config()
	writeJSON(w, http.StatusOK, map[string]any{
		"model_path": model, "served_model_name": model, "tokenizer_path": model, "version": version,
		"max_total_num_tokens": core.Capacity, "max_req_input_len": min(core.Context-1, core.Capacity-1) - 5,
		"page_size": core.Page, "dp_size": 1, "tp_size": e.profile.TP, "pp_size": 1,
		"radix_eviction_policy": e.cfg.Eviction, "schedule_policy": e.cfg.Schedule, "schedule_conservativeness": 1.0,
		"enable_cache_report": e.cfg.CacheReport, "enable_priority_scheduling": false,
		"abort_on_priority_when_disabled": false, "disable_radix_cache": false, "incremental_streaming_output": false,
		"max_running_requests": core.MaxRunning, "max_queued_requests": nullable(e.cfg.MaxQueued),
		"context_length": core.Context, "chunked_prefill_size": core.Chunk, "max_prefill_tokens": core.MaxPrefill,
		"enable_metrics": true, "enable_lora": false, "kv_events_config": nil, "kv_events": nil,
		"device": e.profile.GPU, "weight_version": "default", "random_seed": e.cfg.Seed,
		"internal_states": []map[string]any{{
			"weight_version": weights, "last_gen_throughput": load.LastThroughput, "effective_max_running_requests_per_dp": core.MaxRunning,
			"memory_usage": map[string]any{"token_capacity": core.Capacity},
		}},
	})
}

func nullable(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func (e *Engine) card() map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	return map[string]any{"id": e.model, "object": "model", "created": e.origin.Unix(), "owned_by": "sglang",
		"root": e.model, "parent": nil, "max_model_len": e.cfg.ContextLength}
}

func (e *Engine) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{e.card()}})
}

func (e *Engine) oneModel(w http.ResponseWriter, r *http.Request) {
	card := e.card()
	if id := r.PathValue("id"); card["id"] != id {
		f := failure{message: "The model '" + id + "' does not exist", kind: "NotFoundError", status: http.StatusNotFound}
		writeFlat(w, f)
		return
	}
	writeJSON(w, http.StatusOK, card)
}

func (e *Engine) loads(w http.ResponseWriter, r *http.Request) {
	list := []map[string]any{}
	if rank := r.FormValue("dp_rank"); rank == "" || rank == "0" {
		list = append(list, e.rankLoad())
	}
	writeJSON(w, http.StatusOK, map[string]any{"timestamp": float64(time.Now().UnixMicro()) / 1e6, "version": version,
		"accelerator": e.profile.GPU, "num_accelerators": e.profile.TP, "loads": list})
}

func (e *Engine) rankLoad() map[string]any {
	s := e.Stats()
	core := e.core.Config()
	usage := float64(s.Used) / float64(s.Capacity)
	return map[string]any{
		"dp_rank": 0, "num_running_reqs": s.Running, "num_waiting_reqs": s.Waiting,
		"num_waiting_uncached_tokens": s.WaitingNew, "num_used_tokens": s.Used,
		"num_total_tokens": s.Used + s.WaitingPrompt, "num_active_tokens": s.Used, "max_total_num_tokens": s.Capacity,
		"max_running_requests": core.MaxRunning, "token_usage": usage, "gen_throughput": s.LastThroughput,
		"cache_hit_rate": hitRate(s), "utilization": usage, "total_prefill_uncached_tokens": s.Computed,
		"total_prefill_busy_us": s.PrefillBusy.Microseconds(),
		"memory":                map[string]any{"kv_available_tokens": s.Free, "kv_evictable_tokens": s.Evictable},
		"queues":                map[string]any{"waiting": s.Waiting, "grammar": 0, "paused": 0, "retracted": s.Retractions},
	}
}

func hitRate(s Stats) float64 {
	if s.Prompt == 0 {
		return 0
	}
	return float64(s.Totals.Cached) / float64(s.Prompt)
}

// metrics writes the main sglang: series in Prometheus' text format.
func (e *Engine) metrics(w http.ResponseWriter, _ *http.Request) {
	s := e.Stats()
	e.mu.Lock()
	m := e.measures
	e.mu.Unlock()
	x := exposition{labels: `model_name=` + strconv.Quote(s.Model) + `,engine_type="unified",tp_rank="0",pp_rank="0",dp_rank="0"`}
	for _, g := range []struct {
		name  string
		value float64
	}{
		{"num_running_reqs", float64(s.Running)}, {"num_queue_reqs", float64(s.Waiting)},
		{"num_used_tokens", float64(s.Used)}, {"token_usage", float64(s.Used) / float64(s.Capacity)},
		{"gen_throughput", s.LastThroughput}, {"cache_hit_rate", hitRate(s)},
		{"utilization", float64(s.Used) / float64(s.Capacity)}, {"num_retracted_reqs", float64(s.Retractions)},
		{"kv_available_tokens", float64(s.Free)}, {"kv_evictable_tokens", float64(s.Evictable)},
		{"max_total_num_tokens", float64(s.Capacity)}, {"new_token_ratio", s.NewTokenRatio},
	} {
		x.sample(g.name, "gauge", g.value)
	}
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

func (x *exposition) sample(name, kind string, value float64, more ...string) {
	x.b.WriteString("# TYPE sglang:" + name + " " + kind + "\n")
	x.line(name, value, more...)
}

func (x *exposition) line(name string, value float64, more ...string) {
	labels := strings.Join(append([]string{x.labels}, more...), ",")
	x.b.WriteString("sglang:" + name + "{" + labels + "} " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

func (x *exposition) histogram(name string, h *histogram) {
	x.b.WriteString("# TYPE sglang:" + name + " histogram\n")
	sum := int64(0)
	for i, bound := range bucketBounds {
		sum += h.buckets[i]
		x.line(name+"_bucket", float64(sum), `le="`+strconv.FormatFloat(bound, 'g', -1, 64)+`"`)
	}
	x.line(name+"_bucket", float64(h.count), `le="+Inf"`)
	x.line(name+"_sum", h.sum)
	x.line(name+"_count", float64(h.count))
}
