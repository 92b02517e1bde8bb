package prefix

import "github.com/minio/highwayhash"

// Hash is a keyed hash of any bytes, for fingerprints that must not let strangers test guesses. It shares the key of
// the digests; a collision with one of their hashes means nothing, since the two are never compared.
func (k Key) Hash(b []byte) uint64 { return highwayhash.Sum64(b, k.bytes[:]) }
