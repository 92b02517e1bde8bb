package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// fakeClient is both ways to a client: the HTTP server's, and the line behind it.
type fakeClient struct {
	mu   sync.Mutex
	got  []byte // in chunks
	room int    // what WriteNow takes; less than zero: all
	now  int    // times that WriteNow took something
}

func (c *fakeClient) Header() http.Header              { return http.Header{} }
func (c *fakeClient) WriteHeader(int)                  {}
func (c *fakeClient) FlushError() error                { return nil }
func (c *fakeClient) SetWriteDeadline(time.Time) error { return nil }

func (c *fakeClient) WriteNow(b []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(b)
	if c.room >= 0 {
		n = min(n, c.room)
		c.room -= n
	}
	c.got = append(c.got, b[:n]...)
	if n > 0 {
		c.now++
	}
	return n
}

// Write is called for whole pieces by the answer as the server's writer, and for the rest of a chunk as the line's.
func (c *fakeClient) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, b...)
	return len(b), nil
}

// server is the writer of the HTTP server, which cuts its own chunks.
type server struct{ *fakeClient }

func (s server) Write(b []byte) (int, error) {
	s.fakeClient.Write(appendChunk(nil, b)) //nolint:errcheck // it cannot fail
	return len(b), nil
}

func (c *fakeClient) body(t interface{ Fatalf(string, ...any) }) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := append(bytes.Clone(c.got), "0\r\n\r\n"...)
	b, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(whole)))
	if err != nil {
		t.Fatalf("no chunks: %v in %q", err, whole)
	}
	return string(b)
}

// bare is a gateway without a bus.
func bare() *Gateway {
	m := newMetrics(prometheus.NewRegistry())
	g := &Gateway{cfg: Config{ID: "g", ClientStall: time.Minute}, metrics: m}
	g.demux = newDemux(g.cfg, nil, m)
	return g
}

// newAttempt is an attempt whose answer's head has come.
func newAttempt(g *Gateway, c *fakeClient) *attempt {
	a := &answer{g: g, w: server{c}, rc: http.NewResponseController(server{c}), c: &call{route: &surface.Route{}}, line: c, stream: true, upSt: 200}
	t := &attempt{g: g, a: a, s: g.demux.open("w", 7, 1)}
	t.turn.Lock()
	return t
}

// Whoever writes, and however little the client takes at a time: it gets every byte once and in order, in whole chunks, and
// nothing is confirmed that it does not have.
func TestWhatIsWrittenBesideTheRequestsGoroutineIsWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := &fakeClient{}
		at := newAttempt(bare(), c)
		defer at.s.close()
		var want strings.Builder
		var room []byte
		seq := uint64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			handed := false
			for range rapid.IntRange(1, 3).Draw(rt, "frames") {
				seq++
				data := strings.Repeat(fmt.Sprintf("%d,", seq), rapid.SampledFrom([]int{1, 5, 200}).Draw(rt, "words"))
				want.WriteString(data)
				handed = at.s.push(time.Now(), &wire.Frame{Type: wire.FrameData, Attempt: 1, Seq: seq, Data: []byte(data)}) || handed
			}
			c.room = rapid.SampledFrom([]int{-1, 0, 1, 7, 400}).Draw(rt, "room")
			if handed {
				asleep := rapid.IntRange(0, 3).Draw(rt, "asleep") > 0
				if asleep {
					at.turn.Unlock()
				}
				room = at.s.hand(room)
				if asleep {
					at.turn.Lock()
				}
			}
			if have := len(c.got); at.s.consumed == seq && have < want.Len() {
				rt.Fatalf("all confirmed with %d of %d bytes", have, want.Len())
			}
			select {
			case <-at.s.wake: // the request's goroutine does what receive does
				if at.frames = at.s.take(at.frames); len(at.frames) > 0 {
					if end, done := at.deliver(); done {
						rt.Fatalf("it ended: %+v", end)
					}
				} else if at.owed > 0 {
					at.flush(at.owed, 0, false)
				}
			default:
			}
			if got := c.body(rt); got != want.String() {
				rt.Fatalf("the client has %q, want %q", got, want.String())
			}
			if at.s.consumed != seq {
				rt.Fatalf("confirmed %d of %d", at.s.consumed, seq)
			}
		}
	})
}

