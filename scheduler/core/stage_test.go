package core

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/tree"
)

// In these tests a block is 64 bytes, and until something else is learnt 16 tokens.
const (
	blockBytes  = 64
	blockTokens = 16
)

func blockCost(blocks int) int64 { return int64(blocks) * blockBytes }

var epoch = time.Unix(1_800_000_000, 0)

// A reporter is a test, or one try of a property.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// A stage is a pool in virtual time.
type stage struct {
	t   reporter
	p   *Pool
	now time.Time
	ids uint32
}

func newStage(t reporter, cfg Config) *stage {
	t.Helper()
	cfg.Pool, cfg.Scheduler, cfg.Cost = "m", "s1", blockCost
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &stage{t: t, p: p, now: epoch}
}

func info(name string, n wire.Instance, running int) *wire.WorkerInfo {
	return &wire.WorkerInfo{
		Worker: name, Instance: n, Region: "eu", Pool: "m", Models: []wire.Model{{Name: "m", Kind: wire.BaseModel}},
		CapacityTokens: 1 << 20, PageSize: 1, MaxRunning: running, DPSize: 1,
	}
}

// join takes in ready workers w0, w1, … that admit running attempts each.
func (s *stage) join(workers, running int) {
	for i := range workers {
		s.p.Join(s.now, info(fmt.Sprintf("w%d", i), 1, running), wire.Ready)
	}
}

func (s *stage) wait(d time.Duration) { s.now = s.now.Add(d) }

// tick lets time pass as the service does.
func (s *stage) tick(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.wait(min(200*time.Millisecond, end.Sub(s.now)))
		s.p.Tick(s.now)
	}
}

// chain is a path of n blocks that belongs to group; from block `from` on it belongs to tail too.
func chain(group uint64, n, from int, tail uint64) []uint64 {
	hs := make([]uint64, n)
	h := group * 0x9e3779b97f4a7c15
	for i := range hs {
		if i == from {
			h ^= tail * 0xbf58476d1ce4e5b9
		}
		h = (h ^ h>>29 ^ uint64(i)) * 0x94d049bb133111eb
		h ^= h >> 32
		hs[i] = h
	}
	return hs
}

func prompt(group uint64, n int) []uint64 { return chain(group, n, n, 0) }

func digest(hs []uint64) wire.Digest {
	return wire.Digest{KeyID: 1, Ladder: 1, Bytes: uint64(len(hs)) * blockBytes, Hashes: hs}
}

// request is a new one for the paths.
func (s *stage) request(paths ...[]uint64) *wire.AssignRequest {
	s.ids++
	req := &wire.AssignRequest{Attempt: 1, Model: "m", Pool: "m", MaxTokens: 1}
	binary.BigEndian.PutUint32(req.Request[:], s.ids)
	for _, hs := range paths {
		req.Digests = append(req.Digests, digest(hs))
	}
	return req
}

// assign asks, and returns the last reply to the question, which may be held.
func (s *stage) assign(req *wire.AssignRequest) *wire.AssignReply {
	s.t.Helper()
	s.p.Assign(s.now, req)
	return last(s.replies(), req)
}

// put places a request for the paths or fails.
func (s *stage) put(paths ...[]uint64) *wire.AssignReply {
	s.t.Helper()
	r := s.assign(s.request(paths...))
	if r == nil || r.Verdict != wire.Placed {
		s.t.Fatalf("got %+v, want a placement", r)
	}
	return r
}

// replies are those told since the last time, and drops the rest.
func (s *stage) replies() (rs []*wire.AssignReply) {
	for _, o := range s.p.Outputs() {
		if o.Reply != nil {
			rs = append(rs, o.Reply)
		}
	}
	return rs
}

func last(rs []*wire.AssignReply, req *wire.AssignRequest) (r *wire.AssignReply) {
	for _, one := range rs {
		if one.Request == req.Request && one.Attempt == req.Attempt {
			r = one
		}
	}
	return r
}

// where is the worker of a placement.
func where(r *wire.AssignReply) string {
	if r == nil || r.Verdict != wire.Placed {
		return ""
	}
	return r.Placements[0].Worker
}

// finish ends what r placed, with a prompt of the estimated length and that many of its tokens cached.
func (s *stage) finish(r *wire.AssignReply, cached int) { s.end(r, ended(r, cached)) }

func ended(r *wire.AssignReply, cached int) wire.End {
	return wire.End{Prompt: r.Placements[0].Prompt, CachedPlus1: uint32(cached + 1), Completion: 1}
}

