//go:build race

package netconn

import "syscall"

// The race detector learns what a read and a write order from these.

func read(fd uintptr, b []byte) (int, syscall.Errno)  { return result(syscall.Read(int(fd), b)) }
func write(fd uintptr, b []byte) (int, syscall.Errno) { return result(syscall.Write(int(fd), b)) }

func result(n int, err error) (int, syscall.Errno) {
	if err != nil {
		errno, _ := err.(syscall.Errno)
		return 0, errno
	}
	return n, 0
}
