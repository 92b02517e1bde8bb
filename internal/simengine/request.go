package simengine

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"time"
)

// common are the fields that all bodies share.
type common struct {
	Model                     string          `json:"model"`
	Stream                    bool            `json:"stream"`
	RID                       json.RawMessage `json:"rid"` // a string or a list
	Priority                  *int64          `json:"priority"`
	ExtraKey                  json.RawMessage `json:"extra_key"`
	CacheSalt                 json.RawMessage `json:"cache_salt"`
	LoraPath                  json.RawMessage `json:"lora_path"`
	StreamOptions             *streamOptions  `json:"stream_options"`
	ReturnCachedTokensDetails bool            `json:"return_cached_tokens_details"`
}

type streamOptions struct {
	IncludeUsage         bool `json:"include_usage"`
	ContinuousUsageStats bool `json:"continuous_usage_stats"`
}

// space is the cache's namespace: what separates equal prompts.
func (c *common) space() string {
	var parts [3]string
	for i, raw := range []json.RawMessage{c.LoraPath, c.CacheSalt, c.ExtraKey} {
		if text := string(raw); text != "null" && text != `""` {
			parts[i] = text
		}
	}
	if parts == [3]string{} {
		return ""
	}
	return strings.Join(parts[:], "\x00")
}

// rids returns the client's request ids: none, one, or one a prompt.
func (c *common) rids() ([]string, error) {
	if len(c.RID) == 0 || string(c.RID) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(c.RID, &one) == nil {
		if one == "" {
			return nil, nil
		}
		return []string{one}, nil
	}
	var many []string
	if err := json.Unmarshal(c.RID, &many); err != nil {
		return nil, badf("rid must be a string or a list of strings.")
	}
	return many, nil
}

// A request is one HTTP request: its sequences, n for every prompt.
type request struct {
	id      string
	model   string // as the client named it
	created int64
	weights string // weight version at the start
	details bool   // report cached tokens by tier
	report  bool   // report cached tokens in usage
	stream  *streamOptions
	n       int
	seqs    []*sequence
	wake    chan struct{}
}

// newRequest lets the model answer every prompt n times, with at most total sequences; nothing is queued yet.
func (e *Engine) newRequest(c *common, s sampling, prompts [][]int32) (*request, error) {
	rids, err := c.rids()
	if err != nil {
		return nil, err
	}
	n := s.choices()
	if len(prompts)*n > maxSequences {
		return nil, badf("a request may have %d sequences at most, got %d.", maxSequences, len(prompts)*n)
	}
	if len(rids) > 1 && len(rids) != len(prompts) {
		return nil, badf("the number of rids (%d) is not the number of prompts (%d).", len(rids), len(prompts))
	}
	e.mu.Lock()
	r := &request{model: c.Model, created: time.Now().Unix(), weights: e.weights, details: c.ReturnCachedTokensDetails,
		report: e.cfg.CacheReport, stream: c.StreamOptions, n: n, wake: make(chan struct{}, 1)}
	e.mu.Unlock()
	if r.model == "" {
		r.model = "default"
	}
	if r.stream == nil {
		r.stream = &streamOptions{}
	}
	for i, prompt := range prompts {
		if err := e.core.Check(len(prompt)); err != nil { // reads the configuration only
			return nil, err
		}
		for range n {
			rid := newRID()
			if n == 1 && len(rids) == len(prompts) {
				rid = rids[i]
			}
			seq, err := e.newSequence(prompt, s, c, rid, len(r.seqs))
			if err != nil {
				return nil, err
			}
			seq.wake = r.wake
			r.seqs = append(r.seqs, seq)
		}
	}
	r.id = r.seqs[0].rid
	return r, nil
}

// maxSequences bounds the prompts times choices of one request.
const maxSequences = 1024

