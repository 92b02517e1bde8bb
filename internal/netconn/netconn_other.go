//go:build !linux

package netconn

import "net"

// Wrap returns c.
func Wrap(c net.Conn) net.Conn { return c }
