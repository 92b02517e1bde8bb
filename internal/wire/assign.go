package wire

// Priority orders requests that wait: Interactive before Default before Batch. The numbers are no ranks: zero has to
// be the default.
type Priority uint8

// Priorities.
const (
	Default     Priority = 0
	Interactive Priority = 1
	Batch       Priority = 2
)

// Flags say what a request needs of a worker and how it may be carried on after a failure.
type Flags uint32

// Flags.
const (
	FlagStream     Flags = 1 << iota // the client reads a stream
	FlagStructured                   // constrained output: no resume by text
	FlagLogprobs                     // log probabilities asked for
	FlagTools                        // tools offered
	FlagMultimodal                   // images, audio or video in the prompt
	FlagBatch                        // several prompts in one request
	FlagUsage                        // the client asked for usage in its stream
	FlagDetails                      // the client asked for cached token details
	FlagNative                       // one of SGLang's own routes: no other engine has it
	FlagByLoad                       // no generation: load alone decides, and its end teaches nothing about prompts and outputs
	FlagBound                        // the session lives on one engine, the one that opened it, or Engine: no other will do
	FlagOpaque                       // the body is no JSON: it is passed on as it is
	FlagLight                        // the engine's GPU has next to nothing to do with it: it takes no slot
	FlagKept                         // it asks for what one engine keeps: one that drains answers it too
	FlagOpens                        // it opens the session, which is then where it was opened
)

// A Digest stands for one prompt: chained keyed hashes of its prefix blocks. See package prefix for how it is made.
type Digest struct {
	KeyID  uint32   // 1: which secret keyed the hashes
	Ladder uint8    // 2: which ladder of block sizes
	Bytes  uint64   // 3: length of the canonical prompt
	Hashes []uint64 // 4: packed fixed64, one per complete block
}

// An Outcome is how an earlier attempt of the same request ended.
type Outcome struct {
	Attempt  uint32   // 1
	Worker   string   // 2
	Instance Instance // 3
	Code     Code     // 4
}

// An AssignRequest asks a scheduler for a worker. It carries no prompt.
type AssignRequest struct {
	Request         RequestID // 1
	Attempt         uint32    // 2: the attempt that the answer is for, from 1
	Gateway         string    // 3
	Pool            string    // 4
	Model           string    // 5: as the client named it
	LoRA            string    // 6
	Tenant          string    // 7
	Priority        Priority  // 8
	RemainingMillis uint32    // 9: until the deadline; never a wall-clock time
	Session         string    // 10: session or routing key
	Salt            uint64    // 11: hash of the client's cache salt; 0 = none
	MaxTokens       uint32    // 12: 0 = unknown
	N               uint32    // 13: answers asked for; 0 = 1
	Flags           Flags     // 14
	WeightVersion   string    // 15: only workers with this version; empty = any
	Regions         []string  // 16: only these regions; empty = any
	Fingerprint     uint64    // 17: keyed hash of the whole body (poison rule)
	BodyBytes       uint64    // 18
	InputTokens     uint32    // 19: when the client sent ids; 0 = unknown
	Digests         []Digest  // 20
	History         []Outcome // 21: earlier attempts, oldest first
	TraceParent     string    // 22
	TraceState      string    // 23
	Engine          string    // 24: only workers of this engine; empty = any
	RankPlus1       uint32    // 25: only workers of this data-parallel rank, + 1; 0 = any
	EnginePriority  int32     // 26: SGLang's own field priority, by which some engines evict
}

// AppendTo writes the request.
func (m *AssignRequest) AppendTo(dst []byte) []byte {
	dst = begin(dst, KindAssignRequest)
	dst = putID(dst, 1, m.Request)
	dst = putUint(dst, 2, uint64(m.Attempt))
	dst = putString(dst, 3, m.Gateway)
	dst = putString(dst, 4, m.Pool)
	dst = putString(dst, 5, m.Model)
	dst = putString(dst, 6, m.LoRA)
	dst = putString(dst, 7, m.Tenant)
	dst = putUint(dst, 8, uint64(m.Priority))
	dst = putUint(dst, 9, uint64(m.RemainingMillis))
	dst = putString(dst, 10, m.Session)
	dst = putFix64(dst, 11, m.Salt)
	dst = putUint(dst, 12, uint64(m.MaxTokens))
	dst = putUint(dst, 13, uint64(m.N))
	dst = putUint(dst, 14, uint64(m.Flags))
	dst = putString(dst, 15, m.WeightVersion)
	dst = putStrings(dst, 16, m.Regions)
	dst = putFix64(dst, 17, m.Fingerprint)
	dst = putUint(dst, 18, m.BodyBytes)
	dst = putUint(dst, 19, uint64(m.InputTokens))
	dst = putDigests(dst, 20, m.Digests)
	for i := range m.History {
		dst = putMessage(dst, 21, m.History[i].append)
	}
	dst = putString(dst, 22, m.TraceParent)
	dst = putString(dst, 23, m.TraceState)
	dst = putString(dst, 24, m.Engine)
	dst = putUint(dst, 25, uint64(m.RankPlus1))
	return putInt(dst, 26, m.EnginePriority)
}

