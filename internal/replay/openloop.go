package replay

import (
	"context"
	"sync"
	"time"
)

// An arrival is one conversation of an open loop.
type arrival struct {
	n   int
	due time.Time
}

// openLoop begins conversations when they are due, each by a sender of its own up to Concurrency; beyond that an
// arrival waits for a sender, and is late. It returns when every sender has stopped.
func (r *runner) openLoop(ctx, flight context.Context) {
	pacing, enough := context.WithCancel(ctx)
	defer enough()
	arrivals := make(chan arrival)
	var senders sync.WaitGroup
	defer senders.Wait()
	defer close(arrivals)

	started, count := time.Now(), 0
	for n, after := range newSchedule(r.cfg) {
		a := arrival{n: n, due: started.Add(after)}
		if _, left := r.conversationLeft(); !left || !sleep(pacing, time.Until(a.due)) {
			break
		}
		select {
		case arrivals <- a:
			continue
		default:
		}
		if count < r.cfg.Concurrency {
			count++
			s := &sender{runner: r, x: newExchange(r.cfg), enough: enough}
			senders.Go(func() { s.run(ctx, flight, a, arrivals) })
			continue
		}
		select {
		case arrivals <- a:
		case <-pacing.Done():
		}
	}
	if ctx.Err() != nil {
		r.cutShort.Store(true)
	}
}

// A sender holds one conversation of an open loop at a time.
type sender struct {
	*runner
	x      *exchange
	enough func() // ends the arrivals
}

func (s *sender) run(ctx, flight context.Context, first arrival, more <-chan arrival) {
	s.converse(ctx, flight, first)
	for a := range more {
		s.converse(ctx, flight, a)
	}
}

// converse sends a conversation's turns: the first when it is due, each other one after the reply before it and the
// time to think.
func (s *sender) converse(ctx, flight context.Context, a arrival) {
	c, ok := s.cfg.Workload.Conversation(a.n, s.cfg.Seed, s.cfg.API)
	if !ok {
		s.enough()
		return
	}
	due, reply := a.due, Reply{}
	for first := true; ; first = false {
		turn, ok := c.Next(reply)
		if !ok {
			return
		}
		if !first {
			due = s.x.done.Add(s.cfg.think(turn))
		}
		if !sleep(ctx, time.Until(due)) {
			s.cutShort.Store(true)
			return
		}
		got, last := s.ticket()
		if !got || last {
			s.enough()
		}
		if !got {
			return
		}
		s.x.do(flight, s.client, turn)
		s.recorder.record(s.x, due)
		if s.x.kind == unfinished {
			s.cutShort.Store(true)
			return
		}
		reply = Reply{OK: s.x.kind == "", Text: s.x.text}
	}
}
