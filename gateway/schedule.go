package gateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// An AssignError says that no scheduler gave an answer.
type AssignError struct{ Code wire.Code }

func (e *AssignError) Error() string { return "assign: " + e.Code.String() }

// BusScheduler asks the schedulers on the bus. One wildcard inbox serves all questions. It may be used from any
// goroutine.
type BusScheduler struct {
	conn     *nats.Conn
	subjects wire.Subjects
	inbox    string // without the last token
	sub      *nats.Subscription
	next     atomic.Uint64
	replicas replicas

	mu      sync.Mutex
	pending map[uint64]*question
}

// A question is one that has not been answered for good.
type question struct {
	answers chan *nats.Msg
	left    *wire.AssignRequest // what was asked for, once nobody waits for it any more
}

// NewBusScheduler begins to listen for answers. Close it when no question is under way any more.
func NewBusScheduler(conn *nats.Conn, subjects wire.Subjects) (*BusScheduler, error) {
	s := &BusScheduler{conn: conn, subjects: subjects, inbox: conn.NewInbox(), pending: make(map[uint64]*question)}
	var err error
	if s.sub, err = conn.Subscribe(s.inbox+".*", s.answer); err != nil {
		return nil, fmt.Errorf("scheduler inbox: %w", err)
	}
	return s, nil
}

// Close stops listening.
func (s *BusScheduler) Close() error { return s.sub.Unsubscribe() }

// How long a scheduler may say nothing at all: before its first word, which takes it a fraction of a millisecond, and while
// it holds a request, of which it says a word each second.
const (
	firstSilence = 500 * time.Millisecond
	heldSilence  = 2500 * time.Millisecond
)

// askedMost bounds the schedulers that are asked for one placement, one after the other.
const askedMost = 3

// Assign asks a scheduler of the request's pool and waits for a verdict other than held. When one is silent, another one that
// has answered lately is asked.
func (s *BusScheduler) Assign(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error) {
	doc := req.AppendTo(make([]byte, 0, 256+8*hashes(req)))
	var silent []string
	for to := s.replicas.first(time.Now()); ; {
		reply, err := s.assign(ctx, to, req, doc)
		if e, absent := errors.AsType[*AssignError](err); !absent || e.Code != wire.CodeNoScheduler {
			return reply, err
		}
		silent = append(silent, to)
		if to = s.replicas.next(time.Now(), silent); to == "" || len(silent) == askedMost || !s.conn.IsConnected() {
			return nil, err
		}
	}
}

// assign asks the scheduler of that name; "" is whichever the bus picks.
func (s *BusScheduler) assign(ctx context.Context, to string, req *wire.AssignRequest, doc []byte) (*wire.AssignReply, error) {
	subject := s.subjects.Sched(req.Pool)
	if to != "" {
		subject = s.subjects.SchedAt(req.Pool, to)
	}
	n, answers, err := s.ask(subject, doc)
	if err != nil {
		return nil, err
	}
	silence := time.NewTimer(firstSilence)
	defer silence.Stop()
	for {
		select {
		case msg := <-answers:
			if noResponders(msg) {
				s.forget(n)
				return nil, &AssignError{wire.CodeNoScheduler}
			}
			reply, err := wire.ParseAssignReply(msg.Data)
			if err != nil {
				s.forget(n)
				return nil, fmt.Errorf("scheduler's answer: %w", err)
			}
			s.replicas.heard(time.Now(), reply.Scheduler)
			if reply.Verdict != wire.Held {
				s.forget(n)
				return reply, nil
			}
			silence.Reset(heldSilence)
		case <-silence.C:
			s.leave(n, req)
			return nil, &AssignError{wire.CodeNoScheduler}
		case <-ctx.Done():
			s.leave(n, req)
			return nil, context.Cause(ctx)
		}
	}
}

// leaveFor is how long an answer may still come for a question that nobody waits for: longer than any hold.
const leaveFor = 15 * time.Second

