// Package bus connects a role to NATS the way Radixbus needs it: three connections, so that tokens, request bodies
// and control messages never wait behind each other; reconnecting for ever, with jitter; each with an inbox prefix of
// its own, so that permissions can keep strangers out of it.
//
// # Guarantees
//
// [Connect] waits for the bus for as long as its context lives: roles may start before it. The token connection
// keeps no buffer while disconnected, so a frame is either on its way or an error: the numbering of frames does the
// rest. [Bus.Close] drains and waits.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/netconn"
)

// Config tells a Bus where to connect. URL is required unless Extra holds an in-process server.
type Config struct {
	// URL of one or more servers, separated by commas.
	URL string
	// Role and ID name the connections and the inboxes: "gateway", "g-1f2e…".
	Role, ID string
	// Creds is a NATS credentials file. Default: none.
	Creds string
	// NoEcho keeps a connection's own messages from coming back to it.
	NoEcho bool
	// Extra options for each connection; localbus.Server.InProcess is one.
	Extra []nats.Option
	// DrainTimeout bounds Close. Default 10s.
	DrainTimeout time.Duration
	// Registry takes the metrics. Default: none.
	Registry prometheus.Registerer
	// Log receives a line when the bus is lost and found. Default: none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// check finds what nats.go would report at each attempt to connect.
func (c Config) check() error {
	for u := range strings.SplitSeq(c.URL, ",") {
		_, err := parseURL(u)
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // without the URL, which may hold a password
		}
		if err != nil {
			return fmt.Errorf("%w: URL: %w", ErrConfig, err)
		}
	}
	if c.Creds == "" {
		return nil
	}
	if _, err := os.ReadFile(c.Creds); err != nil {
		return fmt.Errorf("%w: credentials: %w", ErrConfig, err)
	}
	return nil
}

func parseURL(u string) (*url.URL, error) {
	if u = strings.TrimSpace(u); u != "" && !strings.Contains(u, "://") {
		u = "nats://" + u // as the client library does
	}
	return url.Parse(u)
}

// redacted is the server list as people may see it.
func (c Config) redacted() string {
	var list []string
	for raw := range strings.SplitSeq(c.URL, ",") {
		if u, err := parseURL(raw); err == nil {
			list = append(list, u.Redacted())
		}
	}
	return strings.Join(list, ",")
}

// Bus is a role's three connections. Its fields may be used from any goroutine; Close may be called once.
type Bus struct {
	Control *nats.Conn // assign, events, control
	Tokens  *nats.Conn // frames; a publish while disconnected fails
	Bulk    *nats.Conn // request bodies

	cfg     Config
	figures []prometheus.Collector
	closed  sync.WaitGroup
	drops   atomic.Int64
	back    atomic.Int64 // when a connection last came back, in nanoseconds since 1970
}

// ErrConfig reports a URL or a credentials file that no waiting will make usable.
var ErrConfig = errors.New("bus: not usable")

// Connect returns when all three connections are up, or with the context's cause. Wrong credentials end it too: at the
// start they are a mistake; those that go bad later, while connected, are tried for ever.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	b := &Bus{cfg: cfg.withDefaults()}
	if err := b.cfg.check(); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		conn  **nats.Conn
		plane string
		opts  []nats.Option
	}{
		{&b.Control, "control", nil},
		// A publish of frames is written at once: what was ready has been put into it already, and waking a writer costs more.
		{&b.Tokens, "tokens", []nats.Option{nats.ReconnectBufSize(-1), nats.SkipSubjectValidation(), nats.WriteBufferSize(1)}},
		{&b.Bulk, "bulk", []nats.Option{nats.ReconnectBufSize(-1)}},
	} {
		nc, err := b.connect(ctx, c.plane, c.opts)
		if err != nil {
			b.Close()
			return nil, err
		}
		*c.conn = nc
	}
	if b.cfg.Registry != nil {
		b.measure()
	}
	return b, nil
}

// measure registers what operators must see of a bus: that messages were dropped, and that it was away.
func (b *Bus) measure() {
	labels := prometheus.Labels{"role": b.cfg.Role, "id": b.cfg.ID}
	b.figures = []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "radixbus_bus_slow_consumers_total", Help: "Times that messages were dropped because a reader was too slow.", ConstLabels: labels,
		}, func() float64 { return float64(b.SlowConsumers()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "radixbus_bus_reconnects_total", Help: "Times that one of the three connections came back.", ConstLabels: labels,
		}, func() float64 { return float64(b.Reconnects()) }),
	}
	b.cfg.Registry.MustRegister(b.figures...)
}

// InboxPrefix is the first tokens of every inbox of one plane.
func InboxPrefix(role, id, plane string) string { return "_RB." + role + "." + id + "." + plane }

