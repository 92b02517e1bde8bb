package testkit

import (
	"bytes"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/jsonscan"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/wire"
)

// A Gateway is a gateway as an adapter sees it: it sends dispatches, takes frames, acknowledges them and answers pings
// unless told not to. It also hears what adapters tell the schedulers.
type Gateway struct {
	ID string
	// Mute keeps it from answering pings.
	Mute atomic.Bool
	// NoAcks keeps it from acknowledging frames, by acks and pongs.
	NoAcks atomic.Bool

	t        testing.TB
	bus      *bus.Bus
	subjects wire.Subjects
	next     atomic.Uint64

	mu       sync.Mutex
	streams  map[uint64]*Stream
	ups      []wire.Up
	downs    []wire.Gone
	loads    []*wire.Load
	finished []*wire.Finished
}

// NewGateway starts a gateway.
func NewGateway(t testing.TB, h *Hub, id string) *Gateway {
	t.Helper()
	g := &Gateway{ID: id, t: t, bus: h.Connect(t, "gateway", id), streams: make(map[uint64]*Stream)}
	g.listen(g.bus.Tokens, g.subjects.OutAll(id), g.frames)
	g.listen(g.bus.Control, "rb.v1.ev.>", g.event)
	g.bus.Flush(t.Context())
	return g
}

func (g *Gateway) listen(nc *nats.Conn, subject string, on nats.MsgHandler) {
	g.t.Helper()
	if _, err := nc.Subscribe(subject, on); err != nil {
		g.t.Fatal(err)
	}
}

func (g *Gateway) event(msg *nats.Msg) {
	kind, err := wire.KindOf(msg.Data)
	if err != nil {
		g.t.Errorf("event %s: %v", msg.Subject, err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch kind {
	case wire.KindUp:
		var up wire.Up
		up, err = wire.ParseUp(msg.Data)
		g.ups = append(g.ups, up)
	case wire.KindDown:
		var down wire.Gone
		down, err = wire.ParseGone(msg.Data)
		g.downs = append(g.downs, down)
	case wire.KindLoad:
		var load *wire.Load
		load, err = wire.ParseLoad(msg.Data)
		g.loads = append(g.loads, load)
	case wire.KindFinished:
		var f *wire.Finished
		f, err = wire.ParseFinished(msg.Data)
		g.finished = append(g.finished, f)
	}
	if err != nil {
		g.t.Errorf("event %s: %v", msg.Subject, err)
	}
}

// Beats are the adapters' beats so far.
func (g *Gateway) Beats() []wire.Up {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]wire.Up(nil), g.ups...)
}

// Downs are the adapters' last words so far.
func (g *Gateway) Downs() []wire.Gone {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]wire.Gone(nil), g.downs...)
}

// Loads are the adapters' reports so far.
func (g *Gateway) Loads() []*wire.Load {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*wire.Load(nil), g.loads...)
}

// Finished are the ends of attempts so far.
func (g *Gateway) Finished() []*wire.Finished {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*wire.Finished(nil), g.finished...)
}

// AwaitBeat waits for a beat with the state, of another instance than the one that is named (0: of any), and returns it.
func (g *Gateway) AwaitBeat(state wire.State, other wire.Instance) (found wire.Up) {
	g.t.Helper()
	Eventually(g.t, "a beat: "+state.String(), func() bool {
		for _, up := range g.Beats() {
			if up.State == state && up.Instance != other {
				found = up
				return true
			}
		}
		return false
	})
	return found
}

// Info asks a worker what it is.
func (g *Gateway) Info(worker string) *wire.WorkerInfo {
	g.t.Helper()
	msg, err := g.bus.Control.Request(g.subjects.Ctl(worker), []byte(`{"op":"info"}`), Patience)
	if err != nil {
		g.t.Fatalf("ask for the info of %s: %v", worker, err)
	}
	info, err := wire.ParseWorkerInfo(msg.Data)
	if err != nil {
		g.t.Fatal(err)
	}
	return info
}

// Order gives an adapter an order on its control subject, and waits for the answer.
func (g *Gateway) Order(worker string, ask wire.Ask) (told wire.Told) {
	g.t.Helper()
	doc, err := json.Marshal(ask)
	if err != nil {
		g.t.Fatal(err)
	}
	msg, err := g.bus.Control.Request(g.subjects.Ctl(worker), doc, Patience)
	if err != nil {
		g.t.Fatalf("order %s to %s: %v", ask.Op, worker, err)
	}
	if err := json.Unmarshal(msg.Data, &told); err != nil {
		g.t.Fatalf("order %s to %s: %v", ask.Op, worker, err)
	}
	return told
}

