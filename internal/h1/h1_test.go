package h1_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/h1"
)

func client(t *testing.T, url string, change ...func(*h1.Config)) *h1.Client {
	t.Helper()
	cfg := h1.Config{URL: url}
	for _, f := range change {
		f(&cfg)
	}
	c, err := h1.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func post(body ...string) *h1.Request {
	r := &h1.Request{Method: "POST", Path: "/echo", Headers: []h1.Header{{Name: "Content-Type", Value: "application/json"}}}
	for _, b := range body {
		r.Body = append(r.Body, []byte(b))
	}
	return r
}

func do(t *testing.T, c *h1.Client, r *h1.Request) (*h1.Response, string) {
	t.Helper()
	resp, err := c.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// counted is a server that tells how many connections it has had.
func counted(t *testing.T, h http.HandlerFunc) (url string, conns *atomic.Int64) {
	t.Helper()
	conns = new(atomic.Int64)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL, conns
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Seen", fmt.Sprintf("%s %s %d %s", r.Method, r.RequestURI, r.ContentLength, r.Header.Get("Content-Type")))
	w.Write(body) //nolint:errcheck // a difference shows
}

func TestRequestsAndAnswersAreThoseOfTheStandardLibrary(t *testing.T) {
	url, conns := counted(t, echo)
	c := client(t, url+"/base/")
	for _, body := range [][]string{nil, {"{}"}, {"a", "", "b"}, {strings.Repeat("x", 100<<10)}, {strings.Repeat("y", 3<<20), "z"}} {
		resp, got := do(t, c, post(body...))
		want := strings.Join(body, "")
		if got != want || resp.Status != 200 {
			t.Errorf("%d bytes came back as %d, status %d", len(want), len(got), resp.Status)
		}
		if seen := fmt.Sprintf("POST /base/echo %d application/json", len(want)); resp.Header("x-seen") != seen {
			t.Errorf("the server saw %q, want %q", resp.Header("X-Seen"), seen)
		}
	}
	if resp, _ := do(t, c, &h1.Request{Method: "GET", Path: "/a?b=c"}); resp.Header("X-Seen") != "GET /base/a?b=c 0" {
		t.Errorf("the server saw %q", resp.Header("X-Seen"))
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// A stream's events are there as they come: the reader never waits for more than the first byte.
func TestAStreamIsReadAsItComes(t *testing.T) {
	next := make(chan string)
	url, conns := counted(t, func(w http.ResponseWriter, r *http.Request) {
		for s := range next {
			io.WriteString(w, s) //nolint:errcheck // a difference shows
			w.(http.Flusher).Flush()
		}
	})
	c := client(t, url)
	go func() { next <- "data: 0\n\n" }()
	resp, err := c.Do(t.Context(), post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	for i := range 50 {
		n, err := resp.Read(buf)
		if want := fmt.Sprintf("data: %d\n\n", i); string(buf[:n]) != want || err != nil {
			t.Fatalf("read %q, %v; want %q", buf[:n], err, want)
		}
		if i < 49 {
			next <- fmt.Sprintf("data: %d\n\n", i+1)
		}
	}
	close(next)
	if n, err := resp.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("the end is %d, %v", n, err)
	}
	next = make(chan string)
	close(next)
	do(t, c, post("{}"))
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// scripted is a server that says what it is told to, whatever it is asked, a connection at a time.
func scripted(t *testing.T, talk ...func(conn net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	over.Go(func() {
		for _, say := range talk {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			over.Go(func() { defer conn.Close(); say(conn) })
		}
	})
	t.Cleanup(func() { ln.Close(); over.Wait() })
	return "http://" + ln.Addr().String()
}

// hear reads one request that has a short body.
func hear(conn net.Conn) bool {
	r := make([]byte, 64<<10)
	n, err := conn.Read(r)
	return err == nil && n > 0
}

func answers(docs ...string) func(net.Conn) {
	return func(conn net.Conn) {
		for _, doc := range docs {
			if !hear(conn) {
				return
			}
			io.WriteString(conn, doc) //nolint:errcheck // a difference shows
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestWhatIsNotHTTPIsAnError(t *testing.T) {
	for name, doc := range map[string]string{
		"another protocol":        "SSH-2.0-OpenSSH\r\n\r\n",
		"HTTP/2":                  "HTTP/2.0 200 OK\r\n\r\n",
		"no status":               "HTTP/1.1\r\n\r\n",
		"a status of four digits": "HTTP/1.1 2000 OK\r\n\r\n",
		"a status beyond":         "HTTP/1.1 600 OK\r\n\r\n",
		"an upgrade":              "HTTP/1.1 101 Switching\r\n\r\n",
		"a folded header":         "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"a blank in a name":       "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
		"two lengths":             "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"a signed length":         "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"a negative length":       "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
		"an endless length":       "HTTP/1.1 200 OK\r\nContent-Length: 1" + strings.Repeat("0", 30) + "\r\n\r\nok",
		"compressed frames":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"framed twice":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a long head":             "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 80<<10) + "\r\n\r\n",
		"interim for ever":        strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, scripted(t, answers(doc)))
			resp, err := c.Do(t.Context(), post("{}"))
			if !errors.Is(err, h1.ErrMalformed) {
				t.Errorf("got %v, %v; want an error", resp, err)
			}
		})
	}
}

func TestBodiesThatBreakOffAreErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		doc, body string
		err       error
	}{
		"in the middle of its length": {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "ok", io.ErrUnexpectedEOF},
		"in the middle of a chunk":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", "ok", io.ErrUnexpectedEOF},
		"between chunks":              {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "ok", io.ErrUnexpectedEOF},
		"in the last chunk":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "ok", io.ErrUnexpectedEOF},
		"a chunk that is longer":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", "ok", h1.ErrMalformed},
		"a chunk of no size":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "", h1.ErrMalformed},
		"a chunk of all sizes":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "", h1.ErrMalformed},
		"a chunk's endless line":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 9<<10) + "\r\n", "", h1.ErrMalformed},
		"an endless trailer":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", 99), "", h1.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, scripted(t, answers(tt.doc), answers(ok)))
			resp, err := c.Do(t.Context(), post("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp); string(body) != tt.body || !errors.Is(err, tt.err) {
				t.Errorf("read %q, %v; want %q, %v", body, err, tt.body, tt.err)
			}
			if _, body := do(t, c, post("{}")); body != "ok" {
				t.Errorf("the next answer is %q", body)
			}
		})
	}
}

