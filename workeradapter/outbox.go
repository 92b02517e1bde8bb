package workeradapter

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// outboxes are the ways back to the gateways. The frames that are ready for one gateway leave in one message; nothing
// waits for a timer.
type outboxes struct {
	w     *worker
	inbox string // where gateways answer pings; the last token names the outbox
	bound int    // bytes of a message
	piece int    // bytes of a data frame: it fits a message
	next  uint64 // outboxes made; guarded by mu

	mu  sync.Mutex
	all map[string]*outbox // by out subject

	opened chan struct{} // there is one: pings begin
}

func newOutboxes(w *worker) *outboxes {
	return &outboxes{w: w, all: make(map[string]*outbox), piece: dataPiece, opened: make(chan struct{}, 1)}
}

// An outbox sends to one gateway (and shard). It lives while it has streams.
type outbox struct {
	o       *outboxes
	subject string
	gateway string
	reply   string // of its pings

	mu       sync.Mutex
	streams  map[uint64]*sender
	pending  []outgoing    // what leaves next, in order
	room     []byte        // of a message that has left, for the next one
	instance wire.Instance // of the last message of frames
	sending  bool
	answered time.Time // when the gateway last said that it is there
	absent   bool      // the bus said that it is not, since then
}

// outgoing is a message that is being built. One with a reply subject takes no frames.
type outgoing struct {
	msg   []byte
	reply string
}

// A sender is the outgoing side of one attempt: frames are kept until the gateway has consumed them, and no more than
// the window are under way.
type sender struct {
	box      *outbox
	key      streamKey
	stream   uint64
	attempt  uint32
	instance wire.Instance
	window   int
	lost     func(error) // called once when the gateway is gone or no longer knows the stream
	room     chan struct{}

	// guarded by box.mu
	next  uint64 // number of the next frame
	kept  []wire.Frame
	data  []byte // of kept frames whose bytes were lent; its room is used again once nothing is kept
	cost  int    // of kept frames: their data, and an overhead so that small ones are bounded too
	ended time.Time
}

// open makes the outgoing side of an attempt. It is forgotten when the gateway has consumed its end, or says that it
// does not know it.
func (o *outboxes) open(d *wire.Dispatch, lost func(error)) *sender {
	subject := o.w.a.cfg.Subjects.Out(d.Gateway, o.w.name, int(d.Shard))
	o.mu.Lock()
	defer o.mu.Unlock()
	box := o.all[subject]
	if box == nil {
		o.next++
		box = &outbox{
			o: o, subject: subject, gateway: d.Gateway, reply: o.inbox + "." + strconv.FormatUint(o.next, 36),
			streams: make(map[uint64]*sender), answered: time.Now(),
		}
		o.all[subject] = box
		select {
		case o.opened <- struct{}{}:
		default:
		}
	}
	s := &sender{
		box: box, key: streamKey{d.Gateway, d.Stream}, stream: d.Stream, attempt: d.Attempt, instance: d.Instance,
		window: min(max(int(d.Window), 16<<10), wire.StreamWindow), lost: lost, room: make(chan struct{}, 1), next: 1,
	}
	box.mu.Lock()
	if len(box.streams) == 0 {
		box.answered = time.Now()
	}
	box.streams[d.Stream] = s
	box.mu.Unlock()
	return s
}

// put numbers a frame and keeps it. It leaves with the next flush of its outbox.
func (s *sender) put(f wire.Frame) {
	s.box.mu.Lock()
	s.keep(f)
	s.box.mu.Unlock()
}

// keep is put with the lock held.
func (s *sender) keep(f wire.Frame) {
	if !s.ended.IsZero() {
		return
	}
	f.Stream, f.Attempt, f.Seq = s.stream, s.attempt, s.next
	s.next++
	s.kept = append(s.kept, f)
	s.cost += len(f.Data) + wire.FrameOverhead
	if f.Type == wire.FrameEnd {
		s.ended = time.Now()
	}
	s.box.append(s.instance, &f)
}

// flush lets go what has been put.
func (s *sender) flush() {
	s.box.mu.Lock()
	s.box.flush()
}

// accept tells the gateway that the attempt has begun. That is for gateways which wait: it leaves with the first bytes of the
// answer, or the next ping.
func (s *sender) accept() { s.put(wire.Frame{Type: wire.FrameAccept}) }

// head and send do not flush: more may follow at once.
func (s *sender) head(status int, headers []wire.Header) {
	s.put(wire.Frame{Type: wire.FrameHead, Status: uint32(status), Headers: headers})
}

func (s *sender) end(e *wire.End) {
	s.put(wire.Frame{Type: wire.FrameEnd, End: e})
	s.flush()
}