// leave stops waiting. A placement that comes all the same is given back, so that its lease does not count a request
// that will never run.
func (s *BusScheduler) leave(n uint64, req *wire.AssignRequest) {
	s.mu.Lock()
	q := s.pending[n]
	if q != nil {
		q.left = req
	}
	s.mu.Unlock()
	if q == nil {
		return
	}
	time.AfterFunc(leaveFor, func() { s.forget(n) })
	for { // what came before it was left
		select {
		case msg := <-q.answers:
			s.giveBack(n, req, msg)
		default:
			return
		}
	}
}

func (s *BusScheduler) forget(n uint64) {
	s.mu.Lock()
	delete(s.pending, n)
	s.mu.Unlock()
}

// giveBack ends the lease of a placement that nobody wants any more.
func (s *BusScheduler) giveBack(n uint64, req *wire.AssignRequest, msg *nats.Msg) {
	reply, err := wire.ParseAssignReply(msg.Data)
	if err != nil || reply.Verdict == wire.Held {
		return
	}
	s.forget(n)
	for _, p := range reply.Placements {
		f := wire.Finished{
			Stamp:  wire.Stamp{Publisher: req.Gateway, Seq: n, AtMicros: uint64(time.Now().UnixMicro())},
			Worker: p.Worker, Instance: p.Instance, Request: req.Request, Attempt: req.Attempt, Lease: p.Lease,
			End: wire.End{Code: wire.CodeCancelled},
		}
		s.conn.Publish(s.subjects.Event(p.Region, req.Pool, wire.EventFinished, req.Gateway), f.AppendTo(nil)) //nolint:errcheck // the lease expires by itself
	}
}

func hashes(req *wire.AssignRequest) (n int) {
	for i := range req.Digests {
		n += len(req.Digests[i].Hashes)
	}
	return n
}

// Serves asks for a sign of life: of whichever scheduler the bus picks, and if that one is silent, of the one that answered
// last.
func (s *BusScheduler) Serves(ctx context.Context, pool string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*firstSilence)
	defer cancel()
	if serves, silent := s.serves(ctx, s.subjects.Sched(pool)); !silent {
		return serves
	}
	to := s.replicas.next(time.Now(), []string{""})
	if to == "" {
		return false
	}
	serves, _ := s.serves(ctx, s.subjects.SchedAt(pool, to))
	return serves
}

func (s *BusScheduler) serves(ctx context.Context, subject string) (serves, silent bool) {
	n, answers, err := s.ask(subject, []byte(`{"op":"serves"}`))
	if err != nil {
		return false, false
	}
	defer s.forget(n)
	bound := time.NewTimer(firstSilence)
	defer bound.Stop()
	select {
	case msg := <-answers:
		return string(msg.Data) == `{"serves":true}`, false
	case <-bound.C:
		return false, true
	case <-ctx.Done():
		return false, true
	}
}

// ask publishes a question with an inbox of its own as reply. Its asker forgets or leaves it.
func (s *BusScheduler) ask(subject string, doc []byte) (n uint64, answers <-chan *nats.Msg, err error) {
	n = s.next.Add(1)
	q := &question{answers: make(chan *nats.Msg, 8)}
	s.mu.Lock()
	s.pending[n] = q
	s.mu.Unlock()
	err = s.conn.PublishRequest(subject, s.inbox+"."+strconv.FormatUint(n, 36), doc)
	switch {
	case err == nil:
		return n, q.answers, nil
	case errors.Is(err, nats.ErrMaxPayload):
		err = fmt.Errorf("assign: %w", err)
	default:
		err = &AssignError{wire.CodeNoScheduler}
	}
	s.forget(n)
	return 0, nil, err
}

// answer runs on the client's goroutine and must not block: a question that has heard eight answers and read none
// needs no ninth.
func (s *BusScheduler) answer(msg *nats.Msg) {
	n, err := strconv.ParseUint(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], 36, 64)
	if err != nil {
		return
	}
	s.mu.Lock()
	q := s.pending[n]
	var left *wire.AssignRequest
	if q != nil && q.left == nil {
		select {
		case q.answers <- msg: // under the lock, or it could be put where nobody looks any more
		default: // too much was said
		}
	} else if q != nil {
		left = q.left
	}
	s.mu.Unlock()
	if left != nil {
		s.giveBack(n, left, msg)
	}
}

// noResponders tells whether the bus said that nobody listens to a subject.
func noResponders(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && msg.Header.Get("Status") == "503"
}
