package wire

// Stamp is what every event begins with. Seq counts the events of one publisher's life without a gap, so a listener
// knows when it has missed one. At is the publisher's wall clock, for people who read the log; nothing decides by it.
type Stamp struct {
	Publisher string // 1
	Seq       uint64 // 2
	AtMicros  uint64 // 3: microseconds since 1970
}

func (s *Stamp) append(dst []byte) []byte {
	return putUint(putUint(putString(dst, 1, s.Publisher), 2, s.Seq), 3, s.AtMicros)
}

// read takes the fields 1 to 3 and tells whether the current field was one of them.
func (s *Stamp) read(r *reader) bool {
	switch r.field {
	case 1:
		s.Publisher = r.string(MaxName)
	case 2:
		s.Seq = r.uint()
	case 3:
		s.AtMicros = r.uint()
	default:
		return false
	}
	return true
}

// Assigned says that a scheduler has placed an attempt: peers count the lease and insert the path.
type Assigned struct {
	Stamp                    // 1–3
	Region         string    // 4
	Pool           string    // 5
	Request        RequestID // 6
	Attempt        uint32    // 7
	Worker         string    // 8
	Instance       Instance  // 9
	Lease          uint64    // 10
	LeaseMillis    uint32    // 11
	Model          string    // 12
	Tenant         string    // 13
	Session        string    // 14
	Priority       Priority  // 15
	Policy         string    // 16
	Prompt         uint32    // 17: tokens, as estimated
	Predicted      uint32    // 18: tokens believed cached
	MaxTokens      uint32    // 19
	Digests        []Digest  // 20
	Fingerprint    uint64    // 21: of the request's body
	EnginePriority int32     // 22: as in AssignRequest
	Flags          Flags     // 23: as in AssignRequest
}

// AppendTo writes the event.
func (m *Assigned) AppendTo(dst []byte) []byte {
	dst = m.Stamp.append(begin(dst, KindAssigned))
	dst = putString(dst, 4, m.Region)
	dst = putString(dst, 5, m.Pool)
	dst = putID(dst, 6, m.Request)
	dst = putUint(dst, 7, uint64(m.Attempt))
	dst = putString(dst, 8, m.Worker)
	dst = putFix64(dst, 9, uint64(m.Instance))
	dst = putUint(dst, 10, m.Lease)
	dst = putUint(dst, 11, uint64(m.LeaseMillis))
	dst = putString(dst, 12, m.Model)
	dst = putString(dst, 13, m.Tenant)
	dst = putString(dst, 14, m.Session)
	dst = putUint(dst, 15, uint64(m.Priority))
	dst = putString(dst, 16, m.Policy)
	dst = putUint(dst, 17, uint64(m.Prompt))
	dst = putUint(dst, 18, uint64(m.Predicted))
	dst = putUint(dst, 19, uint64(m.MaxTokens))
	dst = putDigests(dst, 20, m.Digests)
	dst = putFix64(dst, 21, m.Fingerprint)
	dst = putInt(dst, 22, m.EnginePriority)
	return putUint(dst, 23, uint64(m.Flags))
}

// ParseAssigned reads what AppendTo wrote.
func ParseAssigned(msg []byte) (*Assigned, error) {
	b, err := body(msg, KindAssigned)
	if err != nil {
		return nil, err
	}
	m, r, hashes := new(Assigned), reader{buf: b}, 0
	for r.next() {
		if m.Stamp.read(&r) {
			continue
		}
		switch r.field {
		case 4:
			m.Region = r.string(MaxName)
		case 5:
			m.Pool = r.string(MaxName)
		case 6:
			m.Request = r.id()
		case 7:
			m.Attempt = r.uint32()
		case 8:
			m.Worker = r.string(MaxName)
		case 9:
			m.Instance = Instance(r.fix64())
		case 10:
			m.Lease = r.uint()
		case 11:
			m.LeaseMillis = r.uint32()
		case 12:
			m.Model = r.string(MaxName)
		case 13:
			m.Tenant = r.string(MaxName)
		case 14:
			m.Session = r.string(MaxName)
		case 15:
			m.Priority = Priority(r.uint8())
		case 16:
			m.Policy = r.string(MaxName)
		case 17:
			m.Prompt = r.uint32()
		case 18:
			m.Predicted = r.uint32()
		case 19:
			m.MaxTokens = r.uint32()
		case 20:
			m.Digests = readDigest(&r, m.Digests, &hashes)
		case 21:
			m.Fingerprint = r.fix64()
		case 22:
			m.EnginePriority = r.int32()
		case 23:
			m.Flags = Flags(r.uint32())
		}
	}
	return m, r.err
}

