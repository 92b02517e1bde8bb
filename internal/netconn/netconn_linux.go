package netconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/radixbus/radixbus/internal/buffer"
)

// most is what one call moves: the thread that it takes is nobody else's meanwhile.
const most = 256 << 10

type conn struct {
	*net.TCPConn
	raw         syscall.RawConn
	write, read direction
	once        func(fd uintptr) // a write's try, whatever comes of it
}

// A direction is one half of a connection, of which one call is under way at a time.
type direction struct {
	mu   sync.Mutex
	call func(fd uintptr, b []byte) (int, syscall.Errno)
	try  func(fd uintptr) (done bool) // made once: a closure for each call would be an allocation

	// of the call under way
	buf  []byte
	late int // the size of the room to borrow for buf; 0: it is there
	lent *buffer.Buffer
	n    int
	err  syscall.Errno
}

// Wrap returns c with cheaper calls, or c itself when it is no TCP connection.
func Wrap(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	w := &conn{TCPConn: tcp, raw: raw}
	w.read.call, w.write.call = read, write
	w.read.try, w.write.try = w.read.attempt, w.write.attempt
	w.once = func(fd uintptr) { w.write.attempt(fd) }
	return w
}

func (d *direction) attempt(fd uintptr) (done bool) {
	if d.late > 0 {
		d.lent = buffer.Get(d.late)
		d.buf = d.lent.B[:cap(d.lent.B)]
		defer func() {
			if d.n == 0 { // nothing yet, or never
				d.lent.Release()
				d.lent, d.buf = nil, nil
			}
		}()
	}
	for {
		d.n, d.err = d.call(fd, d.buf[:min(len(d.buf), most)])
		if d.err != 0 {
			d.n = 0
		}
		switch d.err {
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			return true
		}
	}
}

// do makes one call and waits for what it needs, within the connection's deadline. The lock is held.
func (d *direction) do(wait func(func(uintptr) bool) error, b []byte) (int, syscall.Errno, error) {
	d.buf, d.n, d.err = b, 0, 0
	err := wait(d.try)
	d.buf = nil
	if err != nil {
		return 0, 0, err
	}
	return d.n, d.err, nil
}

func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	n, errno, err := c.read.do(c.raw.Read, b)
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, c.failed("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// ReadLate is [LateReader]'s.
func (c *conn) ReadLate(size int) (*buffer.Buffer, error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	c.read.late = max(size, 1)
	n, errno, err := c.read.do(c.raw.Read, nil)
	room := c.read.lent
	c.read.late, c.read.lent = 0, nil
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, c.failed("read", errno)
	case n == 0:
		return nil, io.EOF
	}
	room.B = room.B[:n]
	return room, nil
}

func (c *conn) Write(b []byte) (written int, err error) {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	for written < len(b) {
		n, errno, err := c.write.do(c.raw.Write, b[written:])
		if err != nil {
			return written, err
		}
		if errno != 0 {
			return written, c.failed("write", errno)
		}
		written += n
	}
	return written, nil
}

// WriteNow is [NowWriter]'s.
func (c *conn) WriteNow(b []byte) int {
	if !c.write.mu.TryLock() {
		return 0
	}
	defer c.write.mu.Unlock()
	d := &c.write
	d.buf, d.n, d.err = b, 0, 0
	err := c.raw.Control(c.once) // of which the poller need not know
	d.buf = nil
	if err != nil || d.err != 0 {
		return 0
	}
	return d.n
}

// failed is the error that the standard library gives.
func (c *conn) failed(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
