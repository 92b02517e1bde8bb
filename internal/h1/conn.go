package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/radixbus/radixbus/internal/buffer"
	"github.com/radixbus/radixbus/internal/netconn"
)

// A conn is one connection. It belongs to one exchange at a time.
type conn struct {
	net.Conn          // what is read and written
	raw      net.Conn // under it
	client   *Client
	since    time.Time // when it was last given back
	used     bool      // it has served an exchange before
	stale    bool      // it was closed by the server before it answered anything
	over     bool      // it must not be used again
	timed    bool      // it has a read deadline
	ended    atomic.Bool

	in      []byte // read and not used yet: in[at:end]
	at, end int
	lent    *buffer.Buffer     // in lies in it; nil: in is the connection's own
	late    netconn.LateReader // nil: room for in is needed before there is anything to read
	failed  error              // what the last read ended with
}

// readRoom is what is read at a time into a connection's room; a body's bytes go past it where they are many. leastRoom is what
// a request's head mostly fits.
const (
	readRoom  = 4 << 10
	leastRoom = 2 << 10
)

// interrupt ends an exchange from outside.
func (c *conn) interrupt() {
	c.ended.Store(true)
	c.close()
}

func (c *conn) close() { c.raw.Close() } // TLS too: its goodbye might block

// trusted is how long a connection is taken for open without a look: servers close those that were unused for seconds, and one
// that is closed all the same is found by its first use.
const trusted = 20 * time.Millisecond

// usable tells whether a kept connection can be sent on.
func (c *conn) usable() bool {
	unused := time.Since(c.since)
	return unused < c.client.cfg.IdleFor && c.at == c.end && (unused < trusted || quiet(c.raw, c.Conn != c.raw))
}

// Bounds of a request's pieces: those below copyBelow are sent with its head, in one write; of longer ones so much at a time,
// in so long, before the server is taken for one that may have answered already.
const (
	copyBelow  = 64 << 10
	writePiece = 256 << 10
	writeStall = time.Second
)

// roundTrip sends a request and reads the head of its answer.
func (c *conn) roundTrip(r *Request) (*Response, *Error) {
	c.stale = false
	failed := c.send(r)
	resp, err := c.readHead(r.Method)
	if err == nil {
		c.over = c.over || failed != nil // the server did not want to read on
		return resp, nil
	}
	// A kept connection that ends without a byte was closed while it lay unused.
	c.stale = c.used && c.at == c.end && !c.ended.Load() && !errors.Is(err, ErrMalformed)
	if failed != nil {
		return nil, &Error{Op: "write", Sent: true, Err: failed}
	}
	return nil, &Error{Op: "read", Sent: true, Err: err}
}

func (c *conn) send(r *Request) error {
	room := buffer.Get(leastRoom + min(size(r.Body), copyBelow))
	defer room.Release()
	head := c.appendHead(room.B, r)
	n := 0
	for n < len(r.Body) && len(head)+len(r.Body[n]) <= copyBelow {
		head = append(head, r.Body[n]...)
		n++
	}
	if n == len(r.Body) {
		return c.writeAll(head)
	}
	pieces := append([][]byte{head}, r.Body[n:]...)
	write := c.writeLong
	if c.Conn == c.raw && size(pieces) <= writePiece {
		write = c.writeAll
	}
	for _, p := range pieces { // one after the other is cheaper than all at once, for which the runtime prepares
		if err := write(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) writeAll(b []byte) error {
	_, err := c.Write(b)
	return err
}

// errAnswered reports a server that answers without having read the request.
var errAnswered = errors.New("answered before the end of the request")

// writeLong writes what may be more than the server wants to read: when that stalls, an answer may be the reason.
func (c *conn) writeLong(b []byte) error {
	defer c.SetWriteDeadline(time.Time{}) //nolint:errcheck // a connection that is gone says so soon
	for len(b) > 0 {
		c.SetWriteDeadline(time.Now().Add(writeStall)) //nolint:errcheck // see above
		n, err := c.Write(b[:min(len(b), writePiece)])
		b = b[n:]
		switch {
		case err == nil:
		case c.Conn != c.raw || !errors.Is(err, os.ErrDeadlineExceeded): // TLS cannot go on after a write that broke off
			return err
		case c.ended.Load() || !quiet(c.raw, false):
			return errAnswered
		}
	}
	return nil
}

func size(pieces [][]byte) (n int) {
	for _, p := range pieces {
		n += len(p)
	}
	return n
}

// appendHead writes a request's head. The request has been checked.
func (c *conn) appendHead(b []byte, r *Request) []byte {
	b = append(append(append(append(b, r.Method...), ' '), c.client.prefix...), r.Path...)
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), c.client.host...), "\r\n"...)
	for _, h := range r.Headers {
		b = append(append(append(append(b, h.Name...), ": "...), h.Value...), "\r\n"...)
	}
	if n := size(r.Body); n > 0 || r.Method != "GET" && r.Method != "HEAD" {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(n), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// check refuses a request that would not be one request on the wire.
func (r *Request) check() error {
	if !token(r.Method) {
		return fmt.Errorf("h1: method %q", r.Method)
	}
	if !strings.HasPrefix(r.Path, "/") || strings.ContainsFunc(r.Path, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fmt.Errorf("h1: path %q", r.Path)
	}
	for _, h := range r.Headers {
		if !token(h.Name) || strings.ContainsFunc(h.Value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return fmt.Errorf("h1: header %q cannot be sent", h.Name)
		}
		if isOurs(h.Name) {
			return fmt.Errorf("h1: header %q is the client's own", h.Name)
		}
	}
	return nil
}

func isOurs(name string) bool {
	return strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding") || strings.EqualFold(name, "Host")
}

// token tells whether s is one, as RFC 9110 says of methods and names of headers.
func token[T string | []byte](s T) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return len(s) > 0
}

// drop lets go the room whose bytes have all been used.
func (c *conn) drop() {
	if c.at < c.end {
		return
	}
	c.at, c.end = 0, 0
	if c.late != nil {
		c.lent.Release()
		c.lent, c.in = nil, nil
	}
}

// fill reads more into the connection's room, of which all has been used or the rest is kept, up to a bound.
func (c *conn) fill(most int) error {
	if c.failed == nil {
		c.failed = c.more(most)
	}
	return c.failed
}

func (c *conn) more(most int) error {
	if c.drop(); c.in == nil && c.late != nil {
		room, err := c.late.ReadLate(readRoom)
		if err != nil {
			return err
		}
		c.lent, c.end = room, len(room.B)
		c.in = room.B[:cap(room.B)]
		return nil
	}
	if c.in == nil {
		c.in = make([]byte, readRoom)
	}
	if c.end == len(c.in) {
		if c.at > 0 {
			c.end = copy(c.in, c.in[c.at:c.end])
			c.at = 0
		} else if len(c.in) >= most {
			return fmt.Errorf("%w: more than %d bytes of head", ErrMalformed, most)
		} else {
			c.in = append(make([]byte, 0, 2*len(c.in)), c.in...)[:2*len(c.in)]
			c.lent.Release()
			c.lent = nil
		}
	}
	n, err := c.Read(c.in[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}
