package wire

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"strings"
)

// A Reference is what a name that later requests refer to (a stored response, an engine's session) says of where it is
// kept, so that any gateway finds it without a table.
type Reference struct {
	Engine uint64 // hash of the engine's id; see EngineHash
	Rank   uint16 // data-parallel rank
}

// The names: a mark, 16 hex digits of the engine, 4 of the rank, 16 that are unique.
const (
	referMark      = "rb1"
	referPlace     = 16 + 4
	referUnique    = 16
	responsePrefix = "resp_" // engines insist on it
)

// EngineHash is the hash of an engine's id as names carry it: FNV-1a, 64 bit.
func EngineHash(engine string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(engine)) //nolint:errcheck // never fails
	return h.Sum64()
}

// Name makes the name of something that is kept there. Of rid, see [RidOf], the first 16 digits make it unique.
func (r Reference) Name(rid string) string {
	var b [10]byte
	binary.BigEndian.PutUint64(b[:], r.Engine)
	binary.BigEndian.PutUint16(b[8:], r.Rank)
	return referMark + hex.EncodeToString(b[:]) + UniqueOf(rid)
}

// UniqueOf is what names of Name and Response have of a rid.
func UniqueOf(rid string) string { return rid[:referUnique] }

// UniqueIn finds it again in such a name.
func UniqueIn(name string) (unique string, ok bool) {
	if _, ok = ParseReference(name); !ok {
		return "", false
	}
	return name[len(name)-referUnique:], true
}

// Response makes the id of a response that is kept there.
func (r Reference) Response(rid string) string { return responsePrefix + r.Name(rid) }

// ParseReference reads what a name of Name or Response says. Other names say nothing.
func ParseReference(name string) (r Reference, ok bool) {
	name, ok = strings.CutPrefix(strings.TrimPrefix(name, responsePrefix), referMark)
	if !ok || len(name) != referPlace+referUnique || strings.ToLower(name) != name {
		return Reference{}, false
	}
	b, err := hex.DecodeString(name)
	if err != nil {
		return Reference{}, false
	}
	return Reference{Engine: binary.BigEndian.Uint64(b), Rank: binary.BigEndian.Uint16(b[8:])}, true
}
