// Package netconn makes a TCP connection's reads and writes cheaper where many small ones are what a process does.
//
// The sockets of the standard library never wait in the kernel: where there is nothing to read, the goroutine is parked and
// the poller wakes it. Still each call is announced to the runtime as one that may take long, and the announcement wakes the
// thread that watches over such calls, which then looks around every few dozen microseconds for as long as the process has
// anything to do. [Wrap] leaves the announcement out: a tenth to a fifth of the processor time of a whole process
// (docs/decisions).
//
// The price: a goroutine that computes for long without giving way is asked to give way later than it would be, once any timer
// of the process has run out. Whoever computes for long has to give way by itself.
//
// On systems other than Linux [Wrap] changes nothing.
package netconn

import (
	"net"

	"github.com/radixbus/radixbus/internal/buffer"
)

// Listener wraps what another accepts.
type Listener struct{ net.Listener }

// Accept waits for the next connection.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Wrap(c), nil
}

// A LateReader is a connection that can be waited for without room for what comes: ten thousand that are silent then need none.
type LateReader interface {
	// ReadLate reads once, waiting for the first byte, into room for size bytes which it borrows when there is something to
	// read. The caller releases it; there is none with an error.
	ReadLate(size int) (*buffer.Buffer, error)
}

// A NowWriter is a connection that can be written to without waiting.
type NowWriter interface {
	// WriteNow writes what the connection takes at once, whatever its deadline, and returns how much that is: 0 too when it is
	// broken, or when a Write is under way.
	WriteNow(b []byte) int
}
