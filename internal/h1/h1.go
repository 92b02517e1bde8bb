// Package h1 is an HTTP/1.1 client for one server, made for answers that come as streams: the goroutine that calls writes
// the request and reads the answer itself, so that an exchange wakes no other one.
//
// A [Client] keeps connections that are open and unused, the last used first. [Client.Do] sends a request on one of them, or
// on a new one, and returns once the answer's head has come. Reading the [Response] to its end, or closing it, gives the
// connection back, or ends it.
//
// # Guarantees
//
// A request is sent at most twice, and a second time only when it met a connection that the server had closed meanwhile,
// without a byte of an answer, and another connection to the same server could be opened. Heads are bounded by
// [Config.MaxHead]; bodies are for the reader to bound. What is not HTTP/1 is an error, and so is a body that ends early
// ([io.ErrUnexpectedEOF]). The end of a request's context ends its exchange wherever it is. There are no redirects, no
// cookies, no proxies and no compression: a body is passed on as it is.
//
// # Concurrency
//
// A Client may be used from any goroutine, a Response from one at a time. No goroutine outlives a call, but for the timer
// that closes unused connections.
package h1

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/radixbus/radixbus/internal/netconn"
)

// Config tells a Client where its server is. The zero value of every field but URL means its documented default.
type Config struct {
	// URL of the server, http or https; of its path, a prefix of all requests' paths. Required.
	URL string
	// DialTimeout bounds the making of a connection, its TLS handshake included. Default 3s.
	DialTimeout time.Duration
	// IdleFor is how long a connection is kept unused. One that the server has closed before is found when it is to be used.
	// Default 1m.
	IdleFor time.Duration
	// MaxIdle bounds the connections that are kept. Default 4096.
	MaxIdle int
	// MaxHead bounds the bytes of an answer's head. Default 64 KiB.
	MaxHead int
	// TLS is used for https. Default: the system's roots.
	TLS *tls.Config
}

func (c Config) withDefaults() Config {
	c.DialTimeout = cmp.Or(c.DialTimeout, 3*time.Second)
	c.IdleFor = cmp.Or(c.IdleFor, time.Minute)
	c.MaxIdle = cmp.Or(c.MaxIdle, 4096)
	c.MaxHead = cmp.Or(c.MaxHead, 64<<10)
	return c
}

// Client speaks to one server. Make one with [New].
type Client struct {
	cfg    Config
	addr   string // to dial
	host   string // as requests name it
	prefix string // of paths
	secure bool
	dialer net.Dialer

	mu     sync.Mutex
	idle   []*conn // the last used at the end
	sweep  *time.Timer
	closed bool
}

// New checks the URL. Nothing is dialed.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, errors.New("h1: the URL cannot be parsed") // the parser's text repeats it, with its password
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("h1: URL %q does not look like http://host:port", u.Redacted())
	}
	c := &Client{cfg: cfg, host: u.Host, prefix: strings.TrimRight(u.EscapedPath(), "/"), secure: u.Scheme == "https"}
	port := cmp.Or(u.Port(), map[bool]string{false: "80", true: "443"}[c.secure])
	c.addr = net.JoinHostPort(u.Hostname(), port)
	c.dialer = net.Dialer{KeepAlive: 15 * time.Second}
	return c, nil
}

// A Header is one line of a request's head.
type Header struct{ Name, Value string }

// A Request is what is sent. Its parts are not changed, and may be used again once Do has returned.
type Request struct {
	Method  string
	Path    string // with its query; behind the path of the client's URL
	Headers []Header
	Body    [][]byte // in pieces
}

// An Error is a failure before an answer's head. Its cause is the network's, the context's or ErrMalformed.
type Error struct {
	Op   string // "dial", "write" or "read"
	Sent bool   // something of the request may have reached the server
	Err  error
}

func (e *Error) Error() string { return "h1: " + e.Op + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ErrMalformed reports an answer that is not HTTP/1, or beyond its bounds.
var ErrMalformed = errors.New("malformed answer")

// Do sends a request and waits for the head of its answer. The caller reads the Response to its end or closes it; both end
// its watch of ctx. An error is an *Error, or about a request that cannot be sent.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	for kept := c.take(); kept != nil; kept = c.take() {
		if !kept.usable() {
			kept.close()
			continue
		}
		resp, err := c.exchange(ctx, kept, r)
		if err == nil || !kept.stale || ctx.Err() != nil {
			return resp, err
		}
		if fresh, dialErr := c.dial(ctx); dialErr == nil {
			return c.exchange(ctx, fresh, r)
		}
		return nil, err // the server ended with our request: that is for the caller to judge
	}
	fresh, err := c.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, &Error{Op: "dial", Err: err}
	}
	return c.exchange(ctx, fresh, r)
}

func (c *Client) exchange(ctx context.Context, conn *conn, r *Request) (*Response, error) {
	release := context.AfterFunc(ctx, conn.interrupt)
	resp, err := conn.roundTrip(r)
	if err == nil {
		resp.release = release
		if resp.done { // there is no body
			resp.Close()
		}
		return resp, nil
	}
	release()
	conn.close()
	if ctx.Err() != nil {
		err.Err = context.Cause(ctx)
	}
	return nil, err
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	raw, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	raw = netconn.Wrap(raw)
	conn := &conn{client: c, raw: raw, Conn: raw}
	conn.late, _ = raw.(netconn.LateReader)
	if c.secure {
		cfg := &tls.Config{}
		if c.cfg.TLS != nil {
			cfg = c.cfg.TLS.Clone()
		}
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(c.addr)
		}
		cfg.NextProtos = nil // no HTTP/2
		secured := tls.Client(raw, cfg)
		if err := secured.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		conn.Conn, conn.late = secured, nil
	}
	return conn, nil
}

// take returns the connection that was used last, or nil.
func (c *Client) take() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	if last < 0 {
		return nil
	}
	conn := c.idle[last]
	c.idle[last] = nil
	c.idle = c.idle[:last]
	return conn
}

// keep takes a connection back whose answer has been read to its end.
func (c *Client) keep(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= c.cfg.MaxIdle {
		conn.close()
		return
	}
	conn.since, conn.used = time.Now(), true
	c.idle = append(c.idle, conn)
	if c.sweep == nil {
		c.sweep = time.AfterFunc(c.sweepAfter(), c.expire)
	}
}

// sweepAfter is how often unused connections are looked at.
func (c *Client) sweepAfter() time.Duration { return min(c.cfg.IdleFor, 3*time.Second) }

// expire closes the connections that were unused for too long, and those that the server has closed.
func (c *Client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.idle = slices.DeleteFunc(c.idle, func(one *conn) bool {
		unused := now.Sub(one.since)
		over := unused >= c.sweepAfter() && !one.usable()
		if over {
			one.close()
		}
		return over
	})
	if c.sweep = nil; len(c.idle) > 0 && !c.closed {
		c.sweep = time.AfterFunc(c.sweepAfter(), c.expire)
	}
}

// Close closes the unused connections; those in use are closed when they are given back.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		conn.close()
	}
	c.idle = nil
	if c.sweep != nil {
		c.sweep.Stop()
	}
}