func (e *Engine) newSequence(prompt []int32, s sampling, c *common, rid string, index int) (*sequence, error) {
	sp := speech{minimum: s.minimum, stops: s.stops, stopIDs: s.stopIDs}
	most := e.core.MaxNew(len(prompt))
	reserve := most
	if s.limit != nil {
		if len(prompt)+*s.limit > e.cfg.ContextLength {
			return nil, &overContext{len(prompt), *s.limit, e.cfg.ContextLength}
		}
		sp.limit, reserve = *s.limit, *s.limit
	} else {
		sp.limit = 4 * e.cfg.DefaultTokens
		if !s.ignoreEOS {
			sp.mean = e.cfg.DefaultTokens
		}
	}
	sp.limit = min(sp.limit, most)
	// OpenAI's default temperature is 1, SGLang's too.
	if s.temperature == nil || *s.temperature > 0 {
		if s.seed != nil {
			sp.seed = mix(uint64(*s.seed)) | 1
		} else {
			sp.seed = e.nonce()
		}
	}
	seq := &sequence{rid: rid, index: index}
	tokens := make([]int32, len(prompt), len(prompt)+min(sp.limit, e.cfg.DefaultTokens))
	copy(tokens, prompt)
	tokens, seq.answer = e.voice.speak(tokens, sp)
	seq.job = Job{Tokens: tokens, Prompt: len(prompt), MaxNew: reserve, Space: c.space()}
	if c.Priority != nil {
		seq.job.Priority = *c.Priority
	}
	return seq, nil
}

// start queues the request, once nothing holds new ones back.
func (e *Engine) start(ctx context.Context, r *request) error {
	for {
		hold, err := e.submit(r.seqs)
		if hold == nil {
			return err
		}
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait blocks until every sequence has ended. It returns false when the engine died or the client left;
// after that no answer is to be written.
func (e *Engine) wait(ctx context.Context, r *request) bool {
	gone := ctx.Done()
	var patience <-chan time.Time
	for {
		open := false
		for _, s := range r.seqs {
			_, how := s.progress()
			if how == lost {
				return false
			}
			open = open || how == Unended
		}
		if !open {
			return ctx.Err() == nil
		}
		select {
		case <-r.wake:
		case <-gone:
			// A real engine looks for the client only now and then while it does not stream.
			gone = nil
			timer := time.NewTimer(max(e.cfg.GoneAfter, 0))
			defer timer.Stop()
			patience = timer.C
		case <-patience:
			e.abort(r.seqs...)
			return false
		}
	}
}

// cachedTokens sums over prompts: the choices of one count once.
func (r *request) cachedTokens() (prompt, cached int) {
	for i := 0; i < len(r.seqs); i += r.n {
		prompt += r.seqs[i].job.Prompt
		cached += r.seqs[i].job.Cached
	}
	return prompt, cached
}

type usage struct {
	PromptTokens     int            `json:"prompt_tokens"`
	TotalTokens      int            `json:"total_tokens"`
	CompletionTokens int            `json:"completion_tokens"`
	Details          *promptDetails `json:"prompt_tokens_details"`
	ReasoningTokens  int            `json:"reasoning_tokens"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

func (r *request) usage(completion int) *usage {
	prompt, cached := r.cachedTokens()
	return r.newUsage(prompt, cached, completion)
}

func (r *request) newUsage(prompt, cached, completion int) *usage {
	u := &usage{PromptTokens: prompt, CompletionTokens: completion, TotalTokens: prompt + completion}
	if r.report {
		u.Details = &promptDetails{cached}
	}
	return u
}

func (r *request) completion() int {
	sum := 0
	for _, s := range r.seqs {
		sum += s.job.Produced
	}
	return sum
}

type tierDetails struct {
	Device int `json:"device"`
	Host   int `json:"host"`
}

// sglext is SGLang's own part of an OpenAI answer.
type sglext struct {
	CachedTokensDetails tierDetails `json:"cached_tokens_details"`
}

func (r *request) ext() *sglext {
	if !r.details {
		return nil
	}
	_, cached := r.cachedTokens()
	return &sglext{tierDetails{Device: cached}}
}

// checkIDs converts token ids, and kills the engine or complains over one outside the vocabulary.
func (e *Engine) checkIDs(ids []int64) ([]int32, error) {
	out := make([]int32, len(ids))
	for i, id := range ids {
		if id < 0 || id >= vocabulary || id > math.MaxInt32 {
			if e.cfg.Poison {
				e.poison()
				return nil, errGone
			}
			return nil, badf("token id %d is outside the vocabulary of %d.", id, vocabulary)
		}
		out[i] = int32(id)
	}
	return out, nil
}

// checkModel refuses an adapter's name: LoRA is off. Any other name is served.
func (e *Engine) checkModel(name string) error {
	if strings.Contains(name, ":") && name != e.cfg.Model {
		return badf("LoRA is not enabled, but the model %q names an adapter.", name)
	}
	return nil
}

func jsonContent(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}
