package assignload

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/wire"
)

// errNoScheduler reports that nobody answers questions.
var errNoScheduler = errors.New("assignload: no scheduler hears the questions")

// A client asks as a gateway does: the next question on each of its lanes when the one before has its answer.
// Answers arrive on one goroutine, the bus client's.
type client struct {
	conn    *nats.Conn
	fleet   *fleet
	running int
	subject string // of questions
	inbox   string // of answers; the lane follows
	prompts *prompts
	lanes   []lane
	ask     wire.AssignRequest // the next question, kept for its memory
	buf     []byte
	doc     []byte // of the newest event

	mu      sync.Mutex
	open    bool // questions follow answers
	counts  bool // answers are measured
	waiting int  // questions without an answer
	took    []time.Duration
	refused int
	err     error
}

// A lane has one question under way.
type lane struct{ sent time.Time }

// maxSamples bounds the answers of one turn whose times are kept.
const maxSamples = 1 << 22

func newClient(conn *nats.Conn, f *fleet, p *prompts, lanes, running int) *client {
	return &client{
		conn: conn, fleet: f, running: running, prompts: p, lanes: make([]lane, lanes),
		subject: f.subjects.Sched(f.pool), inbox: conn.NewInbox(), open: true,
		ask: wire.AssignRequest{
			Attempt: 1, Gateway: "bench", Pool: f.pool, Model: f.pool, Priority: 1, RemainingMillis: 60_000, MaxTokens: 128,
			Digests: []wire.Digest{{KeyID: 1, Ladder: prefix.Ladder1, Bytes: uint64(p.bytes)}},
		},
	}
}

// start asks the first question on each lane. The caller unsubscribes.
func (c *client) start() (*nats.Subscription, error) {
	sub, err := c.conn.Subscribe(c.inbox+".*", c.answer)
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil { // as many as there are lanes, at most
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.lanes {
		c.question(i)
	}
	return sub, c.err
}

// question asks on a lane. The caller holds mu.
func (c *client) question(i int) {
	d := &c.ask.Digests[0]
	c.ask.Request = wire.NewRequestID()
	d.Hashes = c.prompts.next(d.Hashes[:0])
	c.ask.Fingerprint, c.ask.BodyBytes = d.Hashes[len(d.Hashes)-1], d.Bytes
	c.buf = c.ask.AppendTo(c.buf[:0])
	c.lanes[i].sent = time.Now()
	c.waiting++
	c.err = errors.Join(c.err, c.conn.PublishRequest(c.subject, c.inbox+"."+strconv.Itoa(i), c.buf))
}

// answer takes one up, and asks the next question.
func (c *client) answer(msg *nats.Msg) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := strconv.Atoi(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
	if err != nil || i >= len(c.lanes) || c.err != nil {
		return
	}
	if len(msg.Data) == 0 { // the bus's own word
		c.err = errNoScheduler
		return
	}
	reply, err := wire.ParseAssignReply(msg.Data)
	if err != nil {
		c.err = fmt.Errorf("answer: %w", err)
		return
	}
	if reply.Verdict == wire.Held {
		return // another follows
	}
	c.waiting--
	if reply.Verdict == wire.Placed {
		c.place(reply)
	} else {
		c.refused++
	}
	if c.counts && len(c.took) < maxSamples {
		c.took = append(c.took, now.Sub(c.lanes[i].sent))
	}
	if c.open {
		c.question(i)
	}
}

// place does what the worker's adapter would.
func (c *client) place(r *wire.AssignReply) {
	at := &r.Placements[0]
	w := c.fleet.byName[at.Worker]
	if w == nil {
		c.err = fmt.Errorf("assignload: placed on worker %s, which is not ours", at.Worker)
		return
	}
	over, ended := w.take(placement{r.Request, at.Lease, at.Prompt, at.Predicted}, c.running)
	if ended {
		f := w.ended(over)
		c.doc = f.AppendTo(c.doc[:0])
		c.err = errors.Join(c.err, c.conn.Publish(w.finished, c.doc))
	}
}

// measure begins to keep the times of answers.
func (c *client) measure() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts = true
}

// stop ends the questions, and returns what was measured since measure.
func (c *client) stop() (took []time.Duration, refused int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.counts = false, false
	return c.took, c.refused, c.err
}

// idle tells whether all questions have been answered.
func (c *client) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting == 0 || c.err != nil
}

// prompts makes digests: those of a group share their first 75 %, and each has an end of its own.
type prompts struct {
	bytes  int
	groups [][]uint64 // shared parts
	rest   int        // blocks of the end
	rng    *rand.Rand
}

func newPrompts(bytes, groups int, seed uint64) *prompts {
	blocks := max(1, prefix.DepthAt(int64(bytes)))
	p := &prompts{bytes: bytes, rng: rand.New(rand.NewPCG(seed, uint64(bytes)))}
	shared := blocks * 3 / 4
	p.rest = blocks - shared
	for g := range groups {
		p.groups = append(p.groups, chain(nil, uint64(g+1), shared))
	}
	return p
}

// next appends the hashes of one prompt.
func (p *prompts) next(into []uint64) []uint64 {
	into = append(into, p.groups[p.rng.IntN(len(p.groups))]...)
	return chain(into, p.rng.Uint64(), p.rest)
}

// chain appends n hashes, each made of the one before.
func chain(into []uint64, from uint64, n int) []uint64 {
	for range n {
		from = (from ^ from>>29 ^ 0x9e3779b97f4a7c15) * 0x94d049bb133111eb
		from ^= from >> 32
		into = append(into, from)
	}
	return into
}
