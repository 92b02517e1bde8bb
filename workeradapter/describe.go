package workeradapter

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// Kinds of engines, as far as they differ for us. An OpenAI surface alone is enough to be served.
const (
	kindSGLang   = "sglang"
	kindVLLM     = "vllm"
	kindLlamaCPP = "llama.cpp"
	kindTensorRT = "tensorrt-llm"
	kindOpenAI   = "openai" // any other
)

// kindsByOwner recognises an engine by what it says in owned_by of its models.
var kindsByOwner = map[string]string{"vllm": kindVLLM, "llamacpp": kindLlamaCPP, "tensorrt_llm": kindTensorRT}

// describe learns what the engine is and serves.
func (e *engine) describe(ctx context.Context) (*description, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	models, err := e.models(ctx)
	if err != nil {
		return nil, err
	}
	d := &description{info: wire.WorkerInfo{URL: clip(e.shown, wire.MaxPath), EngineKind: kindOpenAI, DPSize: 1, Models: models, Pool: models[0].Name}}
	kind := kindsByOwner[models[0].OwnedBy]
	if kind == "" {
		if found, err := e.describeSGLang(ctx, d); err != nil || found {
			return d, err
		}
	}
	d.info.ContextLength = models[0].ContextLength
	switch d.info.EngineKind = cmp.Or(kind, kindOpenAI); d.info.EngineKind {
	case kindVLLM:
		err = e.describeVLLM(ctx, d)
	case kindLlamaCPP:
		err = e.describeLlamaCPP(ctx, d)
	case kindTensorRT:
		_, err = e.describeVersion(ctx, d)
	}
	return d, err
}

// serverInfo is what SGLang tells of itself, as far as it is of use here.
type serverInfo struct {
	Version            string `json:"version"`
	ServedModelName    string `json:"served_model_name"`
	PageSize           int    `json:"page_size"`
	DPSize             int    `json:"dp_size"`
	MaxTotalNumTokens  int64  `json:"max_total_num_tokens"`
	MaxRunningRequests int    `json:"max_running_requests"`
	ContextLength      int    `json:"context_length"`
	EvictionPolicy     string `json:"radix_eviction_policy"`
	CacheReport        bool   `json:"enable_cache_report"`
	PriorityScheduling bool   `json:"enable_priority_scheduling"`
	MaxLoadedLoRAs     int    `json:"max_loaded_loras"`
	RandomSeed         int64  `json:"random_seed"` // drawn at each start, unless the operator sets one
	SchedulerInfo      struct {
		MaxTotalNumTokens int64 `json:"max_total_num_tokens"`
	} `json:"scheduler_info"`
	InternalStates []struct {
		MaxRunning int `json:"effective_max_running_requests_per_dp"`
	} `json:"internal_states"`
}

// isSGLang tells whether a document of /server_info is SGLang's: others have such a route too, vLLM's development mode for one.
func isSGLang(doc []byte) bool {
	var has struct {
		PageSize  json.RawMessage `json:"page_size"`
		Tokens    json.RawMessage `json:"max_total_num_tokens"`
		Scheduler json.RawMessage `json:"scheduler_info"`
	}
	return json.Unmarshal(doc, &has) == nil && (has.PageSize != nil || has.Tokens != nil || has.Scheduler != nil)
}

