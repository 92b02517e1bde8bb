package h1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Response is an answer of which the head has come. Read gives its body.
type Response struct {
	Status int

	conn    *conn
	head    []byte // its lines, each with its end
	release func() bool
	done    bool // the body has been read, or there is none
	body    body
}

// How a body ends.
type framing uint8

const (
	byLength framing = iota
	byChunks
	byClose
)

// A body is where its reading stands.
type body struct {
	framing framing
	left    int64 // of it, or of the chunk at hand
	opened  bool  // a chunk is under way: its line's end comes next
}

// Header is the value of the first header of that name, whatever its case; "" when there is none.
func (r *Response) Header(name string) string {
	for line := range bytes.Lines(r.head) {
		if key, value, ok := bytes.Cut(line, colon); ok && len(key) == len(name) && strings.EqualFold(string(key), name) {
			return string(trim(value))
		}
	}
	return ""
}

var colon = []byte{':'}

// trim takes the blanks off a header's value: those of HTTP, no others.
func trim(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// readHead reads the head of a final answer, past the interim ones.
func (c *conn) readHead(method string) (*Response, error) {
	for interim := 0; ; interim++ {
		head, err := c.headBytes()
		if err != nil {
			return nil, err
		}
		r := &Response{conn: c}
		if err := r.parse(head, method); err != nil {
			return nil, err
		}
		if r.Status >= 200 {
			return r, nil
		}
		const most = 8
		if r.Status == 101 || interim == most {
			return nil, fmt.Errorf("%w: status %d", ErrMalformed, r.Status)
		}
	}
}

// headBytes reads up to the empty line, and copies.
func (c *conn) headBytes() ([]byte, error) {
	for seen := 0; ; {
		b := c.in[c.at:c.end]
		if n := headLen(b, seen); n > c.client.cfg.MaxHead {
			return nil, fmt.Errorf("%w: more than %d bytes of head", ErrMalformed, c.client.cfg.MaxHead)
		} else if n > 0 {
			c.at += n
			return bytes.Clone(b[:n]), nil
		}
		seen = len(b)
		switch err := c.fill(c.client.cfg.MaxHead); {
		case err == nil:
		case err == io.EOF && seen > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// headLen is the length of the head at the front of b, its empty line included; 0 while that has not come. The first seen
// bytes were looked at before.
func headLen(b []byte, seen int) int {
	for at := max(0, seen-2); ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		switch rest := b[at:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return at + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return at + 2
		}
	}
}

// parse reads a head, and from it how the body ends (RFC 9112, 6.3).
func (r *Response) parse(head []byte, method string) error {
	line, rest, _ := bytes.Cut(head, []byte("\n"))
	r.head = rest
	version, after, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\r")), []byte(" "))
	code, _, _ := bytes.Cut(after, []byte(" "))
	if !ok || string(version) != "HTTP/1.1" && string(version) != "HTTP/1.0" || len(code) != 3 {
		return fmt.Errorf("%w: status line %.60q", ErrMalformed, line)
	}
	for _, d := range code {
		if d < '0' || d > '9' {
			return fmt.Errorf("%w: status %q", ErrMalformed, code)
		}
		r.Status = 10*r.Status + int(d-'0')
	}
	if r.Status < 100 || r.Status > 599 {
		return fmt.Errorf("%w: status %d", ErrMalformed, r.Status)
	}
	old := string(version) == "HTTP/1.0"
	keep := !old
	length := int64(-1)
	for line := range bytes.Lines(rest) {
		if line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")); len(line) == 0 {
			break // the empty line
		}
		key, value, err := field(line)
		if err != nil {
			return err
		}
		switch {
		case is(key, "Content-Length"):
			n, ok := number(value)
			if !ok || length >= 0 && n != length {
				return fmt.Errorf("%w: content length %.60q", ErrMalformed, value)
			}
			length = n
		case is(key, "Transfer-Encoding"):
			if !is(value, "chunked") || r.body.framing == byChunks || old {
				return fmt.Errorf("%w: transfer encoding %.60q", ErrMalformed, value)
			}
			r.body.framing = byChunks
		case is(key, "Connection"):
			for word := range bytes.SplitSeq(value, []byte(",")) {
				switch word = trim(word); {
				case is(word, "close"):
					keep = false
				case is(word, "keep-alive") && old:
					keep = true
				}
			}
		}
	}
	switch {
	case method == "HEAD", r.Status < 200, r.Status == 204, r.Status == 304:
		r.body = body{}
		r.done = true
	case r.body.framing == byChunks:
		keep = keep && length < 0 // two lengths: one side believes the other one
	case length >= 0:
		r.body.left = length
		r.done = length == 0
	default:
		r.body.framing, keep = byClose, false
	}
	r.conn.over = !keep
	return nil
}

// field reads a line of a head or a trailer.
func field(line []byte) (key, value []byte, err error) {
	key, value, ok := bytes.Cut(line, colon)
	if !ok || !token(key) || bytes.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return nil, nil, fmt.Errorf("%w: header line %.60q", ErrMalformed, line)
	}
	return key, trim(value), nil
}

func is(b []byte, word string) bool { return len(b) == len(word) && strings.EqualFold(string(b), word) }

// number reads decimal digits alone.
func number(b []byte) (n int64, ok bool) {
	const most = 18 // digits that fit
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, len(b) > 0 && len(b) <= most
}

// Wait returns once there is something to read, or an end. A reader that borrows its room can do so afterwards.
func (r *Response) Wait() {
	if !r.done && r.conn.at == r.conn.end {
		r.conn.fill(readRoom) //nolint:errcheck // the next read says so
	}
}

// Read gives what has come of the body, waiting for the first byte of it alone. At its end, which is io.EOF, the connection
// has been given back.
func (r *Response) Read(p []byte) (n int, err error) {
	if r.done {
		return 0, io.EOF
	}
	for n < len(p) && !r.done {
		if r.body.left == 0 && r.body.framing == byChunks {
			if n > 0 && !r.conn.hasChunk() {
				r.closeChunk()
				return n, nil // what follows has not come yet
			}
			if err := r.nextChunk(); err != nil {
				return n, r.broke(err)
			}
			continue
		}
		if n > 0 && r.conn.at == r.conn.end {
			return n, nil
		}
		got, err := r.some(p[n:])
		n += got
		if err != nil {
			if err == io.EOF && r.body.framing == byClose {
				r.finish()
				break
			}
			return n, r.broke(err)
		}
	}
	if r.done && n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// some reads bytes of the body at hand: past the connection's own room when the reader has more.
func (r *Response) some(p []byte) (n int, err error) {
	c := r.conn
	if r.body.framing != byClose {
		p = p[:min(int64(len(p)), r.body.left)]
	}
	switch {
	case c.at < c.end:
		n = copy(p, c.in[c.at:c.end])
		c.at += n
	case len(p) >= readRoom:
		if c.failed != nil {
			return 0, c.failed
		}
		n, err = c.Read(p)
		if n > 0 {
			err = nil // it comes again
		}
	default:
		if err = c.fill(readRoom); err == nil {
			n = copy(p, c.in[c.at:c.end])
			c.at += n
		}
	}
	if r.body.framing == byClose {
		return n, err
	}
	if r.body.left -= int64(n); r.body.left == 0 && r.body.framing == byLength {
		r.finish()
	}
	return n, err
}

// maxChunkLine bounds a chunk's line, its extensions included, and each line of a trailer.
const maxChunkLine = 4 << 10

// line reads one line of chunked framing, without its end. It is good until the next read.
func (c *conn) line() ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(c.in[c.at+seen:c.end], '\n'); i >= 0 {
			line := c.in[c.at : c.at+seen+i]
			c.at += seen + i + 1
			line, ok := bytes.CutSuffix(line, []byte("\r"))
			if !ok || bytes.IndexByte(line, '\r') >= 0 {
				return nil, fmt.Errorf("%w: a chunk's line has a line feed or a carriage return of its own", ErrMalformed)
			}
			return line, nil
		}
		if seen = c.end - c.at; seen >= maxChunkLine {
			return nil, fmt.Errorf("%w: a chunk's line of more than %d bytes", ErrMalformed, maxChunkLine)
		}
		if err := c.fill(2 * maxChunkLine); err != nil {
			return nil, err
		}
	}
}