// Finished says that an attempt is over: its lease ends and the tree is corrected.
type Finished struct {
	Stamp                 // 1–3
	Worker      string    // 4
	Instance    Instance  // 5
	Request     RequestID // 6
	Attempt     uint32    // 7
	Lease       uint64    // 8
	QueueMicros uint64    // 9: from dispatch to the engine call
	Predicted   uint32    // 10: tokens believed cached, as dispatched
	End         End       // 11
}

// AppendTo writes the event.
func (m *Finished) AppendTo(dst []byte) []byte {
	dst = m.Stamp.append(begin(dst, KindFinished))
	dst = putString(dst, 4, m.Worker)
	dst = putFix64(dst, 5, uint64(m.Instance))
	dst = putID(dst, 6, m.Request)
	dst = putUint(dst, 7, uint64(m.Attempt))
	dst = putUint(dst, 8, m.Lease)
	dst = putUint(dst, 9, m.QueueMicros)
	dst = putUint(dst, 10, uint64(m.Predicted))
	if m.End == (End{}) {
		return dst
	}
	return putMessage(dst, 11, m.End.append)
}

// ParseFinished reads what AppendTo wrote.
func ParseFinished(msg []byte) (*Finished, error) {
	b, err := body(msg, KindFinished)
	if err != nil {
		return nil, err
	}
	m, r := new(Finished), reader{buf: b}
	for r.next() {
		if m.Stamp.read(&r) {
			continue
		}
		switch r.field {
		case 4:
			m.Worker = r.string(MaxName)
		case 5:
			m.Instance = Instance(r.fix64())
		case 6:
			m.Request = r.id()
		case 7:
			m.Attempt = r.uint32()
		case 8:
			m.Lease = r.uint()
		case 9:
			m.QueueMicros = r.uint()
		case 10:
			m.Predicted = r.uint32()
		case 11:
			if r.want(typeBytes) {
				m.End.parse(&r)
			}
		}
	}
	return m, r.err
}

// Key is the attempt that the event is about.
func (m *Finished) Key() AttemptKey {
	return AttemptKey{Request: m.Request, Attempt: m.Attempt, Instance: m.Instance}
}

// A LeaseRef names a lease in an adapter's report.
type LeaseRef struct {
	Request RequestID // 1
	Attempt uint32    // 2
}

// Load is an adapter's report of what runs on its worker. Leases names every attempt that it has admitted and not
// ended: a scheduler keeps those and releases the ones that an earlier report named and this one does not.
type Load struct {
	Stamp                 // 1–3
	Worker     string     // 4
	Instance   Instance   // 5
	Running    uint32     // 6: attempts that the engine has
	Waiting    uint32     // 7: attempts admitted, body still arriving
	Leases     []LeaseRef // 8
	UsedTokens uint64     // 9: as the engine said, 0 = not told
	Truncated  bool       // 10: more leases than MaxLeases: those not named are unknown
}

// AppendTo writes the report.
func (m *Load) AppendTo(dst []byte) []byte {
	dst = m.Stamp.append(begin(dst, KindLoad))
	dst = putString(dst, 4, m.Worker)
	dst = putFix64(dst, 5, uint64(m.Instance))
	dst = putUint(dst, 6, uint64(m.Running))
	dst = putUint(dst, 7, uint64(m.Waiting))
	for i := range m.Leases {
		dst = putMessage(dst, 8, func(d []byte) []byte {
			return putUint(putID(d, 1, m.Leases[i].Request), 2, uint64(m.Leases[i].Attempt))
		})
	}
	dst = putUint(dst, 9, m.UsedTokens)
	return putBool(dst, 10, m.Truncated)
}

