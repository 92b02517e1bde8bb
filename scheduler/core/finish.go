package core

import (
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// Finished ends the attempt's lease and learns from what the engine said. Of an attempt that is not known it is
// remembered for a while: a peer's decision may be still on its way. The end of another placement of the same attempt,
// one that was given back, ends nothing.
func (p *Pool) Finished(now time.Time, f *wire.Finished) {
	l := p.leases[f.Key()]
	switch {
	case l == nil:
		if w := p.workers[f.Worker]; w != nil && w.info.Instance == f.Instance {
			p.over.add(f.Key(), f)
		}
		return
	case f.Lease != 0 && f.Lease != l.number:
		return
	case l.light:
		p.release(now, l)
	case computed(&f.End):
		p.release(now, l)
		p.learn(now, l, &f.End)
	default:
		p.abandon(now, l)
	}
	p.judge(now, l, f.End.Code)
	p.wake(now)
}

// judge draws conclusions from how an engine did: of the engine, and of the request.
func (p *Pool) judge(now time.Time, l *lease, code wire.Code) {
	switch code {
	case wire.CodeOK:
		l.worker.well()
		p.poisons.answered(l.body)
	case wire.CodeEngineFault, wire.CodeEngineBroke:
		of := life{engine: l.worker.engine()}
		for w := range p.ranksOf(l.worker) {
			w.shade(now)
			of.ranks = append(of.ranks, w.info.Instance)
		}
		l.worker.failed(now)
		if code == wire.CodeEngineBroke {
			p.poisons.broke(now, l.body, l.worker.info.Instance, of)
		}
	}
}

// computed tells whether the engine must have had the whole prompt: it counted it, or gave an answer, or began one that
// was given up on our side. One that it refused it had not, whatever it counted.
func computed(e *wire.End) bool {
	switch e.Code {
	case wire.CodeOK:
		return true
	case wire.CodeEngineRefused:
		return false
	case wire.CodeCancelled, wire.CodeSlowClient, wire.CodeDeadline, wire.CodeDraining, wire.CodeLost:
		return e.Prompt > 0 || e.Begun
	}
	return e.Prompt > 0
}

// Weights of the newest sample in what is learnt; the first few count for more, since they replace a guess.
const (
	learnBytes = 0.05
	learnRate  = 0.1
	learnOut   = 0.02
)

// Bounds of what one attempt can make us believe, far outside of what engines do: a report may be absurd.
const (
	minBytesPerToken = 0.25 // images count hundreds of tokens and few bytes
	maxBytesPerToken = 64.0
	minRate          = 10.0 // prefill tokens per second
	maxRate          = 5e6
	maxCompletion    = 1 << 17 // tokens
)

// learn corrects the tree and the rates by what a finished attempt showed.
func (p *Pool) learn(now time.Time, l *lease, end *wire.End) {
	w, prompt := l.worker, int64(end.Prompt)
	if prompt > 0 {
		p.learnTextLength(l, prompt)
	}
	if end.Completion > 0 && end.Code == wire.CodeOK {
		p.completion += learnOut * (min(float64(end.Completion), maxCompletion) - p.completion)
	}
	if cached, told := end.Cached(); told && prompt > 0 {
		actual := min(int64(cached), prompt)
		p.outputs = append(p.outputs, Output{Belief: &Belief{Worker: w.info.Worker, Prompt: prompt, Predicted: l.predicted, Actual: actual}})
		p.learnRate(now, l, prompt-actual, end)
		p.correct(l, actual)
	}
	l.confirm()
	for i := range l.digests { // the engine has just used the whole path: all of it is held, and young
		p.tree.Insert(w.index, tree.Path(l.digests[i].Hashes), w.stamp(now, l.priority))
	}
}

// learnTextLength follows how many bytes of prompt make a token.
func (p *Pool) learnTextLength(l *lease, prompt int64) {
	bytes := digestBytes(l.digests)
	if bytes < 64 || prompt < 16 {
		return // mostly template
	}
	sample := min(max(float64(bytes)/float64(prompt), minBytesPerToken), maxBytesPerToken)
	p.texts++
	p.bytesPerToken += max(learnBytes, 1/float64(p.texts)) * (sample - p.bytesPerToken)
	const worth = 0.02 // of change: each worker's capacity in bytes follows
	if drift := p.bytesPerToken/p.fitted - 1; drift > worth || drift < -worth {
		p.fitted = p.bytesPerToken
		for _, w := range p.order {
			p.fitCapacity(w)
		}
	}
}

// learnRate takes a sample of the prefill rate from an attempt that did not have to wait for others.
func (p *Pool) learnRate(now time.Time, l *lease, computed int64, end *wire.End) {
	const enough = 256 // tokens: below, the constant part of a step hides the rate
	if !l.alone || computed < enough || end.TTFTMicros == 0 || whole(end) {
		return
	}
	p.setRate(now, l.worker, min(max(float64(computed)/(float64(end.TTFTMicros)/1e6), minRate), maxRate))
}

// whole tells whether the answer came in one piece: its first byte was its last, and says nothing of the prefill.
func whole(end *wire.End) bool {
	const fastest = 100 // microseconds a token: no engine decodes one sequence faster
	return end.Completion > 1 && end.TotalMicros >= end.TTFTMicros && end.TotalMicros-end.TTFTMicros < fastest*uint64(end.Completion-1)
}

// correct takes back what was believed wrongly. The engine evicts leaves in the order of their stamps, so when a
// part of this path had been evicted, every other leaf that had no larger one has been too. A sibling that was still
// computing the path explains a shortfall by itself.
func (p *Pool) correct(l *lease, actual int64) {
	slack := max(64, int64(l.worker.info.PageSize), l.prompt/50)
	if l.predicted-actual <= slack || !l.matched || len(l.digests) != 1 || l.sibling {
		return
	}
	p.tree.EvictThrough(l.worker.index, l.stamp, tree.Path(l.digests[0].Hashes))
}
