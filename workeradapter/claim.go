package workeradapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// claim asks whether other adapters have the names, and takes them when nobody says so in time. Two that ask at the same time
// hear each other: the older one keeps the name. The wait is one for all names, be they 256.
func (a *Adapter) claim(ctx context.Context, names ...string) error {
	conn := a.cfg.Bus.Control
	inbox := conn.NewInbox()
	const each = 4 // answers to one name
	answers := make(chan *nats.Msg, each*len(names))
	sub, err := conn.ChanSubscribe(inbox, answers)
	if err != nil {
		return fmt.Errorf("worker: claim: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	for _, name := range names {
		doc, err := json.Marshal(wire.Ask{Op: wire.OpClaim, Claim: a.right(name)})
		if err == nil {
			err = conn.PublishRequest(a.cfg.Subjects.Ctl(name), inbox, doc)
		}
		if err != nil {
			return fmt.Errorf("worker: claim %s: %w", name, err)
		}
	}
	bound := time.NewTimer(a.cfg.ClaimWait)
	defer bound.Stop()
	for {
		select {
		case msg := <-answers:
			var told wire.Told
			if json.Unmarshal(msg.Data, &told) != nil || told.Claim == nil || !slices.Contains(names, told.Worker) {
				continue // nobody is there
			}
			if own := a.right(told.Worker); told.Claim.Adapter != own.Adapter && told.Claim.Before(own) {
				return &NameTakenError{Name: told.Worker, Owner: *told.Claim}
			}
		case <-bound.C:
			a.hold(true, names...)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// right is the adapter's claim of a name as it stands now.
func (a *Adapter) right(name string) *wire.Claim {
	own := *a.identity.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	own.Held = a.held[name]
	return &own
}

// hold notes whether names are ours.
func (a *Adapter) hold(ours bool, names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		if ours {
			a.held[name] = true
		} else {
			delete(a.held, name)
		}
	}
}

// claimed answers another adapter that wants one of our names. One that serves keeps it, whatever the other's clock says.
func (a *Adapter) claimed(msg *nats.Msg, name string, by *wire.Claim) {
	own := a.right(name)
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

// overhearPause is the least time between two claims that a beat of somebody else's makes us ask for.
const overhearPause = 5 * time.Second

// overhear hears who beats under the worker's name. Beside ourselves that is an adapter that has taken the name on another part
// of a bus that was parted: one of the two has to go.
func (w *worker) overhear(msg *nats.Msg) {
	up, err := wire.ParseUp(msg.Data)
	if err != nil || up.Worker != w.name {
		return
	}
	a, now := w.a, time.Now()
	a.mu.Lock()
	another := w.life != nil && !slices.Contains(w.lives, up.Instance) && now.Sub(a.overheard) > overhearPause
	if another {
		a.overheard = now
	}
	a.mu.Unlock()
	if another {
		a.cfg.Log.Warn("another adapter beats under this name", "worker", w.name)
		a.reclaim(a.runCtx, false)
	}
}

// reclaim makes sure that the names are still ours: after a time in which we could not be heard, another adapter may have
// taken them. One that was away itself comes last: it holds nothing until it has heard that nobody else does. When it was the
// bus that was away, whoever holds a name does so still, and of two the older one stays.
func (a *Adapter) reclaim(ctx context.Context, away bool) {
	names := []string{a.cfg.Name}
	for _, w := range a.roster() {
		if w.name != a.cfg.Name {
			names = append(names, w.name)
		}
	}
	if away {
		own := *a.identity.Load()
		own.Started = time.Now().UnixMilli()
		a.identity.Store(&own)
		a.hold(false, names...)
	}
	a.goOrder(func() {
		err := a.claim(ctx, names...)
		if taken, ok := errors.AsType[*NameTakenError](err); ok {
			a.cfg.Log.Error("another adapter has taken the name meanwhile", "worker", taken.Name, "host", taken.Owner.Host)
			a.leave(taken)
			return
		}
		if away && a.cfg.Bus.Control.FlushTimeout(a.cfg.ClaimWait) != nil {
			a.hold(false, names...) // nobody has heard it yet; the bus's return makes us ask again
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
