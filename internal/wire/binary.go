package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the wire version this package speaks.
const Version = 1

// Kind tells what a binary message is.
type Kind byte

// Kinds. Their numbers are part of the protocol.
const (
	KindAssignRequest Kind = 1
	KindAssignReply   Kind = 2
	KindDispatch      Kind = 3
	KindPart          Kind = 4
	KindPartAck       Kind = 5
	KindFrames        Kind = 6
	KindPing          Kind = 7
	KindPong          Kind = 8
	KindCancel        Kind = 9
	KindAck           Kind = 10
	KindResend        Kind = 11
	KindAssigned      Kind = 12
	KindFinished      Kind = 13
	KindLoad          Kind = 14
	KindUp            Kind = 15
	KindDown          Kind = 16
)

// ErrVersion reports a message of a version or kind that this reader does not speak.
var ErrVersion = errors.New("wire: unknown version or kind")

// ErrMalformed reports bytes that are no message, or one that breaks a bound.
var ErrMalformed = errors.New("wire: malformed message")

// KindOf tells the kind of a binary message, or [ErrVersion].
func KindOf(msg []byte) (Kind, error) {
	if len(msg) < 2 {
		return 0, ErrMalformed
	}
	if msg[0] != Version || msg[1] == 0 || Kind(msg[1]) > KindDown {
		return 0, ErrVersion
	}
	return Kind(msg[1]), nil
}

// IsJSON tells whether msg is one of the rare readable messages.
func IsJSON(msg []byte) bool { return len(msg) > 0 && msg[0] == '{' }

func begin(dst []byte, k Kind) []byte { return append(dst, Version, byte(k)) }

// body returns the fields of a message of the wanted kind.
func body(msg []byte, want Kind) ([]byte, error) {
	k, err := KindOf(msg)
	if err != nil {
		return nil, err
	}
	if k != want {
		return nil, fmt.Errorf("%w: kind %d, want %d", ErrVersion, k, want)
	}
	return msg[2:], nil
}

// Protocol-buffer wire types in use.
const (
	typeVarint = 0
	typeFix64  = 1
	typeBytes  = 2
	typeFix32  = 5
)

func putUint(dst []byte, field int, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(field)<<3|typeVarint)
	return binary.AppendUvarint(dst, v)
}

// putInt writes a number that may be negative, in zigzag, as protobuf's sint32.
func putInt(dst []byte, field int, v int32) []byte {
	return putUint(dst, field, uint64(uint32(v<<1)^uint32(v>>31)))
}

func putBool(dst []byte, field int, v bool) []byte {
	if v {
		return putUint(dst, field, 1)
	}
	return dst
}

func putFix64(dst []byte, field int, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(field)<<3|typeFix64)
	return binary.LittleEndian.AppendUint64(dst, v)
}