// A client that takes all is never waited for: the request's goroutine sleeps from the second piece of its answer to the end.
func TestTokensDoNotWakeTheRequestsGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &fakeClient{room: -1}
		at := newAttempt(bare(), c)
		var over sync.WaitGroup
		over.Go(func() {
			if end := at.receive(t.Context()); end.code != wire.CodeOK {
				t.Errorf("it ended: %+v", end)
			}
		})
		put := func(f wire.Frame) {
			synctest.Wait()
			if at.s.push(time.Now(), &f) {
				at.s.hand(nil)
			}
		}
		var want strings.Builder
		const frames = 50
		for seq := uint64(1); seq <= frames; seq++ {
			data := fmt.Sprintf("data: %d\n\n", seq)
			want.WriteString(data)
			put(wire.Frame{Type: wire.FrameData, Attempt: 1, Seq: seq, Data: []byte(data)})
		}
		put(wire.Frame{Type: wire.FrameEnd, Attempt: 1, Seq: frames + 1, End: &wire.End{Code: wire.CodeOK}})
		over.Wait()
		if got := c.body(t); got != want.String() {
			t.Errorf("got %q", got)
		}
		if c.now != frames-1 {
			t.Errorf("%d pieces were written beside it, want all but the first of %d", c.now, frames)
		}
		before := len(c.got)
		if room, ok := at.express(nil); ok || room != nil || len(c.got) != before {
			t.Error("an attempt that is over was written for")
		}
	})
}

// What comes while data are handed to the client beside its request's goroutine is that one's to take: the end of a stream above
// all, without which it would wait.
func TestTheEndIsTheRequestsToTake(t *testing.T) {
	t.Parallel()
	const rounds = 20_000
	g := bare()
	var spin atomic.Int64
	for round := range rounds {
		at := newAttempt(g, &fakeClient{room: -1})
		at.a.begun = true
		at.s.setExpress(at.express)
		at.turn.Unlock()
		if !at.s.push(time.Now(), &wire.Frame{Type: wire.FrameData, Attempt: 1, Seq: 1, Data: []byte("data")}) {
			t.Fatal("data are not handed")
		}
		var handing sync.WaitGroup
		begun := make(chan struct{})
		handing.Go(func() { close(begun); at.s.hand(nil) })
		<-begun
		for range round % 2000 { // it meets each moment of the other one
			spin.Add(1)
		}
		at.s.push(time.Now(), &wire.Frame{Type: wire.FrameEnd, Attempt: 1, Seq: 2, End: &wire.End{Code: wire.CodeOK}})
		handing.Wait()
		left := at.s.take(nil)
		if len(left) == 0 || left[len(left)-1].Type != wire.FrameEnd {
			t.Fatalf("the end is gone: %d frames are left", len(left))
		}
		at.s.close()
	}
}

// A message for many streams is shared by several goroutines: each stream gets what is its own, and stop waits for all.
func TestAMessageForManyStreams(t *testing.T) {
	t.Parallel()
	g := bare()
	const streams, messages = 10 * handAlone, 20
	clients, attempts := make([]*fakeClient, streams), make([]*attempt, streams)
	var want [streams]strings.Builder
	for i := range streams {
		clients[i] = &fakeClient{room: -1}
		attempts[i] = newAttempt(g, clients[i])
		attempts[i].a.begun = true
		attempts[i].s.setExpress(attempts[i].express)
		attempts[i].turn.Unlock()
	}
	for seq := uint64(1); seq <= messages; seq++ {
		msg := wire.AppendFrames(nil, "w", 7)
		for i, at := range attempts {
			data := fmt.Sprintf("%d of %d\n", seq, i)
			want[i].WriteString(data)
			msg = wire.AppendFrame(msg, &wire.Frame{Type: wire.FrameData, Stream: at.s.id, Attempt: 1, Seq: seq, Data: []byte(data)})
		}
		g.demux.frames(&nats.Msg{Data: msg})
	}
	g.demux.stop()
	for i, at := range attempts {
		select {
		case <-at.s.wake: // two messages met at one stream: its request takes the rest
			at.turn.Lock()
			if at.frames = at.s.take(at.frames); len(at.frames) > 0 {
				at.deliver()
			}
		default:
		}
		if got := clients[i].body(t); got != want[i].String() {
			t.Fatalf("stream %d got %q, want %q", i, got, want[i].String())
		}
		if at.s.consumed != messages {
			t.Errorf("of stream %d %d messages are confirmed", i, at.s.consumed)
		}
		at.s.close()
	}
}
