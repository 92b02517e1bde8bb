package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
)

// ModelKind tells how a worker serves a model name.
type ModelKind string

// Model kinds.
const (
	BaseModel  ModelKind = "base"
	AliasModel ModelKind = "alias"
	LoRAModel  ModelKind = "lora"
)

// A Model is one name that a worker answers to.
type Model struct {
	Name          string    `json:"name"`
	Kind          ModelKind `json:"kind"`
	ContextLength int       `json:"context_length,omitempty"` // tokens; 0 = not told
	Created       int64     `json:"created,omitempty"`        // seconds since 1970, as the engine says
	OwnedBy       string    `json:"owned_by,omitempty"`
	Root          string    `json:"root,omitempty"`   // the engine's own name for it, when that is another one
	Loaded        bool      `json:"loaded,omitempty"` // a LoRA that is in the engine's memory; others are loaded when first asked for
}

// WorkerInfo is what an adapter registers: all that does not change from beat to beat.
type WorkerInfo struct {
	Worker          string   `json:"worker"`
	Instance        Instance `json:"instance"`
	Region          string   `json:"region"`
	Pool            string   `json:"pool"` // the base model's name
	Models          []Model  `json:"models"`
	Engine          string   `json:"engine"`      // the adapter's name, unique in a fleet: ranks of one engine share flush, crash and weights
	EngineKind      string   `json:"engine_kind"` // sglang, vllm, llama.cpp, tensorrt-llm, openai (any other)
	EngineVersion   string   `json:"engine_version,omitempty"`
	DPRank          int      `json:"dp_rank"`
	DPSize          int      `json:"dp_size"`
	CapacityTokens  int64    `json:"capacity_tokens"` // of the KV pool; 0 = not told
	PageSize        int      `json:"page_size"`       // tokens; 0 = not told
	EvictionPolicy  string   `json:"eviction_policy,omitempty"`
	ContextLength   int      `json:"context_length,omitempty"` // tokens; 0 = not told
	MaxRunning      int      `json:"max_running"`              // attempts admitted at a time
	CacheReport     bool     `json:"cache_report"`             // answers tell cached tokens by themselves
	WeightVersion   string   `json:"weight_version,omitempty"`
	MaxPayload      int64    `json:"max_payload"` // bytes of a bus message the adapter can take
	AdapterVersion  string   `json:"adapter_version"`
	WireVersion     int      `json:"wire_version"`
	PriorityEnabled bool     `json:"priority_scheduling,omitempty"`
	Embeds          bool     `json:"embeds,omitempty"`   // it does not generate: some engines die of being asked to
	NoAudio         bool     `json:"no_audio,omitempty"` // it says that it understands none

	URL       string          `json:"url,omitempty"`        // of the engine, for people: without credentials, and as its adapter calls it
	Adapter   string          `json:"adapter,omitempty"`    // one life of the adapter's process: a name is one adapter's at a time
	ModelInfo json.RawMessage `json:"model_info,omitempty"` // what the engine answers on /model_info, an object
}

// Bounds of a WorkerInfo.
const (
	maxInfoBytes = 256 << 10
	maxModels    = 1024
	MaxModelInfo = 16 << 10
)

// Encode gives the JSON form and its hash, the one that beats carry.
func (w *WorkerInfo) Encode() (doc []byte, hash uint64, err error) {
	if doc, err = json.Marshal(w); err != nil {
		return nil, 0, fmt.Errorf("worker info: %w", err)
	}
	return doc, InfoHash(doc), nil
}

// InfoHash is the hash of a worker's info as beats carry it: FNV-1a, 64 bit, of its JSON form; never 0.
func InfoHash(doc []byte) uint64 {
	h := fnv.New64a()
	h.Write(doc)
	return max(1, h.Sum64())
}

// ParseWorkerInfo reads and checks the JSON form.
func ParseWorkerInfo(doc []byte) (*WorkerInfo, error) {
	if len(doc) > maxInfoBytes {
		return nil, fmt.Errorf("%w: worker info of %d bytes", ErrMalformed, len(doc))
	}
	w := new(WorkerInfo)
	if err := json.Unmarshal(doc, w); err != nil {
		return nil, fmt.Errorf("%w: worker info: %w", ErrMalformed, err)
	}
	return w, w.check()
}

func (w *WorkerInfo) check() error {
	var errs []error
	for _, f := range []struct{ what, name string }{{"worker", w.Worker}, {"pool", w.Pool}} {
		if f.name == "" || len(f.name) > MaxName {
			errs = append(errs, fmt.Errorf("%w: %s %.40q", ErrMalformed, f.what, f.name))
		}
	}
	if len(w.Models) == 0 || len(w.Models) > maxModels {
		errs = append(errs, fmt.Errorf("%w: %d models", ErrMalformed, len(w.Models)))
	}
	for _, m := range w.Models {
		if m.Name == "" || len(m.Name) > MaxName {
			errs = append(errs, fmt.Errorf("%w: model %.40q", ErrMalformed, m.Name))
			break
		}
	}
	if len(w.ModelInfo) > MaxModelInfo {
		errs = append(errs, fmt.Errorf("%w: model info of %d bytes", ErrMalformed, len(w.ModelInfo)))
	}
	if len(w.Region) > MaxName || len(w.Engine) > MaxName || len(w.Adapter) > MaxName || len(w.URL) > MaxPath {
		errs = append(errs, fmt.Errorf("%w: region or engine of worker %.40q", ErrMalformed, w.Worker))
	}
	if min(w.CapacityTokens, w.MaxPayload, int64(w.PageSize), int64(w.MaxRunning), int64(w.ContextLength)) < 0 {
		errs = append(errs, fmt.Errorf("%w: numbers of worker %.40q", ErrMalformed, w.Worker))
	}
	return errors.Join(errs...)
}
