package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Run sends the workload and reports what came of it. It returns an error only when it could not begin: a
// Config that is wrong ([ErrConfig]) or a model that cannot be learned ([*ModelError]). Failed requests are
// part of the report, and so is an end of ctx: the report is then partial.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Report{}, err
	}
	c, err := newClient(cfg)
	if err != nil {
		return Report{}, err
	}
	defer c.close()
	if err := c.prepare(ctx); err != nil {
		return Report{}, err
	}
	started := time.Now()
	r := &runner{cfg: cfg, client: c, recorder: newRecorder(cfg, started)}
	if cfg.around != nil {
		cfg.around(func() { r.run(ctx) })
	} else {
		r.run(ctx)
	}

	report := Report{
		URL: strings.TrimSuffix(c.base.String(), "/"), API: cfg.API, Model: c.cfg.Model,
		Workload: cfg.Workload.Name(), Parameters: cfg.Workload.Params(), Seed: cfg.Seed,
		Stream: !cfg.NoStream, Concurrency: cfg.Concurrency, Interleave: cfg.Interleave,
		ThinkSeconds: cfg.Think.Seconds(), Started: started.UTC(),
		Arrivals: cfg.Arrivals,
	}
	switch cfg.Arrivals {
	case Poisson, Fixed:
		report.Rate = cfg.Rate
	case Recorded:
		report.Speed = cfg.Speed
	}
	r.recorder.fill(&report)
	all := cfg.Requests > 0 && r.sent.Load() >= int64(cfg.Requests) && report.Unfinished == 0
	report.Partial = r.cutShort.Load() && !all // the context may end just after the last request
	switch {
	case report.Partial:
		report.Stopped = context.Cause(ctx).Error()
	case cfg.Requests > 0 && !all && cfg.Conversations == 0:
		report.Stopped = fmt.Sprintf("the workload ended before %s requests", count(int64(cfg.Requests)))
	}
	return report, nil
}

// A runner shares out conversations and requests among those who send them.
type runner struct {
	cfg      Config
	client   *client
	recorder *recorder

	opened   atomic.Int64 // conversations
	sent     atomic.Int64 // requests
	cutShort atomic.Bool  // a user stopped because the context ended
}

// run returns when everything it started has ended.
func (r *runner) run(ctx context.Context) {
	flight, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	var others sync.WaitGroup
	others.Go(func() { r.graceThen(ctx, flight, abandon) })
	if r.cfg.Progress != nil && r.cfg.Terminal {
		others.Go(func() { showProgress(flight, r.cfg.Progress, r.expected(), r.recorder.live) })
	}
	if r.cfg.Arrivals == Closed {
		r.closedLoop(ctx, flight)
	} else {
		r.openLoop(ctx, flight)
	}
	abandon(nil)
	others.Wait()
}

// closedLoop returns when every user has stopped.
func (r *runner) closedLoop(ctx, flight context.Context) {
	var users sync.WaitGroup
	defer users.Wait()
	for n := range r.cfg.Concurrency {
		users.Go(func() {
			u := user{
				runner: r,
				rng:    rand.New(stream(r.cfg.Seed, userChoice, uint64(n))),
				x:      newExchange(r.cfg),
			}
			u.run(ctx, flight)
		})
	}
}

// graceThen abandons requests in flight once ctx has ended and the grace has passed.
func (r *runner) graceThen(ctx, flight context.Context, abandon context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
	case <-flight.Done():
		return
	}
	if sleep(flight, r.cfg.Grace) {
		abandon(errUserStopped)
	}
}

// expected is how many requests there will be if none fails, or 0 if there is no telling.
func (r *runner) expected() int {
	conversations, requests := r.cfg.Workload.Size()
	switch {
	case r.cfg.Requests > 0:
		return r.cfg.Requests
	case r.cfg.Requests == 0 && r.cfg.Conversations == conversations:
		return requests
	}
	return 0
}

// conversation opens the next one; false when there are to be no more.
func (r *runner) conversation() (Conversation, bool) {
	n, ok := r.conversationLeft()
	if !ok {
		return nil, false
	}
	return r.cfg.Workload.Conversation(n, r.cfg.Seed, r.cfg.API)
}

// conversationLeft allows one more conversation and counts it; false when there are to be no more.
func (r *runner) conversationLeft() (n int, ok bool) {
	opened := r.opened.Add(1)
	return int(opened - 1), r.cfg.Conversations == 0 || opened <= int64(r.cfg.Conversations)
}

// ticket allows one more request, and says whether it is the last; got is false when all have been sent.
func (r *runner) ticket() (got, last bool) {
	n, most := r.sent.Add(1), int64(r.cfg.Requests)
	if most > 0 && n > most {
		r.sent.Add(-1)
		return false, false
	}
	return true, n == most
}
