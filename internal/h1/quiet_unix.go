//go:build unix

package h1

import (
	"net"
	"syscall"
)

// quiet tells whether a connection is open and nothing has come on it; with records, what has come may be TLS's own.
func quiet(c net.Conn, records bool) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	still := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		still = err == syscall.EAGAIN || records && err == nil && n > 0
		return true // it is not waited for
	})
	return still && err == nil
}
