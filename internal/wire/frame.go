package wire

// FrameType tells what a frame carries.
type FrameType uint8

// Frame types. The frames of a stream are numbered from 1 without a gap; an End is the last.
const (
	FrameAccept FrameType = 1 // the adapter has admitted the attempt
	FrameHead   FrameType = 2 // status and headers of the answer: its first event is known
	FrameData   FrameType = 3 // bytes of the answer; of a stream, whole events
	FrameEnd    FrameType = 4 // how it ended
)

// A Frame is one step of an answer.
type Frame struct {
	Type    FrameType // 1
	Stream  uint64    // 2: the gateway's number
	Attempt uint32    // 3
	Seq     uint64    // 4: from 1
	Status  uint32    // 5: Head: HTTP status
	Headers []Header  // 6: Head
	Data    []byte    // 7: Data
	End     *End      // 8: End
}

// An End tells how an attempt ended and what the engine said of it.
type End struct {
	Code             Code   // 1
	Message          string // 2: for people; holds no prompt
	RetryAfterMillis uint32 // 3
	Prompt           uint32 // 4: tokens, as the engine counted; 0 = not told
	Completion       uint32 // 5: tokens
	CachedPlus1      uint32 // 6: cached prompt tokens + 1; 0 = not told
	TTFTMicros       uint64 // 7: from the engine call to its first event
	TotalMicros      uint64 // 8: from the engine call to its end
	Finish           string // 9: the engine's finish reason
	WeightVersion    string // 10
	Begun            bool   // 11: bytes of the answer were sent
}

// Cached is the number of cached tokens, and whether the engine told.
func (e *End) Cached() (tokens uint32, told bool) {
	if e.CachedPlus1 == 0 {
		return 0, false
	}
	return e.CachedPlus1 - 1, true
}

// AppendFrames begins a message of frames of one worker's life; frames follow by [AppendFrame].
func AppendFrames(dst []byte, worker string, n Instance) []byte {
	dst = begin(dst, KindFrames)
	dst = putString(dst, 1, worker)
	return putFix64(dst, 2, uint64(n))
}

// AppendFrame adds one frame to a message begun by AppendFrames.
func AppendFrame(dst []byte, f *Frame) []byte { return putMessage(dst, 3, f.append) }

// FrameOverhead bounds what a frame adds to its data, its head and its end apart.
const FrameOverhead = 48

// ParseFrames calls each for every frame of a message, in order. Data are slices of msg, and the frame itself is
// reused between calls; its Headers and End are not. Returning false stops. Frames before a malformed one are delivered.
func ParseFrames(msg []byte, each func(worker []byte, n Instance, f *Frame) bool) error {
	b, err := body(msg, KindFrames)
	r := reader{buf: b, err: err}
	var worker []byte
	var n Instance
	var f Frame
	for count := 0; r.next(); {
		switch r.field {
		case 1:
			worker = r.bytes(MaxName)
		case 2:
			n = Instance(r.fix64())
		case 3:
			if !r.bounded(count, MaxFrames) {
				break
			}
			count++
			f = Frame{}
			f.parse(&r)
			if r.err == nil && !each(worker, n, &f) {
				return nil
			}
		}
	}
	return r.err
}

func (f *Frame) append(dst []byte) []byte {
	dst = putUint(dst, 1, uint64(f.Type))
	dst = putUint(dst, 2, f.Stream)
	dst = putUint(dst, 3, uint64(f.Attempt))
	dst = putUint(dst, 4, f.Seq)
	dst = putUint(dst, 5, uint64(f.Status))
	dst = putHeaders(dst, 6, f.Headers)
	dst = putBytes(dst, 7, f.Data)
	if f.End != nil {
		dst = putMessage(dst, 8, f.End.append)
	}
	return dst
}

func (f *Frame) parse(outer *reader) {
	r, hb := outer.enter(), 0
	for r.next() {
		switch r.field {
		case 1:
			f.Type = FrameType(r.uint8())
		case 2:
			f.Stream = r.uint()
		case 3:
			f.Attempt = r.uint32()
		case 4:
			f.Seq = r.uint()
		case 5:
			f.Status = r.uint32()
		case 6:
			f.Headers = readHeader(&r, f.Headers, &hb)
		case 7:
			f.Data = r.bytes(len(outer.data))
		case 8:
			if r.want(typeBytes) {
				f.End = new(End)
				f.End.parse(&r)
			}
		}
	}
	if r.err == nil && (f.Type < FrameAccept || f.Type > FrameEnd || f.Type == FrameEnd && f.End == nil || f.Type != FrameEnd && f.End != nil) {
		r.fail("frame type %d", f.Type)
	}
	outer.leave(&r)
}

func (e *End) append(dst []byte) []byte {
	dst = putUint(dst, 1, uint64(e.Code))
	dst = putString(dst, 2, e.Message)
	dst = putUint(dst, 3, uint64(e.RetryAfterMillis))
	dst = putUint(dst, 4, uint64(e.Prompt))
	dst = putUint(dst, 5, uint64(e.Completion))
	dst = putUint(dst, 6, uint64(e.CachedPlus1))
	dst = putUint(dst, 7, e.TTFTMicros)
	dst = putUint(dst, 8, e.TotalMicros)
	dst = putString(dst, 9, e.Finish)
	dst = putString(dst, 10, e.WeightVersion)
	return putBool(dst, 11, e.Begun)
}

func (e *End) parse(outer *reader) {
	r := outer.enter()
	for r.next() {
		switch r.field {
		case 1:
			e.Code = readCode(&r)
		case 2:
			e.Message = r.string(MaxText)
		case 3:
			e.RetryAfterMillis = r.uint32()
		case 4:
			e.Prompt = r.uint32()
		case 5:
			e.Completion = r.uint32()
		case 6:
			e.CachedPlus1 = r.uint32()
		case 7:
			e.TTFTMicros = r.uint()
		case 8:
			e.TotalMicros = r.uint()
		case 9:
			e.Finish = r.string(MaxName)
		case 10:
			e.WeightVersion = r.string(MaxName)
		case 11:
			e.Begun = r.bool()
		}
	}
	outer.leave(&r)
}