// ParseAssignRequest reads what AppendTo wrote.
func ParseAssignRequest(msg []byte) (*AssignRequest, error) {
	b, err := body(msg, KindAssignRequest)
	if err != nil {
		return nil, err
	}
	m, r, hashes := new(AssignRequest), reader{buf: b}, 0
	for r.next() {
		switch r.field {
		case 1:
			m.Request = r.id()
		case 2:
			m.Attempt = r.uint32()
		case 3:
			m.Gateway = r.string(MaxName)
		case 4:
			m.Pool = r.string(MaxName)
		case 5:
			m.Model = r.string(MaxName)
		case 6:
			m.LoRA = r.string(MaxName)
		case 7:
			m.Tenant = r.string(MaxName)
		case 8:
			m.Priority = Priority(r.uint8())
		case 9:
			m.RemainingMillis = r.uint32()
		case 10:
			m.Session = r.string(MaxName)
		case 11:
			m.Salt = r.fix64()
		case 12:
			m.MaxTokens = r.uint32()
		case 13:
			m.N = r.uint32()
		case 14:
			m.Flags = Flags(r.uint32())
		case 15:
			m.WeightVersion = r.string(MaxName)
		case 16:
			if r.bounded(len(m.Regions), MaxRegions) {
				m.Regions = append(m.Regions, r.string(MaxName))
			}
		case 17:
			m.Fingerprint = r.fix64()
		case 18:
			m.BodyBytes = r.uint()
		case 19:
			m.InputTokens = r.uint32()
		case 20:
			m.Digests = readDigest(&r, m.Digests, &hashes)
		case 21:
			if r.bounded(len(m.History), MaxHistory) {
				m.History = append(m.History, Outcome{})
				m.History[len(m.History)-1].parse(&r)
			}
		case 22:
			m.TraceParent = r.string(MaxName)
		case 23:
			m.TraceState = r.string(2 * MaxName)
		case 24:
			m.Engine = r.string(MaxName)
		case 25:
			m.RankPlus1 = r.uint32()
		case 26:
			m.EnginePriority = r.int32()
		}
	}
	return m, r.err
}

func putDigests(dst []byte, field int, ds []Digest) []byte {
	for i := range ds {
		dst = putMessage(dst, field, ds[i].append)
	}
	return dst
}

func (d *Digest) append(dst []byte) []byte {
	dst = putUint(dst, 1, uint64(d.KeyID))
	dst = putUint(dst, 2, uint64(d.Ladder))
	dst = putUint(dst, 3, d.Bytes)
	return putHashes(dst, 4, d.Hashes)
}

// readDigest appends one digest. hashes counts those of the whole message, against MaxHashes.
func readDigest(r *reader, ds []Digest, hashes *int) []Digest {
	if !r.bounded(len(ds), MaxDigests) {
		return ds
	}
	ds = append(ds, Digest{})
	d := &ds[len(ds)-1]
	in := r.enter()
	for in.next() {
		switch in.field {
		case 1:
			d.KeyID = in.uint32()
		case 2:
			d.Ladder = in.uint8()
		case 3:
			d.Bytes = in.uint()
		case 4:
			d.Hashes = readHashes(&in, d.Hashes, hashes)
		}
	}
	r.leave(&in)
	return ds
}

func (o *Outcome) append(dst []byte) []byte {
	dst = putUint(dst, 1, uint64(o.Attempt))
	dst = putString(dst, 2, o.Worker)
	dst = putFix64(dst, 3, uint64(o.Instance))
	return putUint(dst, 4, uint64(o.Code))
}

func (o *Outcome) parse(outer *reader) {
	r := outer.enter()
	for r.next() {
		switch r.field {
		case 1:
			o.Attempt = r.uint32()
		case 2:
			o.Worker = r.string(MaxName)
		case 3:
			o.Instance = Instance(r.fix64())
		case 4:
			o.Code = readCode(&r)
		}
	}
	outer.leave(&r)
}

func readCode(r *reader) Code {
	v := r.uint()
	if v > 1<<16-1 {
		r.fail("field %d is no code", r.field)
	}
	return Code(v)
}

// A Verdict is what a scheduler decided.
type Verdict uint8

// Verdicts.
const (
	Placed  Verdict = 1 // Placements say where
	Held    Verdict = 2 // interim: no room yet, still looking; another reply follows
	Queue   Verdict = 3 // no room for longer than the hold: to the burst queue
	Refused Verdict = 4 // Code says why
)

// Role is what a placement is for.
type Role uint8

