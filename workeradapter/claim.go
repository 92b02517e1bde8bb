package workeradapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// A NameTakenError reports another adapter that has the name.
type NameTakenError struct {
	Name  string
	Owner wire.Claim
}

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("worker: the name %q belongs to another adapter: on host %q, beside the engine at %s, since %s",
		e.Name, e.Owner.Host, e.Owner.Engine, time.UnixMilli(e.Owner.Started).UTC().Format(time.DateTime))
}

// claim asks whether another adapter has the name, and takes it when nobody says so in time. Two that ask at the same time
// hear each other: the older one keeps it.
func (a *Adapter) claim(ctx context.Context, name string) error {
	doc, err := json.Marshal(wire.Ask{Op: wire.OpClaim, Claim: a.identity.Load()})
	if err != nil {
		return fmt.Errorf("worker: claim %s: %w", name, err)
	}
	conn := a.cfg.Bus.Control
	inbox := conn.NewInbox()
	answers := make(chan *nats.Msg, 16)
	sub, err := conn.ChanSubscribe(inbox, answers)
	if err != nil {
		return fmt.Errorf("worker: claim %s: %w", name, err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	if err := conn.PublishRequest(a.cfg.Subjects.Ctl(name), inbox, doc); err != nil {
		return fmt.Errorf("worker: claim %s: %w", name, err)
	}
	bound := time.NewTimer(a.cfg.ClaimWait)
	defer bound.Stop()
	for {
		select {
		case msg := <-answers:
			var told wire.Told
			own := a.identity.Load()
			if json.Unmarshal(msg.Data, &told) != nil || told.Claim == nil || told.Claim.Adapter == own.Adapter {
				continue // nobody is there, or ourselves
			}
			if told.Claim.Before(own) {
				return &NameTakenError{Name: name, Owner: *told.Claim}
			}
		case <-bound.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// claimed answers another adapter that wants one of our names; the older one keeps it.
func (a *Adapter) claimed(msg *nats.Msg, name string, by *wire.Claim) {
	own := a.identity.Load()
	if by == nil || by.Adapter == own.Adapter {
		return
	}
	if own.Before(by) {
		a.tell(msg.Reply, &wire.Told{Worker: name, Claim: own})
		return
	}
	a.cfg.Log.Error("the name belongs to another adapter", "worker", name, "host", by.Host, "engine", by.Engine)
	a.leave(&NameTakenError{Name: name, Owner: *by})
}

// reclaim makes sure that the names are still ours: after a time in which we could not be heard, another adapter may have
// taken them. One that was away itself comes last.
func (a *Adapter) reclaim(ctx context.Context, away bool) {
	if away {
		own := *a.identity.Load()
		own.Started = time.Now().UnixMilli()
		a.identity.Store(&own)
	}
	a.goOrder(func() {
		err := a.claim(ctx, a.cfg.Name)
		if taken, ok := errors.AsType[*NameTakenError](err); ok {
			a.cfg.Log.Error("another adapter has taken the name meanwhile", "worker", a.cfg.Name, "host", taken.Owner.Host)
			a.leave(taken)
		}
	})
}

// tell answers an order.
func (a *Adapter) tell(reply string, told *wire.Told) {
	if reply == "" {
		return
	}
	doc, err := json.Marshal(told)
	if err != nil {
		a.cfg.Log.Error("answer to an order", "error", err)
		return
	}
	a.publish(reply, doc)
}
