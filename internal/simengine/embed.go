package simengine

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
)

// embedSize is the length of an embedding.
const embedSize = 128

// embed is the embedding of a prompt: a unit vector, the same for the same tokens; prompts that share tokens
// are alike. Its first entries, made a unit again, are a shorter one.
func embed(tokens []int32, size int) floats {
	v := make(floats, size)
	for _, t := range tokens {
		h := mix(uint64(t))
		for i := range v {
			h = mix(h)
			v[i] += float64(int64(h)) / (1 << 63)
		}
	}
	norm := 0.0
	for _, x := range v {
		norm += x * x
	}
	for i := range v {
		v[i] /= math.Sqrt(norm)
	}
	return v
}

func dot(a, b floats) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// base64Floats encodes a vector as 32-bit floats, the lowest byte first.
func base64Floats(v floats) string {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// An embedder is the dialect of one request whose prompts are only read: the answer is made of them.
type embedder struct {
	say    func(w http.ResponseWriter, r *http.Request, err error)
	answer func(q *request) any
}

func (d embedder) refuse(w http.ResponseWriter, r *http.Request, err error) { d.say(w, r, err) }

func (d embedder) whole(q *request) any { return d.answer(q) }

func (d embedder) events(*request) eventWriter { return nil } // none of these streams

// read runs prompts through the engine without generating.
func (e *Engine) read(w http.ResponseWriter, r *http.Request, a ask, p prompts, scores bool, d embedder) {
	a.stream, a.session = false, nil
	q := e.newRequest(a, p, newSampling())
	q.embeds, q.scores = true, scores
	e.serve(w, r, d, q)
}

// promptUsage is what reading the prompts cost.
func (q *request) promptUsage() *usage {
	u := q.wholeUsage()
	u.Details = nil
	return u
}

// readMeta is the meta_info of a prompt that was read.
type readMeta struct {
	ID           string         `json:"id"`
	FinishReason map[string]any `json:"finish_reason"`
	Prompt       int            `json:"prompt_tokens"`
	Weights      string         `json:"weight_version"`
	Retractions  int            `json:"num_retractions"`
	Queue        float          `json:"queue_time"`
	Latency      float          `json:"e2e_latency"`
}

func (s *sequence) readMeta() readMeta {
	return readMeta{s.rid, map[string]any{"type": "length", "length": 0}, s.job.Prompt, s.request.weights, s.job.Retractions,
		float((s.job.Admitted - s.job.Submitted).Seconds()), float((s.job.Last - s.job.Submitted).Seconds())}
}
