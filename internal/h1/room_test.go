package h1

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

// A stream that is silent, and a connection that is kept, hold no room for what may come.
func TestNothingIsHeldWhileNothingComes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("room is needed before there is anything to read on this system")
	}
	more := make(chan string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for s := range more {
			io.WriteString(w, s)                  //nolint:errcheck // shows in what is read
			http.NewResponseController(w).Flush() //nolint:errcheck // shows in what is read
		}
	}))
	defer srv.Close()
	c, err := New(Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { more <- "first" }()
	resp, err := c.Do(t.Context(), &Request{Method: "GET", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for _, want := range []string{"first", "second", "third"} {
		if want != "first" {
			go func() { more <- want }()
		}
		resp.Wait()
		if resp.conn.at == resp.conn.end {
			t.Fatalf("nothing was waited for in front of %q", want)
		}
		n, err := resp.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v; want %q", buf[:n], err, want)
		}
		if resp.conn.in != nil || resp.conn.lent != nil {
			t.Errorf("after %q there is room for %d bytes", want, len(resp.conn.in))
		}
	}
	close(more)
	resp.Wait()
	if n, err := resp.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	resp.Wait() // does nothing
	if kept := c.take(); kept == nil || kept.in != nil || kept.lent != nil {
		t.Errorf("the connection is not kept, or with room: %+v", kept)
	}
}

// Connections that a server has closed are not kept until their own time is over: they hold a descriptor each.
func TestWhatTheServerHasClosedIsNotKept(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })) //nolint:errcheck // shows in what is read
	defer srv.Close()
	c, err := New(Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	kept := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, one := range c.idle {
			one.since = time.Now().Add(-2 * c.sweepAfter())
		}
		return len(c.idle)
	}
	resp, err := c.Do(t.Context(), &Request{Method: "GET", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp); err != nil {
		t.Fatal(err)
	}
	if kept(); len(c.idle) != 1 {
		t.Fatalf("%d connections are kept", len(c.idle))
	}
	if c.expire(); kept() != 1 {
		t.Error("one that is open was closed")
	}
	srv.CloseClientConnections()
	for range 100 {
		if c.expire(); kept() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("one that the server has closed is kept")
}
