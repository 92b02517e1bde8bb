package gateway_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// Whatever clients send, and wherever they break off, nothing of it is left: no bytes of the budget, no request that could be
// aborted, no stream, no goroutine.
func TestNothingIsLeftOfRequestsThatBreakOff(t *testing.T) {
	const rounds, clients = 100, 64
	e := newEdge(t, 1, func(c *gateway.Config) {
		c.MaxBody, c.MaxInFlight, c.BodyStall = 256<<10, 2<<20, 300*time.Millisecond
	})
	e.workers[0].Answer(func(j *testkit.Job) {
		j.Accept()
		select {
		case <-j.Cancelled():
		case <-time.After(time.Second): // the cancel came before the request, on another connection; adapters ask for what they missed
		}
		j.End(wire.CodeCancelled, "")
	})
	stream := chat(true)
	batch := `{"text":["x","y","z"],"rid":["NAME-a","NAME-b","NAME-b"],"stream":true}`
	post := func(path, body string, announced int) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: NAME\r\nContent-Length: %d\r\n\r\n%s", path, announced, body)
	}
	kinds := []struct {
		name, sent string
		then       func(conn net.Conn, name string) // before the connection ends
	}{
		{"half a head", "POST /v1/chat/completions HTTP/1.1\r\nHost:", nil},
		{"no HTTP", "\x16\x03\x01\x02\x00 hello\r\n\r\n", answered},
		{"no byte of a body", post(chatPath, "", 100_000), nil},
		{"a byte of a body", post(chatPath, "{", 100_000), nil},
		{"most of a body", post(chatPath, strings.Repeat(" ", 99_000), 100_000), nil},
		{"a body that breaks off", post(chatPath, "{", 100_000), answered},
		{"a body that is too long", post(chatPath, strings.Repeat(" ", 10_000), 1<<20), answered},
		{"a chunk that is none", "POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"tex\r\nzz", answered},
		{"no JSON", post(chatPath, `{"model":`, 9), answered},
		{"a name that does not end", post("/generate", `{"rid":["NAME`, 13), answered},
		{"no form", post("/v1/audio/transcriptions", "x", 1), answered},
		{"an unknown route", post("/v1/nothing", "", 10), answered},
		{"a wrong method", post("/v1/models", "{}", 2), answered},
		{"a body where none is wanted", "GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", nil},
		{"an abort that breaks off", post("/abort_request", `{"rid":`, 100), nil},
		{"an abort that is no JSON", post("/abort_request", `{"rid":`, 7), answered},
		{"a request that is left", post(chatPath, stream, len(stream)), nil},
		{"a batch that is left", post("/generate", batch, len(batch)), nil},
		{"a request that is left later", post(chatPath, stream, len(stream)), func(net.Conn, string) { time.Sleep(20 * time.Millisecond) }},
		{"a request that is aborted", post(chatPath, stream, len(stream)), e.abortAndRead},
		{"a batch that is aborted", post("/generate", batch, len(batch)), e.abortAndRead},
		{"a body whose request is aborted", post(chatPath, "{", 100_000), e.abortAndRead},
		{"a request whose time is over", strings.Replace(post(chatPath, stream, len(stream)), "Host: x", "Host: x\r\nX-Radixbus-Deadline-Ms: 30", 1), answered},
	}
	before := runtime.NumGoroutine()
	turns := make(chan int)
	var all sync.WaitGroup
	for seed := range clients {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			for i := range turns {
				kind := &kinds[i%len(kinds)]
				name := fmt.Sprintf("r%04d", i)
				conn := e.dial("%s", strings.ReplaceAll(kind.sent, "NAME", name))
				if kind.then != nil {
					kind.then(conn, name)
				}
				if rng.IntN(2) == 0 {
					conn.(*net.TCPConn).SetLinger(0) //nolint:errcheck // it breaks off all the same
				}
				conn.Close()
			}
		})
	}
	for i := range rounds * len(kinds) {
		turns <- i
	}
	close(turns)
	all.Wait()
	e.client.CloseIdleConnections()
	testkit.Eventually(t, "no request is known", func() bool { calls, names := e.gw.Calls(); return calls+names == 0 })
	testkit.Eventually(t, "no bytes are held, no streams are open", func() bool { return e.gw.InFlight() == 0 && e.gw.Streams() == 0 })
	testkit.Eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if n := len(e.workers[0].Jobs()); n < rounds {
		t.Errorf("only %d requests reached the worker: most were to break off there", n)
	}
	if got := e.do(e.request("GET", "/readyz", "")); got.status != 200 {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

// answered waits for whatever the gateway has to say.
func answered(conn net.Conn, _ string) {
	conn.Read(make([]byte, 1)) //nolint:errcheck // it may have nothing to say
}

// abortAndRead aborts what was sent on a connection, if it is found yet, and reads what comes of it.
func (e *edge) abortAndRead(conn net.Conn, name string) {
	if got := e.post("/abort_request", `{"rid":"`+name+`"}`); got.status != 200 {
		e.t.Errorf("abort: %d %s", got.status, got.body)
	}
	conn.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // it was not found, and goes on
	io.Copy(io.Discard, conn)                         //nolint:errcheck // see above
}
