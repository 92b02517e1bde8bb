package prefix

import (
	"testing"

	"github.com/minio/highwayhash"
)

// Bytes are hashed as one, however long they are.
func TestHashDoesNotShowItsPieces(t *testing.T) {
	t.Parallel()
	k := testKey(t, "a secret of the deployment, no more")
	b := make([]byte, 5<<20+3)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	for _, n := range []int{0, 1, 1 << 20, 1<<20 + 1, 2 << 20, len(b)} {
		if got, want := k.Hash(b[:n]), highwayhash.Sum64(b[:n], k.bytes[:]); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
}
