package testkit

import (
	"context"
	"sync"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// A Scheduler decides as it is told.
type Scheduler struct {
	mu       sync.Mutex
	decide   func(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error)
	requests []wire.AssignRequest
	absent   bool
}

// NewScheduler makes one that gives the n-th attempt to the n-th of the workers, and later attempts to the last.
func NewScheduler(workers ...*Worker) *Scheduler {
	s := &Scheduler{}
	s.Decide(func(_ context.Context, req *wire.AssignRequest) (*wire.AssignReply, error) {
		if len(workers) == 0 {
			return Refused(wire.CodeNoWorker, 0, ""), nil
		}
		return Placed(workers[min(int(req.Attempt), len(workers))-1]), nil
	})
	return s
}

// Decide sets what it answers from now on.
func (s *Scheduler) Decide(f func(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decide = f
}

// SetAbsent sets what Serves answers.
func (s *Scheduler) SetAbsent(absent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent = absent
}

// Requests are the questions so far.
func (s *Scheduler) Requests() []wire.AssignRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]wire.AssignRequest(nil), s.requests...)
}

// Assign answers a gateway.
func (s *Scheduler) Assign(ctx context.Context, req *wire.AssignRequest) (*wire.AssignReply, error) {
	s.mu.Lock()
	s.requests = append(s.requests, *req)
	decide := s.decide
	s.mu.Unlock()
	return decide(ctx, req)
}

// Serves tells a gateway whether requests can be answered.
func (s *Scheduler) Serves(context.Context, string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.absent
}

// Placed is the answer that names a worker.
func Placed(w *Worker) *wire.AssignReply {
	return &wire.AssignReply{Verdict: wire.Placed, Placements: []wire.Placement{{Worker: w.Name, Instance: w.Instance, Lease: 7, Prompt: 100, Predicted: 10}}}
}

// Refused is the answer that names none.
func Refused(code wire.Code, retryAfter time.Duration, message string) *wire.AssignReply {
	return &wire.AssignReply{Verdict: wire.Refused, Code: code, RetryAfterMillis: uint32(retryAfter.Milliseconds()), Message: message}
}
