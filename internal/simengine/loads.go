package simengine

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loads tells every rank's load, or one rank's.
func (e *Engine) loads(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	only := -1
	if text := query.Get("dp_rank"); text != "" {
		var err error
		if only, err = strconv.Atoi(text); err != nil {
			refuseFlat(w, r, invalid("int_parsing", "Input should be a valid integer, unable to parse string as an integer",
				appendJSON(nil, text), "'query'", "'dp_rank'"))
			return
		}
		only = max(only, 0)
	}
	var sections []string
	if text := query.Get("include"); text != "" {
		for _, s := range strings.Split(text, ",") {
			sections = append(sections, strings.TrimSpace(s))
		}
	}
	e.mu.Lock()
	list := []map[string]any{}
	for _, k := range e.ranks {
		if only < 0 || only == k.index {
			list = append(list, e.rankLoad(k, sections))
		}
	}
	e.mu.Unlock()
	if query.Get("format") == "prometheus" {
		writeLoads(w, list)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00"), "version": version,
		"accelerator": e.profile.GPU, "num_accelerators": e.profile.TP, "loads": list})
}

func (e *Engine) rankLoad(k *rank, sections []string) map[string]any {
	core, l, t := k.core.Config(), k.core.Load(), k.core.Totals()
	usage := float64(l.Used) / float64(core.Capacity)
	load := map[string]any{
		"timestamp": float64(time.Now().UnixMicro()) / 1e6, "dp_rank": k.index, "num_running_reqs": l.Running,
		"num_waiting_reqs": l.Waiting, "num_waiting_uncached_tokens": l.WaitingNew, "num_used_tokens": l.Used,
		"num_total_tokens": l.Used + l.WaitingPrompt, "num_active_tokens": l.Used + l.WaitingPrompt,
		"num_prealloc_ready_tokens": 0, "max_total_num_tokens": core.Capacity, "max_running_requests": core.MaxRunning,
		"token_usage": float(usage), "gen_throughput": float(l.LastThroughput), "cache_hit_rate": float(hitRate(t)),
		"utilization":                   float(usage),
		"total_prefill_uncached_tokens": t.Computed, "total_prefill_busy_us": t.PrefillBusy.Microseconds(), "decode_moments": nil,
	}
	wants := func(section string) bool {
		return sections == nil || slices.Contains(sections, "all") || slices.Contains(sections, section)
	}
	if wants("memory") {
		load["memory"] = map[string]any{"weight_gb": float(0), "kv_cache_gb": float(0), "graph_gb": float(0), "token_capacity": core.Capacity}
	}
	if wants("lora") && e.cfg.LoRA {
		used := 0
		for _, a := range e.adapters.loaded {
			used += min(a.users, 1)
		}
		load["lora"] = map[string]any{"slots_used": used, "slots_total": e.cfg.MaxLoadedAdapters,
			"utilization": float(used) / float(e.cfg.MaxLoadedAdapters)}
	}
	if wants("disagg") {
		load["disaggregation"] = map[string]any{"mode": "null", "prefill_bootstrap_queue_reqs": 0, "prefill_inflight_queue_reqs": 0,
			"decode_prealloc_queue_reqs": 0, "decode_transfer_queue_reqs": 0, "decode_retracted_queue_reqs": 0}
	}
	if wants("queues") {
		load["queues"] = map[string]any{"waiting": l.Waiting, "grammar": 0, "paused": 0, "retracted": 0, "prealloc_ready": 0}
	}
	return load
}

// writeLoads writes the numbers of the loads, those of their sections too, in Prometheus' text format.
func writeLoads(w http.ResponseWriter, list []map[string]any) {
	samples := map[string][]string{}
	for _, load := range list {
		rank := load["dp_rank"]
		add := func(name string, value any) {
			switch value.(type) {
			case int, int64, float64, float:
				samples[name] = append(samples[name], fmt.Sprintf("%s{dp_rank=\"%v\"} %v\n", name, rank, value))
			}
		}
		for key, value := range load {
			if section, ok := value.(map[string]any); ok {
				for inner, v := range section {
					add("sglang_"+strings.Replace(key, "disaggregation", "disagg", 1)+"_"+inner, v)
				}
			} else if key != "dp_rank" {
				add("sglang_"+key, value)
			}
		}
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		fmt.Fprintf(&b, "# TYPE %s gauge\n%s", name, strings.Join(samples[name], ""))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(b.String())) // a client that is gone reads nothing
}

func hitRate(t Totals) float64 {
	if t.Prompt == 0 {
		return 0
	}
	return float64(t.Cached) / float64(t.Prompt)
}
