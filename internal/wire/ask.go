package wire

import (
	"encoding/json"
	"fmt"
)

// An Ask is a rare question or order to an adapter on its control subject, in JSON. Its answer, a [Told] unless said
// otherwise, goes to the reply subject.
type Ask struct {
	Op     Op              `json:"op"`
	Millis int64           `json:"millis,omitempty"` // how long the adapter may take; 0: its own bound
	Claim  *Claim          `json:"claim,omitempty"`  // of OpClaim
	Body   json.RawMessage `json:"body,omitempty"`   // of OpProfileStart: the engine's own parameters
	ID     string          `json:"id,omitempty"`     // of OpSession
}

// Op is what an adapter is asked for.
type Op string

// Ops.
const (
	OpInfo         Op = "info"          // answered by the worker's [WorkerInfo] itself
	OpClaim        Op = "claim"         // another adapter wants this name; answered only by one that keeps it
	OpLoad         Op = "load"          // Told.Body: what the engine's /v1/loads says of this worker's rank
	OpFlush        Op = "flush"         // empty the engine's cache; Told when it is, or why it is not
	OpDrain        Op = "drain"         // take nothing new
	OpUndrain      Op = "undrain"       // take requests again
	OpRemove       Op = "remove"        // drain, then leave the bus for good
	OpProfileStart Op = "profile_start" // the engine's /start_profile
	OpProfileStop  Op = "profile_stop"
	OpSession      Op = "session" // OK: a session of this name, which its client chose, was opened on this worker
)

// A Claim is an adapter's right to a worker name. One that serves under the name keeps it; of two that do not yet, or both do
// after a bus that was parted, it is the one that started first: clocks of two machines are a poor judge.
type Claim struct {
	Adapter string `json:"adapter"`        // see WorkerInfo.Adapter
	Started int64  `json:"started"`        // milliseconds since 1970; of two equal ones the smaller Adapter was first
	Held    bool   `json:"held,omitempty"` // it serves under the name
	Host    string `json:"host"`           // for people
	Engine  string `json:"engine"`         // for people
}

// Before tells whether the claim stands above another adapter's.
func (c *Claim) Before(d *Claim) bool {
	if c.Held != d.Held {
		return c.Held
	}
	if c.Started != d.Started {
		return c.Started < d.Started
	}
	return c.Adapter < d.Adapter
}

// Told is what an adapter answers.
type Told struct {
	Worker  string          `json:"worker"`
	OK      bool            `json:"ok"`
	Status  int             `json:"status,omitempty"`  // the engine's HTTP status, when it was asked
	Message string          `json:"message,omitempty"` // for people
	Claim   *Claim          `json:"claim,omitempty"`   // of OpClaim: whose the name is
	Body    json.RawMessage `json:"body,omitempty"`
	At      int64           `json:"at,omitempty"` // of OpSession: when it was opened, in milliseconds since 1970
}

// An Abort asks all gateways to end requests, in JSON. Each that has some of them answers with an [Aborted].
type Abort struct {
	Gateway string   `json:"gateway"`         // who asks; it has looked at its own requests already
	Caller  string   `json:"caller"`          // requests of this caller only: a keyed hash of its credentials
	All     bool     `json:"all,omitempty"`   // all of them
	Names   []string `json:"names,omitempty"` // request ids, labels, rids of clients and of engines: whole, never prefixes
}

// Aborted counts the requests that a gateway has ended.
type Aborted struct {
	Gateway string `json:"gateway"`
	Count   int    `json:"count"`
}

// MaxAborts bounds the names of one [Abort].
const MaxAborts = 1024

// ParseAbort reads and checks the JSON form.
func ParseAbort(doc []byte) (*Abort, error) {
	a := new(Abort)
	if err := json.Unmarshal(doc, a); err != nil {
		return nil, fmt.Errorf("%w: abort: %w", ErrMalformed, err)
	}
	if len(a.Names) == 0 && !a.All || len(a.Names) > MaxAborts {
		return nil, fmt.Errorf("%w: abort of %d names", ErrMalformed, len(a.Names))
	}
	return a, nil
}