// ParseLoad reads what AppendTo wrote.
func ParseLoad(msg []byte) (*Load, error) {
	b, err := body(msg, KindLoad)
	if err != nil {
		return nil, err
	}
	m, r := new(Load), reader{buf: b}
	for r.next() {
		if m.Stamp.read(&r) {
			continue
		}
		switch r.field {
		case 4:
			m.Worker = r.string(MaxName)
		case 5:
			m.Instance = Instance(r.fix64())
		case 6:
			m.Running = r.uint32()
		case 7:
			m.Waiting = r.uint32()
		case 8:
			if r.bounded(len(m.Leases), MaxLeases) {
				var l LeaseRef
				in := r.enter()
				for in.next() {
					switch in.field {
					case 1:
						l.Request = in.id()
					case 2:
						l.Attempt = in.uint32()
					}
				}
				r.leave(&in)
				m.Leases = append(m.Leases, l)
			}
		case 9:
			m.UsedTokens = r.uint()
		case 10:
			m.Truncated = r.bool()
		}
	}
	return m, r.err
}

// State is what a worker takes.
type State uint8

// States.
const (
	Ready    State = 1 // takes requests
	Draining State = 2 // finishes what it has
	Down     State = 3 // its engine does not answer
	Silent   State = 4 // it has not been heard for too long; listeners say so, no worker of itself
)

// String is the state's name in logs and answers.
func (s State) String() string {
	switch s {
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	case Down:
		return "down"
	case Silent:
		return "silent"
	}
	return "unknown"
}

// Up is an adapter's beat: this worker is there. InfoHash is that of its [WorkerInfo]; who does not know it asks on
// the worker's control subject.
type Up struct {
	Stamp               // 1–3
	Worker     string   // 4
	Instance   Instance // 5
	InfoHash   uint64   // 6
	State      State    // 7
	BeatMillis uint32   // 8: the next beat comes within this
}

// AppendTo writes the beat.
func (m *Up) AppendTo(dst []byte) []byte {
	dst = m.Stamp.append(begin(dst, KindUp))
	dst = putString(dst, 4, m.Worker)
	dst = putFix64(dst, 5, uint64(m.Instance))
	dst = putFix64(dst, 6, m.InfoHash)
	dst = putUint(dst, 7, uint64(m.State))
	return putUint(dst, 8, uint64(m.BeatMillis))
}

// ParseUp reads what AppendTo wrote.
func ParseUp(msg []byte) (m Up, err error) {
	b, err := body(msg, KindUp)
	r := reader{buf: b, err: err}
	for r.next() {
		if m.Stamp.read(&r) {
			continue
		}
		switch r.field {
		case 4:
			m.Worker = r.string(MaxName)
		case 5:
			m.Instance = Instance(r.fix64())
		case 6:
			m.InfoHash = r.fix64()
		case 7:
			m.State = State(r.uint8())
		case 8:
			m.BeatMillis = r.uint32()
		}
	}
	return m, r.err
}

// Gone is the last word of one life of a worker (subject kind down).
type Gone struct {
	Stamp             // 1–3
	Worker   string   // 4
	Instance Instance // 5
	Code     Code     // 6
}

// AppendTo writes the event.
func (m *Gone) AppendTo(dst []byte) []byte {
	dst = m.Stamp.append(begin(dst, KindDown))
	dst = putString(dst, 4, m.Worker)
	dst = putFix64(dst, 5, uint64(m.Instance))
	return putUint(dst, 6, uint64(m.Code))
}

// ParseGone reads what AppendTo wrote.
func ParseGone(msg []byte) (m Gone, err error) {
	b, err := body(msg, KindDown)
	r := reader{buf: b, err: err}
	for r.next() {
		if m.Stamp.read(&r) {
			continue
		}
		switch r.field {
		case 4:
			m.Worker = r.string(MaxName)
		case 5:
			m.Instance = Instance(r.fix64())
		case 6:
			m.Code = readCode(&r)
		}
	}
	return m, r.err
}
