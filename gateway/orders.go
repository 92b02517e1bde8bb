package gateway

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// tell asks the adapters of workers for something, all at a time, and returns what they say in the order of the workers. One
// that says nothing until ctx ends has a failed answer with words.
func (g *Gateway) tell(ctx context.Context, workers []*roster.Worker, ask *wire.Ask) []wire.Told {
	told := make([]wire.Told, len(workers))
	for i, w := range workers {
		told[i] = wire.Told{Worker: w.Info.Worker, Status: http.StatusGatewayTimeout, Message: "The worker's adapter did not answer in time."}
	}
	g.askAll(ctx, workers, ask, func(i int, msg *nats.Msg) bool {
		var t wire.Told
		switch {
		case noResponders(msg):
			t = wire.Told{Status: http.StatusServiceUnavailable, Message: "The worker's adapter is not there."}
		case json.Unmarshal(msg.Data, &t) != nil:
			t = wire.Told{Status: http.StatusBadGateway, Message: "The worker's adapter could not be understood."}
		}
		t.Worker = workers[i].Info.Worker
		told[i] = t
		return false
	})
	return told
}

// Bounds of looking whether workers are there.
const (
	lookAt  = 16
	lookFor = 400 * time.Millisecond
)

// present tells whether one at least of the workers answers at this moment. Of many it looks at some.
func (g *Gateway) present(ctx context.Context, workers []*roster.Worker) (present bool) {
	rand.Shuffle(len(workers), func(i, j int) { workers[i], workers[j] = workers[j], workers[i] })
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	g.askAll(ctx, workers[:min(lookAt, len(workers))], &wire.Ask{Op: wire.OpInfo}, func(i int, msg *nats.Msg) bool {
		if noResponders(msg) {
			g.roster.Absent(workers[i].Info.Worker, workers[i].Info.Instance)
			return false
		}
		present = true
		return true
	})
	return present
}

// findSession asks the adapters of the pool where a session was opened that the scheduler does not remember: schedulers come and
// go, and what an engine holds stays.
func (g *Gateway) findSession(ctx context.Context, a *wire.AssignRequest) bool {
	var workers []*roster.Worker
	for _, w := range g.roster.View().Workers {
		if w.Info.Pool == a.Pool {
			workers = append(workers, w)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	newest := int64(-1) // a client may have opened it again elsewhere, when an engine had dropped it
	g.askAll(ctx, workers, &wire.Ask{Op: wire.OpSession, ID: a.Session}, func(i int, msg *nats.Msg) bool {
		var t wire.Told
		if !noResponders(msg) && json.Unmarshal(msg.Data, &t) == nil && t.OK && t.At > newest {
			newest = t.At
			a.Engine, a.RankPlus1 = workers[i].Info.Engine, uint32(workers[i].Info.DPRank)+1
		}
		return false
	})
	return newest >= 0
}

// askAll asks the adapters of workers, and hands on the first answer about each until there are all, one of them is enough, or
// ctx ends. The bus answers for those that are not there.
func (g *Gateway) askAll(ctx context.Context, workers []*roster.Worker, ask *wire.Ask, enough func(i int, msg *nats.Msg) bool) {
	doc, err := json.Marshal(ask)
	if err != nil || len(workers) == 0 {
		return
	}
	conn := g.bus.Control
	inbox := conn.NewInbox()
	answers := make(chan *nats.Msg, 2*len(workers))
	sub, err := conn.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		return
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	for i, w := range workers {
		if conn.PublishRequest(g.cfg.Subjects.Ctl(w.Info.Worker), inbox+"."+strconv.Itoa(i), doc) != nil {
			return
		}
	}
	heard := make([]bool, len(workers))
	for left := len(workers); left > 0; {
		select {
		case msg := <-answers:
			i, err := strconv.Atoi(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
			if err != nil || i < 0 || i >= len(workers) || heard[i] {
				continue
			}
			heard[i] = true
			left--
			if enough(i, msg) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
