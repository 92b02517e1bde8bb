package core

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/radixbus/radixbus/internal/wire"
)

// Whatever happens in whatever order, the sums are those of the leases; every question has one answer; and once
// everything is over nothing is counted.
func TestLoadCannotLeak(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStage(rt, Config{
			Policy: rapid.SampledFrom(Policies()).Draw(rt, "policy"), MaxHeld: 6, HoldFor: 2 * time.Second, LeaseFor: 8 * time.Second,
		})
		w := &world{stage: s, rt: rt, open: make(map[question]bool), bodies: make(map[question]uint64), lives: make(map[string]wire.Instance)}
		rt.Repeat(map[string]func(*rapid.T){
			"join": w.join1, "leave": w.leave, "assign": w.ask, "again": w.again, "retry": w.retry, "forget": w.forget,
			"finish": w.finish1, "report": w.report, "peer": w.peer, "tick": w.pass,
			"": func(*rapid.T) { w.settle() },
		})
		// A while later all leases have expired and all holds are over; reports say that nothing runs.
		for range 20 {
			s.wait(time.Second)
			for name, n := range w.lives {
				s.p.Report(s.now, &wire.Load{Worker: name, Instance: n})
			}
			s.p.Tick(s.now)
			w.settle()
		}
		s.zero()
		if s.p.Held() != 0 || len(w.open) != 0 {
			rt.Fatalf("%d requests held and %d questions unanswered in the end", s.p.Held(), len(w.open))
		}
	})
}

// A world does what may happen to a pool.
type world struct {
	*stage
	rt     *rapid.T
	open   map[question]bool   // asked and not yet answered
	bodies map[question]uint64 // their fingerprints
	asked  []*wire.AssignRequest
	placed []*wire.AssignReply
	peers  []*wire.Assigned
	lives  map[string]wire.Instance
	life   wire.Instance
}

func (w *world) name(t *rapid.T) string {
	return fmt.Sprintf("w%d", rapid.IntRange(0, 3).Draw(t, "worker"))
}

func (w *world) join1(t *rapid.T) {
	name := w.name(t)
	n := w.lives[name]
	if n == 0 || rapid.Bool().Draw(t, "new life") {
		w.life++
		n = w.life
	}
	w.lives[name] = n
	i := info(name, n, rapid.IntRange(0, 3).Draw(t, "room"))
	if name < "w2" { // two ranks of one engine
		i.Engine, i.DPSize, i.DPRank = "e0", 2, int(name[1]-'0')
	}
	i.EvictionPolicy = rapid.SampledFrom([]string{"lru", "priority"}).Draw(t, "eviction")
	i.CapacityTokens = rapid.Int64Range(0, 2000).Draw(t, "capacity")
	w.p.Join(w.now, i, rapid.SampledFrom([]wire.State{wire.Ready, wire.Ready, wire.Ready, wire.Draining, wire.Down}).Draw(t, "state"))
}

func (w *world) leave(t *rapid.T) {
	name := w.name(t)
	w.p.Leave(w.now, name, w.lives[name])
	delete(w.lives, name)
}

func (w *world) paths(t *rapid.T) (ps [][]uint64) {
	for range rapid.IntRange(0, 2).Draw(t, "prompts") {
		n := rapid.IntRange(0, 30).Draw(t, "blocks")
		ps = append(ps, chain(rapid.Uint64Range(1, 3).Draw(t, "group"), n, rapid.IntRange(0, 30).Draw(t, "shared"), rapid.Uint64Range(1, 3).Draw(t, "tail")))
	}
	return ps
}

func (w *world) ask(t *rapid.T) {
	req := w.request(w.paths(t)...)
	req.RemainingMillis = rapid.SampledFrom([]uint32{0, 1, 500, 100_000}).Draw(t, "remaining")
	w.kind(t, req)
	w.submit(req)
}

// kind makes it one of the kinds of requests that there are.
func (w *world) kind(t *rapid.T, req *wire.AssignRequest) {
	req.Flags = rapid.SampledFrom([]wire.Flags{
		0, 0, 0, wire.FlagByLoad, wire.FlagByLoad | wire.FlagLight, wire.FlagByLoad | wire.FlagLight | wire.FlagKept,
		wire.FlagByLoad | wire.FlagLight | wire.FlagOpens, wire.FlagBound,
	}).Draw(t, "flags")
	req.Session = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "session")
	req.Fingerprint = rapid.SampledFrom([]uint64{0, 7, 8}).Draw(t, "body")
	req.EnginePriority = int32(rapid.IntRange(-1, 1).Draw(t, "priority"))
}

func (w *world) submit(req *wire.AssignRequest) {
	w.asked = append(w.asked, req)
	w.open[question{req.Request, req.Attempt}] = true
	w.bodies[question{req.Request, req.Attempt}] = req.Fingerprint
	w.p.Assign(w.now, req)
}

