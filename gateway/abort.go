package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// errAborted is the cause that ends the wait of a request which another one aborts.
var errAborted = errors.New("aborted by another request")

// callerOf tells clients apart by their credentials, without keeping them: who has the same ones is the same.
func (g *Gateway) callerOf(r *http.Request) uint64 {
	credentials := r.Header.Get("Authorization")
	if credentials == "" {
		credentials = r.Header.Get("X-Api-Key")
	}
	if credentials == "" {
		return 0
	}
	return g.key.Hash([]byte(credentials))
}

// abortWait is how long other gateways may take to say that they had the request.
const abortWait = 150 * time.Millisecond

// abortBody bounds the body of an abort.
const abortBody = 1 << 20

// abortRequest ends requests of the same caller, on whichever gateway they are: by the id of the request or of the answer, by
// x-request-id, or by the client's own rid. A name means what has exactly that name.
func (g *Gateway) abortRequest(w http.ResponseWriter, r *http.Request, _ who) {
	from := &sender{body: http.MaxBytesReader(w, r.Body, abortBody), rc: http.NewResponseController(w), stall: g.cfg.BodyStall, end: time.Now().Add(2 * g.cfg.BodyStall)}
	doc, err := io.ReadAll(from)
	if err != nil {
		from.broke(w, err).write(w, r.URL.Path)
		return
	}
	from.rc.SetReadDeadline(time.Time{}) //nolint:errcheck // from here on, reading only tells whether the client is there
	var ask struct {
		Rid json.RawMessage `json:"rid"`
		All bool            `json:"abort_all"`
	}
	if json.Unmarshal(doc, &ask) != nil {
		badRequest("", "The body is an object with rid, or with abort_all.").write(w, r.URL.Path)
		return
	}
	caller := g.callerOf(r)
	a := &wire.Abort{Gateway: g.cfg.ID, Caller: strconv.FormatUint(caller, 16), All: ask.All}
	if !ask.All {
		var one string
		if json.Unmarshal(ask.Rid, &one) == nil {
			a.Names = []string{one}
		} else if json.Unmarshal(ask.Rid, &a.Names) != nil {
			badRequest("rid", "The field rid is a name, or a list of names.").write(w, r.URL.Path)
			return
		}
		if len(a.Names) == 0 || len(a.Names) > wire.MaxAborts || a.Names[0] == "" {
			badRequest("rid", "Name between 1 and %d requests in the field rid, or set abort_all.", wire.MaxAborts).write(w, r.URL.Path)
			return
		}
	}
	n := g.live.abort(a, caller)
	writeJSON(w, map[string]int{"aborted": n + g.abortElsewhere(a, n > 0 && !a.All)})
}

// abortElsewhere asks the other gateways, and counts what they say. Where the request was found already, it does not wait.
func (g *Gateway) abortElsewhere(a *wire.Abort, found bool) (n int) {
	doc, err := json.Marshal(a)
	if err != nil {
		g.cfg.Log.Error("abort", "error", err)
		return 0
	}
	conn := g.bus.Control
	if found {
		conn.Publish(g.cfg.Subjects.Abort(), doc) //nolint:errcheck // a label may mean more than one; those here are over
		return 0
	}
	inbox := conn.NewInbox()
	answers := make(chan *nats.Msg, 64)
	sub, err := conn.ChanSubscribe(inbox, answers)
	if err != nil {
		return 0
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	if conn.PublishRequest(g.cfg.Subjects.Abort(), inbox, doc) != nil {
		return 0
	}
	bound := time.NewTimer(abortWait)
	defer bound.Stop()
	for {
		select {
		case msg := <-answers:
			var told wire.Aborted
			if json.Unmarshal(msg.Data, &told) == nil {
				n += told.Count
			}
			if n > 0 && !a.All {
				return n
			}
		case <-bound.C:
			return n
		}
	}
}

// aborted hears what other gateways are asked for. It runs on the connection's goroutine and does not block.
func (g *Gateway) aborted(msg *nats.Msg) {
	a, err := wire.ParseAbort(msg.Data)
	if err != nil || a.Gateway == g.cfg.ID {
		return
	}
	caller, err := strconv.ParseUint(a.Caller, 16, 64)
	if err != nil {
		return
	}
	n := g.live.abort(a, caller)
	if n == 0 || msg.Reply == "" {
		return
	}
	if doc, err := json.Marshal(wire.Aborted{Gateway: g.cfg.ID, Count: n}); err == nil {
		g.bus.Control.Publish(msg.Reply, doc) //nolint:errcheck // the requests are over all the same
	}
}
