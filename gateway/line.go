package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/radixbus/radixbus/internal/netconn"
)

// A line is a client's connection behind the HTTP server's back, for the chunks of an answer whose head has been flushed: from
// then on the server has nothing in its own buffers, and writes the last chunk when the handler ends. It belongs to whoever has
// the turn of the attempt.
type line interface {
	io.Writer
	netconn.NowWriter
}

type connKey struct{}

// withConn lets a request's handler find its connection; see [http.Server.ConnContext].
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// lineOf returns the line of a request whose answer comes in chunks if it has no length; nil when there is none.
func lineOf(r *http.Request) line {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.Method == http.MethodHead {
		return nil
	}
	l, _ := r.Context().Value(connKey{}).(line)
	return l
}

// chunkEnd follows a chunk's data.
const chunkEnd = "\r\n"

// appendChunk appends b as one chunk, see RFC 9112, section 7.1.
func appendChunk(to, b []byte) []byte {
	to = strconv.AppendUint(to, uint64(len(b)), 16)
	to = append(to, "\r\n"...)
	to = append(to, b...)
	return append(to, chunkEnd...)
}
