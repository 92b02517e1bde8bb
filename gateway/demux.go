package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/tick"
	"github.com/radixbus/radixbus/internal/wire"
)

// demux hands incoming frames to the streams that they belong to. One wildcard subscription serves all streams.
type demux struct {
	bus      *bus.Bus
	subjects wire.Subjects
	gateway  string
	metrics  *metrics
	replies  string // inbox on the bulk connection, without the last token: part acks and "nobody there"
	subs     []*nats.Subscription
	next     atomic.Uint64

	// the frames' goroutine alone uses these
	handed []*stream // to be handed what the message at hand brought
	room   []byte

	handing sync.WaitGroup // those that help with it

	shards [16]shard
}

// A shard is a part of the streams that are open, by their ids.
type shard struct {
	mu      sync.Mutex
	streams map[uint64]*stream
}

func (s *shard) appendTo(open []*stream) []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.streams {
		open = append(open, one)
	}
	return open
}

func newDemux(cfg Config, b *bus.Bus, m *metrics) *demux {
	d := &demux{bus: b, subjects: cfg.Subjects, gateway: cfg.ID, metrics: m}
	d.next.Store(uint64(rand.Uint32())) // a gateway that comes back under its old ID must not take old streams for new ones
	for i := range d.shards {
		d.shards[i].streams = make(map[uint64]*stream)
	}
	return d
}

// pendingBytes bounds what the client library keeps for a subscription whose callback is behind.
const pendingBytes = 256 << 20

func (d *demux) start(ctx context.Context, aborted nats.MsgHandler) error {
	d.replies = d.bus.Bulk.NewInbox()
	for _, l := range []struct {
		conn    *nats.Conn
		subject string
		on      nats.MsgHandler
	}{
		{d.bus.Tokens, d.subjects.OutAll(d.gateway), d.frames},
		{d.bus.Bulk, d.replies + ".*", d.reply},
		{d.bus.Control, d.subjects.Abort(), aborted},
	} {
		sub, err := l.conn.Subscribe(l.subject, l.on)
		if err == nil {
			d.subs = append(d.subs, sub)
			err = sub.SetPendingLimits(-1, pendingBytes)
		}
		if err != nil {
			d.stop()
			return fmt.Errorf("gateway: listen to %s: %w", l.subject, err)
		}
	}
	d.bus.Flush(ctx)
	return nil
}

// stop ends it. No stream is open any more.
func (d *demux) stop() {
	for _, sub := range d.subs {
		sub.Unsubscribe() //nolint:errcheck // the connection may be gone already
	}
	d.handing.Wait()
}

// open makes a stream for one attempt. Its owner closes it.
func (d *demux) open(worker string, n wire.Instance, attempt uint32) *stream {
	s := &stream{
		demux: d, id: d.next.Add(1), worker: worker, instance: n, attempt: attempt,
		wake: make(chan struct{}, 1), expect: 1, heard: time.Now(),
	}
	sh := d.shard(s.id)
	sh.mu.Lock()
	sh.streams[s.id] = s
	sh.mu.Unlock()
	return s
}

func (d *demux) shard(id uint64) *shard { return &d.shards[id%uint64(len(d.shards))] }

func (d *demux) find(id uint64) *stream {
	sh := d.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.streams[id]
}

func (d *demux) forget(s *stream) {
	sh := d.shard(s.id)
	sh.mu.Lock()
	delete(sh.streams, s.id)
	sh.mu.Unlock()
}

// watchEvery is how often streams are looked at whose adapter says nothing.
const watchEvery = 200 * time.Millisecond

// quietFor is how long an adapter may say nothing before the owner of its stream is woken: longer than pings take.
const quietFor = 400 * time.Millisecond

// watch wakes the owners of streams that are silent, or all of them while the bus is away, until ctx ends.
func (d *demux) watch(ctx context.Context) {
	wait := time.NewTimer(tick.Until(watchEvery))
	defer wait.Stop()
	var open []*stream
	for {
		select {
		case now := <-wait.C:
			wait.Reset(tick.Until(watchEvery))
			silence := quietFor
			if !d.bus.Connected() {
				silence = 0
			}
			for i := range d.shards {
				open = d.shards[i].appendTo(open[:0])
				for _, s := range open {
					s.watch(now, silence)
				}
				clear(open)
			}
		case <-ctx.Done():
			return
		}
	}
}

// perWorker counts the streams that are open.
func (d *demux) perWorker() map[string]int {
	open := make(map[string]int)
	for i := range d.shards {
		sh := &d.shards[i]
		sh.mu.Lock()
		for _, s := range sh.streams {
			open[s.worker]++
		}
		sh.mu.Unlock()
	}
	return open
}