func TestBodiesEndAsTheirHeadSays(t *testing.T) {
	for name, tt := range map[string]struct {
		method, doc, body string
		again             bool // the connection can be used again
	}{
		"length":                {"POST", ok, "ok", true},
		"no body":               {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true},
		"no content":            {"POST", "HTTP/1.1 204 No Content\r\n\r\n", "", true},
		"not modified":          {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "", true},
		"HEAD":                  {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "", true},
		"close":                 {"POST", "HTTP/1.1 200 OK\r\n\r\nok", "ok", false},
		"told to close":         {"POST", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		"HTTP/1.0":              {"POST", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		"HTTP/1.0, kept":        {"POST", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok", true},
		"interim":               {"POST", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok, "ok", true},
		"bare line feeds":       {"POST", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok", true},
		"chunks":                {"POST", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1;a=b\r\no\r\n01\r\nk\r\n0\r\nA: b\r\n\r\n", "ok", true},
		"chunks and a length":   {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", false},
		"the same length twice": {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok", true},
		"no reason":             {"POST", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok", true},
		"more than it said":     {"POST", ok + "surplus", "ok", false},
	} {
		t.Run(name, func(t *testing.T) {
			first := "first connection"
			again := "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + first
			c := client(t, scripted(t, func(conn net.Conn) {
				if answers(tt.doc)(conn); tt.body == "ok" && strings.HasPrefix(name, "close") {
					return // which is the end of it
				}
				answers(again)(conn)
			}, answers(ok)))
			r := post("{}")
			if r.Method = tt.method; tt.method != "POST" {
				r.Body = nil
			}
			if _, body := do(t, c, r); body != tt.body {
				t.Errorf("body %q, want %q", body, tt.body)
			}
			if _, body := do(t, c, post("{}")); (body == first) != tt.again {
				t.Errorf("the next answer is %q", body)
			}
		})
	}
}

// A server closes connections that lie unused. The request that meets that is sent again; it is not when the server is gone,
// because it may have ended by it.
func TestARequestThatMeetsAClosedConnectionIsSentAgain(t *testing.T) {
	t.Run("closed before it is sent", func(t *testing.T) {
		closed := make(chan struct{})
		c := client(t, scripted(t, func(conn net.Conn) { answers(ok)(conn); conn.Close(); close(closed) }, answers(ok)))
		do(t, c, post("{}"))
		<-closed
		if _, body := do(t, c, post("{}")); body != "ok" {
			t.Errorf("body %q", body)
		}
	})
	t.Run("closed by it", func(t *testing.T) {
		c := client(t, scripted(t, func(conn net.Conn) { answers(ok)(conn); hear(conn) }, answers(ok)))
		do(t, c, post("{}"))
		if _, body := do(t, c, post("{}")); body != "ok" {
			t.Errorf("body %q", body)
		}
	})
	t.Run("and the server is gone", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, _ := ln.Accept()
			answers(ok)(conn)
			ln.Close()
			hear(conn)
			conn.Close()
		}()
		c := client(t, "http://"+ln.Addr().String())
		do(t, c, post("{}"))
		_, err = c.Do(t.Context(), post("{}"))
		if e, is := errors.AsType[*h1.Error](err); !is || !e.Sent {
			t.Errorf("got %v, want an error of a request that was sent", err)
		}
	})
	t.Run("not after a byte of an answer", func(t *testing.T) {
		c := client(t, scripted(t, func(conn net.Conn) { answers(ok, "HTTP/1.1 ")(conn) }, answers(ok)))
		do(t, c, post("{}"))
		if _, err := c.Do(t.Context(), post("{}")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not on a new connection", func(t *testing.T) {
		c := client(t, scripted(t, func(conn net.Conn) { hear(conn) }, answers(ok)))
		if _, err := c.Do(t.Context(), post("{}")); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheEndOfAContextEndsTheExchange(t *testing.T) {
	ends := errors.New("the caller ends it")
	t.Run("before the head", func(t *testing.T) {
		heard := make(chan struct{})
		c := client(t, scripted(t, func(conn net.Conn) { hear(conn); close(heard); hear(conn) }))
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-heard; cancel(ends) }()
		if _, err := c.Do(ctx, post("{}")); !errors.Is(err, ends) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("in the body", func(t *testing.T) {
		c := client(t, scripted(t, func(conn net.Conn) {
			answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")(conn)
			hear(conn)
		}))
		ctx, cancel := context.WithCancelCause(t.Context())
		resp, err := c.Do(ctx, post("{}"))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 9)
		io.ReadFull(resp, b[:2]) //nolint:errcheck // a difference shows
		cancel(ends)
		if _, err := resp.Read(b); err == nil {
			t.Error("it went on")
		}
	})
	t.Run("after the body", func(t *testing.T) {
		c := client(t, scripted(t, answers(ok, ok)))
		ctx, cancel := context.WithCancelCause(t.Context())
		resp, err := c.Do(ctx, post("{}"))
		if err != nil {
			t.Fatal(err)
		}
		io.ReadAll(resp) //nolint:errcheck // a difference shows
		cancel(ends)
		if _, body := do(t, c, post("{}")); body != "ok" {
			t.Errorf("body %q", body)
		}
	})
	t.Run("while nobody reads what is sent", func(t *testing.T) {
		hold := make(chan struct{})
		c := client(t, scripted(t, func(net.Conn) { <-hold }))
		ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, ends)
		defer cancel()
		_, err := c.Do(ctx, post(strings.Repeat("x", 32<<20)))
		close(hold)
		if !errors.Is(err, ends) {
			t.Errorf("got %v", err)
		}
	})
}

// A server may answer without having read a long request, and go on holding the connection.
func TestAnEarlyAnswerIsRead(t *testing.T) {
	c := client(t, scripted(t, func(conn net.Conn) {
		hear(conn)
		io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig") //nolint:errcheck // a difference shows
		time.Sleep(3 * time.Second)
	}))
	resp, body := do(t, c, post(strings.Repeat("x", 32<<20)))
	if resp.Status != 413 || body != "big" {
		t.Errorf("%d %q", resp.Status, body)
	}
}

func TestTheEndOfABodyIsWaitedForAWhile(t *testing.T) {
	stream := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
	read := func(t *testing.T, c *h1.Client) *h1.Response {
		resp, err := c.Do(t.Context(), post("{}"))
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(resp, make([]byte, 2)) //nolint:errcheck // a difference shows
		return resp
	}
	t.Run("it comes", func(t *testing.T) {
		c := client(t, scripted(t, func(conn net.Conn) {
			answers(stream)(conn)
			time.Sleep(time.Millisecond)
			io.WriteString(conn, "0\r\n\r\n") //nolint:errcheck // a difference shows
			answers(ok)(conn)
		}))
		if read(t, c).Settle(time.Second) {
			t.Error("there was more")
		}
		if _, body := do(t, c, post("{}")); body != "ok" {
			t.Errorf("body %q", body)
		}
	})
	t.Run("it does not", func(t *testing.T) {
		c := client(t, scripted(t, func(conn net.Conn) { answers(stream)(conn); hear(conn) }, answers(ok)))
		if read(t, c).Settle(time.Millisecond) {
			t.Error("there was more")
		}
		if _, body := do(t, c, post("{}")); body != "ok" {
			t.Errorf("body %q", body)
		}
	})
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	ended := make(chan struct{})
	c := client(t, scripted(t, func(conn net.Conn) { answers(ok)(conn); hear(conn); close(ended) }), func(c *h1.Config) { c.IdleFor = 10 * time.Millisecond })
	do(t, c, post("{}"))
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it is open still")
	}
}

func TestRequestsThatAreNotOneAreRefused(t *testing.T) {
	c := client(t, "http://127.0.0.1:1")
	for name, r := range map[string]*h1.Request{
		"no method":        {Path: "/"},
		"a line's end":     {Method: "GET", Path: "/\r\n"},
		"a blank":          {Method: "GET", Path: "/a b"},
		"no path":          {Method: "GET", Path: "a"},
		"a header's value": {Method: "GET", Path: "/", Headers: []h1.Header{{Name: "A", Value: "b\r\nC: d"}}},
		"a header's name":  {Method: "GET", Path: "/", Headers: []h1.Header{{Name: "A:", Value: "b"}}},
		"a length":         {Method: "GET", Path: "/", Headers: []h1.Header{{Name: "content-length", Value: "1"}}},
	} {
		if _, err := c.Do(t.Context(), r); err == nil || strings.Contains(err.Error(), "dial") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Do(t.Context(), post("{}")); err == nil {
		t.Error("nobody listens there")
	} else if e, is := errors.AsType[*h1.Error](err); !is || e.Op != "dial" || e.Sent {
		t.Errorf("got %v", err)
	}
	for _, url := range []string{"", "ftp://x", "http://", "http://user:secret@ host"} {
		if _, err := h1.New(h1.Config{URL: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	c := client(t, srv.URL, func(c *h1.Config) { c.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"} })
	for _, size := range []int{10, 1 << 20, 10} {
		if _, body := do(t, c, post(strings.Repeat("x", size))); len(body) != size {
			t.Errorf("%d bytes came back as %d", size, len(body))
		}
	}
	if _, err := client(t, srv.URL).Do(t.Context(), post("{}")); err == nil {
		t.Error("a stranger's certificate was taken")
	}
}

func BenchmarkExchange(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // a difference shows
		io.WriteString(w, "ok")     //nolint:errcheck // a difference shows
	}))
	defer srv.Close()
	body := bytes.Repeat([]byte("x"), 1000)
	b.Run("h1", func(b *testing.B) {
		c, err := h1.New(h1.Config{URL: srv.URL})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		b.ReportAllocs()
		for b.Loop() {
			resp, err := c.Do(b.Context(), &h1.Request{Method: "POST", Path: "/", Body: [][]byte{body}})
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp); n != 2 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
		defer c.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			resp, err := c.Post(srv.URL, "application/json", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != 2 || err != nil {
				b.Fatal(n, err)
			}
			resp.Body.Close()
		}
	})
}
