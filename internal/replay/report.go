package replay

import (
	"encoding/json"
	"time"
)

// A Report is the outcome of a run. Pointers are nil, and null in JSON, for what the engine did not report.
type Report struct {
	// What was run.
	URL          string         `json:"url"`
	API          API            `json:"api"`
	Model        string         `json:"model"`
	Workload     string         `json:"workload"`
	Parameters   map[string]any `json:"parameters"`
	Seed         uint64         `json:"seed"`
	Stream       bool           `json:"stream"`
	Concurrency  int            `json:"concurrency"`
	Interleave   int            `json:"interleave"`
	ThinkSeconds float64        `json:"think_seconds"`
	Started      time.Time      `json:"started"`

	// Partial: the context ended first, or requests are unfinished. Stopped says why a run ended before
	// it had sent all it was asked to; empty if it did not.
	Partial bool   `json:"partial"`
	Stopped string `json:"stopped,omitempty"`

	// Requests are those that concluded, Errors those of them that failed; Unfinished ones are in neither.
	Requests     int64           `json:"requests"`
	Errors       int64           `json:"errors"`
	Unfinished   int64           `json:"unfinished"`
	ErrorsByKind map[Kind]int64  `json:"errors_by_kind"`
	ErrorSamples map[Kind]string `json:"error_samples,omitempty"` // what the first of a kind said

	DurationSeconds float64 `json:"duration_seconds"`

	FirstByte Distribution `json:"first_byte_seconds"`

	// Arrivals says what decided when requests were sent: "closed" (replies and think times), or, in an open loop,
	// "poisson", "fixed" or "trace". Rate is what was asked for, conversations per second; Speed is how much faster
	// than recorded a trace ran. Lateness is by how much an
	// open loop's requests were sent after they were due, and Late counts those beyond [LateAfter].
	Arrivals Arrivals     `json:"arrivals"`
	Rate     float64      `json:"rate,omitempty"`
	Speed    float64      `json:"speed,omitempty"`
	Late     int64        `json:"late"`
	Lateness Distribution `json:"lateness_seconds"`

	// Goodput is nil if no SLO was set.
	Goodput *Goodput `json:"goodput"`

	TTFT Distribution `json:"ttft_seconds"`
	TPOT Distribution `json:"tpot_seconds"`
	ITL  Distribution `json:"itl_seconds"`
	E2E  Distribution `json:"e2e_seconds"`

	RequestsPerSecond     float64  `json:"requests_per_second"`
	PromptTokensPerSecond *float64 `json:"prompt_tokens_per_second"`
	OutputTokensPerSecond *float64 `json:"output_tokens_per_second"`
	MeanConcurrency       float64  `json:"mean_concurrency"`

	PromptTokens *int64   `json:"prompt_tokens"`
	OutputTokens *int64   `json:"output_tokens"`
	CachedTokens *int64   `json:"cached_tokens"`
	HitRate      *float64 `json:"hit_rate"`
	// UsageReported and CachedReported are how many replies held prompt tokens, and cached tokens.
	UsageReported  int64 `json:"usage_reported"`
	CachedReported int64 `json:"cached_reported"`

	// Workers is the share of each worker that named itself in x-radixbus-worker.
	Workers map[string]WorkerShare `json:"workers"`
	// WorkMaxOverMean is the work of the worker that had most by the mean of all that are named; nil if no worker is.
	WorkMaxOverMean *float64 `json:"work_max_over_mean"`

	Series Series `json:"series"`
	Curves Curves `json:"curves"`
}

// A WorkerShare is one worker's part. Share is of the requests that name a worker, 0 to 1.
type WorkerShare struct {
	Requests int64    `json:"requests"`
	Errors   int64    `json:"errors"`
	Share    float64  `json:"share"`
	HitRate  *float64 `json:"hit_rate"`
	// PromptTokens, CachedTokens and OutputTokens are sums of what its replies reported. Work is what it had to
	// compute of them, in tokens: prompts less what was cached, and output.
	PromptTokens int64 `json:"prompt_tokens"`
	CachedTokens int64 `json:"cached_tokens"`
	OutputTokens int64 `json:"output_tokens"`
	Work         int64 `json:"work_tokens"`
}

// A Distribution summarises one metric, in seconds. With Count 0 the other fields mean nothing, and are null
// in JSON. Approximate percentiles are within 1 %.
type Distribution struct {
	Count       int64   `json:"count"`
	Mean        float64 `json:"mean"`
	Min         float64 `json:"min"`
	P50         float64 `json:"p50"`
	P90         float64 `json:"p90"`
	P99         float64 `json:"p99"`
	Max         float64 `json:"max"`
	Approximate bool    `json:"approximate,omitempty"`
}

// MarshalJSON writes null for the numbers of an empty distribution: zero would read as very fast.
func (d Distribution) MarshalJSON() ([]byte, error) {
	if d.Count == 0 {
		return []byte(`{"count":0,"mean":null,"min":null,"p50":null,"p90":null,"p99":null,"max":null}`), nil
	}
	type plain Distribution
	return json.Marshal(plain(d))
}