// again asks the same question once more.
func (w *world) again(t *rapid.T) {
	if len(w.asked) > 0 {
		w.submit(rapid.SampledFrom(w.asked).Draw(t, "question"))
	}
}

func (w *world) retry(t *rapid.T) {
	if len(w.placed) == 0 {
		return
	}
	r := rapid.SampledFrom(w.placed).Draw(t, "failed")
	at := r.Placements[0]
	req := w.request(w.paths(t)...)
	req.Request, req.Attempt = r.Request, r.Attempt+1
	req.History = []wire.Outcome{{Attempt: r.Attempt, Worker: at.Worker, Instance: at.Instance, Code: rapid.SampledFrom([]wire.Code{
		wire.CodeBusy, wire.CodeWorkerGone, wire.CodeEngineBroke, wire.CodeDraining, wire.CodeEngineFault, wire.CodeOK,
	}).Draw(t, "code")}}
	w.kind(t, req)
	w.submit(req)
}

func (w *world) forget(t *rapid.T) {
	if len(w.asked) > 0 {
		req := rapid.SampledFrom(w.asked).Draw(t, "question")
		w.p.Forget(req.Request, req.Attempt)
		delete(w.open, question{req.Request, req.Attempt})
	}
}

func (w *world) finish1(t *rapid.T) {
	if len(w.placed) == 0 {
		return
	}
	r := rapid.SampledFrom(w.placed).Draw(t, "attempt")
	w.end(r, wire.End{
		Code:   rapid.SampledFrom([]wire.Code{wire.CodeOK, wire.CodeOK, wire.CodeCancelled, wire.CodeBusy, wire.CodeEngineBroke}).Draw(t, "code"),
		Prompt: rapid.Uint32Range(0, 2000).Draw(t, "prompt"), CachedPlus1: rapid.Uint32Range(0, 2000).Draw(t, "cached"),
		TTFTMicros: rapid.Uint64Range(0, 1_000_000).Draw(t, "ttft"), Completion: rapid.Uint32Range(0, 100).Draw(t, "completion"),
		Begun: rapid.Bool().Draw(t, "begun"),
	})
}

func (w *world) report(t *rapid.T) {
	name := w.name(t)
	l := &wire.Load{Worker: name, Instance: w.lives[name], Truncated: rapid.IntRange(0, 5).Draw(t, "truncated") == 0}
	for range rapid.IntRange(0, 4).Draw(t, "named") {
		if len(w.placed) > 0 {
			r := rapid.SampledFrom(w.placed).Draw(t, "attempt")
			l.Leases = append(l.Leases, wire.LeaseRef{Request: r.Request, Attempt: r.Attempt})
		}
	}
	w.p.Report(w.now, l)
}

// peer is another scheduler's decision, new or told again.
func (w *world) peer(t *rapid.T) {
	if len(w.peers) > 0 && rapid.Bool().Draw(t, "again") {
		w.p.Peer(w.now, rapid.SampledFrom(w.peers).Draw(t, "decision"))
		return
	}
	name := w.name(t)
	req := w.request(w.paths(t)...)
	e := &wire.Assigned{
		Request: req.Request, Attempt: 1, Worker: name, Instance: w.lives[name], LeaseMillis: rapid.Uint32().Draw(t, "lease"),
		Prompt: rapid.Uint32().Draw(t, "prompt"), Predicted: rapid.Uint32().Draw(t, "predicted"), Digests: req.Digests,
	}
	w.kind(t, req)
	e.Flags, e.Session, e.Fingerprint, e.EnginePriority = req.Flags, req.Session, req.Fingerprint, req.EnginePriority
	w.peers = append(w.peers, e)
	w.placed = append(w.placed, &wire.AssignReply{Request: e.Request, Attempt: 1, Placements: []wire.Placement{{Worker: name, Instance: e.Instance}}})
	if rapid.Bool().Draw(t, "on time") {
		w.p.Peer(w.now, e)
	}
}

func (w *world) pass(t *rapid.T) {
	w.wait(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
	w.p.Tick(w.now)
}

// settle takes the answers in and checks the sums.
func (w *world) settle() {
	for _, r := range w.replies() {
		key := question{r.Request, r.Attempt}
		if !w.open[key] {
			w.rt.Fatalf("%+v answers nothing that was asked", r)
		}
		if r.Verdict == wire.Held {
			continue
		}
		delete(w.open, key)
		if r.Verdict == wire.Placed {
			at := r.Placements[0]
			if p := w.p.workers[at.Worker]; p == nil || at.Predicted >= at.Prompt {
				w.rt.Fatalf("placed on %+v", at)
			}
			if w.p.poisons.refuses(w.now, w.bodies[key]) {
				w.rt.Fatalf("%+v is placed, though its body breaks engines", key)
			}
			w.placed = append(w.placed, r)
		}
	}
	if len(w.open) != w.p.Held() {
		w.rt.Fatalf("%d questions open, %d held", len(w.open), w.p.Held())
	}
	w.check()
}
