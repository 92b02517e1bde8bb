package core

import (
	"slices"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// Assign decides on a request. The answer is among the outputs: at once, or later when the request is held. A question
// that is asked again takes the place of the one that is still held.
func (p *Pool) Assign(now time.Time, req *wire.AssignRequest) {
	p.Forget(req.Request, req.Attempt)
	p.learnFailures(now, req)
	p.wake(now) // first come, first served: whatever room there is belongs to those who wait
	if code := p.barred(now, req); code != wire.CodeOK {
		p.refuse(req, code)
		return
	}
	switch p.try(now, req) {
	case full:
		p.hold(now, req)
	case none:
		p.refuse(req, wire.CodeNoWorker)
	}
}

// barred tells why the request is given to nobody, however much room there is.
func (p *Pool) barred(now time.Time, req *wire.AssignRequest) wire.Code {
	if p.poisons.refuses(now, req.Fingerprint) {
		return wire.CodePoison
	}
	if _, known := p.boundTo(now, req); !known {
		return wire.CodeNoSession
	}
	return wire.CodeOK
}

type tried int

const (
	placed tried = iota
	full         // somebody serves it, nobody has room
	none         // nobody alive serves it
)

// try places the request now, if it can be placed.
func (p *Pool) try(now time.Time, req *wire.AssignRequest) tried {
	ask := Ask{Prompt: p.promptTokens(req), Output: p.completion}
	if req.MaxTokens > 0 {
		ask.Output = min(ask.Output, float64(req.MaxTokens))
	}
	p.shun(req)
	last := p.ofSession(now, req)
	if p.searches(req) {
		if chosen := p.cheapest(now, req, ask, last); chosen != nil {
			p.place(now, req, chosen)
			return placed
		}
	}
	if verdict := p.gather(now, req, ask.Prompt); verdict != placed {
		return verdict
	}
	p.creditHolders(req, ask.Prompt)
	chosen := slices.IndexFunc(p.candidates, func(c Candidate) bool { return c.worker == last })
	if chosen < 0 {
		chosen = p.policy.Pick(p.candidates, ask, p.rng)
	}
	p.place(now, req, &p.candidates[chosen])
	return placed
}

// ofSession is the worker that the request's session went to last; nil for none.
func (p *Pool) ofSession(now time.Time, req *wire.AssignRequest) *worker {
	key := sessionKey(req.Tenant, req.Session)
	if key == 0 || req.Flags&(wire.FlagBound|wire.FlagOpens) != 0 {
		return nil
	}
	return p.workers[p.sessions.find(now, key)]
}

// gather fills p.candidates with the workers that may run the request and have room, and tells whether there is one. Those
// in trouble are candidates only among themselves.
func (p *Pool) gather(now time.Time, req *wire.AssignRequest, prompt int64) tried {
	p.candidates = p.candidates[:0]
	verdict, troubled := none, 0
	workers := p.order
	if bound, _ := p.boundTo(now, req); bound != "" {
		workers = []*worker{p.workers[bound]}
	}
	for _, w := range workers {
		switch {
		case !p.eligible(w, req):
		case w.suspect, !w.hasRoom(now, req):
			verdict = full // a suspect one is heard of within a beat, or has left within three
		case now.Before(w.troubledUntil):
			troubled++
		default:
			p.addCandidate(now, w, prompt, req)
		}
	}
	if len(p.candidates) == 0 && troubled > 0 {
		for _, w := range workers {
			if p.eligible(w, req) && !w.suspect && w.hasRoom(now, req) {
				p.addCandidate(now, w, prompt, req)
			}
		}
	}
	if len(p.candidates) > 0 {
		return placed
	}
	return verdict
}

func (p *Pool) addCandidate(now time.Time, w *worker, prompt int64, req *wire.AssignRequest) {
	w.at = len(p.candidates)
	c := Candidate{
		worker: w, Worker: w.info.Worker, Prompt: prompt, Uncached: prompt, Running: w.occupied(), TreeBytes: p.tree.HeldCost(w.index),
		Loads: w.loads(req.LoRA),
	}
	figures := figuresOf(w)
	p.scaleOf(now, w).fill(&c, &figures)
	p.candidates = append(p.candidates, c)
}

// loads tells whether the worker's engine would have to load the adapter first.
func (w *worker) loads(lora string) bool { return lora != "" && w.knows(lora) && !w.loaded[lora] }

// knows tells whether the worker answers to a model name.
func (w *worker) knows(model string) bool {
	_, knows := slices.BinarySearch(w.models, model)
	return knows
}

// creditHolders credits each candidate with what the tree says that it holds.
func (p *Pool) creditHolders(req *wire.AssignRequest, prompt int64) {
	for i := range req.Digests {
		p.holders = p.tree.Match(tree.Path(req.Digests[i].Hashes), p.holders[:0])
		for _, h := range p.holders {
			if c := p.candidate(h.Worker); c != nil {
				c.HeldBytes += p.cfg.Cost(h.Depth)
			}
		}
	}
	perToken := p.perToken(req)
	for i := range p.candidates {
		p.candidates[i].credit(perToken)
	}
}

// perToken is how many bytes of the request's digests make a token: token ids tell it themselves.
func (p *Pool) perToken(req *wire.AssignRequest) float64 {
	if req.InputTokens > 0 {
		return max(1, float64(digestBytes(req.Digests))/float64(req.InputTokens))
	}
	return p.bytesPerToken
}

// credit takes what the candidate is believed to hold off what it would have to compute.
func (c *Candidate) credit(perToken float64) {
	if c.HeldBytes > 0 {
		c.Predicted = predict(c.worker, float64(c.HeldBytes)/perToken, c.Prompt)
		c.Uncached = c.Prompt - c.Predicted
	}
}

// candidate finds a worker among the candidates; nil when it is none.
func (p *Pool) candidate(i tree.Worker) *Candidate {
	w := p.byIndex[i]
	if w == nil || w.at >= len(p.candidates) || p.candidates[w.at].worker != w {
		return nil
	}
	return &p.candidates[w.at]
}

// predict turns tokens believed held into the cached tokens that the engine will report: whole pages, and never the
// last token, which is always computed.
func predict(w *worker, held float64, prompt int64) int64 {
	tokens := cachedTokens(held, prompt)
	if page := int64(w.info.PageSize); page > 1 {
		tokens -= tokens % page
	}
	return max(0, tokens)
}

// cachedTokens is what an engine of any page size could have cached of the prompt, at most.
func cachedTokens(held float64, prompt int64) int64 { return int64(min(held, float64(prompt-1))) }

// maxPrompt bounds what a request may claim, in tokens, so that sums cannot overflow: adapters pass on no more either.
const maxPrompt = 1<<31 - 1

// promptTokens estimates the length of the prompt: as counted, else by the text in the digests, else by the body.
func (p *Pool) promptTokens(req *wire.AssignRequest) int64 {
	if req.InputTokens > 0 {
		return min(int64(req.InputTokens), maxPrompt)
	}
	bytes := digestBytes(req.Digests)
	if bytes == 0 {
		bytes = req.BodyBytes
	}
	return int64(min(max(1, float64(bytes)/p.bytesPerToken), maxPrompt))
}

// digestBytes is the length of the prompts. What a stranger claims beyond a body's bound does not count.
func digestBytes(ds []wire.Digest) (sum uint64) {
	for i := range ds {
		sum += min(ds[i].Bytes, wire.MaxBody)
	}
	return sum
}

// learnFailures ends the leases of earlier attempts, and marks the worker that failed the last one. Older failures
// are no news: their workers have reported since.
func (p *Pool) learnFailures(now time.Time, req *wire.AssignRequest) {
	for i, o := range req.History {
		if l := p.leases[wire.AttemptKey{Request: req.Request, Attempt: o.Attempt, Instance: o.Instance}]; l != nil {
			p.abandon(now, l)
			p.judge(now, l, o.Code)
		}
		w := p.workers[o.Worker]
		if i < len(req.History)-1 || w == nil || w.info.Instance != o.Instance {
			continue
		}
		switch o.Code {
		case wire.CodeWorkerGone, wire.CodeEngineDown, wire.CodeEngineBroke:
			for rank := range p.ranksOf(w) {
				p.suspect(rank)
			}
		case wire.CodeStale:
			p.suspect(w)
		case wire.CodeBusy, wire.CodeEngineBusy, wire.CodeDraining:
			w.busyUntil = now.Add(busyFor)
		}
	}
}

// busyFor is how long a worker that turned a request away gets none: about as long as a short answer takes.
const busyFor = 100 * time.Millisecond

// shun notes the workers that have failed the request already, with all ranks of their engines where it was the engine that
// failed. A busy worker may be tried again.
func (p *Pool) shun(req *wire.AssignRequest) {
	p.shunned = p.shunned[:0]
	for i := range req.History {
		o := &req.History[i]
		w := p.workers[o.Worker]
		if w == nil || w.info.Instance != o.Instance {
			continue
		}
		switch o.Code {
		case wire.CodeOK, wire.CodeBusy, wire.CodeEngineBusy:
		case wire.CodeWorkerGone, wire.CodeEngineDown, wire.CodeEngineBroke, wire.CodeEngineFault:
			p.shunned = slices.AppendSeq(p.shunned, p.ranksOf(w))
		default:
			p.shunned = append(p.shunned, w)
		}
	}
}

// eligible tells whether the worker may run the request at all, room aside. See shun.
func (p *Pool) eligible(w *worker, req *wire.AssignRequest) bool {
	answers := w.state == wire.Ready || w.state == wire.Draining && req.Flags&wire.FlagKept != 0
	return answers && w.takes(req) && !slices.Contains(p.shunned, w)
}

// takes tells whether the worker serves the request's model within its constraints.
func (w *worker) takes(req *wire.AssignRequest) bool {
	return w.knows(req.Model) &&
		(req.Engine == "" || req.Engine == w.info.Engine) &&
		(req.RankPlus1 == 0 || int64(req.RankPlus1) == int64(w.info.DPRank)+1) &&
		(req.Flags&wire.FlagNative == 0 || w.info.EngineKind == nativeKind) &&
		(len(req.Regions) == 0 || slices.Contains(req.Regions, w.info.Region)) &&
		(req.WeightVersion == "" || req.WeightVersion == w.info.WeightVersion)
}

// nativeKind are the engines that have SGLang's own routes.
const nativeKind = "sglang"
