package wire

// A Header is one HTTP header field. Its name is in canonical form.
type Header struct {
	Name  string // 1
	Value string // 2
}

// A Point is where one top-level member of a body stands, so that an adapter can edit it without scanning.
// Offsets are bytes from the start of the body.
type Point struct {
	Key      string // 1
	KeyStart uint64 // 2: the quote that opens the key
	Start    uint64 // 3: first byte of the value
	End      uint64 // 4: first byte after the value
}

// A Dispatch brings one attempt to a worker: everything but the parts of a body that do not fit.
type Dispatch struct {
	Request         RequestID // 1
	Attempt         uint32    // 2
	Instance        Instance  // 3: the life of the worker that is meant
	Stream          uint64    // 4: the gateway's number for this attempt's frames
	Gateway         string    // 5
	Shard           uint32    // 6: last token of the out subject
	Scheduler       string    // 7: who decided
	Lease           uint64    // 8
	Pool            string    // 9
	Model           string    // 10
	Tenant          string    // 11
	Label           string    // 12: the client's x-request-id
	Method          string    // 13
	Path            string    // 14
	Headers         []Header  // 15: forwarded to the engine
	RemainingMillis uint32    // 16: until the deadline
	Window          uint32    // 17: bytes of the answer that may be unacknowledged
	Flags           Flags     // 18
	Prompt          uint32    // 19: tokens, as estimated
	Predicted       uint32    // 20: tokens believed cached
	Edits           []Edit    // 21: the scheduler's
	Open            uint64    // 22: offset of the body's opening brace
	Empty           bool      // 23: the body's object has no member
	Points          []Point   // 24
	N               uint32    // 25: answers asked for
	Prompts         uint32    // 26: prompts in the body; more than one is a batch
	Size            uint64    // 27: bytes of the whole body
	Body            []byte    // 28: the body, or its first part when it is shorter than Size
}

// AppendTo writes the dispatch.
func (m *Dispatch) AppendTo(dst []byte) []byte {
	dst = begin(dst, KindDispatch)
	dst = putID(dst, 1, m.Request)
	dst = putUint(dst, 2, uint64(m.Attempt))
	dst = putFix64(dst, 3, uint64(m.Instance))
	dst = putUint(dst, 4, m.Stream)
	dst = putString(dst, 5, m.Gateway)
	dst = putUint(dst, 6, uint64(m.Shard))
	dst = putString(dst, 7, m.Scheduler)
	dst = putUint(dst, 8, m.Lease)
	dst = putString(dst, 9, m.Pool)
	dst = putString(dst, 10, m.Model)
	dst = putString(dst, 11, m.Tenant)
	dst = putString(dst, 12, m.Label)
	dst = putString(dst, 13, m.Method)
	dst = putString(dst, 14, m.Path)
	dst = putHeaders(dst, 15, m.Headers)
	dst = putUint(dst, 16, uint64(m.RemainingMillis))
	dst = putUint(dst, 17, uint64(m.Window))
	dst = putUint(dst, 18, uint64(m.Flags))
	dst = putUint(dst, 19, uint64(m.Prompt))
	dst = putUint(dst, 20, uint64(m.Predicted))
	dst = putEdits(dst, 21, m.Edits)
	dst = putUint(dst, 22, m.Open)
	dst = putBool(dst, 23, m.Empty)
	for i := range m.Points {
		dst = putMessage(dst, 24, m.Points[i].append)
	}
	dst = putUint(dst, 25, uint64(m.N))
	dst = putUint(dst, 26, uint64(m.Prompts))
	dst = putUint(dst, 27, m.Size)
	return putBytes(dst, 28, m.Body)
}

// ParseDispatch reads what AppendTo wrote. Body is a slice of msg.
func ParseDispatch(msg []byte) (*Dispatch, error) {
	b, err := body(msg, KindDispatch)
	if err != nil {
		return nil, err
	}
	m, r, hb := new(Dispatch), reader{buf: b}, 0
	for r.next() {
		switch r.field {
		case 1:
			m.Request = r.id()
		case 2:
			m.Attempt = r.uint32()
		case 3:
			m.Instance = Instance(r.fix64())
		case 4:
			m.Stream = r.uint()
		case 5:
			m.Gateway = r.string(MaxName)
		case 6:
			m.Shard = r.uint32()
		case 7:
			m.Scheduler = r.string(MaxName)
		case 8:
			m.Lease = r.uint()
		case 9:
			m.Pool = r.string(MaxName)
		case 10:
			m.Model = r.string(MaxName)
		case 11:
			m.Tenant = r.string(MaxName)
		case 12:
			m.Label = r.string(MaxName)
		case 13:
			m.Method = r.string(MaxName)
		case 14:
			m.Path = r.string(MaxPath)
		case 15:
			m.Headers = readHeader(&r, m.Headers, &hb)
		case 16:
			m.RemainingMillis = r.uint32()
		case 17:
			m.Window = r.uint32()
		case 18:
			m.Flags = Flags(r.uint32())
		case 19:
			m.Prompt = r.uint32()
		case 20:
			m.Predicted = r.uint32()
		case 21:
			m.Edits = readEdit(&r, m.Edits)
		case 22:
			m.Open = r.uint()
		case 23:
			m.Empty = r.bool()
		case 24:
			if r.bounded(len(m.Points), MaxPoints) {
				m.Points = append(m.Points, Point{})
				m.Points[len(m.Points)-1].parse(&r)
			}
		case 25:
			m.N = r.uint32()
		case 26:
			m.Prompts = r.uint32()
		case 27:
			m.Size = r.uint()
		case 28:
			m.Body = r.bytes(len(msg))
		}
	}
	if r.err == nil && (m.Size > MaxBody || uint64(len(m.Body)) > m.Size) {
		r.fail("body of %d bytes, %d of them here", m.Size, len(m.Body))
	}
	return m, r.err
}