// hasChunk tells whether the next chunk can be begun, or the body ended, without waiting.
func (c *conn) hasChunk() bool {
	rest := bytes.TrimPrefix(c.in[c.at:c.end], []byte("\r\n"))
	line, _, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return false
	}
	if size, err := chunkSize(bytes.TrimSuffix(line, []byte("\r"))); err == nil && size == 0 { // the last one, and its trailer
		return bytes.Contains(rest, []byte("\r\n\r\n"))
	}
	return true
}

// closeChunk takes the end of a chunk that has been read, if it is here already, so that nothing has to be kept for its sake.
func (r *Response) closeChunk() {
	c := r.conn
	if rest, ok := bytes.CutPrefix(c.in[c.at:c.end], []byte("\r\n")); ok && r.body.opened {
		r.body.opened = false
		c.at = c.end - len(rest)
		c.drop()
	}
}

// nextChunk reads the line in front of a chunk, and the end of the one before. After the last one it reads the trailer.
func (r *Response) nextChunk() error {
	if r.body.opened {
		if line, err := r.conn.line(); err != nil {
			return err
		} else if len(line) > 0 {
			return fmt.Errorf("%w: a chunk is longer than it says", ErrMalformed)
		}
		r.body.opened = false
	}
	line, err := r.conn.line()
	if err != nil {
		return err
	}
	if r.body.left, err = chunkSize(line); err != nil {
		return err
	}
	if r.body.opened = r.body.left > 0; r.body.opened {
		return nil
	}
	const most = 64 // lines of a trailer
	for range most {
		if line, err = r.conn.line(); err != nil {
			return err
		}
		if len(line) == 0 {
			r.finish()
			return nil
		}
		if _, _, err := field(line); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: a trailer of more than %d lines", ErrMalformed, most)
}

func chunkSize(line []byte) (n int64, err error) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 15 {
		return 0, fmt.Errorf("%w: chunk size %.60q", ErrMalformed, line)
	}
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, fmt.Errorf("%w: chunk size %.60q", ErrMalformed, line)
		}
		n = n<<4 | int64(c)
	}
	return n, nil
}

