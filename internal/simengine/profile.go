package simengine

import (
	"maps"
	"slices"
	"time"
)

// A Profile is a model on a GPU: how long its steps take and how much its KV cache holds.
//
// A prefill batch takes
//
//	Batch + sum over requests of Token*P + Square*P*(c+P/2)/1000
//
// where P is the request's new tokens and c what was computed or cached before them. A decode step of B
// requests whose contexts sum to K tokens takes
//
//	Step + Request*B + Context*K/1000
//
// All constants are milliseconds.
type Profile struct {
	Name    string
	Model   string // the model's usual path
	GPU     string
	TP      int // GPUs per worker
	Tokens  int // KV cache capacity (max_total_num_tokens)
	Context int // context length in tokens

	Batch   float64 // launch and scheduling, per prefill batch
	Token   float64 // per new token
	Square  float64 // per new token and 1,000 tokens before it (attention)
	Step    float64 // per decode step
	Request float64 // per request in a decode step
	Kilo    float64 // per 1,000 tokens of context in a decode step
}

// batchMillis is the launch and scheduling time of a prefill batch. The public end-to-end tables do not
// identify it (fits stay equally good from 2 to 5 ms); 3 lies inside.
const batchMillis = 3

// profiles returns the known profiles by name. The constants are least-squares fits (relative error, of
// TTFT + TPOT x (output-1) over input length, output length and concurrency) to the measured latencies in
// ai-dynamo/aiconfigurator, systems/silicon_sample.csv (commit 095f58a51), unless a line says otherwise.
// Capacities: published where a line says so, else (GPU memory x 0.88 - weights) / bytes per token.
func profiles() map[string]Profile {
	const (
		llama8b  = "meta-llama/Llama-3.1-8B-Instruct"
		llama70b = "meta-llama/Llama-3.1-70B-Instruct-FP8"
		qwen32b  = "Qwen/Qwen3-32B"
	)
	all := map[string]Profile{
		// No step takes time: for tests of everything but time.
		"instant": {Model: llama8b, GPU: "none", TP: 1, Tokens: 444_500, Context: 131_072},

		// 42 points (TensorRT-LLM 1.0.0rc3), mean error 2.1 %; Square from SGLang 0.5.14 attention kernels
		// in the same repository. Capacity: the server log in SGLang's documentation (January 2025).
		"llama-3.1-8b-h100": {Model: llama8b, GPU: "H100-80GB", TP: 1, Tokens: 444_500, Context: 131_072,
			Batch: batchMillis, Token: 0.0216, Square: 0.0009, Step: 7.5, Kilo: 0.0422},
		// SGLang 0.5.10 kernel times plus 10 % for small operations; not measured end to end.
		"llama-3.1-8b-a100": {Model: llama8b, GPU: "A100-80GB", TP: 1, Tokens: 444_500, Context: 131_072,
			Batch: batchMillis, Token: 0.062, Square: 0.0026, Step: 11.9, Request: 0.007, Kilo: 0.105},
		// SGLang 0.5.6, 16 points at concurrency 20 to 352, mean error 2.1 %; optimistic below 20.
		"llama-3.1-8b-h200-fp8": {Model: llama8b, GPU: "H200-141GB", TP: 1, Tokens: 930_000, Context: 131_072,
			Batch: batchMillis, Token: 0.0186, Step: 2.4, Request: 0.033, Kilo: 0.0305},

		// SGLang 0.5.1, 24 points, mean error 1.1 %. Capacity: llm-d's blog, September 2025.
		"qwen3-32b-h100-tp2": {Model: qwen32b, GPU: "H100-80GB", TP: 2, Tokens: 307_328, Context: 40_960,
			Batch: batchMillis, Token: 0.0590, Step: 14.06, Request: 0.006, Kilo: 0.0644},
		// SGLang 0.5.1, 27 points each, mean error 1.1 and 1.5 %.
		"qwen3-32b-h100-tp4": {Model: qwen32b, GPU: "H100-80GB", TP: 4, Tokens: 890_000, Context: 40_960,
			Batch: batchMillis, Token: 0.0340, Step: 9.4, Request: 0.018, Kilo: 0.0251},
		"qwen3-32b-h100-tp8": {Model: qwen32b, GPU: "H100-80GB", TP: 8, Tokens: 2_030_000, Context: 40_960,
			Batch: batchMillis, Token: 0.0213, Step: 7.1, Request: 0.025, Kilo: 0.0115},

		// vLLM, 12 to 15 points each, mean error 0.7, 1.9 and 2.5 %.
		"llama-3.1-70b-fp8-h100-tp2": {Model: llama70b, GPU: "H100-80GB", TP: 2, Tokens: 240_000, Context: 131_072,
			Batch: batchMillis, Token: 0.080, Step: 16.7, Request: 0.033, Kilo: 0.0584},
		"llama-3.1-70b-fp8-h100-tp4": {Model: llama70b, GPU: "H100-80GB", TP: 4, Tokens: 690_000, Context: 131_072,
			Batch: batchMillis, Token: 0.049, Step: 11.1, Request: 0.052, Kilo: 0.0278},
		"llama-3.1-70b-fp8-h100-tp8": {Model: llama70b, GPU: "H100-80GB", TP: 8, Tokens: 1_600_000, Context: 131_072,
			Batch: batchMillis, Token: 0.033, Step: 8.9, Request: 0.061, Kilo: 0.0114},
	}
	for name, p := range all {
		p.Name = name
		all[name] = p
	}
	return all
}

// Profiles returns every known profile, sorted by name.
func Profiles() []Profile {
	all := profiles()
	out := make([]Profile, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// LookupProfile returns the profile of that name.
func LookupProfile(name string) (Profile, bool) {
	p, ok := profiles()[name]
	return p, ok
}

// PrefillWork is the time that computing n new tokens behind before cached or computed ones adds to a
// batch, in milliseconds.
func (p *Profile) PrefillWork(n, before int) float64 {
	return float64(n) * (p.Token + p.Square*(float64(before)+float64(n)/2)/1000)
}

// DecodeTime is how long n successive decode steps of batch requests take, whose contexts hold tokens
// tokens before the first.
func (p *Profile) DecodeTime(n, batch, tokens int) time.Duration {
	steps, b := float64(n), float64(batch)
	contexts := steps*float64(tokens) + b*steps*(steps-1)/2
	return millis(steps*(p.Step+p.Request*b) + p.Kilo*contexts/1000)
}

func millis(ms float64) time.Duration { return time.Duration(ms * 1e6) }