func (s *stage) end(r *wire.AssignReply, end wire.End) {
	at := r.Placements[0]
	s.p.Finished(s.now, &wire.Finished{Worker: at.Worker, Instance: at.Instance, Request: r.Request, Attempt: r.Attempt, Lease: at.Lease, End: end})
}

// load is a report of w that names the attempts.
func load(w string, rs ...*wire.AssignReply) *wire.Load {
	l := &wire.Load{Worker: w, Instance: 1}
	for _, r := range rs {
		l.Leases = append(l.Leases, wire.LeaseRef{Request: r.Request, Attempt: r.Attempt})
	}
	return l
}

func (s *stage) held(w string, path []uint64) int {
	return s.p.tree.Held(s.p.workers[w].index, tree.Path(path))
}

func (s *stage) running(w string) int { return s.p.workers[w].running() }

// check recomputes all sums from the leases.
func (s *stage) check() {
	s.t.Helper()
	p, leases := s.p, 0
	for i, w := range p.order {
		if p.workers[w.info.Worker] != w || p.byIndex[w.index] != w || i > 0 && p.order[i-1].info.Worker >= w.info.Worker {
			s.t.Fatalf("worker %s is out of place", w.info.Worker)
		}
		count, aside, uncached, context, newer := 0, 0, int64(0), int64(0), (*lease)(nil)
		for l := range w.leases() {
			if p.leases[l.key] != l || l.worker != w || l.newer != newer || newer != nil && newer.expires.Before(l.expires) {
				s.t.Fatalf("worker %s: lease %d is out of place", w.info.Worker, l.number)
			}
			if l.predicted < 0 || l.predicted > l.prompt {
				s.t.Fatalf("lease %d: predicted %d of %d", l.number, l.predicted, l.prompt)
			}
			for i := range l.sure {
				if l.sure[i] < 0 || l.sure[i] > len(l.digests[i].Hashes) {
					s.t.Fatalf("lease %d: sure of %d blocks of %d", l.number, l.sure[i], len(l.digests[i].Hashes))
				}
			}
			newer = l
			count++
			uncached += l.prompt - l.predicted
			context += l.prompt
			aside += asideOf(l)
		}
		if w.aside != aside || w.occupied() < 0 {
			s.t.Fatalf("worker %s: counted %d that take no slot, they are %d; %d slots", w.info.Worker, w.aside, aside, w.occupied())
		}
		if w.count != count || w.uncached != uncached || w.context != context || w.oldest != newer || w.foreign < 0 {
			s.t.Fatalf("worker %s: counted %d leases, %d uncached, %d context; they are %d, %d, %d", w.info.Worker, w.count, w.uncached, w.context, count, uncached, context)
		}
		if b := p.backlogOf(s.now, w); math.IsNaN(b) || b < 0 || b > float64(uncached)+0.01 {
			s.t.Fatalf("worker %s: backlog %v of %d uncached", w.info.Worker, b, uncached)
		}
		leases += count
	}
	s.checkShelves()
	if len(p.leases) != leases {
		s.t.Fatalf("%d leases known, %d on workers", len(p.leases), leases)
	}
	if len(p.held) != len(p.asked) || len(p.held) > p.cfg.MaxHeld {
		s.t.Fatalf("%d requests held, %d known by name, bound %d", len(p.held), len(p.asked), p.cfg.MaxHeld)
	}
	if len(p.over.of) > maxOver || len(p.over.order) > maxOver {
		s.t.Fatalf("%d endings remembered", len(p.over.of))
	}
}

// checkShelves compares what the search looks at with the workers.
func (s *stage) checkShelves() {
	s.t.Helper()
	for i := range s.p.shelves {
		shelf := &s.p.shelves[i]
		for leaf := range shelf.leaves {
			want := nobody
			if w := s.p.workerAt(leaf); w != nil && w.state == wire.Ready && !w.suspect && s.p.shelves.of(w) == shelf {
				want = figuresOf(w)
			}
			if got := shelf.nodes[shelf.leaves+leaf]; got != want {
				s.t.Fatalf("shelf %d, worker %d: figures %v, want %v", i, leaf, got, want)
			}
		}
		for n := 1; n < shelf.leaves; n++ {
			if got, want := shelf.nodes[n], shelf.nodes[2*n].least(&shelf.nodes[2*n+1]); got != want {
				s.t.Fatalf("shelf %d, node %d: figures %v, want %v", i, n, got, want)
			}
		}
	}
}

func (p *Pool) workerAt(index int) *worker {
	if index >= len(p.byIndex) {
		return nil
	}
	return p.byIndex[index]
}
