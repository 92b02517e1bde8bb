package wire

import (
	"fmt"
	"strings"
)

// QueueGroup is the one queue-group name of all schedulers everywhere: the bus prefers local members only inside
// one group.
const QueueGroup = "sched"

// Event kinds: the fourth token of an event subject after the version.
const (
	EventAssigned = "assigned"
	EventFinished = "finished"
	EventLoad     = "load"
	EventUp       = "up"
	EventDown     = "down"
)

// Subjects builds subject names under one prefix. The zero value uses "rb".
type Subjects struct{ Prefix string }

func (s Subjects) root() string {
	if s.Prefix == "" {
		return "rb.v1."
	}
	return s.Prefix + ".v1."
}

// Sched is where a pool's schedulers are asked.
func (s Subjects) Sched(pool string) string { return s.root() + "sched." + Token(pool) }

// SchedAt is where one scheduler of a pool is asked: for whoever has heard nothing from the group.
func (s Subjects) SchedAt(pool, scheduler string) string {
	return s.Sched(pool) + "." + Token(scheduler)
}

// Work is where one life of a worker hears requests.
func (s Subjects) Work(worker string, n Instance) string {
	return s.root() + "work." + Token(worker) + "." + n.String()
}

// Ctl is where a worker hears control messages.
func (s Subjects) Ctl(worker string) string { return s.root() + "ctl." + Token(worker) }

// Out is where a worker sends frames to a gateway.
func (s Subjects) Out(gateway, worker string, shard int) string {
	return fmt.Sprintf("%sout.%s.%s.%d", s.root(), Token(gateway), Token(worker), shard)
}

// OutAll is what a gateway listens to.
func (s Subjects) OutAll(gateway string) string { return s.root() + "out." + Token(gateway) + ".*.*" }

// Event is where publisher tells schedulers what happened.
func (s Subjects) Event(region, pool, kind, publisher string) string {
	return s.root() + "ev." + Token(region) + "." + Token(pool) + "." + kind + "." + Token(publisher)
}

// EventsOf matches one kind of event of every region, pool and publisher.
func (s Subjects) EventsOf(kind string) string { return s.root() + "ev.*.*." + kind + ".*" }

// EventsBy matches one kind of event of one publisher, in every region and pool.
func (s Subjects) EventsBy(kind, publisher string) string {
	return s.root() + "ev.*.*." + kind + "." + Token(publisher)
}

// Abort is where every gateway hears that requests are to end; see [Abort].
func (s Subjects) Abort() string { return s.root() + "abort" }

// Roll is where adapters are asked to say that they are there.
func (s Subjects) Roll() string { return s.root() + "roll" }

// Burst is where a request waits for a worker.
func (s Subjects) Burst(region, pool, priority string, id RequestID) string {
	return s.root() + "burst." + Token(region) + "." + Token(pool) + "." + Token(priority) + "." + id.String()
}

// Token makes any name one subject token of [A-Za-z0-9_-]. It is injective: other bytes become _XX, an underscore
// becomes two, the empty name becomes a single one.
func Token(name string) string {
	if name == "" {
		return "_"
	}
	plain := true
	for i := range len(name) {
		if !plainByte(name[i]) {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(name) + 8)
	for i := range len(name) {
		switch c := name[i]; {
		case plainByte(c):
			b.WriteByte(c)
		case c == '_':
			b.WriteString("__")
		default:
			b.WriteByte('_')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
}

// Untoken reverses [Token].
func Untoken(tok string) (string, error) {
	if tok == "_" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(tok); i++ {
		switch c := tok[i]; {
		case plainByte(c):
			b.WriteByte(c)
		case c == '_' && i+1 < len(tok) && tok[i+1] == '_':
			b.WriteByte('_')
			i++
		case c == '_' && i+2 < len(tok):
			hi, lo := unhex(tok[i+1]), unhex(tok[i+2])
			if hi < 0 || lo < 0 {
				return "", fmt.Errorf("subject token %.80q: bad escape at %d", tok, i)
			}
			b.WriteByte(byte(hi<<4 | lo))
			i += 2
		default:
			return "", fmt.Errorf("subject token %.80q: bad byte at %d", tok, i)
		}
	}
	if out := b.String(); Token(out) == tok {
		return out, nil
	}
	return "", fmt.Errorf("subject token %.80q: not in its one spelling", tok)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