// frames runs on the token connection's goroutine and never blocks.
func (d *demux) frames(msg *nats.Msg) {
	switch kind, err := wire.KindOf(msg.Data); {
	case err != nil:
		d.metrics.strays.Inc()
	case kind == wire.KindPing:
		d.pong(msg)
	case kind == wire.KindFrames:
		now, count := time.Now(), 0
		err := wire.ParseFrames(msg.Data, func(worker []byte, n wire.Instance, f *wire.Frame) bool {
			count++
			s := d.find(f.Stream)
			if s == nil || s.instance != n || s.attempt != f.Attempt || s.worker != string(worker) {
				d.metrics.strays.Inc()
				return true
			}
			if s.push(now, f) {
				d.handed = append(d.handed, s)
			}
			return true
		})
		if err != nil {
			d.metrics.strays.Inc()
		}
		d.metrics.frames.Add(float64(count))
		d.handOut()
	}
}

// handAlone is how many streams are handed what came for them by one goroutine, where there are processors for others.
const handAlone = 16

// handOut hands the streams what the message at hand brought; where they are many, as many goroutines as there are processors share
// them.
func (d *demux) handOut() {
	share := len(d.handed)
	if share > handAlone {
		procs := runtime.GOMAXPROCS(0)
		share = max(handAlone, (share+procs-1)/procs)
	}
	for others := d.handed[share:]; len(others) > 0; {
		some := slices.Clone(others[:min(share, len(others))])
		others = others[len(some):]
		d.handing.Go(func() { hand(some, nil) })
	}
	d.room = hand(d.handed[:share], d.room)
	clear(d.handed)
	d.handed = d.handed[:0]
}

func hand(streams []*stream, room []byte) (grown []byte) {
	for _, s := range streams {
		room = s.hand(room)
	}
	return room
}

// pong tells an adapter what has been consumed of its streams and which are over.
func (d *demux) pong(msg *nats.Msg) {
	ping, err := wire.ParsePing(msg.Data)
	if err != nil || msg.Reply == "" {
		return
	}
	now, pong := time.Now(), wire.Pong{Gateway: d.gateway}
	for _, m := range ping.Sent {
		s := d.find(m.Stream)
		if s == nil || s.instance != ping.Instance {
			pong.Unknown = append(pong.Unknown, m.Stream)
			continue
		}
		pong.Through = append(pong.Through, wire.Mark{Stream: m.Stream, Seq: s.alive(now, m.Seq)})
	}
	d.bus.Control.Publish(msg.Reply, pong.AppendTo(nil)) //nolint:errcheck // the adapter asks again
}

// reply runs on the bulk connection's goroutine: what became of a dispatch.
func (d *demux) reply(msg *nats.Msg) {
	id, err := strconv.ParseUint(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], 36, 64)
	if err != nil {
		return
	}
	s := d.find(id)
	if s == nil {
		return
	}
	if noResponders(msg) {
		s.absent()
		return
	}
	if ack, err := wire.ParsePartAck(msg.Data); err == nil {
		s.partAcked(ack.Received)
	}
}

// replyTo is the reply subject of everything that is sent for the stream on the bulk connection.
func (d *demux) replyTo(s *stream) string { return d.replies + "." + strconv.FormatUint(s.id, 36) }

// resend asks for the frames of a stream from a number on. It goes out on the bulk connection, whose inbox hears when
// nobody is there.
func (d *demux) resend(s *stream, from uint64) {
	d.metrics.resends.Inc()
	m := wire.Resend{Gateway: d.gateway, Stream: s.id, From: from}
	d.bus.Bulk.PublishRequest(d.subjects.Ctl(s.worker), d.replyTo(s), m.AppendTo(nil)) //nolint:errcheck // silence is noticed
}

func (d *demux) ack(s *stream, through uint64) {
	m := wire.Ack{Gateway: d.gateway, Through: []wire.Mark{{Stream: s.id, Seq: through}}}
	d.bus.Control.Publish(d.subjects.Ctl(s.worker), m.AppendTo(nil)) //nolint:errcheck // the next pong tells the same
}

func (d *demux) cancel(s *stream, code wire.Code) {
	m := wire.Cancel{Gateway: d.gateway, Stream: s.id, Instance: s.instance, Code: code}
	d.bus.Control.Publish(d.subjects.Ctl(s.worker), m.AppendTo(nil)) //nolint:errcheck // the next pong tells the same
}
