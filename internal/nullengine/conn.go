package nullengine

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Bounds of a request.
const (
	// MaxBody is the longest body.
	MaxBody = 128 << 20
	maxHead = 64 << 10
)

const (
	readRoom  = 4 << 10 // of a connection's own; longer requests borrow
	keepBelow = 4 << 20 // what was borrowed and is longer goes to the garbage
)

// A badRequest is one that is not HTTP/1, or beyond a bound. Its connection ends.
type badRequest struct {
	status int
	what   string
}

func (e *badRequest) Error() string { return "nullengine: " + e.what }

// A request is good until the connection's next one.
type request struct {
	method, path string
	body         []byte
	old          bool // HTTP/1.0: it knows no chunks
	last         bool // of its connection
}

// A conn reads requests, one after the other. What has been read and not used is in[at:end].
type conn struct {
	net.Conn
	in      []byte
	at, end int
	loan    *[]byte // in is from the pool, and own waits meanwhile
	own     []byte
	names   [2]string // method and path of the request before: usually they are the same
}

var loans = sync.Pool{New: func() any { return new([]byte) }}

// done gives back what a long request borrowed. What has come of the next one stays in it.
func (c *conn) done() {
	if c.loan == nil || c.end-c.at > len(c.own) {
		return
	}
	c.end = copy(c.own, c.in[c.at:c.end])
	c.at = 0
	if cap(c.in) <= keepBelow {
		*c.loan = c.in[:cap(c.in)]
		loans.Put(c.loan)
	}
	c.in, c.own, c.loan = c.own, nil, nil
}

// room makes in hold at least n bytes from at on.
func (c *conn) room(n int) {
	if len(c.in)-c.at >= n {
		return
	}
	if len(c.in) >= n {
		c.end = copy(c.in, c.in[c.at:c.end])
		c.at = 0
		return
	}
	size := max(n, 2*len(c.in))
	if c.loan == nil {
		c.loan, c.own = loans.Get().(*[]byte), c.in
		if len(*c.loan) < size {
			*c.loan = make([]byte, size)
		}
		c.end = copy(*c.loan, c.in[c.at:c.end])
		c.in = *c.loan
	} else {
		bigger := make([]byte, size)
		c.end = copy(bigger, c.in[c.at:c.end])
		c.in = bigger
	}
	c.at = 0
}

// fill reads once more, at least one byte.
func (c *conn) fill() error {
	if c.at == c.end {
		c.at, c.end = 0, 0
	}
	if c.end == len(c.in) {
		c.room(c.end - c.at + 1)
	}
	n, err := c.Read(c.in[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// next reads a whole request. The end of the connection between two of them is io.EOF.
func (c *conn) next() (*request, error) {
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	line, fields, _ := bytes.Cut(head, crlf)
	r := &request{}
	method, rest, ok1 := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !bytes.HasPrefix(version, []byte("HTTP/1.")) || len(version) != len("HTTP/1.1") {
		return nil, &badRequest{400, "not HTTP/1"}
	}
	path, _, _ := bytes.Cut(target, []byte{'?'})
	r.method, r.path = c.name(0, method), c.name(1, path)
	r.old = version[len(version)-1] == '0'
	r.last = r.old
	length, chunked, expects := 0, false, false
	for len(fields) > 0 {
		line, fields, _ = bytes.Cut(fields, crlf)
		key, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimSpace(value)
		switch {
		case is(key, "content-length"):
			n, err := strconv.ParseUint(string(value), 10, 32)
			if err != nil || n > MaxBody {
				return nil, &badRequest{413, fmt.Sprintf("content length %.20q", value)}
			}
			length = int(n)
		case is(key, "transfer-encoding"):
			if chunked = is(value, "chunked"); !chunked {
				return nil, &badRequest{501, "transfer encoding"}
			}
		case is(key, "connection"):
			r.last = r.last && !is(value, "keep-alive") || is(value, "close")
		case is(key, "expect"):
			expects = true
		}
	}
	c.at += len(head) + len(crlf)
	if expects {
		if _, err := c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return nil, err
		}
	}
	if chunked {
		r.body, err = c.chunks()
	} else {
		r.body, err = c.take(length)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return r, err
}

var crlf = []byte("\r\n")

// head reads up to the empty line and returns what is before it.
func (c *conn) head() ([]byte, error) {
	for seen := 0; ; {
		b := c.in[c.at:c.end]
		if i := bytes.Index(b[max(0, seen-3):], []byte("\r\n\r\n")); i >= 0 {
			return b[:max(0, seen-3)+i+len(crlf)], nil
		}
		if seen = len(b); seen > maxHead {
			return nil, &badRequest{431, "a head of more than 64 KiB"}
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// take reads n bytes.
func (c *conn) take(n int) ([]byte, error) {
	c.room(n)
	for c.end-c.at < n {
		got, err := c.Read(c.in[c.end:])
		if c.end += got; err != nil && c.end-c.at < n {
			return nil, err
		}
	}
	c.at += n
	return c.in[c.at-n : c.at], nil
}

// chunks reads a body in chunks.
func (c *conn) chunks() ([]byte, error) {
	var body []byte
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		digits, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 32)
		if err != nil || n > MaxBody || len(body)+int(n) > MaxBody {
			return nil, &badRequest{400, fmt.Sprintf("chunk %.20q", line)}
		}
		if n == 0 {
			break
		}
		piece, err := c.take(int(n) + len(crlf))
		if err != nil {
			return nil, err
		}
		body = append(body, piece[:n]...)
	}
	for { // the trailer
		if line, err := c.line(); err != nil || line == "" {
			return body, err
		}
	}
}

func (c *conn) line() (string, error) {
	for {
		b := c.in[c.at:c.end]
		if i := bytes.Index(b, crlf); i >= 0 {
			c.at += i + len(crlf)
			return string(b[:i]), nil
		}
		if len(b) > maxHead {
			return "", &badRequest{400, "a line of more than 64 KiB"}
		}
		if err := c.fill(); err != nil {
			return "", err
		}
	}
}

// name makes a string of what is usually the same as before.
func (c *conn) name(i int, b []byte) string {
	if c.names[i] != string(b) {
		c.names[i] = string(b)
	}
	return c.names[i]
}

// is compares with a word in lower case.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