// broke ends an exchange in the middle of its body.
func (r *Response) broke(err error) error {
	r.conn.over = true
	r.finish()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// finish gives the connection back, once.
func (r *Response) finish() {
	r.done = true
	c := r.conn
	if r.release == nil { // the exchange has not been told of its answer yet
		return
	}
	whole := r.release() // else it was interrupted
	r.release = nil
	if !whole || c.over {
		c.close()
		return
	}
	c.drop()
	if c.timed {
		c.SetReadDeadline(time.Time{}) //nolint:errcheck // a connection that is gone says so when it is used
		c.timed = false
	}
	c.client.keep(c)
}

// Close ends an exchange whose body is not wanted any more; at the body's end it does nothing.
func (r *Response) Close() {
	if !r.done {
		r.conn.over = true
	}
	r.finish()
}

// Settle waits at most so long for the end of a body of which only that is missing, so that the connection can be used again,
// and closes the Response. It tells whether there was something more.
func (r *Response) Settle(bound time.Duration) (more bool) {
	if !r.done {
		if r.body.framing != byChunks || !r.conn.hasChunk() {
			r.conn.SetReadDeadline(time.Now().Add(bound)) //nolint:errcheck // a connection that is gone says so at once
			r.conn.timed = true
		}
		var b [1]byte
		n, _ := r.Read(b[:])
		more = n > 0
	}
	r.Close()
	return more
}
