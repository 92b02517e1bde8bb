package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

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
	doc, err := json.Marshal(ask)
	if err != nil || len(workers) == 0 {
		return told
	}
	conn := g.bus.Control
	inbox := conn.NewInbox()
	answers := make(chan *nats.Msg, len(workers))
	sub, err := conn.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		return told
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	for i, w := range workers {
		if conn.PublishRequest(g.cfg.Subjects.Ctl(w.Info.Worker), inbox+"."+strconv.Itoa(i), doc) != nil {
			return told
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
			var t wire.Told
			switch {
			case noResponders(msg):
				t = wire.Told{Status: http.StatusServiceUnavailable, Message: "The worker's adapter is not there."}
			case json.Unmarshal(msg.Data, &t) != nil:
				continue
			}
			t.Worker = workers[i].Info.Worker
			told[i], heard[i] = t, true
			left--
		case <-ctx.Done():
			return told
		}
	}
	return told
}
