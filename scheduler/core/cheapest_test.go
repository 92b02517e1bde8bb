package core

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

// The search through the index tells what a look at everybody tells, whatever has happened before.
func TestSearchAnswersAsALookAtEverybody(t *testing.T) {
	seeds, steps := 60, 1500
	if testing.Short() {
		seeds = 6
	}
	placed := 0
	for seed := range seeds {
		b := newBoth(t, uint64(seed))
		for range steps {
			b.step()
		}
		b.stages[0].check()
		placed += b.placed
	}
	if placed < seeds*steps/10 {
		t.Errorf("%d placements compared: the test shows little", placed)
	}
}

// both are two pools to which the same happens; the second one prices everybody.
type both struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	stages [2]*stage
	fleet  int
	large  bool // most requests share a prefix, which so many hold that they are not listed
	lives  map[string]wire.Instance
	asked  uint32
	open   []*wire.AssignReply
	placed int
}

func newBoth(t *testing.T, seed uint64) *both {
	b := &both{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 9)), lives: make(map[string]wire.Instance)}
	b.large = seed%3 == 0
	b.fleet = 1 + b.rng.IntN(12)
	if b.large {
		b.fleet = 3 * fewHolders
	}
	for i := range b.stages {
		b.stages[i] = newStage(t, Config{Seed: seed, MaxHeld: 6, HoldFor: 2 * time.Second, LeaseFor: 8 * time.Second})
	}
	b.stages[1].p.priced = false
	for i := range b.fleet {
		b.join(i)
	}
	return b
}

// do makes the same happen to both, and compares what they tell.
func (b *both) do(what func(p *Pool, now time.Time)) {
	b.t.Helper()
	var told [2][]Output
	for i, s := range b.stages {
		what(s.p, s.now)
		told[i] = s.p.Outputs()
	}
	if !slices.EqualFunc(told[0], told[1], same) {
		b.t.Fatalf("seed %d: everybody priced -, searched +:\n%s", b.seed, cmp.Diff(told[1], told[0]))
	}
	for _, o := range told[0] {
		if o.Reply != nil && o.Reply.Verdict == wire.Placed {
			b.open = append(b.open, o.Reply)
			b.placed++
		}
	}
}

// same compares what two outputs say, faster than cmp.
func same(a, b Output) bool {
	switch {
	case a.Reply != nil && b.Reply != nil:
		return bytes.Equal(a.Reply.AppendTo(nil), b.Reply.AppendTo(nil))
	case a.Event != nil && b.Event != nil:
		return bytes.Equal(a.Event.AppendTo(nil), b.Event.AppendTo(nil))
	case a.Belief != nil && b.Belief != nil:
		return *a.Belief == *b.Belief
	}
	return false
}

func (b *both) step() {
	switch n := b.rng.IntN(100); {
	case n < 45:
		b.assign()
	case n < 75:
		b.finish()
	case n < 80:
		b.report()
	case n < 83:
		b.join(b.rng.IntN(b.fleet))
	case n < 84:
		name := b.name(b.rng.IntN(b.fleet))
		b.do(func(p *Pool, now time.Time) { p.Leave(now, name, b.lives[name]) })
	case n < 86:
		b.peer()
	default:
		d := time.Duration(b.rng.IntN(150)) * time.Millisecond
		for _, s := range b.stages {
			s.wait(d)
		}
		b.do(func(p *Pool, now time.Time) { p.Tick(now) })
	}
}

func (b *both) name(i int) string { return fmt.Sprintf("w%03d", i) }

func (b *both) join(i int) {
	name := b.name(i)
	if b.lives[name] == 0 || b.rng.IntN(4) == 0 {
		b.lives[name]++
	}
	w := info(name, b.lives[name], 1+b.rng.IntN(6))
	w.Models = append(w.Models, wire.Model{Name: "adapter", Kind: wire.LoRAModel, Loaded: b.rng.IntN(2) == 0})
	w.Region = []string{"eu", "us"}[b.rng.IntN(2)]
	w.WeightVersion = []string{"1", "2"}[b.rng.IntN(2)]
	w.EngineKind = []string{nativeKind, "other"}[b.rng.IntN(2)]
	w.PageSize = []int{1, 16, 64}[b.rng.IntN(3)]
	w.CapacityTokens = int64(200 + b.rng.IntN(5000))
	if i%3 == 0 {
		w.Engine, w.DPSize, w.DPRank = fmt.Sprint("e", i/6), 2, i/3%2
	}
	state := []wire.State{wire.Ready, wire.Ready, wire.Ready, wire.Ready, wire.Draining, wire.Down}[b.rng.IntN(6)]
	b.do(func(p *Pool, now time.Time) { p.Join(now, w, state) })
}

