package core

import (
	"hash/fnv"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// follow notes where a session's request went. What is bound is where it was opened, and no preference moves it.
func (p *Pool) follow(now time.Time, tenant, session string, flags wire.Flags, worker string) {
	at := &p.sessions
	if flags&(wire.FlagBound|wire.FlagOpens) != 0 {
		at = &p.opened
	}
	at.set(now, sessionKey(tenant, session), worker)
}

// boundTo is the only worker that may run the request, because its session was opened there; "" for any. It is known to the
// request itself, or to us; else somebody else has to be asked. One that is opened again goes where it is, since the engine says
// so, unless that one takes nothing: then it is opened anew.
func (p *Pool) boundTo(now time.Time, req *wire.AssignRequest) (worker string, known bool) {
	if req.Flags&(wire.FlagBound|wire.FlagOpens) == 0 || req.Engine != "" {
		return "", true
	}
	worker = p.opened.find(now, sessionKey(req.Tenant, req.Session))
	switch w := p.workers[worker]; {
	case req.Flags&wire.FlagOpens != 0 && (w == nil || w.state != wire.Ready):
		return "", true
	default:
		return worker, w != nil
	}
}

// sessions remembers where the requests of a session went last. It holds two generations: when the younger one is full the
// older one is forgotten, so the most recently used half of the bound is always there.
type sessions struct {
	young, old map[uint64]session
}

// A session is where its requests go.
type session struct {
	worker string
	at     time.Time
}

const (
	maxSessions = 1 << 17
	sessionIdle = time.Hour // after which its cache is not worth a detour
)

// sessionKey is a hash of the session's key within its tenant; 0: the request has none.
func sessionKey(tenant, key string) uint64 {
	if key == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(tenant)) //nolint:errcheck // never fails
	h.Write([]byte{0})      //nolint:errcheck // never fails
	h.Write([]byte(key))    //nolint:errcheck // never fails
	return h.Sum64() | 1
}

// find is the session's worker; "" when none is known.
func (s *sessions) find(now time.Time, key uint64) string {
	one, ok := s.young[key]
	if !ok {
		one, ok = s.old[key]
	}
	if !ok || now.Sub(one.at) > sessionIdle {
		return ""
	}
	return one.worker
}

func (s *sessions) set(now time.Time, key uint64, worker string) {
	if key == 0 {
		return
	}
	if s.young == nil || len(s.young) >= maxSessions/2 {
		s.old, s.young = s.young, make(map[uint64]session)
	}
	s.young[key] = session{worker, now}
}
