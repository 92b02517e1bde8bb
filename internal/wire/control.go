package wire

// A Mark is a position in a stream.
type Mark struct {
	Stream uint64 // 1
	Seq    uint64 // 2
}

func putMarks(dst []byte, field int, ms []Mark) []byte {
	for _, m := range ms {
		dst = putMessage(dst, field, func(d []byte) []byte { return putUint(putUint(d, 1, m.Stream), 2, m.Seq) })
	}
	return dst
}

func readMark(r *reader, ms []Mark) []Mark {
	if !r.bounded(len(ms), MaxStreams) {
		return ms
	}
	var m Mark
	in := r.enter()
	for in.next() {
		switch in.field {
		case 1:
			m.Stream = in.uint()
		case 2:
			m.Seq = in.uint()
		}
	}
	r.leave(&in)
	return append(ms, m)
}

// A Ping tells a gateway which of its streams an adapter has open, with the last frame sent of each. It is sent a
// few times a second while there is any, with the adapter's own inbox as reply.
type Ping struct {
	Worker   string   // 1
	Instance Instance // 2
	Sent     []Mark   // 3
}

// AppendTo writes the ping.
func (m *Ping) AppendTo(dst []byte) []byte {
	dst = putString(begin(dst, KindPing), 1, m.Worker)
	return putMarks(putFix64(dst, 2, uint64(m.Instance)), 3, m.Sent)
}

// ParsePing reads what AppendTo wrote.
func ParsePing(msg []byte) (m Ping, err error) {
	b, err := body(msg, KindPing)
	r := reader{buf: b, err: err}
	for r.next() {
		switch r.field {
		case 1:
			m.Worker = r.string(MaxName)
		case 2:
			m.Instance = Instance(r.fix64())
		case 3:
			m.Sent = readMark(&r, m.Sent)
		}
	}
	return m, r.err
}

// A Pong answers a Ping: what has been consumed of each stream, and which the gateway does not know (any more):
// those are to be aborted.
type Pong struct {
	Gateway string   // 1
	Through []Mark   // 2
	Unknown []uint64 // 3: each a nested message with the stream as field 1
}

// AppendTo writes the pong.
func (m *Pong) AppendTo(dst []byte) []byte {
	dst = putMarks(putString(begin(dst, KindPong), 1, m.Gateway), 2, m.Through)
	for _, s := range m.Unknown {
		dst = putMessage(dst, 3, func(d []byte) []byte { return putUint(d, 1, s) })
	}
	return dst
}

// ParsePong reads what AppendTo wrote.
func ParsePong(msg []byte) (m Pong, err error) {
	b, err := body(msg, KindPong)
	r := reader{buf: b, err: err}
	for r.next() {
		switch r.field {
		case 1:
			m.Gateway = r.string(MaxName)
		case 2:
			m.Through = readMark(&r, m.Through)
		case 3:
			if r.bounded(len(m.Unknown), MaxStreams) {
				var s uint64
				in := r.enter()
				for in.next() {
					if in.field == 1 {
						s = in.uint()
					}
				}
				r.leave(&in)
				m.Unknown = append(m.Unknown, s)
			}
		}
	}
	return m, r.err
}

// A Cancel ends an attempt that its gateway has given up. It may overtake the dispatch, so an adapter remembers it.
type Cancel struct {
	Gateway  string   // 1
	Stream   uint64   // 2
	Instance Instance // 3
	Code     Code     // 4: why
}

// AppendTo writes the cancel.
func (m *Cancel) AppendTo(dst []byte) []byte {
	dst = putString(begin(dst, KindCancel), 1, m.Gateway)
	dst = putUint(dst, 2, m.Stream)
	dst = putFix64(dst, 3, uint64(m.Instance))
	return putUint(dst, 4, uint64(m.Code))
}

// ParseCancel reads what AppendTo wrote.
func ParseCancel(msg []byte) (m Cancel, err error) {
	b, err := body(msg, KindCancel)
	r := reader{buf: b, err: err}
	for r.next() {
		switch r.field {
		case 1:
			m.Gateway = r.string(MaxName)
		case 2:
			m.Stream = r.uint()
		case 3:
			m.Instance = Instance(r.fix64())
		case 4:
			m.Code = readCode(&r)
		}
	}
	return m, r.err
}

// An Ack opens the window of streams whose client has taken bytes.
type Ack struct {
	Gateway string // 1
	Through []Mark // 2
}

// AppendTo writes the acknowledgement.
func (m *Ack) AppendTo(dst []byte) []byte {
	return putMarks(putString(begin(dst, KindAck), 1, m.Gateway), 2, m.Through)
}

// ParseAck reads what AppendTo wrote.
func ParseAck(msg []byte) (m Ack, err error) {
	b, err := body(msg, KindAck)
	r := reader{buf: b, err: err}
	for r.next() {
		switch r.field {
		case 1:
			m.Gateway = r.string(MaxName)
		case 2:
			m.Through = readMark(&r, m.Through)
		}
	}
	return m, r.err
}

// A Resend asks for the frames of a stream once more, from a number on: some did not arrive.
type Resend struct {
	Gateway string // 1
	Stream  uint64 // 2
	From    uint64 // 3
}

// AppendTo writes the request.
func (m *Resend) AppendTo(dst []byte) []byte {
	return putUint(putUint(putString(begin(dst, KindResend), 1, m.Gateway), 2, m.Stream), 3, m.From)
}

// ParseResend reads what AppendTo wrote.
func ParseResend(msg []byte) (m Resend, err error) {
	b, err := body(msg, KindResend)
	r := reader{buf: b, err: err}
	for r.next() {
		switch r.field {
		case 1:
			m.Gateway = r.string(MaxName)
		case 2:
			m.Stream = r.uint()
		case 3:
			m.From = r.uint()
		}
	}
	return m, r.err
}
