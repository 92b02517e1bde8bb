package wire

import (
	"encoding/binary"
	"slices"
)

func putHashes(dst []byte, field int, hs []uint64) []byte {
	if len(hs) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(field)<<3|typeBytes)
	dst = binary.AppendUvarint(dst, uint64(len(hs))*8)
	at := len(dst)
	dst = slices.Grow(dst, 8*len(hs))[:at+8*len(hs)]
	for run := dst[at:]; len(hs) > 0; hs, run = hs[1:], run[8:] {
		binary.LittleEndian.PutUint64(run, hs[0])
	}
	return dst
}

// readHashes appends a packed run: an encoder may send one list in several. total counts the hashes of the message.
func readHashes(r *reader, hs []uint64, total *int) []uint64 {
	b := r.bytes(8 * (MaxHashes - *total))
	if len(b)%8 != 0 {
		r.fail("field %d is no run of hashes", r.field)
		return hs
	}
	*total += len(b) / 8
	hs = slices.Grow(hs, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		hs = append(hs, binary.LittleEndian.Uint64(b))
	}
	return hs
}