// Key is the attempt that the dispatch is for.
func (m *Dispatch) Key() AttemptKey {
	return AttemptKey{Request: m.Request, Attempt: m.Attempt, Instance: m.Instance}
}

func putHeaders(dst []byte, field int, hs []Header) []byte {
	for i := range hs {
		dst = putMessage(dst, field, func(d []byte) []byte {
			return putString(putString(d, 1, hs[i].Name), 2, hs[i].Value)
		})
	}
	return dst
}

// readHeader appends one header; total counts the bytes of all, as encoded.
func readHeader(r *reader, hs []Header, total *int) []Header {
	if !r.bounded(len(hs), MaxHeaders) {
		return hs
	}
	if *total += len(r.data); *total > MaxHeaderBytes {
		r.fail("headers have more than %d bytes", MaxHeaderBytes)
		return hs
	}
	var h Header
	in := r.enter()
	for in.next() {
		switch in.field {
		case 1:
			h.Name = in.string(MaxHeaderBytes)
		case 2:
			h.Value = in.string(MaxHeaderBytes)
		}
	}
	r.leave(&in)
	return append(hs, h)
}

func (p *Point) append(dst []byte) []byte {
	dst = putString(dst, 1, p.Key)
	dst = putUint(dst, 2, p.KeyStart)
	dst = putUint(dst, 3, p.Start)
	return putUint(dst, 4, p.End)
}

func (p *Point) parse(outer *reader) {
	r := outer.enter()
	for r.next() {
		switch r.field {
		case 1:
			p.Key = r.string(MaxName)
		case 2:
			p.KeyStart = r.uint()
		case 3:
			p.Start = r.uint()
		case 4:
			p.End = r.uint()
		}
	}
	outer.leave(&r)
}

// A Part is one more piece of a body. Parts of a body are sent in order on one connection, at most [PartWindow]
// bytes ahead of the adapter's acknowledgement.
type Part struct {
	Gateway  string   // 1
	Stream   uint64   // 2
	Instance Instance // 3
	Offset   uint64   // 4
	Body     []byte   // 5
}

// AppendTo writes the part.
func (m *Part) AppendTo(dst []byte) []byte {
	dst = begin(dst, KindPart)
	dst = putString(dst, 1, m.Gateway)
	dst = putUint(dst, 2, m.Stream)
	dst = putFix64(dst, 3, uint64(m.Instance))
	dst = putUint(dst, 4, m.Offset)
	return putBytes(dst, 5, m.Body)
}

// ParsePart reads what AppendTo wrote. Body is a slice of msg.
func ParsePart(msg []byte) (*Part, error) {
	b, err := body(msg, KindPart)
	if err != nil {
		return nil, err
	}
	m, r := new(Part), reader{buf: b}
	for r.next() {
		switch r.field {
		case 1:
			m.Gateway = r.string(MaxName)
		case 2:
			m.Stream = r.uint()
		case 3:
			m.Instance = Instance(r.fix64())
		case 4:
			m.Offset = r.uint()
		case 5:
			m.Body = r.bytes(MaxPart)
		}
	}
	if r.err == nil && m.Offset > MaxBody-uint64(len(m.Body)) {
		r.fail("part of %d bytes at %d", len(m.Body), m.Offset)
	}
	return m, r.err
}

// A PartAck says how much of a body has arrived. It is sent to the reply subject of the dispatch.
type PartAck struct {
	Stream   uint64 // 1
	Received uint64 // 2: bytes from the start, without a gap
}

// AppendTo writes the acknowledgement.
func (m *PartAck) AppendTo(dst []byte) []byte {
	return putUint(putUint(begin(dst, KindPartAck), 1, m.Stream), 2, m.Received)
}

// ParsePartAck reads what AppendTo wrote.
func ParsePartAck(msg []byte) (m PartAck, err error) {
	b, err := body(msg, KindPartAck)
	r := reader{buf: b, err: err}
	for r.next() {
		switch r.field {
		case 1:
			m.Stream = r.uint()
		case 2:
			m.Received = r.uint()
		}
	}
	return m, r.err
}
