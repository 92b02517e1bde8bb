package workeradapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FleetConfig tells a Fleet what it may not guess. The zero value of every field but Name and Serve means its documented
// default.
type FleetConfig struct {
	// Name is dns://host:port: an engine listens on the port of every address that the host has. Required.
	Name string
	// Serve runs the adapter of one engine until ctx ends, as [Adapter.Run] does, and whatever it stands on. Required.
	Serve func(ctx context.Context, engine string) error
	// Lookup resolves a host. Default: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Every is how often the host is looked up. Default 500ms.
	Every time.Duration
	// Patience is how long an address may be missing from the answers until its adapter is stopped: a resolver may leave out
	// one for a moment. Default 10s.
	Patience time.Duration
	// Retry is how soon an engine whose adapter has ended gets another one. Default 2s.
	Retry time.Duration
	// Max bounds the engines. Default 1024.
	Max int
	// Log receives a line when an engine comes or goes. Default: none.
	Log *slog.Logger
}

// Fleet keeps an adapter for every engine behind a DNS name, as a headless service of Kubernetes has one. An address that
// fails to be looked up stays: only an answer without it takes it away, and its requests are finished first.
//
// Two processes may have the same Fleet: a worker name is one adapter's at a time, the other one waits for it.
type Fleet struct {
	cfg        FleetConfig
	host, port string
}

// fleetScheme is what the name of a fleet begins with.
const fleetScheme = "dns"

// IsFleet tells whether an engine's address is the name of a fleet.
func IsFleet(engine string) bool { return strings.HasPrefix(engine, fleetScheme+"://") }

// NewFleet checks the configuration; nothing happens until Run.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	u, err := url.Parse(cfg.Name)
	if err != nil || u.Scheme != fleetScheme || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("worker: engines %q: want dns://host:port", cfg.Name)
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return nil, fmt.Errorf("worker: engines %q: the port of the engines is missing", cfg.Name)
	}
	if cfg.Serve == nil || cfg.Every < 0 || cfg.Patience < 0 || cfg.Retry < 0 || cfg.Max < 0 {
		return nil, errors.New("worker: fleet without adapters, or with negative bounds")
	}
	cfg.Every = cmp.Or(cfg.Every, 500*time.Millisecond)
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, 2*time.Second)
	cfg.Max = cmp.Or(cfg.Max, 1024)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Lookup == nil {
		cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return &Fleet{cfg: cfg, host: u.Hostname(), port: u.Port()}, nil
}

// located is one address, and the adapter of its engine.
type located struct {
	seen time.Time // in an answer, last
	stop context.CancelFunc
}

// Run keeps adapters until ctx ends and they have. It calls ready once the name has been looked up, whatever the answer was.
func (f *Fleet) Run(ctx context.Context, ready func()) error {
	members := make(map[netip.Addr]*located)
	var serving sync.WaitGroup
	defer serving.Wait()
	tick := time.NewTicker(f.cfg.Every)
	defer tick.Stop()
	var failed string
	up := sync.OnceFunc(ready)
	for {
		now := time.Now()
		addrs, err := f.lookup(ctx)
		switch {
		case ctx.Err() != nil:
			for _, m := range members {
				m.stop()
			}
			return nil
		case err != nil && err.Error() != failed:
			f.cfg.Log.Warn("engines not found", "name", f.cfg.Name, "error", err)
		}
		failed = ""
		if err != nil {
			failed = err.Error()
			for _, m := range members { // what nobody can say is no reason to let go
				m.seen = now
			}
		}
		for _, addr := range addrs {
			m := members[addr]
			switch {
			case m != nil:
				m.seen = now
			case len(members) < f.cfg.Max:
				mctx, stop := context.WithCancel(ctx)
				members[addr] = &located{seen: now, stop: stop}
				serving.Go(func() { f.serve(mctx, addr) })
			}
		}
		for addr, m := range members {
			if now.Sub(m.seen) > f.cfg.Patience {
				f.cfg.Log.Info("engine left", "name", f.cfg.Name, "address", addr.String())
				m.stop()
				delete(members, addr)
			}
		}
		up()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// lookup finds the addresses, sorted. Of a host with addresses of both kinds, each engine would be there twice: the older
// kind is taken.
func (f *Fleet) lookup(ctx context.Context) ([]netip.Addr, error) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addrs, err := f.cfg.Lookup(ctx, f.host)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return nil, nil // an answer: nobody is there
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	if slices.ContainsFunc(addrs, netip.Addr.Is4) {
		addrs = slices.DeleteFunc(addrs, netip.Addr.Is6)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), err
}

// serve gives one engine adapter after adapter until ctx ends, or an operator removes it.
func (f *Fleet) serve(ctx context.Context, addr netip.Addr) {
	engine := "http://" + net.JoinHostPort(addr.String(), f.port)
	f.cfg.Log.Info("engine found", "name", f.cfg.Name, "engine", engine)
	var told string
	for {
		err := f.cfg.Serve(ctx, engine)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrRemoved):
			f.cfg.Log.Info("engine removed by an operator; it stays so until its address comes again", "engine", engine)
			return
		case err != nil && err.Error() != told: // a name that another process has would fill the log
			told = err.Error()
			f.cfg.Log.Warn("adapter ended", "engine", engine, "error", err)
		}
		select {
		case <-time.After(f.cfg.Retry):
		case <-ctx.Done():
			return
		}
	}
}
