package core

import (
	"math"
	"time"
)

// decodeWeight is what one token of context in the batch adds to one decode step, in prefill tokens: 0.0422 ms per
// 1,000 tokens against 0.0216 ms per token, fitted to measured points of Llama-3.1-8B on an H100. The ratio, not the
// absolute time, is what matters here; the rate is learnt per worker.
const decodeWeight = 0.0422 / 1000 / 0.0216

// loadSeconds is what the loading of an adapter is taken to cost: some hundred megabytes from a disk, and another adapter
// that may have to go. It need not be exact: it keeps adapters together until a worker is busier than that.
const loadSeconds = 1.0

// price is what a request costs on a worker, in seconds until it would have its answer there: what waits to be prefilled,
// what it would add, and how much its decode steps are slowed by what runs there. It never falls when an argument rises,
// rounding included: what is true of the least figures of many workers is true of each of them. The conversions keep
// compilers from joining a product and a sum, which would round elsewhere.
func price(c *Candidate, output float64) float64 {
	seconds := c.Wait + float64(float64(c.Uncached)*c.Token) + float64(output*c.Batch)
	if c.Loads {
		seconds += loadSeconds
	}
	return seconds
}

// figures are what a worker's price is made of beside the request, in a form that time does not change. Its units are
// those of the worker's [scale].
type figures struct {
	done  float64 // when its backlog is prefilled
	token float64 // of prefilling one token
	batch float64 // what its batch adds to one decode step
	work  float64 // prefill tokens given so far, and its coin: the order of equal prices
}

// nobody has no figures: no price is as high.
var nobody = figures{math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}

// least are figures that no worker of either is below.
func (f *figures) least(g *figures) figures {
	return figures{min(f.done, g.done), min(f.token, g.token), min(f.batch, g.batch), min(f.work, g.work)}
}

// A scale tells what figures mean now. Workers whose rate has been learnt count in seconds. The others prefill at the pool's
// rate, which changes with every sample: they count in tokens of it, so that nothing has to be told of each of them.
type scale struct {
	now  float64
	unit float64 // seconds
}

// fill sets what a candidate costs by the figures.
func (s scale) fill(c *Candidate, f *figures) {
	c.Wait = max(0, f.done-s.now) * s.unit
	c.Token, c.Batch, c.Work = f.token*s.unit, f.batch*s.unit, f.work
}

// seconds is the scale of workers whose rate has been learnt.
func (p *Pool) seconds(now time.Time) scale { return scale{now.Sub(p.started).Seconds(), 1} }

// tokens is the scale of the others. Its clock is what a worker of the pool's rate has prefilled so far if it never paused.
func (p *Pool) tokens(now time.Time) scale {
	return scale{p.prefilled + max(0, now.Sub(p.rated).Seconds())*p.rate, 1 / p.rate}
}

func (p *Pool) scaleOf(now time.Time, w *worker) scale {
	if w.samples > 0 {
		return p.seconds(now)
	}
	return p.tokens(now)
}

// figuresOf are those of a worker, in its scale.
func figuresOf(w *worker) figures {
	f := figures{done: w.done, token: 1, batch: decodeWeight * float64(w.context), work: w.work + w.coin}
	if w.samples > 0 {
		f.token = 1 / w.rate
		f.batch /= w.rate
	}
	return f
}

// rateOf is how fast the worker prefills, in tokens per second. One of which nothing is known is like the others, not
// like our first guess.
func (p *Pool) rateOf(w *worker) float64 {
	if w.samples == 0 {
		return p.rate
	}
	return w.rate
}

// backlogOf is what waits to be prefilled on the worker now, in tokens: what it was given, less what it has done since. It
// changes nothing, so replicas that look at a worker more or less often agree on it.
func (p *Pool) backlogOf(now time.Time, w *worker) float64 {
	s := p.scaleOf(now, w)
	return max(0, w.done-s.now) * s.unit * p.rateOf(w)
}

// setBacklog says how many tokens wait to be prefilled on the worker now.
func (p *Pool) setBacklog(now time.Time, w *worker, tokens float64) {
	s := p.scaleOf(now, w)
	w.done = s.now + tokens/p.rateOf(w)/s.unit
}

// setRate learns a prefill rate, in tokens per second, from a sample of a worker. What waits there now will go at the new one.
func (p *Pool) setRate(now time.Time, w *worker, sample float64) {
	backlog := p.backlogOf(now, w)
	clock := p.tokens(now)
	p.prefilled, p.rated = clock.now, now
	p.samples++
	p.rate += max(learnRate, 1/float64(p.samples)) * (sample - p.rate)
	w.samples++
	w.rate += max(learnRate, 1/float64(w.samples)) * (sample - w.rate)
	p.setBacklog(now, w, backlog)
	p.show(w)
}