// send puts bytes of the answer once the window has room, and tells whether it did: once ctx has ended it does not wait. They are
// kept; those that are lent are the caller's again afterwards.
func (s *sender) send(ctx context.Context, b []byte, lent bool) bool {
	s.box.mu.Lock()
	for said := false; s.cost >= s.window; said = true {
		s.box.flush() // or the gateway has nothing to confirm
		if !said {
			s.box.o.w.metrics.full.Inc()
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return false
		}
		s.box.mu.Lock()
	}
	if lent {
		b = s.copy(b)
	}
	s.keep(wire.Frame{Type: wire.FrameData, Data: b})
	s.box.mu.Unlock()
	return true
}

// Sizes of the room for kept data: what is made at first, at most, and what a stream holds on to that has nothing to keep.
const (
	leastData = 1 << 10
	mostData  = 16 << 10
	idleData  = 4 << 10
)

// copy copies b into room of the sender's own. The lock is held.
func (s *sender) copy(b []byte) []byte {
	if len(b) > cap(s.data)-len(s.data) { // the frames that are kept hold what there was
		s.data = make([]byte, 0, max(len(b), min(max(2*cap(s.data), leastData), mostData)))
	}
	at := len(s.data)
	s.data = append(s.data, b...)
	return s.data[at:len(s.data):len(s.data)]
}