func putString(dst []byte, field int, s string) []byte {
	if s == "" {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(field)<<3|typeBytes)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// putStrings sends a repeated field: an empty element is an element.
func putStrings(dst []byte, field int, ss []string) []byte {
	for _, s := range ss {
		dst = binary.AppendUvarint(dst, uint64(field)<<3|typeBytes)
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

func putBytes(dst []byte, field int, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(field)<<3|typeBytes)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func putID(dst []byte, field int, id RequestID) []byte {
	if id == (RequestID{}) {
		return dst
	}
	return putBytes(dst, field, id[:])
}

// putMessage sends a nested message. Its length is not known before it is written, so room for a one-byte length is
// left and widened in the rare case that it does not do.
func putMessage(dst []byte, field int, write func([]byte) []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(field)<<3|typeBytes)
	at := len(dst)
	dst = append(dst, 0)
	dst = write(dst)
	n := len(dst) - at - 1
	if n < 0x80 {
		dst[at] = byte(n)
		return dst
	}
	var size [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(size[:], uint64(n))
	dst = append(dst, size[:w-1]...) // room only; overwritten by the move
	copy(dst[at+w:], dst[at+1:at+1+n])
	copy(dst[at:], size[:w])
	return dst
}

// reader walks the fields of a message. The first error sticks and ends the walk.
type reader struct {
	buf   []byte
	err   error
	field int
	typ   byte
	num   uint64 // value of a varint, fix64 or fix32 field
	data  []byte // value of a bytes field; a slice of the message without room to grow into the rest of it
}

// maxField is the largest field number that the protocol-buffer wire format allows.
const maxField = 1<<29 - 1

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	r.buf = nil
}

// next moves to the next field and tells whether there is one.
func (r *reader) next() bool {
	if len(r.buf) == 0 || r.err != nil {
		return false
	}
	tag, n := binary.Uvarint(r.buf)
	if n <= 0 || tag>>3 == 0 || tag>>3 > maxField {
		r.fail("bad tag")
		return false
	}
	r.buf, r.field, r.typ, r.num, r.data = r.buf[n:], int(tag>>3), byte(tag&7), 0, nil
	switch r.typ {
	case typeVarint:
		v, n := binary.Uvarint(r.buf)
		if n <= 0 {
			r.fail("bad number in field %d", r.field)
			return false
		}
		r.buf, r.num = r.buf[n:], v
	case typeFix64:
		if len(r.buf) < 8 {
			r.fail("short field %d", r.field)
			return false
		}
		r.num, r.buf = binary.LittleEndian.Uint64(r.buf), r.buf[8:]
	case typeFix32:
		if len(r.buf) < 4 {
			r.fail("short field %d", r.field)
			return false
		}
		r.num, r.buf = uint64(binary.LittleEndian.Uint32(r.buf)), r.buf[4:]
	case typeBytes:
		size, n := binary.Uvarint(r.buf)
		if n <= 0 || size > uint64(len(r.buf)-n) {
			r.fail("short field %d", r.field)
			return false
		}
		end := n + int(size)
		r.data, r.buf = r.buf[n:end:end], r.buf[end:]
	default:
		r.fail("wire type %d in field %d", r.typ, r.field)
		return false
	}
	return true
}

func (r *reader) want(typ byte) bool {
	if r.typ != typ {
		r.fail("field %d has wire type %d, want %d", r.field, r.typ, typ)
		return false
	}
	return true
}

func (r *reader) uint() uint64 { r.want(typeVarint); return r.num }
func (r *reader) bool() bool   { return r.uint() != 0 }
func (r *reader) fix64() uint64 {
	r.want(typeFix64)
	return r.num
}

func (r *reader) uint32() uint32 {
	v := r.uint()
	if v > 1<<32-1 {
		r.fail("field %d does not fit 32 bits", r.field)
	}
	return uint32(v)
}

func (r *reader) int32() int32 {
	v := r.uint32()
	return int32(v>>1) ^ -int32(v&1)
}

func (r *reader) uint8() uint8 {
	v := r.uint()
	if v > 255 {
		r.fail("field %d does not fit 8 bits", r.field)
	}
	return uint8(v)
}

// bytes returns a slice of the message itself.
func (r *reader) bytes(bound int) []byte {
	if !r.want(typeBytes) {
		return nil
	}
	if len(r.data) > bound {
		r.fail("field %d has %d bytes, bound %d", r.field, len(r.data), bound)
		return nil
	}
	return r.data
}

func (r *reader) string(bound int) string { return string(r.bytes(bound)) }

func (r *reader) id() (id RequestID) {
	if b := r.bytes(len(id)); len(b) == len(id) {
		copy(id[:], b)
	} else {
		r.fail("field %d is no request id", r.field)
	}
	return id
}

// bounded fails when a repeated field has reached its bound.
func (r *reader) bounded(have, bound int) bool {
	if have >= bound {
		r.fail("field %d repeats more than %d times", r.field, bound)
		return false
	}
	return r.want(typeBytes)
}

// enter begins the walk of the nested message that the current field holds; leave ends it. A callback in their place
// would cost an allocation for every nested message, because the inner reader would escape to it.
func (r *reader) enter() reader { return reader{buf: r.data} }

// leave takes over the error of a nested message.
func (r *reader) leave(in *reader) {
	if in.err != nil && r.err == nil {
		r.err, r.buf = in.err, nil
	}
}
