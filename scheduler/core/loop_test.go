package core

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// An ending is an attempt's end in virtual time.
type ending struct {
	at    time.Time
	reply *wire.AssignReply
	end   wire.End
}

type calendar []ending

func (c calendar) Len() int           { return len(c) }
func (c calendar) Less(i, j int) bool { return c[i].at.Before(c[j].at) }
func (c calendar) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(x any)        { *c = append(*c, x.(ending)) }
func (c *calendar) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// serve runs traffic of groups that share a prompt's first part against engines that prefill one request after
// the other and have a cache each. It returns the share of prompt tokens that were cached, and the requests of each
// worker.
func serve(t *testing.T, policy string, groupOf func(*rand.Rand) uint64) (hit float64, byWorker map[string]int) {
	t.Helper()
	const (
		workers, requests      = 4, 1500
		rate                   = 20_000.0 // tokens per second
		blocks, shared, tokens = 200, 150, 200 * blockTokens
		capacity               = 40 * tokens
	)
	s := newStage(t, Config{Policy: policy, Seed: 1})
	engines := tree.New(tree.Config{Cost: func(n int) int64 { return int64(n) * blockTokens }})
	free := make(map[string]time.Time)
	for i := range workers {
		s.join(i+1, 64)
		engines.SetCapacity(tree.Worker(i), capacity)
	}
	for _, w := range s.p.order {
		w.info.CapacityTokens = capacity
		s.p.fitCapacity(w)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	var due calendar
	var cachedSum, promptSum float64
	byWorker = make(map[string]int)
	end := func(e ending) {
		s.now = e.at
		s.end(e.reply, e.end)
		s.replies()
	}
	at := epoch
	for n := range requests {
		at = at.Add(time.Duration(rng.ExpFloat64() * float64(70*time.Millisecond)))
		for len(due) > 0 && due[0].at.Before(at) {
			end(heap.Pop(&due).(ending))
		}
		s.now = at
		path := chain(groupOf(rng), blocks, shared, uint64(n+1))
		r := s.put(path)
		name := where(r)
		byWorker[name]++
		w := tree.Worker(name[1] - '0')
		cached := min(engines.Held(w, path)*blockTokens, tokens-1)
		engines.Insert(w, path, tree.Stamp(at.UnixNano()))
		begin := at
		if free[name].After(at) {
			begin = free[name]
		}
		free[name] = begin.Add(time.Duration(float64(tokens-cached) / rate * float64(time.Second)))
		ttft := free[name].Sub(at)
		heap.Push(&due, ending{free[name].Add(200 * time.Millisecond), r, wire.End{
			Prompt: tokens, CachedPlus1: uint32(cached + 1), Completion: 20,
			TTFTMicros: uint64(ttft.Microseconds()), TotalMicros: uint64(ttft.Microseconds()) + 200_000,
		}})
		cachedSum += float64(cached)
		promptSum += tokens
	}
	for len(due) > 0 {
		end(heap.Pop(&due).(ending))
	}
	s.zero()
	return cachedSum / promptSum, byWorker
}

func TestRadixKeepsPrefixesTogether(t *testing.T) {
	groups := func(rng *rand.Rand) uint64 { return 1 + rng.Uint64N(60) } // more than one worker's cache has room for
	radix, spread := serve(t, "radix", groups)
	random, _ := serve(t, "random", groups)
	if radix < 1.5*random {
		t.Errorf("token hit rate %.3f, want well above the %.3f of random", radix, random)
	}
	for w, n := range spread {
		if n > 2*1500/4 {
			t.Errorf("%s got %d of 1500 requests", w, n)
		}
	}
}

func TestRadixDoesNotPileAHotGroupOnOneWorker(t *testing.T) {
	hot := func(rng *rand.Rand) uint64 {
		if rng.IntN(10) < 8 {
			return 1
		}
		return 2 + rng.Uint64N(60)
	}
	hit, spread := serve(t, "radix", hot)
	if len(spread) != 4 {
		t.Errorf("requests by worker: %v, want all 4 at work", spread)
	}
	for w, n := range spread {
		if n > 1500*6/10 {
			t.Errorf("%s got %d of 1500 requests", w, n)
		}
	}
	if hit < 0.5 {
		t.Errorf("token hit rate %.3f: the hot group was not kept together either", hit)
	}
}
