package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/command"
	"github.com/radixbus/radixbus/internal/nullengine"
	"github.com/radixbus/radixbus/internal/testkit"
)

// BenchmarkPath sends requests one at a time through the whole of `up`: gateway, scheduler, bus, adapter. Engine and client are in
// this process too, and allocate next to nothing: what is counted is the path's. A stream's 64 tokens come as fast as they are read,
// so that several may share a write.
func BenchmarkPath(b *testing.B) {
	url := nullEngine(b)
	ctx, cancel := context.WithCancelCause(context.Background())
	out, ended := testkit.NewOutput(), make(chan error, 1)
	go func() {
		ended <- command.Run(ctx, command.Process{
			Args: []string{"up", "--port", "0", "--admin-port", "0", "--engine", url}, Stdout: out, Stderr: testkit.NewOutput(),
		})
	}()
	defer func() {
		cancel(command.Signal("terminated"))
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	base := <-out.First
	for _, size := range []int{1000, 20_000, 220_000} {
		b.Run(fmt.Sprintf("whole/%dKB", size/1000), func(b *testing.B) {
			c := dialPath(b, base, size, 1, false)
			b.ReportAllocs()
			for b.Loop() {
				c.ask(b)
			}
		})
	}
	b.Run("stream/64tokens", func(b *testing.B) {
		const tokens = 64
		c := dialPath(b, base, 1000, tokens, true)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for b.Loop() {
			c.ask(b)
		}
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N)/tokens, "allocs/token")
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/tokens, "B/token")
	})
}

func nullEngine(b *testing.B) (url string) {
	b.Helper()
	engine, err := nullengine.New(nullengine.Config{})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Serve(ctx, ln) }()
	b.Cleanup(func() { cancel(); <-ended })
	return "http://" + ln.Addr().String()
}

// A pathClient sends one request again and again on one connection.
type pathClient struct {
	net.Conn
	request []byte
	in      []byte
}

func dialPath(b *testing.B, base string, size, tokens int, stream bool) *pathClient {
	b.Helper()
	host := strings.TrimPrefix(base, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	body := fmt.Sprintf(`{"model":"null","max_tokens":%d,"stream":%t,"prompt":"%s"}`, tokens, stream, strings.Repeat("word ", size/5))
	c := &pathClient{Conn: conn, in: make([]byte, 64<<10)}
	c.request = fmt.Appendf(nil, "POST /v1/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", host, len(body), body)
	for until := time.Now().Add(testkit.Patience); ; time.Sleep(10 * time.Millisecond) { // the worker may not have joined yet
		answer := c.once(b)
		if bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
			return c
		}
		if time.Now().After(until) {
			b.Fatalf("got %q", answer)
		}
	}
}

func (c *pathClient) ask(b *testing.B) {
	if answer := c.once(b); !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		b.Fatalf("got %q", answer)
	}
}

// once sends the request and reads up to the answer's end. What it returns is the beginning, and good until the next call.
func (c *pathClient) once(b *testing.B) []byte {
	if _, err := c.Write(c.request); err != nil {
		b.Fatal(err)
	}
	for at := 0; ; {
		n, err := c.Read(c.in[at:])
		if err != nil {
			b.Fatal(err)
		}
		if at += n; whole(c.in[:at]) {
			return c.in[:at]
		}
	}
}

// whole tells whether an answer has come to its end.
func whole(answer []byte) bool {
	head, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	_, after, sized := bytes.Cut(head, []byte("\r\nContent-Length: "))
	if !sized {
		return ok && bytes.HasSuffix(body, []byte("0\r\n\r\n"))
	}
	length := 0
	for _, digit := range after {
		if digit < '0' || digit > '9' {
			break
		}
		length = 10*length + int(digit-'0')
	}
	return ok && len(body) >= length
}
