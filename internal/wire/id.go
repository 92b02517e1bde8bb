package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

// A RequestID is the identity of one client request: a UUIDv7 minted by its gateway.
type RequestID [16]byte

// NewRequestID mints an id. It panics only when the system has no randomness left.
func NewRequestID() RequestID { return RequestID(uuid.Must(uuid.NewV7())) }

// String is the usual form with dashes, as clients see it in x-radixbus-request.
func (id RequestID) String() string { return uuid.UUID(id).String() }

// ParseRequestID reads the form that String writes, in either case; not the other spellings of a UUID.
func ParseRequestID(s string) (RequestID, error) {
	u, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return RequestID{}, fmt.Errorf("request id %.40q: want a UUID of 36 characters", s)
	}
	return RequestID(u), nil
}

// An Instance is one life of a worker. A later life has a greater number, unless its host's clock is behind: 48 bits of milliseconds
// since 1970, 12 bits of their fractions, 4 random bits.
type Instance uint64

// NewInstance mints an instance greater than all that this process has minted, and, clocks agreeing, than all minted
// elsewhere a microsecond ago. It panics only when the system has no randomness left.
func NewInstance() Instance {
	u := uuid.Must(uuid.NewV7()) // bytes 6 and 7 are the version and a sequence that the library keeps increasing
	var n Instance
	for _, b := range u[:6] {
		n = n<<8 | Instance(b)
	}
	return n<<16 | Instance(u[6]&15)<<12 | Instance(u[7])<<4 | Instance(u[15]&15)
}

// String is 16 hexadecimal digits, the form used in subjects.
func (n Instance) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// ParseInstance reads the form that String writes.
func ParseInstance(s string) (Instance, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("instance %.40q: want 16 hexadecimal digits", s)
	}
	return Instance(v), nil
}

// MarshalText makes instances readable in JSON.
func (n Instance) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (n *Instance) UnmarshalText(b []byte) (err error) {
	*n, err = ParseInstance(string(b))
	return err
}

// An AttemptKey names one try of a request on one life of a worker.
type AttemptKey struct {
	Request  RequestID
	Attempt  uint32 // numbered by the gateway from 1
	Instance Instance
}

// MostRids bounds the prompts of a list that have names of their own. A second try of an attempt at its engine goes on behind
// them: engines do not forget the name of a request that they have refused.
const MostRids = 1 << 16

// RidOf is an engine's name for one prompt of an attempt: 32 hexadecimal digits. Gateway and adapter need not tell each other.
// All have the same length, because engines abort every live request whose rid begins with the one that is named. It is
// the first half of a SHA-256 of the three numbers.
func RidOf(id RequestID, attempt uint32, prompt int) string {
	var b [len(id) + 8]byte
	copy(b[:], id[:])
	binary.BigEndian.PutUint32(b[len(id):], attempt)
	binary.BigEndian.PutUint32(b[len(id)+4:], uint32(prompt))
	sum := sha256.Sum256(b[:])
	return hex.EncodeToString(sum[:16])
}

// NewName mints a name for a process on the bus: a prefix and 12 random hexadecimal digits.
func NewName(prefix string) string {
	u := uuid.New()
	return prefix + hex.EncodeToString(u[:6])
}