func (b *both) request() *wire.AssignRequest {
	b.asked++
	req := &wire.AssignRequest{Attempt: 1, Model: "m", Pool: "m", MaxTokens: uint32(b.rng.IntN(300)), EnginePriority: int32(b.rng.IntN(3))}
	binary.BigEndian.PutUint32(req.Request[:], b.asked)
	for range []int{1, 1, 1, 1, 0, 2}[b.rng.IntN(6)] {
		group := uint64(b.rng.IntN(4))
		if b.large {
			group = 0
		}
		req.Digests = append(req.Digests, digest(chain(group, b.rng.IntN(40), 12, uint64(b.rng.IntN(30)))))
	}
	one := func(n int) bool { return b.rng.IntN(n) == 0 }
	if one(12) {
		req.Model, req.LoRA = "adapter", "adapter"
	}
	if one(12) {
		req.Regions = []string{"eu"}
	}
	if one(12) {
		req.WeightVersion = "2"
	}
	if one(12) {
		req.RankPlus1 = uint32(1 + b.rng.IntN(2))
	}
	if one(20) {
		req.Engine = "e0"
	}
	if one(4) {
		req.Session = fmt.Sprint("s", b.rng.IntN(5))
	}
	if one(6) {
		req.InputTokens = uint32(1 + b.rng.IntN(2000))
	}
	req.Fingerprint = uint64(b.rng.IntN(200))
	req.Flags = []wire.Flags{
		wire.FlagByLoad | wire.FlagLight, wire.FlagByLoad | wire.FlagLight | wire.FlagKept, wire.FlagBound, wire.FlagByLoad | wire.FlagLight | wire.FlagOpens,
		wire.FlagNative, wire.FlagByLoad, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}[b.rng.IntN(16)]
	return req
}

func (b *both) assign() {
	req := b.request()
	if len(b.open) > 0 && b.rng.IntN(8) == 0 { // a second attempt
		r := b.take()
		at := r.Placements[0]
		req.Request, req.Attempt = r.Request, r.Attempt+1
		req.History = []wire.Outcome{{Attempt: r.Attempt, Worker: at.Worker, Instance: at.Instance, Code: []wire.Code{
			wire.CodeBusy, wire.CodeWorkerGone, wire.CodeEngineBroke, wire.CodeDraining, wire.CodeEngineFault, wire.CodeStale,
		}[b.rng.IntN(6)]}}
	}
	b.do(func(p *Pool, now time.Time) { p.Assign(now, req) })
}

func (b *both) take() *wire.AssignReply {
	i := b.rng.IntN(len(b.open))
	r := b.open[i]
	b.open[i] = b.open[len(b.open)-1]
	b.open = b.open[:len(b.open)-1]
	return r
}

func (b *both) finish() {
	if len(b.open) == 0 {
		return
	}
	r := b.take()
	at := r.Placements[0]
	f := &wire.Finished{Worker: at.Worker, Instance: at.Instance, Request: r.Request, Attempt: r.Attempt, Lease: at.Lease, End: wire.End{
		Code:   []wire.Code{wire.CodeOK, wire.CodeOK, wire.CodeOK, wire.CodeOK, wire.CodeOK, wire.CodeCancelled, wire.CodeEngineFault, wire.CodeEngineBroke}[b.rng.IntN(8)],
		Prompt: at.Prompt, CachedPlus1: 1 + at.Predicted/uint32(1+b.rng.IntN(2)), Completion: uint32(b.rng.IntN(100)),
		TTFTMicros: uint64(b.rng.IntN(100_000)), TotalMicros: 1_000_000, Begun: true,
	}}
	b.do(func(p *Pool, now time.Time) { p.Finished(now, f) })
}

func (b *both) report() {
	name := b.name(b.rng.IntN(b.fleet))
	l := &wire.Load{Worker: name, Instance: b.lives[name], Truncated: b.rng.IntN(3) == 0}
	for _, r := range b.open {
		if r.Placements[0].Worker == name && b.rng.IntN(5) > 0 {
			l.Leases = append(l.Leases, wire.LeaseRef{Request: r.Request, Attempt: r.Attempt})
		}
	}
	b.do(func(p *Pool, now time.Time) { p.Report(now, l) })
}

func (b *both) peer() {
	req, name := b.request(), b.name(b.rng.IntN(b.fleet))
	e := &wire.Assigned{
		Request: req.Request, Attempt: 1, Worker: name, Instance: b.lives[name], Prompt: uint32(1 + b.rng.IntN(3000)),
		Digests: req.Digests, Flags: req.Flags, Session: req.Session,
	}
	b.do(func(p *Pool, now time.Time) { p.Peer(now, e) })
}
