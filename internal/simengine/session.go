package simengine

import (
	"net/http"
	"slices"
	"time"
)

// maxSessions and maxTurns are our own bounds; beyond them a session is not opened, the oldest turn forgotten.
const (
	maxSessions = 4096
	maxTurns    = 1024
)

// A session keeps the turns of a conversation, each of which later ones may continue.
type session struct {
	turns   map[string]*turn // by rid
	oldest  []string
	timeout time.Duration // 0: none
	last    time.Time
}

type turn struct {
	seq    *sequence
	parent *turn
}

// turnParams is where in a session a request goes on.
type turnParams struct {
	id         string
	rid        *string // the turn to continue; nil: none
	offset     int     // tokens of it that stay; 0: all
	replace    bool
	dropOutput bool
}

// resume puts a session's history before a sequence's prompt, and returns the sequences that it replaces.
func (k *rank) resume(s *sequence, p *turnParams) (replaced []*sequence, _ *rejection) {
	no := func(text string) ([]*sequence, *rejection) {
		return nil, &rejection{text, http.StatusBadRequest, "BadRequestError"}
	}
	k.reap()
	ses := k.sessions[p.id]
	if ses == nil {
		return no("Invalid request: session id " + p.id + " does not exist")
	}
	ses.last = time.Now()
	var from *turn
	if p.rid != nil {
		if from = ses.turns[*p.rid]; from == nil {
			return no("Invalid request session id")
		}
		if from.seq.job.Ended == Unended && !p.replace {
			return no("Session request is appending to a request that hasn't finished.")
		}
	}
	if p.replace {
		replaced = ses.cut(from)
	}
	if s.parent = from; from == nil {
		return replaced, nil
	}
	j := &from.seq.job
	old := j.Tokens[:j.Prompt+j.Produced]
	if p.dropOutput {
		old = j.Tokens[:j.Prompt]
	}
	if p.offset != 0 {
		at := p.offset
		if at < 0 {
			at += len(old)
		}
		old = old[:min(max(at, 0), len(old))]
	}
	s.history = slices.Concat(old, s.history)
	return replaced, nil
}

// remember notes a sequence as a turn of its session.
func (k *rank) remember(s *sequence) {
	p := s.request.session
	if p == nil || s.prefillOnly || k.sessions[p.id] == nil {
		return
	}
	ses := k.sessions[p.id]
	ses.turns[s.rid] = &turn{s, s.parent}
	ses.oldest = append(ses.oldest, s.rid)
	for len(ses.oldest) > maxTurns {
		delete(ses.turns, ses.oldest[0])
		ses.oldest = ses.oldest[1:]
	}
}

// cut forgets the turns after one; all, after none. It returns what may still run of them and of that one.
func (s *session) cut(from *turn) (cut []*sequence) {
	if from != nil {
		cut = append(cut, from.seq)
	}
	for rid, t := range s.turns {
		up := t.parent
		for up != from && up != nil {
			up = up.parent
		}
		if up == from {
			delete(s.turns, rid)
			cut = append(cut, t.seq)
		}
	}
	return cut
}

// reap closes the sessions that were quiet for too long.
func (k *rank) reap() {
	for id, s := range k.sessions {
		if s.timeout > 0 && time.Since(s.last) > s.timeout {
			delete(k.sessions, id)
		}
	}
}

func (e *Engine) openSession(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	must(f, "capacity_of_str_len", asInt) // a real engine keeps it, and no more
	id := maybe(f, "session_id", asText)
	streaming := maybe(f, "streaming", asBool)
	timeout := maybe(f, "timeout", asNumber)
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	if streaming != nil && *streaming {
		writeNested(w, "Streaming sessions are disabled. Please relaunch with --enable-streaming-session.")
		return
	}
	if id == nil {
		id = new(newRID())
	}
	span := time.Duration(0)
	if timeout != nil {
		span = time.Duration(timeout.value * float64(time.Second))
	}
	if !e.OpenSession(*id, span) {
		writeNested(w, "Failed to open the session. Check if a session with the same id is still open.")
		return
	}
	writeJSON(w, http.StatusOK, *id)
}

// OpenSession opens a session on every rank; it closes after it was quiet for the timeout, if that is
// positive. It is false when one of that id is open, or too many are.
func (e *Engine) OpenSession(id string, timeout time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.ranks {
		if k.reap(); k.sessions[id] != nil || len(k.sessions) >= maxSessions {
			return false
		}
	}
	for _, k := range e.ranks {
		k.sessions[id] = &session{turns: map[string]*turn{}, timeout: timeout, last: time.Now()}
	}
	return true
}

func (e *Engine) closeSession(w http.ResponseWriter, r *http.Request) {
	f, ok := e.controlBody(w, r)
	if !ok {
		return
	}
	id := must(f, "session_id", asText)
	if err := f.err(); err != nil {
		refuseFlat(w, r, err)
		return
	}
	e.mu.Lock()
	for _, k := range e.ranks {
		delete(k.sessions, id)
	}
	e.mu.Unlock()
	writePlain(w, http.StatusOK, "")
}
