package prefix

import (
	"encoding/binary"

	"github.com/minio/highwayhash"
	"github.com/radixbus/radixbus/internal/jsonscan"
)

const (
	// header is what stands in front of a block in its hash's input: the hash before it in 8 bytes and
	// 24 of zero, since HighwayHash takes 32 bytes at a time and is slow at remainders.
	header = 32
	// slack lets a decoded character reach over a block's end.
	slack = jsonscan.UnescapeMin
)

// Domains keep the hash's other uses apart from blocks, and from each other: what is hashed starts with 32 bytes
// that differ in the zeros of a header.
const (
	seedDomain  = "radixbus/prefix/seed/1          "
	mediaDomain = "radixbus/prefix/media/1         "
)

// A chain hashes the canonical prompt that is written to it, block by block. It allocates nothing but
// hashes, and stays on the stack of who uses it.
type chain struct {
	key    [32]byte
	prev   uint64   // the hash before the current block
	hashes []uint64 // so far
	left   int      // hashes that may still be made; at 0 bytes are only counted
	n      int      // bytes in the current block
	size   int      // of the current block when it is full
	total  uint64   // bytes written

	// side, if not nil, receives what is written in the chain's place.
	side *highwayhash.Digest

	buf [header + maxBlock + slack]byte
}

// begin starts a prompt after seed, with a bound on its hashes.
func (c *chain) begin(seed uint64, hashes []uint64, left int) {
	c.prev, c.hashes, c.left = seed, hashes, left
	c.n, c.size, c.total = 0, blockSize(0), 0
}

// write adds bytes of the prompt.
func (c *chain) write(p []byte) {
	if c.side != nil {
		c.side.Write(p) //nolint:errcheck // a hash takes everything
		return
	}
	c.total += uint64(len(p))
	for len(p) > 0 && c.left > 0 {
		n := copy(c.buf[header+c.n:header+c.size], p)
		p = p[n:]
		if c.n += n; c.n == c.size {
			c.seal()
		}
	}
}

// writeString is write for strings.
func (c *chain) writeString(s string) {
	var buf [64]byte
	for len(s) > 0 {
		n := copy(buf[:], s)
		c.write(buf[:n])
		s = s[n:]
	}
}

// unescape adds the inside of a JSON string that has escapes, decoded.
func (c *chain) unescape(raw []byte) {
	if c.side != nil || c.left == 0 {
		c.unescapeAside(raw)
		return
	}
	for len(raw) > 0 {
		if c.left == 0 {
			c.unescapeAside(raw)
			return
		}
		n, m := jsonscan.Unescape(c.buf[header+c.n:header+c.size+slack], raw)
		raw = raw[m:]
		c.total += uint64(n)
		if c.n += n; c.n >= c.size {
			c.seal()
		}
	}
}

// unescapeAside is unescape where there is no block to decode into.
func (c *chain) unescapeAside(raw []byte) {
	var buf [1024]byte
	for len(raw) > 0 {
		n, m := jsonscan.Unescape(buf[:], raw)
		raw = raw[m:]
		c.write(buf[:n])
	}
}

// seal hashes the full block. What was written beyond its end begins the next one.
func (c *chain) seal() {
	binary.LittleEndian.PutUint64(c.buf[:8], c.prev)
	c.prev = highwayhash.Sum64(c.buf[:header+c.size], c.key[:])
	c.hashes = append(c.hashes, c.prev)
	c.left--
	c.n = copy(c.buf[header:], c.buf[header+c.size:header+c.n])
	c.size = blockSize(len(c.hashes))
}
