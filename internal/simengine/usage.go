package simengine

import "strconv"

// usage is what an answer cost, in the OpenAI routes' words.
type usage struct {
	PromptTokens      int            `json:"prompt_tokens"`
	TotalTokens       int            `json:"total_tokens"`
	CompletionTokens  int            `json:"completion_tokens"`
	Details           *promptDetails `json:"prompt_tokens_details"`
	ReasoningTokens   int            `json:"reasoning_tokens"`
	CompletionDetails *struct{}      `json:"completion_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

type tierDetails struct {
	Device int `json:"device"`
	Host   int `json:"host"`
}

// sglext is SGLang's own part of an OpenAI answer.
type sglext struct {
	CachedTokensDetails tierDetails `json:"cached_tokens_details"`
}

func (q *request) newUsage(prompt, cached, completion int) *usage {
	u := &usage{PromptTokens: prompt, CompletionTokens: completion, TotalTokens: prompt + completion}
	if q.report {
		u.Details = &promptDetails{cached}
	}
	return u
}

// wholeUsage sums over the prompts, whose choices count once, and over all output.
func (q *request) wholeUsage() *usage {
	prompt, cached, completion := 0, 0, 0
	for i, s := range q.seqs {
		n, how := s.progress()
		completion += n
		if i%q.n == 0 {
			p, c := s.counts(n, how)
			prompt += p
			cached += c
		}
	}
	return q.newUsage(prompt, cached, completion)
}

// append appends the usage, or null; what is null in it only when nulls are wanted.
func (u *usage) append(b []byte, nulls bool) []byte {
	if u == nil {
		return append(b, "null"...)
	}
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), int64(u.PromptTokens), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(u.TotalTokens), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(u.CompletionTokens), 10)
	if u.Details != nil {
		b = strconv.AppendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), int64(u.Details.CachedTokens), 10)
		b = append(b, '}')
	} else if nulls {
		b = append(b, `,"prompt_tokens_details":null`...)
	}
	b = append(b, `,"reasoning_tokens":0`...)
	if nulls {
		b = append(b, `,"completion_tokens_details":null`...)
	}
	return append(b, '}')
}