// acked drops what the gateway has consumed. The lock is held.
func (s *sender) acked(through uint64) {
	n := 0
	for n < len(s.kept) && s.kept[n].Seq <= through {
		s.cost -= len(s.kept[n].Data) + wire.FrameOverhead
		n++
	}
	if n == 0 {
		return
	}
	s.kept = slices.Delete(s.kept, 0, n)
	if len(s.kept) == 0 {
		if s.data = s.data[:0]; cap(s.data) > idleData {
			s.data = nil
		}
		if !s.ended.IsZero() {
			delete(s.box.streams, s.stream)
		}
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// append encodes a frame into the message that leaves next. The lock is held.
func (b *outbox) append(n wire.Instance, f *wire.Frame) {
	last := len(b.pending) - 1
	if last < 0 || b.pending[last].reply != "" || b.instance != n || len(b.pending[last].msg)+len(f.Data)+wire.FrameOverhead > b.o.bound {
		if b.room == nil {
			b.room = make([]byte, 0, 1<<10)
		}
		b.pending = append(b.pending, outgoing{msg: wire.AppendFrames(b.room, b.o.w.name, n)})
		b.room = nil
		b.instance = n
		last++
	}
	b.pending[last].msg = wire.AppendFrame(b.pending[last].msg, f)
	b.o.w.metrics.frames.Inc()
}

// flush publishes what is pending; whoever comes while that goes on leaves its frames to the one who is at it. It takes
// the lock over and gives it back.
func (b *outbox) flush() {
	if b.sending {
		b.mu.Unlock()
		return
	}
	b.sending = true
	b.mu.Unlock()
	runtime.Gosched()
	b.mu.Lock()
	for len(b.pending) > 0 {
		out := b.pending
		b.pending = nil
		b.mu.Unlock()
		for _, m := range out {
			b.o.w.a.cfg.Bus.Tokens.PublishRequest(b.subject, m.reply, m.msg) //nolint:errcheck // the bus is away: the gateway will ask for what is missing
			b.o.w.metrics.messages.Inc()
		}
		b.mu.Lock()
		if last := out[len(out)-1].msg; cap(last) <= mostRoom { // the bus has copied it
			b.room = last[:0]
		}
	}
	b.sending = false
	b.mu.Unlock()
}

// mostRoom bounds the room that is kept of a message.
const mostRoom = 64 << 10

// find looks a stream up and returns with the lock of its outbox held.
func (o *outboxes) find(gateway string, stream uint64) *sender {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.all {
		if b.gateway != gateway {
			continue
		}
		b.mu.Lock()
		if s := b.streams[stream]; s != nil {
			return s
		}
		b.mu.Unlock()
	}
	return nil
}

func (o *outboxes) acked(gateway string, through []wire.Mark) {
	for _, m := range through {
		if s := o.find(gateway, m.Stream); s != nil {
			s.acked(m.Seq)
			s.box.mu.Unlock()
		}
	}
}

// resendRoom bounds the messages that wait to leave when frames are sent again: a gateway whose bus is stuck asks often.
const resendRoom = 64

// resend sends the frames of a stream again, from a number on.
func (o *outboxes) resend(r wire.Resend) {
	s := o.find(r.Gateway, r.Stream)
	if s == nil {
		return // the gateway's own clock ends what nobody here knows
	}
	b := s.box
	if len(b.pending) > resendRoom {
		b.mu.Unlock()
		return // it will ask again
	}
	for i := range s.kept {
		if s.kept[i].Seq >= r.From {
			b.append(s.instance, &s.kept[i])
			o.w.metrics.resent.Inc()
		}
	}
	b.flush()
}

// forget drops a stream that its gateway gave up: nothing more is sent for it.
func (o *outboxes) forget(key streamKey) {
	if s := o.find(key.gateway, key.stream); s != nil {
		delete(s.box.streams, s.stream)
		s.ended = time.Now()
		s.box.mu.Unlock()
	}
}

// listen hears the answers to pings.
func (o *outboxes) listen() (*nats.Subscription, error) {
	o.inbox = o.w.a.cfg.Bus.Tokens.NewInbox()
	o.bound = min(wire.MaxPart, int(o.w.a.cfg.Bus.Tokens.MaxPayload()))
	o.piece = min(dataPiece, max(o.bound-2<<10, o.bound/2)) // beside a worker's name and a frame's head
	sub, err := o.w.a.cfg.Bus.Tokens.Subscribe(o.inbox+".*", o.pong)
	if err != nil {
		return nil, fmt.Errorf("worker: listen for pongs: %w", err)
	}
	return sub, nil
}

// pingEvery is how often a gateway that has streams open hears which and how far.
const pingEvery = 250 * time.Millisecond

// endKept bounds how long the last frames of a stream are kept for a gateway that does not say that it has them.
const endKept = 30 * time.Second

// pings keeps the gateways company until ctx ends; without streams it sleeps.
func (o *outboxes) pings(ctx context.Context) {
	for {
		select {
		case <-o.opened:
		case <-ctx.Done():
			return
		}
		tick := time.NewTicker(pingEvery)
		for left := true; left; {
			select {
			case now := <-tick.C:
				left = o.ping(now)
			case <-ctx.Done():
				left = false
			}
		}
		tick.Stop()
	}
}

// ping tells each gateway which of its streams are open, and whether there are gateways left.
func (o *outboxes) ping(now time.Time) (left bool) {
	o.mu.Lock()
	boxes := make([]*outbox, 0, len(o.all))
	for subject, b := range o.all {
		b.mu.Lock()
		if len(b.streams) == 0 && !b.sending {
			delete(o.all, subject) // open makes a new one
		} else {
			boxes = append(boxes, b)
		}
		b.mu.Unlock()
	}
	o.mu.Unlock()
	for _, b := range boxes {
		b.ping(now)
	}
	return len(boxes) > 0
}

func (b *outbox) ping(now time.Time) {
	pings := make(map[wire.Instance]*wire.Ping) // a ping speaks for one life; streams of an earlier one may still be here
	var lost []*sender
	b.mu.Lock()
	if !b.o.w.a.cfg.Bus.Tokens.IsConnected() {
		b.answered = now // the silence is ours: the gateway has as long again once the bus is back
	}
	gone := now.Sub(b.answered) > b.o.w.a.cfg.GatewayTimeout+pingEvery
	for id, s := range b.streams {
		if gone || !s.ended.IsZero() && now.Sub(s.ended) > endKept {
			lost = append(lost, s)
			delete(b.streams, id)
			continue
		}
		p := pings[s.instance]
		if p == nil {
			p = &wire.Ping{Worker: b.o.w.name, Instance: s.instance}
			pings[s.instance] = p
		}
		if len(p.Sent) < wire.MaxStreams {
			p.Sent = append(p.Sent, wire.Mark{Stream: id, Seq: s.next - 1})
		}
	}
	for _, p := range pings { // through the queue: a ping that overtook frames would look like their loss
		b.pending = append(b.pending, outgoing{msg: p.AppendTo(nil), reply: b.reply})
	}
	b.flush()
	for _, s := range lost {
		s.lost(errGatewayGone)
	}
}

// pong takes a gateway's answer: what it has consumed, and what it does not know any more.
func (o *outboxes) pong(msg *nats.Msg) {
	p, err := wire.ParsePong(msg.Data)
	absent := len(msg.Data) == 0 && msg.Header.Get("Status") == "503"
	if err != nil && !absent {
		return
	}
	now := time.Now()
	o.mu.Lock()
	for _, b := range o.all {
		if b.reply != msg.Subject {
			continue
		}
		b.mu.Lock()
		if b.absent = absent; !absent {
			b.answered = now
		}
		b.mu.Unlock()
	}
	o.mu.Unlock()
	if absent {
		return // one that only lost its bus may be back with the next ping
	}
	o.acked(p.Gateway, p.Through)
	for _, id := range p.Unknown {
		if s := o.find(p.Gateway, id); s != nil {
			delete(s.box.streams, s.stream)
			s.box.mu.Unlock()
			s.lost(errCancelled)
		}
	}
}

// settle waits until the gateways that are there have everything, or the bound is reached.
func (o *outboxes) settle(bound time.Duration) {
	o.ping(time.Now())
	for end := time.Now().Add(bound); time.Now().Before(end) && o.owes(); time.Sleep(5 * time.Millisecond) {
	}
}

// owes tells whether a gateway that is there has not confirmed all its frames.
func (o *outboxes) owes() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.all {
		b.mu.Lock()
		owes := len(b.streams) > 0 && !b.absent
		b.mu.Unlock()
		if owes {
			return true
		}
	}
	return false
}