// NewPath makes a stream for a request that no route of package prefix stands for. If its body is an object, it has the
// place of each member.
func (g *Gateway) NewPath(worker string, n wire.Instance, path, body string) *Stream {
	g.t.Helper()
	var doc jsonscan.Doc
	var points jsonscan.Points
	if jsonscan.Scan(&doc, []byte(body), func(key []byte) (string, jsonscan.Mode) { return string(key), jsonscan.Note }) == nil {
		points = doc.Points(nil)
	}
	return g.newStream(worker, n, path, body, points, 1, 0)
}

// NewStream makes a stream for a request, with a dispatch that can be changed before it is sent.
func (g *Gateway) NewStream(worker string, n wire.Instance, route prefix.Route, body string) *Stream {
	g.t.Helper()
	req, err := prefix.Parse(route, []byte(body))
	if err != nil {
		g.t.Fatalf("request: %v", err)
	}
	var flags wire.Flags
	for flag, on := range map[wire.Flags]bool{wire.FlagStream: req.Stream, wire.FlagUsage: req.IncludeUsage, wire.FlagDetails: req.CachedDetails, wire.FlagBatch: req.Batch} {
		if on {
			flags |= flag
		}
	}
	return g.newStream(worker, n, route.String(), body, req.Points, req.Prompts, flags)
}

func (g *Gateway) newStream(worker string, n wire.Instance, path, body string, points jsonscan.Points, prompts int, flags wire.Flags) *Stream {
	d := &wire.Dispatch{
		Request: wire.NewRequestID(), Attempt: 1, Instance: n, Stream: g.next.Add(1), Gateway: g.ID, Lease: 42, Pool: "m", Model: "m",
		Label: "label", Method: "POST", Path: path, Window: wire.StreamWindow, Predicted: 5, Flags: flags,
		Open: uint64(points.Open), Empty: points.Empty, Prompts: uint32(prompts), Size: uint64(len(body)), Body: []byte(body),
	}
	if body != "" {
		d.Headers = []wire.Header{{Name: "Content-Type", Value: "application/json"}}
	}
	for _, m := range points.Members {
		d.Points = append(d.Points, wire.Point{Key: m.Key, KeyStart: uint64(m.KeyStart), Start: uint64(m.Start), End: uint64(m.End)})
	}
	s := &Stream{Dispatch: d, g: g, worker: worker, expect: 1, over: make(chan struct{})}
	g.mu.Lock()
	g.streams[d.Stream] = s
	g.mu.Unlock()
	return s
}

// Send makes a stream and sends its dispatch.
func (g *Gateway) Send(worker string, n wire.Instance, route prefix.Route, body string) *Stream {
	g.t.Helper()
	s := g.NewStream(worker, n, route, body)
	s.Send()
	return s
}

// Publish sends raw bytes to a worker's subject.
func (g *Gateway) Publish(worker string, n wire.Instance, msg []byte) {
	g.bus.Bulk.PublishRequest(g.subjects.Work(worker, n), g.bus.Bulk.NewInbox(), msg) //nolint:errcheck // a test notices
}

// Control sends raw bytes to a worker's control subject.
func (g *Gateway) Control(worker string, msg []byte) {
	g.bus.Control.Publish(g.subjects.Ctl(worker), msg) //nolint:errcheck // a test notices
}

// frames takes what adapters send, as a gateway does: in order and without gaps.
func (g *Gateway) frames(msg *nats.Msg) {
	kind, err := wire.KindOf(msg.Data)
	switch {
	case err != nil:
		g.t.Errorf("frames: %v", err)
	case kind == wire.KindPing:
		g.pong(msg)
	case kind == wire.KindFrames:
		err := wire.ParseFrames(msg.Data, func(_ []byte, n wire.Instance, f *wire.Frame) bool {
			g.mu.Lock()
			s := g.streams[f.Stream]
			g.mu.Unlock()
			if s != nil && s.Instance == n {
				s.push(*f)
			}
			return true
		})
		if err != nil {
			g.t.Errorf("frames: %v", err)
		}
	}
}

func (g *Gateway) pong(msg *nats.Msg) {
	ping, err := wire.ParsePing(msg.Data)
	if err != nil {
		g.t.Errorf("ping: %v", err)
		return
	}
	if g.Mute.Load() {
		return
	}
	pong := wire.Pong{Gateway: g.ID}
	for _, m := range ping.Sent {
		g.mu.Lock()
		s := g.streams[m.Stream]
		g.mu.Unlock()
		if s == nil || s.Instance != ping.Instance {
			pong.Unknown = append(pong.Unknown, m.Stream)
			continue
		}
		through := uint64(0)
		if !g.NoAcks.Load() {
			through = s.Seq()
		}
		pong.Through = append(pong.Through, wire.Mark{Stream: m.Stream, Seq: through})
	}
	g.bus.Control.Publish(msg.Reply, pong.AppendTo(nil)) //nolint:errcheck // the adapter asks again
}

