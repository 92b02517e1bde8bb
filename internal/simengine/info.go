package simengine

import (
	"net/http"
)

// version is the SGLang release whose behaviour is simulated.
const version = "0.5.23-radixbus-sim"

func (e *Engine) root(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, "SGLang is running")
}

func (e *Engine) modelInfo(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	model, weights := e.model, e.weights
	e.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{
		"model_path": model, "served_model_name": model, "tokenizer_path": e.cfg.Model, "is_generation": !e.cfg.Embedding,
		"preferred_sampling_params": nil, "weight_version": weights, "load_format": "auto", "reasoning_parser": nil,
		"tool_call_parser": "simulated", "disaggregation_mode": "null", "has_image_understanding": false,
		"has_audio_understanding": e.cfg.Audio, "model_type": "simulated", "architectures": []string{"SimulatedForCausalLM"},
	})
}

// serverInfo tells the configuration as a real engine does: what was not set is null, even where a default
// applies.
func (e *Engine) serverInfo(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	core := e.ranks[0].core.Config()
	info := map[string]any{
		"model_path": e.cfg.Model, "served_model_name": e.cfg.Model, "tokenizer_path": e.cfg.Model,
		"page_size": core.Page, "dp_size": len(e.ranks), "tp_size": e.profile.TP, "pp_size": 1, "ep_size": 1, "nnodes": 1,
		"load_balance_method": "round_robin", "enable_dp_attention": false, "disaggregation_mode": "null",
		"radix_eviction_policy": e.cfg.Eviction, "schedule_policy": e.cfg.Schedule, "schedule_conservativeness": float(1),
		"enable_cache_report": e.cfg.CacheReport, "enable_priority_scheduling": false, "abort_on_priority_when_disabled": false,
		"disable_radix_cache": false, "incremental_streaming_output": false, "stream_response_default_include_usage": false,
		"max_running_requests": nullable(e.told.MaxRunning), "max_queued_requests": nullable(e.told.MaxQueued),
		"max_total_tokens": nullable(e.told.Capacity), "context_length": nullable(e.told.ContextLength),
		"chunked_prefill_size": core.Chunk, "max_prefill_tokens": core.MaxPrefill, "allow_auto_truncate": false,
		"enable_metrics": true, "enable_lora": nil, "max_loaded_loras": nil, "lora_paths": nil, "kv_events_config": nil,
		"is_embedding": e.cfg.Embedding, "enable_response_store": e.cfg.ResponseStore, "tool_call_parser": "simulated",
		"reasoning_parser": nil, "device": e.profile.GPU, "weight_version": "default", "random_seed": e.drawn,
		"speculative_algorithm": nil, "enable_hierarchical_cache": false, "enable_streaming_session": false, "api_key": nil,
	}
	if e.cfg.LoRA {
		info["enable_lora"], info["max_loaded_loras"] = true, e.cfg.MaxLoadedAdapters
	}
	var states []map[string]any
	for _, k := range e.ranks {
		state := map[string]any{"world_size": e.profile.TP, "effective_max_running_requests_per_dp": core.MaxRunning,
			"last_gen_throughput": float(k.core.Load().LastThroughput), "memory_usage": map[string]any{"token_capacity": core.Capacity}}
		for key, value := range info {
			state[key] = value
		}
		state["model_path"], state["weight_version"] = e.model, e.weights
		states = append(states, state)
	}
	for key, value := range map[string]any{
		"status": "ready", "frontend": "python", "version": version, "kv_events": nil, "internal_states": states,
		"max_total_num_tokens": core.Capacity, "max_req_input_len": min(core.Context-1, core.Capacity-1) - 5,
	} {
		info[key] = value
	}
	writeJSON(w, http.StatusOK, info)
}

func nullable(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

type modelCard struct {
	ID      string  `json:"id"`
	Object  string  `json:"object"`
	Created int64   `json:"created"`
	OwnedBy string  `json:"owned_by"`
	Root    string  `json:"root"`
	Parent  *string `json:"parent"`
	Length  *int    `json:"max_model_len"`
}

// cards are the base model's and those of the loaded adapters.
func (e *Engine) cards() []modelCard {
	e.mu.Lock()
	defer e.mu.Unlock()
	base := e.model
	all := []modelCard{{base, "model", e.origin.Unix(), "sglang", base, nil, &e.cfg.ContextLength}}
	for _, a := range e.adapters.loaded {
		all = append(all, modelCard{a.Name, "model", e.origin.Unix(), "sglang", a.Path, &base, nil})
	}
	return all
}

func (e *Engine) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": e.cards()})
}

// oneModel knows the base model alone.
func (e *Engine) oneModel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if card := e.cards()[0]; card.ID == id {
		writeJSON(w, http.StatusOK, card)
		return
	}
	type notServed struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Param   string `json:"param"`
		Code    string `json:"code"`
	}
	writeJSON(w, http.StatusNotFound, map[string]notServed{
		"error": {"The model '" + id + "' does not exist", "invalid_request_error", "model", "model_not_found"},
	})
}
