package prefix

import (
	"runtime"

	"github.com/minio/highwayhash"
)

// Hash is a keyed hash of any bytes, for fingerprints that must not let strangers test guesses. It shares the key of
// the digests; a collision with one of their hashes means nothing, since the two are never compared. Between the pieces of long
// ones others have their turn, for the runtime cannot interrupt it.
func (k Key) Hash(b []byte) uint64 {
	const piece = 1 << 20
	if len(b) <= piece {
		return highwayhash.Sum64(b, k.bytes[:])
	}
	h, _ := highwayhash.NewDigest64(k.bytes[:]) // the key has the right length
	for ; len(b) > piece; b = b[piece:] {
		h.Write(b[:piece]) //nolint:errcheck // a hash takes everything
		runtime.Gosched()
	}
	h.Write(b) //nolint:errcheck // a hash takes everything
	return h.Sum64()
}