// Roles. Today every answer holds one placement with the role Whole.
const (
	Whole   Role = 0 // prefill and decode
	Prefill Role = 1
	Decode  Role = 2
)

// An Edit is a member that the adapter sets in the engine's request.
type Edit struct {
	Key   string // 1
	Value []byte // 2: JSON
}

// A Placement is one worker that is to run an attempt, and the lease that counts it there.
type Placement struct {
	Role        Role     // 1
	Worker      string   // 2
	Instance    Instance // 3
	Region      string   // 4
	Lease       uint64   // 5: the scheduler's number of the decision
	LeaseMillis uint32   // 6: how long the lease lives unless the adapter confirms it
	Prompt      uint32   // 7: tokens of the prompt, as estimated
	Predicted   uint32   // 8: tokens of it believed cached on the worker
	Edits       []Edit   // 9
}

// An AssignReply answers an AssignRequest: any number of Held, then one other verdict.
type AssignReply struct {
	Request          RequestID   // 1
	Attempt          uint32      // 2
	Scheduler        string      // 3
	Verdict          Verdict     // 4
	Code             Code        // 5
	RetryAfterMillis uint32      // 6: with Refused
	Message          string      // 7: for people
	Placements       []Placement // 8
}

// AppendTo writes the reply.
func (m *AssignReply) AppendTo(dst []byte) []byte {
	dst = begin(dst, KindAssignReply)
	dst = putID(dst, 1, m.Request)
	dst = putUint(dst, 2, uint64(m.Attempt))
	dst = putString(dst, 3, m.Scheduler)
	dst = putUint(dst, 4, uint64(m.Verdict))
	dst = putUint(dst, 5, uint64(m.Code))
	dst = putUint(dst, 6, uint64(m.RetryAfterMillis))
	dst = putString(dst, 7, m.Message)
	for i := range m.Placements {
		dst = putMessage(dst, 8, m.Placements[i].append)
	}
	return dst
}

// ParseAssignReply reads what AppendTo wrote.
func ParseAssignReply(msg []byte) (*AssignReply, error) {
	b, err := body(msg, KindAssignReply)
	if err != nil {
		return nil, err
	}
	m, r := new(AssignReply), reader{buf: b}
	for r.next() {
		switch r.field {
		case 1:
			m.Request = r.id()
		case 2:
			m.Attempt = r.uint32()
		case 3:
			m.Scheduler = r.string(MaxName)
		case 4:
			m.Verdict = Verdict(r.uint8())
		case 5:
			m.Code = readCode(&r)
		case 6:
			m.RetryAfterMillis = r.uint32()
		case 7:
			m.Message = r.string(MaxText)
		case 8:
			if r.bounded(len(m.Placements), MaxPlacements) {
				m.Placements = append(m.Placements, Placement{})
				m.Placements[len(m.Placements)-1].parse(&r)
			}
		}
	}
	return m, r.err
}

func (p *Placement) append(dst []byte) []byte {
	dst = putUint(dst, 1, uint64(p.Role))
	dst = putString(dst, 2, p.Worker)
	dst = putFix64(dst, 3, uint64(p.Instance))
	dst = putString(dst, 4, p.Region)
	dst = putUint(dst, 5, p.Lease)
	dst = putUint(dst, 6, uint64(p.LeaseMillis))
	dst = putUint(dst, 7, uint64(p.Prompt))
	dst = putUint(dst, 8, uint64(p.Predicted))
	return putEdits(dst, 9, p.Edits)
}

func (p *Placement) parse(outer *reader) {
	r := outer.enter()
	for r.next() {
		switch r.field {
		case 1:
			p.Role = Role(r.uint8())
		case 2:
			p.Worker = r.string(MaxName)
		case 3:
			p.Instance = Instance(r.fix64())
		case 4:
			p.Region = r.string(MaxName)
		case 5:
			p.Lease = r.uint()
		case 6:
			p.LeaseMillis = r.uint32()
		case 7:
			p.Prompt = r.uint32()
		case 8:
			p.Predicted = r.uint32()
		case 9:
			p.Edits = readEdit(&r, p.Edits)
		}
	}
	outer.leave(&r)
}

func putEdits(dst []byte, field int, es []Edit) []byte {
	for i := range es {
		dst = putMessage(dst, field, func(d []byte) []byte {
			return putBytes(putString(d, 1, es[i].Key), 2, es[i].Value)
		})
	}
	return dst
}

func readEdit(r *reader, es []Edit) []Edit {
	if !r.bounded(len(es), MaxEdits) {
		return es
	}
	var e Edit
	in := r.enter()
	for in.next() {
		switch in.field {
		case 1:
			e.Key = in.string(MaxName)
		case 2:
			e.Value = append([]byte(nil), in.bytes(MaxText)...)
		}
	}
	r.leave(&in)
	return append(es, e)
}
