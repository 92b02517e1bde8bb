package replay

import (
	"context"
	"math/rand/v2"
	"time"
)

// After a failure a user pauses, twice as long each time in a row, so that an endpoint that refuses at once
// is not asked as fast as it can refuse.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = time.Second
)

// A user is one of a closed loop: never more than one request in flight.
type user struct {
	*runner
	rng  *rand.Rand
	x    *exchange
	open []openConversation
	dry  bool // there are no more conversations to open
}

// An openConversation has its next turn at hand.
type openConversation struct {
	conversation Conversation
	turn         Turn
	ready        time.Time // when its think time is over
}

// run sends turns until there are no more, or ctx ends. Requests end with flight.
func (u *user) run(ctx, flight context.Context) {
	pause := time.Duration(0)
	for {
		u.fill(ctx)
		if len(u.open) == 0 && u.dry {
			return
		}
		if ctx.Err() != nil {
			u.cutShort.Store(true)
			return
		}
		i, wait := u.pick(time.Now())
		if !sleep(ctx, max(wait, pause)) {
			u.cutShort.Store(true)
			return
		}
		if wait > 0 {
			pause = 0
			continue // by now others may be ready too
		}
		if got, _ := u.ticket(); !got {
			return
		}
		u.x.do(flight, u.client, u.open[i].turn)
		u.recorder.record(u.x, time.Time{})
		if u.x.kind == unfinished {
			u.cutShort.Store(true)
			return
		}
		u.advance(i)
		if pause = min(max(2*pause, firstPause), maxPause); u.x.kind == "" {
			pause = 0
		}
	}
}

// fill opens conversations up to Interleave.
func (u *user) fill(ctx context.Context) {
	for len(u.open) < u.cfg.Interleave && !u.dry && ctx.Err() == nil {
		c, ok := u.conversation()
		if !ok {
			u.dry = true
			return
		}
		if turn, ok := c.Next(Reply{}); ok {
			u.open = append(u.open, openConversation{conversation: c, turn: turn})
		}
	}
}

// pick chooses at random among the conversations that are ready; if none is, it says how long until one is.
func (u *user) pick(now time.Time) (index int, wait time.Duration) {
	ready := 0
	var soonest time.Time
	for i, o := range u.open {
		if o.ready.After(now) {
			if soonest.IsZero() || o.ready.Before(soonest) {
				soonest = o.ready
			}
			continue
		}
		if ready++; ready == 1 || u.rng.IntN(ready) == 0 {
			index = i
		}
	}
	if ready == 0 {
		return 0, soonest.Sub(now)
	}
	return index, 0
}

// advance hands the reply to its conversation and closes it if that was the last turn.
func (u *user) advance(i int) {
	o := &u.open[i]
	turn, ok := o.conversation.Next(Reply{OK: u.x.kind == "", Text: u.x.text})
	if ok {
		o.turn, o.ready = turn, u.x.done.Add(u.cfg.think(turn))
		return
	}
	last := len(u.open) - 1
	u.open[i] = u.open[last]
	u.open[last] = openConversation{}
	u.open = u.open[:last]
}

// sleep reports whether d passed before ctx ended. With no time to pass it reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
