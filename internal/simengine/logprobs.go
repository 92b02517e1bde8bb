package simengine

import (
	"math"
	"strconv"
)

// The model says every word with the same probability, so a token's logarithm of it is a constant, and any
// words are as likely as the one that was said. The end is left out of it.

// A likely is a token with the logarithm of its probability.
type likely struct {
	token int32
	text  string
	log   float64
}

// said is the token at n of a sequence's output, followed by top tokens, that one first.
func (e *Engine) said(s *sequence, n, top int) []likely {
	token := s.job.Tokens[s.job.Prompt+n]
	log := -math.Log(float64(len(e.voice.words)))
	text := ""
	if end := s.answer.ends[n]; n == 0 {
		text = s.answer.text[:end]
	} else {
		text = s.answer.text[s.answer.ends[n-1]:end]
	}
	out := []likely{{token, text, log}}
	if top > 0 {
		out = append(out, out[0])
	}
	for i := 0; len(out) <= min(top, maxTop); i++ {
		if other := e.voice.spaced[i]; other != token {
			out = append(out, likely{other, e.voice.text[other], log})
		}
	}
	return out
}

// maxTop bounds the alternatives that are told; the voice knows more words than that.
const maxTop = 64

// appendLogprobs appends /generate's logprobs of the first n tokens, if they are asked for. Those of the
// prompt are never told.
func (e *Engine) appendLogprobs(b []byte, s *sequence, n int) []byte {
	q := s.request
	if q.logprobs == nil {
		return b
	}
	entry := func(b []byte, l likely) []byte {
		b = strconv.AppendInt(append(appendFloat(append(b, '['), l.log), ','), int64(l.token), 10)
		if q.textAsked {
			return append(appendText(append(b, ','), l.text), ']')
		}
		return append(b, ",null]"...)
	}
	b = append(b, `,"input_token_logprobs":[],"output_token_logprobs":[`...)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = entry(b, e.said(s, i, 0)[0])
	}
	b = strconv.AppendInt(append(b, `],"output_token_logprobs_length":`...), int64(n), 10)
	if *q.logprobs == 0 {
		return b
	}
	b = append(b, `,"input_top_logprobs":[],"output_top_logprobs":[`...)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		for k, l := range e.said(s, i, *q.logprobs)[1:] {
			if k > 0 {
				b = append(b, ',')
			}
			b = entry(b, l)
		}
		b = append(b, ']')
	}
	return append(b, ']')
}

// appendChatLogprobs appends a chat choice's logprobs of the tokens from one to another.
func (e *Engine) appendChatLogprobs(b []byte, s *sequence, from, to int) []byte {
	entry := func(b []byte, l likely) []byte {
		b = appendText(append(b, `{"token":`...), l.text)
		b = append(b, `,"bytes":[`...)
		for i := range len(l.text) {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(l.text[i]), 10)
		}
		return appendFloat(append(b, `],"logprob":`...), l.log)
	}
	b = append(b, `{"content":[`...)
	for n := from; n < to; n++ {
		if n > from {
			b = append(b, ',')
		}
		all := e.said(s, n, *s.request.logprobs)
		b = append(entry(b, all[0]), `,"top_logprobs":[`...)
		for k, l := range all[1:] {
			if k > 0 {
				b = append(b, ',')
			}
			b = append(entry(b, l), '}')
		}
		b = append(b, "]}"...)
	}
	return append(b, "]}"...)
}

// appendTextLogprobs appends a completion choice's logprobs of the tokens from one to another.
func (e *Engine) appendTextLogprobs(b []byte, s *sequence, from, to int) []byte {
	p := struct {
		Offsets []int                `json:"text_offset"`
		Logs    []float64            `json:"token_logprobs"`
		Tokens  []string             `json:"tokens"`
		Top     []map[string]float64 `json:"top_logprobs"`
	}{[]int{}, []float64{}, []string{}, []map[string]float64{}}
	for n := from; n < to; n++ {
		all := e.said(s, n, *s.request.logprobs)
		p.Offsets, p.Logs, p.Tokens = append(p.Offsets, -1), append(p.Logs, all[0].log), append(p.Tokens, all[0].text)
		if len(all) > 1 {
			top := map[string]float64{}
			for _, l := range all[1:] {
				top[l.text] = l.log
			}
			p.Top = append(p.Top, top)
		}
	}
	return appendJSON(b, p)
}
