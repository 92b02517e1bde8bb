package prefix

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
)

// MinSecret is the least length in bytes of a secret. A secret should be random: whoever sees digests
// can test guesses of the secret at the price of a hash each.
const MinSecret = 16

// ErrShortSecret reports a secret shorter than [MinSecret].
var ErrShortSecret = errors.New("prefix: the digest secret is too short")

// A Key makes digests. Gateways of one deployment share it, and nobody else has it: without it, digests
// neither show nor confirm what was in a prompt. It formats as its ID only. The zero Key
// hashes too, but protects nothing.
type Key struct {
	// ID tells digests of different keys apart, for example while a secret is being replaced.
	ID    uint32
	bytes [32]byte
}

// NewKey derives a key and its id from the deployment's secret. The id is derived separately, and
// says nothing about the key.
func NewKey(secret []byte) (Key, error) {
	if len(secret) < MinSecret {
		return Key{}, fmt.Errorf("%w: %d bytes, want at least %d", ErrShortSecret, len(secret), MinSecret)
	}
	var k Key
	raw, err := hkdf.Key(sha256.New, secret, nil, "radixbus prefix digest: key", len(k.bytes))
	if err != nil {
		return Key{}, fmt.Errorf("derive the digest key: %w", err)
	}
	id, err := hkdf.Key(sha256.New, secret, nil, "radixbus prefix digest: key id", 4)
	if err != nil {
		return Key{}, fmt.Errorf("derive the digest key's id: %w", err)
	}
	copy(k.bytes[:], raw)
	k.ID = binary.LittleEndian.Uint32(id)
	return k, nil
}

// String names the key without giving it away.
func (k Key) String() string { return fmt.Sprintf("digest key %08x", k.ID) }

// GoString is String, so that %#v shows no more than %v.
func (k Key) GoString() string { return k.String() }

// LogValue is String, so that a log shows no more either.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
