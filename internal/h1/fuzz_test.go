package h1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/buffer"
)

// A playback is a connection that says what it was given, in pieces.
type playback struct {
	net.Conn
	doc   []byte
	piece int
}

func (p *playback) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), p.piece)], p.doc)
	p.doc = p.doc[n:]
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
func (p *playback) ReadLate(size int) (*buffer.Buffer, error) {
	room := buffer.Get(size)
	n, err := p.Read(room.B[:cap(room.B)])
	if err != nil {
		room.Release()
		return nil, err
	}
	room.B = room.B[:n]
	return room, nil
}

func (p *playback) Write(b []byte) (int, error)      { return len(b), nil }
func (p *playback) Close() error                     { return nil }
func (p *playback) SetReadDeadline(time.Time) error  { return nil }
func (p *playback) SetWriteDeadline(time.Time) error { return nil }

// What this client takes for an answer, the standard library takes for the same one; it is the more lenient of the two, but
// for what is not HTTP/1.
func FuzzResponse(f *testing.F) {
	for _, doc := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 204 No\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1;x\r\no\r\n1\r\nk\r\n0\r\nA: b\r\n\r\n",
	} {
		f.Add([]byte(doc), uint8(3), uint8(200))
	}
	client, err := New(Config{URL: "http://127.0.0.1:1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc []byte, piece, room uint8) {
		read := func(piece, room int, late bool) (status int, body []byte, ended error, err error) {
			p := &playback{doc: doc, piece: piece}
			c := &conn{Conn: p, raw: p, client: client}
			if late {
				c.late = p
			}
			resp, e := c.roundTrip(&Request{Method: "POST", Path: "/"})
			if e != nil {
				return 0, nil, nil, e
			}
			resp.release = func() bool { return false }
			buf := make([]byte, room)
			for !resp.done {
				if late {
					resp.Wait()
				}
				n, err := resp.Read(buf)
				body = append(body, buf[:n]...)
				if err != nil && err != io.EOF {
					return resp.Status, body, err, nil
				}
				if n == 0 && err == nil {
					t.Fatal("nothing was read, and it is no error")
				}
			}
			return resp.Status, body, nil, nil
		}
		status, body, ended, err := read(1+int(piece), 1+int(room), true)
		status2, body2, ended2, err2 := read(len(doc)+1, 64<<10, false)
		if status != status2 || !bytes.Equal(body, body2) || (ended == nil) != (ended2 == nil) || (err == nil) != (err2 == nil) {
			t.Fatalf("in pieces: %d %q %v %v; at once: %d %q %v %v", status, body, ended, err, status2, body2, ended2, err2)
		}
		if err != nil || ended != nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(doc))
		for {
			resp, err := http.ReadResponse(in, &http.Request{Method: "POST"})
			if err != nil {
				t.Fatalf("taken for %d %q; the standard library: %v", status, body, err)
			}
			if resp.StatusCode < 200 {
				continue
			}
			theirs, err := io.ReadAll(resp.Body)
			if resp.StatusCode != status || !bytes.Equal(theirs, body) || err != nil {
				t.Fatalf("taken for %d %q; the standard library: %d %q %v", status, body, resp.StatusCode, theirs, err)
			}
			return
		}
	})
}