func (e *engine) describeSGLang(ctx context.Context, d *description) (found bool, err error) {
	var doc json.RawMessage
	if found, err = e.firstOf(ctx, &doc, "/server_info", "/get_server_info"); err != nil || !found {
		return false, err
	}
	if !isSGLang(doc) {
		return false, nil
	}
	var si serverInfo
	if err := json.Unmarshal(doc, &si); err != nil {
		return false, fmt.Errorf("/server_info: %w", err)
	}
	info := &d.info
	if name := si.ServedModelName; name != "" && name != info.Pool && len(name) <= wire.MaxName {
		info.Models[0].Name, info.Pool = name, name // a weight update renames the model in /v1/models, not what it is called by
	}
	info.EngineKind, info.EngineVersion = kindSGLang, si.Version
	info.CapacityTokens = cmp.Or(si.MaxTotalNumTokens, si.SchedulerInfo.MaxTotalNumTokens)
	info.PageSize, info.EvictionPolicy = max(1, si.PageSize), cmp.Or(si.EvictionPolicy, "lru")
	info.ContextLength = cmp.Or(si.ContextLength, info.Models[0].ContextLength)
	info.CacheReport, info.PriorityEnabled = si.CacheReport, si.PriorityScheduling
	d.maxLoaded = si.MaxLoadedLoRAs
	info.DPSize, info.MaxRunning = si.DPSize, si.MaxRunningRequests
	if len(si.InternalStates) > 0 && si.InternalStates[0].MaxRunning > 0 {
		info.MaxRunning = si.InternalStates[0].MaxRunning
	}
	var model json.RawMessage
	if found, err := e.firstOf(ctx, &model, "/model_info", "/get_model_info"); err != nil || !found {
		return true, err
	}
	if err := json.Unmarshal(model, &d.weights); err != nil {
		return true, err
	}
	var can struct {
		Generate *bool `json:"is_generation"`
		Audio    *bool `json:"has_audio_understanding"`
	}
	if err := json.Unmarshal(model, &can); err != nil {
		return true, err
	}
	info.WeightVersion = d.weights.Version
	info.Embeds, info.NoAudio = can.Generate != nil && !*can.Generate, can.Audio != nil && !*can.Audio
	if len(model) <= wire.MaxModelInfo {
		info.ModelInfo = model
	}
	d.start = strconv.FormatInt(si.RandomSeed, 10)
	return true, nil
}

// vllmCache finds the blocks of the KV cache, and their size, among vLLM's metrics.
var vllmCache = regexp.MustCompile(`(?m)^vllm:cache_config_info\{(.*)\}`)

func (e *engine) describeVLLM(ctx context.Context, d *description) error {
	if _, err := e.describeVersion(ctx, d); err != nil {
		return err
	}
	_, doc, err := e.get(ctx, "/metrics")
	if err != nil {
		return err
	}
	if m := vllmCache.FindSubmatch(doc); m != nil {
		labels := string(m[1])
		d.info.PageSize = int(label(labels, "block_size"))
		d.info.CapacityTokens = label(labels, "num_gpu_blocks") * int64(d.info.PageSize)
	}
	return nil
}

// label reads a whole number from the labels of a metric; 0 when it is none.
func label(labels, name string) int64 {
	_, rest, _ := strings.Cut(","+labels, ","+name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0
	}
	return max(0, n)
}

func (e *engine) describeLlamaCPP(ctx context.Context, d *description) error {
	var props struct {
		Slots    int `json:"total_slots"`
		Defaults struct {
			Context int `json:"n_ctx"`
		} `json:"default_generation_settings"`
		Build string `json:"build_info"`
	}
	if _, err := e.firstOf(ctx, &props, "/props"); err != nil {
		return err
	}
	d.info.EngineVersion = clip(props.Build, wire.MaxName/2)
	d.info.MaxRunning = max(0, props.Slots)
	d.info.ContextLength = max(0, props.Defaults.Context) // of one slot; each keeps the prompt that it had last
	d.info.CapacityTokens = int64(d.info.ContextLength) * int64(max(1, props.Slots))
	return nil
}

func (e *engine) describeVersion(ctx context.Context, d *description) (found bool, err error) {
	var version struct {
		Version string `json:"version"`
	}
	found, err = e.firstOf(ctx, &version, "/version")
	d.info.EngineVersion = clip(version.Version, wire.MaxName/2)
	return found, err
}

// models lists the names that the engine answers to, the base model first.
func (e *engine) models(ctx context.Context) ([]wire.Model, error) {
	var list struct {
		Data []struct {
			ID          string  `json:"id"`
			Parent      *string `json:"parent"`
			Created     int64   `json:"created"`
			OwnedBy     string  `json:"owned_by"`
			MaxModelLen int     `json:"max_model_len"`
		} `json:"data"`
	}
	found, err := e.firstOf(ctx, &list, "/v1/models")
	if err != nil {
		return nil, err
	}
	if !found || len(list.Data) == 0 {
		return nil, errors.New("/v1/models names no model")
	}
	var base, others []wire.Model
	for _, m := range list.Data {
		model := wire.Model{Name: m.ID, Kind: wire.BaseModel, ContextLength: m.MaxModelLen, Created: m.Created, OwnedBy: m.OwnedBy}
		switch {
		case m.Parent != nil:
			model.Kind, model.Loaded = wire.LoRAModel, true
			others = append(others, model)
		case len(base) == 0:
			base = append(base, model)
		default:
			model.Kind = wire.AliasModel
			others = append(others, model)
		}
	}
	if len(base) == 0 {
		return nil, errors.New("/v1/models names no base model")
	}
	return append(base, others...), nil
}
