// Package buffer lends room for bytes that are needed for a moment, so that requests do not each leave their body to the garbage
// collector.
//
// Room comes in sizes of powers of two. What is not lent goes back to the system with the garbage collector's next rounds; what
// would be too large to keep is made for its borrower alone, and once much of it has been given back and no more comes, the
// system gets it at once. It may be used from any goroutine.
package buffer

import (
	"math/bits"
	"runtime"
	"sync"
)

// Sizes of what is kept: 4 KiB to 1 MiB.
const (
	leastBits = 12
	mostBits  = 20
)

// A Buffer is room on loan. B is its borrower's until Release.
type Buffer struct {
	B     []byte
	home  *sync.Pool // nil: it is not kept
	large bool       // too large to be
}

var homes [mostBits - leastBits + 1]sync.Pool

// Room is how much there is in a Buffer for n bytes.
func Room(n int) int {
	if n > 1<<mostBits {
		return n
	}
	return 1 << max(leastBits, bits.Len(uint(max(n, 1)-1)))
}

// Get lends a Buffer with room for n bytes, which is empty.
func Get(n int) *Buffer {
	room := Room(n)
	if room > 1<<mostBits {
		return &Buffer{B: make([]byte, 0, room), large: true}
	}
	home := &homes[bits.Len(uint(room))-1-leastBits]
	if b, ok := home.Get().(*Buffer); ok {
		return b
	}
	return &Buffer{B: make([]byte, 0, room), home: home}
}

// Append appends b in pieces, between which others have their turn: the runtime cannot interrupt a copy, and waits for one when it
// collects garbage. One of tens of megabytes takes tens of milliseconds.
func Append(to, b []byte) []byte {
	const piece = 512 << 10
	for len(b) > piece {
		to = append(to, b[:piece]...)
		b = b[piece:]
		runtime.Gosched()
	}
	return append(to, b...)
}

// Release gives a Buffer back; nobody may use it afterwards. Of nil, it does nothing. B may have been cut short, not replaced.
func (b *Buffer) Release() {
	if b == nil {
		return
	}
	if b.large {
		relief.gone(cap(b.B))
		b.large, b.B = false, nil
	}
	if b.home == nil {
		return
	}
	b.B = b.B[:0]
	b.home.Put(b)
}
