package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// A question is what an answer is for.
type question struct {
	request wire.RequestID
	attempt uint32
}

// waiting is a request for which there was no room.
type waiting struct {
	req   *wire.AssignRequest
	class string // see classOf
	until time.Time
	beat  time.Time // when to say again that it is held
}

// holdBeat is how often a held request's gateway hears that its scheduler is alive.
const holdBeat = time.Second

// refuseRetry is the Retry-After of a refusal: by then a hold's worth of leases has ended, or the fleet is too small.
const refuseRetry = time.Second

// hold keeps the request until there is room, for the hold or for its own time if that is shorter.
func (p *Pool) hold(now time.Time, req *wire.AssignRequest) {
	if len(p.held) >= p.cfg.MaxHeld {
		p.refuse(req, wire.CodeOverloaded)
		return
	}
	until := now.Add(p.cfg.HoldFor)
	if left := time.Duration(req.RemainingMillis) * time.Millisecond; left > 0 && left < p.cfg.HoldFor {
		until = now.Add(left)
	}
	p.held = append(p.held, &waiting{req: req, class: classOf(req), until: until, beat: now.Add(holdBeat)})
	p.asked[question{req.Request, req.Attempt}] = struct{}{}
	p.sayHeld(req)
}

// classOf is equal for requests that the same workers may run, histories aside: what one finds full, all find full.
func classOf(req *wire.AssignRequest) string {
	class := req.Model
	if req.WeightVersion != "" || len(req.Regions) > 0 || req.Engine != "" || req.RankPlus1 != 0 {
		class += fmt.Sprintf("\x00%s\x00%s\x00%s\x00%d", req.WeightVersion, strings.Join(req.Regions, "\x00"), req.Engine, req.RankPlus1)
	}
	if also := req.Flags & (wire.FlagNative | wire.FlagLight | wire.FlagKept); also != 0 {
		class += fmt.Sprintf("\x00%d", also)
	}
	if req.Flags&(wire.FlagBound|wire.FlagOpens) != 0 {
		class += "\x00bound\x00" + req.Tenant + "\x00" + req.Session
	}
	return class
}

// Forget takes back a held request whose gateway has given it up.
func (p *Pool) Forget(id wire.RequestID, attempt uint32) {
	key := question{id, attempt}
	if _, ok := p.asked[key]; !ok {
		return
	}
	delete(p.asked, key)
	p.held = slices.DeleteFunc(p.held, func(h *waiting) bool { return h.req.Request == id && h.req.Attempt == attempt })
}

// wake places held requests, oldest first, as far as there is room. When there is none it looks at each worker once,
// however many requests are held.
func (p *Pool) wake(now time.Time) {
	if len(p.held) == 0 || !p.room(now) {
		return
	}
	clear(p.fullFor)
	p.held = slices.DeleteFunc(p.held, func(h *waiting) bool {
		if code := p.barred(now, h.req); code != wire.CodeOK { // since it is held
			p.refuse(h.req, code)
			delete(p.asked, question{h.req.Request, h.req.Attempt})
			return true
		}
		if p.fullFor[h.class] {
			return false
		}
		switch p.try(now, h.req) {
		case full:
			if len(h.req.History) == 0 { // else others of its class may find a worker that it must avoid
				p.fullFor[h.class] = true
			}
			return false
		case none:
			p.refuse(h.req, wire.CodeNoWorker)
		}
		delete(p.asked, question{h.req.Request, h.req.Attempt})
		return true
	})
}

// room tells whether there is something to be changed for those who wait: a worker with room, or none that serves.
func (p *Pool) room(now time.Time) bool {
	serving, answering := false, false
	for _, w := range p.order {
		if w.state == wire.Ready && !w.suspect {
			if w.free(now) > 0 {
				return true
			}
			serving, answering = true, answering || !now.Before(w.busyUntil)
		}
	}
	return !serving || answering && slices.ContainsFunc(p.held, func(h *waiting) bool { return h.req.Flags&wire.FlagLight != 0 })
}

// tickHeld refuses those whose time is over, and tells the others' gateways that they have not been forgotten.
func (p *Pool) tickHeld(now time.Time) {
	p.held = slices.DeleteFunc(p.held, func(h *waiting) bool {
		if !now.Before(h.until) {
			p.refuse(h.req, wire.CodeOverloaded)
			delete(p.asked, question{h.req.Request, h.req.Attempt})
			return true
		}
		if !now.Before(h.beat) {
			h.beat = now.Add(holdBeat)
			p.sayHeld(h.req)
		}
		return false
	})
}

func (p *Pool) sayHeld(req *wire.AssignRequest) {
	p.outputs = append(p.outputs, Output{Reply: &wire.AssignReply{
		Request: req.Request, Attempt: req.Attempt, Scheduler: p.cfg.Scheduler, Verdict: wire.Held,
	}})
}

func (p *Pool) refuse(req *wire.AssignRequest, code wire.Code) {
	p.outputs = append(p.outputs, Output{Reply: &wire.AssignReply{
		Request: req.Request, Attempt: req.Attempt, Scheduler: p.cfg.Scheduler, Verdict: wire.Refused, Code: code,
		RetryAfterMillis: uint32(refuseRetry.Milliseconds()),
	}})
}
