package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// A stream is the incoming side of one attempt: frames in order, without a gap, up to the window.
type stream struct {
	demux    *demux
	id       uint64
	worker   string
	instance wire.Instance
	attempt  uint32
	wake     chan struct{} // something is new

	mu       sync.Mutex
	queue    []wire.Frame // received, not taken; their data lie in buf
	buf      []byte
	spare    []byte    // holds the data of the frames that were taken last
	cost     int       // of the queue, see costOf
	expect   uint64    // next frame number
	consumed uint64    // last frame number whose bytes the client has
	asked    time.Time // when missing frames were last asked for
	heard    time.Time // last sign of life
	gone     bool      // the bus says that the adapter is not there
	parts    uint64    // bytes of the body that the adapter has
	ended    bool      // the last frame is here
	overrun  bool      // the adapter did not keep to the window
	express  express   // nil: what comes is its owner's to take
	listed   bool      // whoever brings frames will try the express
}

// An express gives the client what has come, where that can be done without waiting and beside the stream's owner, or tells that
// it could not. It works in room, which it returns, maybe grown.
type express func(room []byte) (grown []byte, ok bool)

// streamSlack is what a stream may hold above its window: the frames that were under way, and their heads.
const streamSlack = 2 * wire.StreamWindow

// costOf is what a frame counts against the bound of its stream; so frames without data are bounded too.
func costOf(f *wire.Frame) int {
	n := len(f.Data) + wire.FrameOverhead
	for _, h := range f.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// askAgain is how often missing frames are asked for.
const askAgain = 100 * time.Millisecond

// push takes a frame and copies its data: one small frame must not keep the whole message that brought it, with the
// frames of other streams. Frames that came before are dropped; after a gap everything is, and asked for again. When it
// returns true, whoever pushes has to call hand before it does anything else that may take long.
func (s *stream) push(now time.Time, f *wire.Frame) (hand bool) {
	s.mu.Lock()
	s.heard, s.gone = now, false
	var missing uint64
	express := false
	switch {
	case f.Seq < s.expect:
	case f.Seq > s.expect:
		missing = s.missing(now)
	case s.cost+costOf(f) > wire.StreamWindow+streamSlack:
		s.overrun = true
	default:
		s.buf = append(s.buf, f.Data...)
		kept := *f
		kept.Data = s.buf[len(s.buf)-len(f.Data):]
		s.queue = append(s.queue, kept)
		s.cost += costOf(f)
		s.expect++
		s.ended = s.ended || f.Type == wire.FrameEnd
		express = s.express != nil && f.Type == wire.FrameData
		hand = express && !s.listed
		s.listed = s.listed || express
	}
	s.mu.Unlock()
	if missing > 0 {
		s.demux.resend(s, missing)
	}
	if !express {
		s.signal()
	}
	return hand
}

// hand gives what was pushed to the client, or to the owner.
func (s *stream) hand(room []byte) (grown []byte) {
	s.mu.Lock()
	s.listed = false
	express := s.express
	s.mu.Unlock()
	ok := false
	if express != nil {
		room, ok = express(room)
	}
	if !ok {
		s.signal()
	}
	return room
}

// setExpress opens the way past the owner, or closes it.
func (s *stream) setExpress(e express) {
	s.mu.Lock()
	s.express = e
	s.mu.Unlock()
}

// missing returns the frame number to ask for; 0 when it was asked for just now, or there is no room for more: its
// owner will give the stream up. The lock is held.
func (s *stream) missing(now time.Time) uint64 {
	if s.overrun || now.Sub(s.asked) < askAgain {
		return 0
	}
	s.asked = now
	return s.expect
}

// alive notes the adapter's word that it has sent frames up to a number, and tells what has been consumed.
func (s *stream) alive(now time.Time, sent uint64) (consumed uint64) {
	s.mu.Lock()
	s.heard, s.gone = now, false
	var missing uint64
	if sent >= s.expect {
		missing = s.missing(now)
	}
	consumed = s.consumed
	s.mu.Unlock()
	if missing > 0 {
		s.demux.resend(s, missing)
	}
	return consumed
}

// excuse takes it that the adapter was heard now: it could not be.
func (s *stream) excuse(now time.Time) {
	s.mu.Lock()
	s.heard, s.gone = now, false
	s.mu.Unlock()
}

// absent notes that nobody listens to the worker's subject.
func (s *stream) absent() {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.signal()
}

func (s *stream) partAcked(received uint64) {
	s.mu.Lock()
	s.heard = time.Now()
	s.parts = max(s.parts, received)
	s.mu.Unlock()
	s.signal()
}

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns the frames that have come since, in into's room. Their data are good until the next take.
func (s *stream) take(into []wire.Frame) []wire.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	into = append(into[:0], s.queue...)
	clear(s.queue)
	s.queue, s.cost = s.queue[:0], 0
	s.buf, s.spare = s.spare[:0], s.buf
	return into
}

// A haul is what an express takes: the data of frames up to one.
type haul struct {
	chunk []byte // as HTTP sends it
	bytes int    // of data in it
	last  uint64
	cost  int
}

func (h *haul) data() []byte {
	end := len(h.chunk) - len(chunkEnd)
	return h.chunk[end-h.bytes : end]
}

// takeChunk takes what has come as one chunk, in room, where all of it is data and no more than most bytes. Anything else is left
// to the owner.
func (s *stream) takeChunk(room []byte, most int) (h haul, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h = haul{chunk: room[:0], bytes: len(s.buf), cost: s.cost}
	if s.overrun || len(s.buf) > most || slices.ContainsFunc(s.queue, func(f wire.Frame) bool { return f.Type != wire.FrameData }) {
		return h, false
	}
	if n := len(s.queue); n > 0 {
		h.last = s.queue[n-1].Seq
		h.chunk = appendChunk(h.chunk, s.buf) // the frames' data lie there one after the other
		clear(s.queue)
		s.queue, s.buf, s.cost = s.queue[:0], s.buf[:0], 0
	}
	return h, true
}

// done notes that the client has the bytes of all frames up to seq.
func (s *stream) done(seq uint64) {
	s.mu.Lock()
	s.consumed = seq
	s.mu.Unlock()
}

// watch wakes the owner of a stream that has had no frame yet, or has not heard of its adapter for a while.
func (s *stream) watch(now time.Time, silence time.Duration) {
	s.mu.Lock()
	silent := s.expect == 1 || now.Sub(s.heard) >= silence
	s.mu.Unlock()
	if silent {
		s.signal()
	}
}

// health is a copy of what says whether the adapter is there.
type health struct {
	silent  time.Duration
	gone    bool
	ended   bool
	overrun bool
	parts   uint64
	expect  uint64
}

func (s *stream) health(now time.Time) health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return health{silent: now.Sub(s.heard), gone: s.gone, ended: s.ended, overrun: s.overrun, parts: s.parts, expect: s.expect}
}

// close ends the stream: what still comes for it is stray.
func (s *stream) close() { s.demux.forget(s) }