// A Stream is one attempt as its gateway sees it.
type Stream struct {
	*wire.Dispatch
	g      *Gateway
	worker string
	over   chan struct{}

	mu       sync.Mutex
	expect   uint64
	frames   []wire.Frame
	first    time.Time // when the first data came
	repeated int       // frames that came again
	partAcks []uint64
}

// Send publishes the dispatch. A body beyond first bytes of it, when Body was shortened, is sent by [Stream.Part].
func (s *Stream) Send() {
	s.g.t.Helper()
	inbox := s.g.bus.Bulk.NewInbox()
	s.g.listen(s.g.bus.Bulk, inbox, func(msg *nats.Msg) {
		if a, err := wire.ParsePartAck(msg.Data); err == nil {
			s.mu.Lock()
			s.partAcks = append(s.partAcks, a.Received)
			s.mu.Unlock()
		}
	})
	if err := s.g.bus.Bulk.PublishRequest(s.g.subjects.Work(s.worker, s.Instance), inbox, s.AppendTo(nil)); err != nil {
		s.g.t.Errorf("dispatch: %v", err)
	}
}

// Part publishes a part of the body.
func (s *Stream) Part(offset int, body []byte) {
	p := wire.Part{Gateway: s.g.ID, Stream: s.Stream, Instance: s.Instance, Offset: uint64(offset), Body: body}
	s.g.Publish(s.worker, s.Instance, p.AppendTo(nil))
}

// Cancel gives the attempt up.
func (s *Stream) Cancel() { s.CancelAs(wire.CodeCancelled) }

// CancelAs gives it up for a reason.
func (s *Stream) CancelAs(code wire.Code) {
	c := wire.Cancel{Gateway: s.g.ID, Stream: s.Stream, Instance: s.Instance, Code: code}
	s.g.Control(s.worker, c.AppendTo(nil))
}

// Ack tells that frames up to a number have been consumed.
func (s *Stream) Ack(through uint64) {
	a := wire.Ack{Gateway: s.g.ID, Through: []wire.Mark{{Stream: s.Stream, Seq: through}}}
	s.g.Control(s.worker, a.AppendTo(nil))
}

// Resend asks for frames again.
func (s *Stream) Resend(from uint64) {
	r := wire.Resend{Gateway: s.g.ID, Stream: s.Stream, From: from}
	s.g.Control(s.worker, r.AppendTo(nil))
}

// Forget makes the gateway deny that it knows the stream.
func (s *Stream) Forget() {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	delete(s.g.streams, s.Stream)
}

func (s *Stream) push(f wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.Seq < s.expect:
		s.repeated++
		return
	case f.Seq > s.expect:
		s.g.t.Errorf("stream %d: frame %d where %d was due", s.Stream, f.Seq, s.expect)
		return
	}
	s.expect++
	f.Data = bytes.Clone(f.Data)
	s.frames = append(s.frames, f)
	if f.Type == wire.FrameData && s.first.IsZero() {
		s.first = time.Now()
	}
	if f.Type == wire.FrameEnd {
		close(s.over)
	}
	if f.Type == wire.FrameData && !s.g.NoAcks.Load() {
		s.Ack(f.Seq)
	}
}

// Seq is the number of the last frame that has come.
func (s *Stream) Seq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expect - 1
}

// Repeated counts the frames that came again.
func (s *Stream) Repeated() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeated
}

// PartAcks are the adapter's acknowledgements of the body.
func (s *Stream) PartAcks() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.partAcks...)
}

// Over is closed when the last frame has come.
func (s *Stream) Over() <-chan struct{} { return s.over }

// An Answer is what the frames of a stream say.
type Answer struct {
	Accepted    bool
	Status      int
	ContentType string
	Body        string
	End         *wire.End // nil while it is not over
}

// Answer is what has come so far.
func (s *Stream) Answer() (a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body []byte
	for _, f := range s.frames {
		switch f.Type {
		case wire.FrameAccept:
			a.Accepted = true
		case wire.FrameHead:
			a.Status = int(f.Status)
			for _, h := range f.Headers {
				if h.Name == "Content-Type" {
					a.ContentType = h.Value
				}
			}
		case wire.FrameData:
			body = append(body, f.Data...)
		case wire.FrameEnd:
			a.End = f.End
		}
	}
	a.Body = string(body)
	return a
}

// Wait waits for the last frame.
func (s *Stream) Wait() Answer {
	s.g.t.Helper()
	Receive(s.g.t, "the end of a stream", s.over)
	return s.Answer()
}
