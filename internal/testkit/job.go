package testkit

import (
	"sync"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// A Job is one dispatch that a [Worker] has, and the frames that it sends for it.
type Job struct {
	*wire.Dispatch
	w         *Worker
	reply     string
	cancelled chan struct{}
	whole     chan struct{}

	mu       sync.Mutex
	body     []byte
	ahead    int // most bytes that came beyond those acknowledged
	ackedTo  int // of the body
	seq      uint64
	told     uint64 // last frame number that pings tell
	kept     []wire.Frame
	acked    uint64
	resends  int
	cancelAt time.Time
	code     wire.Code
}

// Cancelled is closed when the gateway gives the attempt up.
func (j *Job) Cancelled() <-chan struct{} { return j.cancelled }

// CancelledAs tells when and why it was given up.
func (j *Job) CancelledAs() (time.Time, wire.Code) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cancelAt, j.code
}

// Whole is closed when all of the body is here.
func (j *Job) Whole() <-chan struct{} { return j.whole }

// Body is what has come of it.
func (j *Job) Body() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]byte(nil), j.body...)
}

// Ahead is the largest number of bytes that came without having been acknowledged.
func (j *Job) Ahead() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ahead
}

// Acked is the last frame number that the gateway has acknowledged, without pongs.
func (j *Job) Acked() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.acked
}

// Resends counts the times that frames were asked for again.
func (j *Job) Resends() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.resends
}

// Make numbers a frame and keeps it for the time that it is asked for again, without sending it.
func (j *Job) Make(f wire.Frame) wire.Frame {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	f.Stream, f.Attempt, f.Seq = j.Stream, j.Attempt, j.seq
	j.kept = append(j.kept, f)
	return f
}

// Owe has pings tell of all frames that were made, sent or not.
func (j *Job) Owe() { j.tell(j.seq) }

func (j *Job) tell(seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = max(j.told, seq)
}

// Put sends frames as they are, in one message.
func (j *Job) Put(frames ...wire.Frame) {
	msg := wire.AppendFrames(nil, j.w.Name, j.Instance)
	for i := range frames {
		msg = wire.AppendFrame(msg, &frames[i])
	}
	j.w.bus.Tokens.Publish(wire.Subjects{}.Out(j.Gateway, j.w.Name, int(j.Shard)), msg) //nolint:errcheck // a test notices what is missing
	for i := range frames {
		if f := &frames[i]; f.Stream == j.Stream && f.Attempt == j.Attempt {
			j.tell(f.Seq)
		}
	}
}

// Send makes frames and sends them in one message.
func (j *Job) Send(frames ...wire.Frame) {
	for i := range frames {
		frames[i] = j.Make(frames[i])
	}
	j.Put(frames...)
}

// Accept says that the attempt is taken.
func (j *Job) Accept() { j.Send(wire.Frame{Type: wire.FrameAccept}) }

// Head sends the answer's status and content type.
func (j *Job) Head(status int, contentType string) { j.Send(HeadFrame(status, contentType)) }

// Data sends bytes of the answer.
func (j *Job) Data(s string) { j.Send(wire.Frame{Type: wire.FrameData, Data: []byte(s)}) }

// Flow is Data within the window: it waits until the gateway has acknowledged enough, or given up.
func (j *Job) Flow(s string) {
	for j.unacked()+len(s) > wire.StreamWindow {
		select {
		case <-j.cancelled:
			return
		case <-j.w.stop:
			return
		case <-time.After(time.Millisecond):
		}
	}
	j.Data(s)
}

func (j *Job) unacked() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.kept) > 0 && j.kept[0].Seq <= j.acked {
		j.kept = j.kept[1:]
	}
	for i := range j.kept {
		n += len(j.kept[i].Data)
	}
	return n
}

// End sends the last frame.
func (j *Job) End(code wire.Code, message string) { j.Send(EndFrame(code, message)) }

// Answer streams events and [DONE].
func (j *Job) Answer(events ...string) {
	j.Accept()
	j.Head(200, EventStream)
	for _, e := range events {
		j.Data("data: " + e + "\n\n")
	}
	j.Data("data: [DONE]\n\n")
	j.End(wire.CodeOK, "")
}

// Reply answers as a whole.
func (j *Job) Reply(status int, body string) {
	j.Accept()
	j.Head(status, "application/json")
	j.Data(body)
	code := wire.CodeOK
	if status >= 400 {
		code = wire.CodeEngineRefused
	}
	j.End(code, "")
}

// EventStream is the content type of a stream.
const EventStream = "text/event-stream; charset=utf-8"

// HeadFrame is the first frame of an answer.
func HeadFrame(status int, contentType string) wire.Frame {
	return wire.Frame{Type: wire.FrameHead, Status: uint32(status), Headers: []wire.Header{{Name: "Content-Type", Value: contentType}}}
}

// EndFrame is the last frame of an attempt.
func EndFrame(code wire.Code, message string) wire.Frame {
	return wire.Frame{Type: wire.FrameEnd, End: &wire.End{Code: code, Message: message}}
}

func (j *Job) part(p *wire.Part) {
	j.mu.Lock()
	if int(p.Offset) == len(j.body) {
		j.body = append(j.body, p.Body...)
	}
	j.ahead = max(j.ahead, len(j.body)-j.ackedTo)
	done := uint64(len(j.body)) == j.Size
	j.mu.Unlock()
	if !j.w.HoldParts.Load() {
		j.ackParts()
	}
	if done {
		close(j.whole)
	}
}

func (j *Job) ackParts() {
	j.mu.Lock()
	j.ackedTo = len(j.body)
	ack := wire.PartAck{Stream: j.Stream, Received: uint64(len(j.body))}
	j.mu.Unlock()
	j.w.bus.Bulk.Publish(j.reply, ack.AppendTo(nil)) //nolint:errcheck // the next one tells more
}

func (j *Job) cancel(c wire.Cancel) {
	j.mu.Lock()
	first := j.cancelAt.IsZero()
	if first {
		j.cancelAt, j.code = time.Now(), c.Code
	}
	j.mu.Unlock()
	if first {
		close(j.cancelled)
	}
}

func (j *Job) again(from uint64) {
	j.mu.Lock()
	j.resends++
	var frames []wire.Frame
	for _, f := range j.kept {
		if f.Seq >= from {
			frames = append(frames, f)
		}
	}
	j.mu.Unlock()
	if len(frames) > 0 {
		j.Put(frames...)
	}
}