func (b *Bus) connect(ctx context.Context, plane string, extra []nats.Option) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("radixbus " + b.cfg.Role + " " + b.cfg.ID + " " + plane),
		nats.CustomInboxPrefix(InboxPrefix(b.cfg.Role, b.cfg.ID, plane)),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // else the second refusal in a row would close the connection for good
		nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(150*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DrainTimeout(b.cfg.DrainTimeout),
		nats.Timeout(dialTimeout),
		nats.SetCustomDialer(dialer{}),
		nats.ErrorHandler(b.asyncError),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.cfg.Log.Warn("bus lost", "plane", plane, "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.back.Store(time.Now().UnixNano())
			b.cfg.Log.Info("bus found again", "plane", plane, "url", nc.ConnectedUrlRedacted())
		}),
		nats.ClosedHandler(func(*nats.Conn) { b.closed.Done() }),
	}
	if b.cfg.NoEcho {
		opts = append(opts, nats.NoEcho())
	}
	if b.cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(b.cfg.Creds))
	}
	opts = append(append(opts, extra...), b.cfg.Extra...)
	for wait, said := 100*time.Millisecond, false; ; wait = min(2*wait, 2*time.Second) {
		b.closed.Add(1)
		nc, err := nats.Connect(b.cfg.URL, opts...)
		if err == nil {
			return nc, nil
		}
		b.closed.Done() // a connection that never was has no closed callback
		if final(err) {
			return nil, fmt.Errorf("connect to the bus at %s: %w", b.cfg.redacted(), err)
		}
		if !said {
			b.cfg.Log.Info("waiting for the bus", "url", b.cfg.redacted(), "error", err)
			said = true
		}
		select {
		case <-time.After(wait + rand.N(wait/2)): // jitter: a fleet that lost its bus must not come back as one
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the bus at %s: %w", b.cfg.redacted(), context.Cause(ctx))
		}
	}
}

// dialTimeout bounds the making of a connection.
const dialTimeout = 3 * time.Second

// dialer makes the client library's connections.
type dialer struct{}

// Dial is [nats.CustomDialer]'s.
func (dialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, dialTimeout)
	if err != nil {
		return nil, err
	}
	return netconn.Wrap(c), nil
}

// final tells errors that waiting will not mend.
func final(err error) bool {
	for _, hopeless := range []error{nats.ErrAuthorization, nats.ErrAuthRevoked, nats.ErrNkeysNotSupported, nats.ErrNoUserCB} {
		if errors.Is(err, hopeless) {
			return true
		}
	}
	return false
}

func (b *Bus) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		b.drops.Add(1)
		b.cfg.Log.Warn("bus messages dropped: reader too slow", "subject", sub.Subject)
		return
	}
	b.cfg.Log.Warn("bus error", "error", err)
}

// Reconnects counts the times that one of the connections came back.
func (b *Bus) Reconnects() (n uint64) {
	for _, nc := range []*nats.Conn{b.Control, b.Tokens, b.Bulk} {
		n += nc.Stats().Reconnects
	}
	return n
}

// settleFor is how long after a bus came back others may still be on their way to it: their reconnect wait and its jitter,
// and the time that a handshake takes.
const settleFor = 2 * time.Second

// Settling tells whether the bus came back only just now: who cannot be reached may still be reconnecting.
func (b *Bus) Settling() bool {
	at := b.back.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < settleFor
}

// SlowConsumers counts the times that the client library dropped messages because a reader was too slow.
func (b *Bus) SlowConsumers() int64 { return b.drops.Load() }

// Connected tells whether all three connections are up now.
func (b *Bus) Connected() bool {
	return b.Control.IsConnected() && b.Tokens.IsConnected() && b.Bulk.IsConnected()
}

// flushBound is how long Flush waits for a server: one that went away just now gets all subscriptions again anyway.
const flushBound = 2 * time.Second

// Flush waits until the servers have seen everything published and subscribed so far, for a short while at most.
func (b *Bus) Flush(ctx context.Context) {
	var g sync.WaitGroup
	for _, nc := range []*nats.Conn{b.Control, b.Tokens, b.Bulk} {
		g.Go(func() { Flush(ctx, nc) })
	}
	g.Wait()
}

// Flush is [Bus.Flush] for one connection.
func Flush(ctx context.Context, nc *nats.Conn) {
	ctx, cancel := context.WithTimeout(ctx, flushBound)
	defer cancel()
	nc.FlushWithContext(ctx) //nolint:errcheck // see flushBound
}

// Close drains what is under way within the drain timeout and waits until the connections are closed.
func (b *Bus) Close() error {
	var errs []error
	for _, nc := range []*nats.Conn{b.Control, b.Tokens, b.Bulk} {
		if nc == nil {
			continue
		}
		if err := nc.Drain(); err != nil { // not connected: nothing to drain
			nc.Close()
		}
	}
	b.closed.Wait()
	for _, f := range b.figures {
		b.cfg.Registry.Unregister(f)
	}
	for _, nc := range []*nats.Conn{b.Control, b.Tokens, b.Bulk} {
		if nc != nil && errors.Is(nc.LastError(), nats.ErrDrainTimeout) {
			errs = append(errs, fmt.Errorf("close the bus: %w", nats.ErrDrainTimeout))
		}
	}
	return errors.Join(errs...)
}
