package workeradapter

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// maxSessions bounds the names that are remembered: of more, some are forgotten.
const maxSessions = 1 << 16

// openSessions are the sessions that were opened on a worker under names that clients chose. Ours say where they were opened;
// of these the schedulers know it, and we do when they have restarted. The zero value is empty.
type openSessions struct {
	mu sync.Mutex
	of map[string]time.Time // when they were opened
}

// opened tells when a session was opened that is open still.
func (s *openSessions) opened(name string) (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok = s.of[name]
	return at, ok
}

// forget drops them all: the engine's process is another one.
func (s *openSessions) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.of)
}

// note takes in that a session was opened, or closed.
func (s *openSessions) note(name string, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, name)
	if !open {
		return
	}
	for some := range s.of {
		if len(s.of) < maxSessions {
			break
		}
		delete(s.of, some)
	}
	if s.of == nil {
		s.of = make(map[string]time.Time)
	}
	s.of[name] = time.Now()
}

// noteSession looks at what the engine has done with a session.
func (t *attempt) noteSession(code wire.Code) {
	if t.session != "" && code == wire.CodeOK {
		t.w.sessions.note(t.session, t.route.Path == surface.OpenSession)
	}
}

// sessionOf is the session that the body opens or closes under a name of its client's.
func sessionOf(value []byte) string {
	var name string
	if json.Unmarshal(value, &name) != nil || len(name) > wire.MaxName {
		return ""
	}
	if _, ours := wire.ParseReference(name); ours {
		return ""
	}
	return name
}
