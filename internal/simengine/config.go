package simengine

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Config sets up an [Engine]. The zero value of every field means its documented default.
type Config struct {
	// Model is the name that the engine reports. Default: the profile's model.
	Model string
	// Profile names the model and GPU whose step times are simulated; see [Profiles]. Default
	// llama-3.1-8b-h100.
	Profile string
	// Speed is how many seconds of engine time pass in one real second. Latencies that the engine itself
	// reports are engine time. Default 1.
	Speed float64
	// Capacity is the KV cache in tokens. Default: the profile's.
	Capacity int
	// ContextLength is the longest sequence in tokens. Default: the profile's.
	ContextLength int
	// PageSize is the cache's page in tokens. Default 1.
	PageSize int
	// Eviction is "lru" (default) or "priority".
	Eviction string
	// Schedule is "fcfs" (default) or "lpm".
	Schedule string
	// MaxRunning bounds the requests running at once. Default 2048.
	MaxRunning int
	// MaxQueued bounds the requests waiting; beyond it they are answered 503. Default: no bound.
	MaxQueued int
	// ChunkedPrefill is the most new tokens of one prefill batch. Default 8192.
	ChunkedPrefill int
	// MaxPrefill is the new tokens at which a prefill batch takes no further request. Default 16384.
	MaxPrefill int
	// CacheReport puts cached_tokens into the usage of OpenAI answers. /generate always has them.
	CacheReport bool
	// DefaultTokens is the mean length of an answer whose request sets no limit; such an answer ends by
	// itself, at the latest after four times as many tokens. A request that sets a limit gets exactly so
	// many, unless a stop string comes first. Default 128.
	DefaultTokens int
	// Seed varies what is said at temperatures above 0.
	Seed uint64
	// ImageTokens is what an image (or any other attachment) in a message counts. Default 256.
	ImageTokens int
	// MaxBody bounds a request's body in bytes. Default 64 MiB.
	MaxBody int64
	// GoneCheck is how often, counted from its start, the engine looks whether the client of a request that
	// does not stream is still there; one that streams ends at once. Default 4s, as a real one's.
	GoneCheck time.Duration
	// GeneratingHealth makes /health generate a token, as a real engine does unless it is told not to: it
	// takes a second then, and fails after 20 while the engine is paused.
	GeneratingHealth bool
	// Poison lets some requests kill the engine, as they do a real one: a token id outside the vocabulary, an
	// empty prompt, a list of adapters for one prompt, generation on an embedding model. Otherwise they are
	// answered with 400.
	Poison bool
	// DP is the number of data-parallel ranks, each with a cache, a capacity and bounds of its own. Default 1.
	DP int
	// LoRA lets requests name adapters and clients load them. Adapters are loaded from the start.
	LoRA     bool
	Adapters []Adapter
	// MaxLoadedAdapters bounds the adapters loaded at once. Default 64.
	MaxLoadedAdapters int
	// ResponseStore keeps the answers of /v1/responses for retrieval, continuation and background requests;
	// MaxResponses bounds them, and the oldest goes. Default 1024.
	ResponseStore bool
	MaxResponses  int
	// Embedding makes the model one that embeds instead of generating.
	Embedding bool
	// Audio makes the model one that transcribes audio.
	Audio bool
	// Faults serves POST /_fault, with which any client can make the engine misbehave.
	Faults bool
	// Log receives one line per change of the engine's state, and per request at debug level. Prompts
	// are never logged. Default: none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Profile = cmp.Or(c.Profile, "llama-3.1-8b-h100")
	p, _ := LookupProfile(c.Profile)
	c.Model = cmp.Or(c.Model, p.Model)
	c.Speed = cmp.Or(c.Speed, 1)
	c.Capacity = cmp.Or(c.Capacity, p.Tokens)
	c.ContextLength = cmp.Or(c.ContextLength, p.Context)
	c.PageSize = cmp.Or(c.PageSize, 1)
	c.Eviction = cmp.Or(c.Eviction, "lru")
	c.Schedule = cmp.Or(c.Schedule, "fcfs")
	c.MaxRunning = cmp.Or(c.MaxRunning, defaultRunning)
	c.ChunkedPrefill = cmp.Or(c.ChunkedPrefill, 8192)
	c.MaxPrefill = cmp.Or(c.MaxPrefill, 16384)
	c.DefaultTokens = cmp.Or(c.DefaultTokens, 128)
	c.ImageTokens = cmp.Or(c.ImageTokens, 256)
	c.MaxBody = cmp.Or(c.MaxBody, 64<<20)
	c.GoneCheck = cmp.Or(c.GoneCheck, 4*time.Second)
	c.DP = cmp.Or(c.DP, 1)
	c.MaxLoadedAdapters = cmp.Or(c.MaxLoadedAdapters, 64)
	c.MaxResponses = cmp.Or(c.MaxResponses, 1024)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// check reports everything that is wrong with c, which has its defaults.
func (c Config) check() error {
	var errs []error
	if _, ok := LookupProfile(c.Profile); !ok {
		errs = append(errs, fmt.Errorf("unknown profile %q", c.Profile))
	}
	if !(c.Speed > 0) || math.IsInf(c.Speed, 0) {
		errs = append(errs, fmt.Errorf("speed %v is not a positive number", c.Speed))
	}
	if c.Eviction != "lru" && c.Eviction != "priority" {
		errs = append(errs, fmt.Errorf("unknown eviction %q: lru or priority", c.Eviction))
	}
	if c.Schedule != "fcfs" && c.Schedule != "lpm" {
		errs = append(errs, fmt.Errorf("unknown schedule %q: fcfs or lpm", c.Schedule))
	}
	const most = 1 << 30
	for _, f := range []struct {
		name      string
		value, at int
	}{
		{"capacity", c.Capacity, 64}, {"context length", c.ContextLength, 16}, {"page size", c.PageSize, 1},
		{"max running", c.MaxRunning, 1}, {"max queued", c.MaxQueued, 0}, {"chunked prefill", c.ChunkedPrefill, 1},
		{"max prefill", c.MaxPrefill, 1}, {"default tokens", c.DefaultTokens, 1}, {"image tokens", c.ImageTokens, 1},
		{"loaded adapters", c.MaxLoadedAdapters, 1}, {"responses", c.MaxResponses, 1},
	} {
		if f.value < f.at || f.value > most {
			errs = append(errs, fmt.Errorf("%s %d is not in %d to %d", f.name, f.value, f.at, most))
		}
	}
	if c.PageSize > min(c.Capacity, c.ChunkedPrefill) {
		errs = append(errs, fmt.Errorf("page size %d exceeds the capacity or the prefill chunk", c.PageSize))
	}
	if c.DP < 1 || c.DP > maxRanks {
		errs = append(errs, fmt.Errorf("%d ranks are not in 1 to %d", c.DP, maxRanks))
	}
	if len(c.Adapters) > 0 && !c.LoRA || len(c.Adapters) > c.MaxLoadedAdapters {
		errs = append(errs, fmt.Errorf("%d adapters to load, but LoRA is off or fewer may be loaded", len(c.Adapters)))
	}
	if c.GoneCheck < 0 {
		errs = append(errs, fmt.Errorf("look for gone clients every %v", c.GoneCheck))
	}
	if c.MaxBody < 1 {
		errs = append(errs, fmt.Errorf("max body %d is not positive", c.MaxBody))
	}
	return errors.Join(errs...)
}

// maxRanks bounds Config.DP.
const maxRanks = 64

func (c Config) core() CoreConfig {
	p, _ := LookupProfile(c.Profile)
	return CoreConfig{
		Profile: p, Capacity: c.Capacity, Context: c.ContextLength, Page: c.PageSize,
		MaxRunning: c.MaxRunning, MaxQueued: c.MaxQueued, Chunk: c.ChunkedPrefill, MaxPrefill: c.MaxPrefill,
		ByPriority: c.Eviction == "priority", LongestPrefixFirst: c.Schedule == "lpm",
	}
}
