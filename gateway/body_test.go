package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// dial opens a connection to the gateway and sends what is given, which need not be a whole request.
func (e *edge) dial(format string, args ...any) net.Conn {
	e.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.gw.URL(), "http://"))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testkit.Patience)) //nolint:errcheck // what is read fails
	fmt.Fprintf(conn, format, args...)
	return conn
}

// head is the head of a chat request with a body of n bytes. Headers are whole lines.
func head(n int, headers ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n", chatPath, n, strings.Join(headers, ""))
}

// readAnswer reads the answer from a connection.
func readAnswer(t testing.TB, conn net.Conn) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Close {
		resp.Header.Set("Connection", "close") // which the reader takes away
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// Two thousand connections that each announced a mebibyte and sent one byte once took the whole budget, for half an hour.
func TestAnnouncingABodyTakesNoRoom(t *testing.T) {
	t.Parallel()
	const many, announced, budget = 64, 1 << 20, 4 << 20
	e := newEdge(t, 1, func(c *gateway.Config) { c.MaxBody, c.MaxInFlight = 2<<20, budget })
	e.workers[0].Answer(func(j *testkit.Job) { <-j.Whole(); j.Reply(200, `{}`) })
	conns := make([]net.Conn, many)
	for i := range conns {
		conns[i] = e.dial("%s{", head(announced))
	}
	testkit.Eventually(t, "all have sent a byte", func() bool { return e.gw.InFlight() >= many*16<<10 })
	if n := e.gw.InFlight(); n > many*16<<10 {
		t.Errorf("%d bytes in flight for %d bytes that came", n, many)
	}
	if got := e.post(chatPath, padded(2<<20-200)); got.status != 200 {
		t.Errorf("another client gets %d %s", got.status, got.body)
	}
	for _, conn := range conns {
		conn.Close()
	}
	testkit.Eventually(t, "what they took is given back", func() bool { return e.gw.InFlight() == 0 })
}

func TestABodyThatBreaksOffIsAnsweredSoon(t *testing.T) {
	t.Parallel()
	const stall = 500 * time.Millisecond
	e := newEdge(t, 1, func(c *gateway.Config) { c.BodyStall = stall })
	e.workers[0].Answer(func(j *testkit.Job) { <-j.Whole(); j.Reply(200, string(j.Body())) })
	for _, tt := range []struct{ name, sent string }{
		{"after some bytes", head(100_000) + `{"model":`},
		{"before the first one", head(100_000)},
		{"in a chunk", "POST " + chatPath + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"mod"},
		{"far in", head(4<<20) + strings.Repeat(" ", 3<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := e.dial("%s", tt.sent)
			got := readAnswer(t, conn)
			if f := failureIn(t, got.body); got.status != 408 || f.Code != "body_timeout" || got.header.Get("Connection") != "close" {
				t.Errorf("got %d %v %+v, want 408 and the connection's end", got.status, got.header, f)
			}
		})
	}
	t.Run("a slow one is waited for", func(t *testing.T) {
		body := chat(false)
		conn := e.dial("%s", head(len(body)))
		for began := time.Now(); len(body) > 1 && time.Since(began) < 3*stall; body = body[1:] {
			fmt.Fprint(conn, body[:1])
			time.Sleep(stall / 10)
		}
		fmt.Fprint(conn, body)
		if got := readAnswer(t, conn); got.status != 200 || got.body != chat(false) {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

// The HTTP server reads what a handler has left of a body before it answers, and waited for it without a bound.
func TestABodyThatNobodyWantsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, func(c *gateway.Config) { c.BodyStall = time.Second })
	for _, tt := range []struct {
		head   string
		status int
	}{
		{"POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 404},
		{"POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n", 404},
		{"POST /nosuch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 404},
		{"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 405},
		{"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 200},
		{"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 200},
		{"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 501},
		{"POST /v1/responses/resp_x/cancel HTTP/1.1\r\nHost: x\r\nX-Radixbus-Model: nope\r\nContent-Length: 10\r\n\r\n", 503},
		{head(10, "Content-Encoding: gzip\r\n"), 415},
		{head(10, "X-Radixbus-Deadline-Ms: soon\r\n"), 400},
		{head(10_000_000_000), 413},
		{"POST /abort_request HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", 408},
	} {
		t.Run(strings.ReplaceAll(tt.head, "\r\n", " "), func(t *testing.T) {
			t.Parallel()
			conn := e.dial("%s", tt.head)
			began := time.Now()
			got := readAnswer(t, conn)
			if took := time.Since(began); got.status != tt.status || got.header.Get("Connection") != "close" || took > 5*time.Second {
				t.Errorf("%d %v after %v, want %d and the connection's end", got.status, got.header, took, tt.status)
			}
		})
	}
}

func TestABodyThatNobodyWantsDoesNotCostTheConnection(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	conn := e.dial("POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if got := readAnswer(t, conn); got.status != 404 || got.header.Get("Connection") != "" {
		t.Errorf("a whole request: %d %v", got.status, got.header)
	}
	time.Sleep(2 * time.Second) // longer than anything is waited for
	fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := readAnswer(t, conn); got.status != 200 {
		t.Errorf("the next one on the connection: %d", got.status)
	}
}

// Bodies lie in room that requests lend each other: each worker gets its own request's, also at the second attempt.
func TestBodiesAreNobodyElses(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 2, nil)
	var n atomic.Int64
	for _, w := range e.workers {
		w.Answer(func(j *testkit.Job) {
			if j.Attempt == 1 && n.Add(1)%3 == 0 {
				j.End(wire.CodeEngineDown, "") // to another worker with it
				return
			}
			j.Reply(200, string(j.Body()))
		})
	}
	var clients sync.WaitGroup
	for c := range 12 {
		clients.Go(func() {
			for i := range 25 {
				filler := strings.Repeat(fmt.Sprintf("%02d-%02d ", c, i), 1+(c*7919+i*104729)%40_000)
				body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]}`, model, filler)
				r := e.request("POST", chatPath, body)
				if i%2 == 0 {
					r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(body))
				}
				if got := e.do(r); got.status != 200 || got.body != body {
					t.Errorf("client %d, request %d of %d bytes: got %d and %d bytes: %.80q", c, i, len(body), got.status, len(got.body), got.body)
				}
			}
		})
	}
	clients.Wait()
}

// A stream may last for minutes; its prompt, of which no other attempt will be made, is let go when it begins.
func TestThePromptIsLetGoWhenTheAnswerBegins(t *testing.T) {
	t.Parallel()
	e := newEdge(t, 1, nil)
	end := make(chan struct{})
	e.workers[0].Answer(func(j *testkit.Job) {
		j.Accept()
		j.Head(200, testkit.EventStream)
		j.Data("data: {}\n\n")
		<-end
		j.Data("data: [DONE]\n\n")
		j.End(wire.CodeOK, "")
	})
	doc := strings.TrimSuffix(padded(1<<20), "}") + `,"stream":true}`
	resp, err := e.client.Do(e.request(http.MethodPost, chatPath, doc))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	testkit.Eventually(t, "the prompt's bytes are given back", func() bool { return e.gw.InFlight() == 0 })
	close(end)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "data: {}\n\ndata: [DONE]\n\n" {
		t.Errorf("got %q, %v", body, err)
	}
}
