package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/run"
	"github.com/radixbus/radixbus/internal/telemetry"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler"
	"github.com/radixbus/radixbus/scheduler/core"
)

// defaultNATS is where an external nats-server is looked for.
const defaultNATS = "nats://127.0.0.1:4222"

// role is what the commands that run one role against an external bus have in common.
type role struct {
	nats, creds string
	region      string
	admin       adminFlags
	drain       time.Duration
}

func (r *role) flags(f *pflag.FlagSet) {
	f.StringVar(&r.nats, "nats", "", "NATS servers, separated by commas (default $NATS_URL, else "+defaultNATS+")")
	f.StringVar(&r.creds, "nats-creds", "", "NATS credentials file (default $NATS_CREDS)")
	f.StringVar(&r.region, "region", "local", "datacenter that this process is in")
	r.admin.flags(f, 0)
	durationVar(f, &r.drain, "drain-timeout", 30*time.Second, time.Millisecond, "how long what is under way may take once asked to stop")
}

// connect waits for the bus.
func (r *role) connect(ctx context.Context, e *env, name, id string, reg *prometheus.Registry, log *slog.Logger) (*bus.Bus, error) {
	b, err := bus.Connect(ctx, bus.Config{
		URL: cmp.Or(r.nats, e.lookup("NATS_URL"), defaultNATS), Creds: cmp.Or(r.creds, e.lookup("NATS_CREDS")),
		Role: name, ID: id, NoEcho: deaf(name), Registry: reg, Log: log,
	})
	if errors.Is(err, bus.ErrConfig) {
		return nil, &ExitError{2, err}
	}
	return b, err
}

// deaf tells whether a role has no use for its own messages: each decision of a scheduler is an event that schedulers hear.
func deaf(role string) bool { return role == "scheduler" }

// A connector waits for a role's bus, which is closed after the role's end.
type connector func(ctx context.Context) (*bus.Bus, error)

// A service is what a role runs.
type service struct {
	part    run.Part
	ready   func() error // why it would not accept a request, or nil
	control http.Handler // for operators; nil: nothing
}

// A starter makes a role's service.
type starter func(connect connector, reg *prometheus.Registry, log *slog.Logger) (service, error)

// An attendant is a role that is nothing without its bus.
type attendant func(b *bus.Bus, reg *prometheus.Registry, log *slog.Logger) (serve func(ctx context.Context, ready func()) error, ready func() error, err error)

// serve runs a role and its admin listener on a bus of its own.
func (r *role) serve(ctx context.Context, e *env, name string, start starter) error {
	log, err := e.log()
	if err != nil {
		return err
	}
	reg := telemetry.NewRegistry()
	var b *bus.Bus
	s, err := start(func(ctx context.Context) (_ *bus.Bus, err error) {
		b, err = r.connect(ctx, e, name, wire.NewName(name[:1]+"-"), reg, log)
		return b, err
	}, reg, log)
	if err != nil {
		return err
	}
	admin, err := r.admin.listen(reg, s.ready, s.control)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // its part has, unless it never ran
	log.Info(name+" starting", "version", version(), "admin", "http://"+admin.Addr().String())
	err = run.All(ctx, e.thrift(), run.Part{Name: "admin", Run: admin.Run}, s.part)
	if b != nil {
		b.Close() //nolint:errcheck // a drain that took too long is told by the part that was late
	}
	return err
}

// onceConnected starts an attendant when its bus is there.
func onceConnected(name string, grace time.Duration, start attendant) starter {
	return func(connect connector, reg *prometheus.Registry, log *slog.Logger) (service, error) {
		var ready atomic.Pointer[func() error] // written once the role is up, read by the admin listener
		return service{part: run.Part{Name: name, Grace: grace, Run: func(ctx context.Context, up func()) error {
			b, err := connect(ctx)
			if err != nil {
				return err
			}
			serve, isReady, err := start(b, reg, log)
			if err != nil {
				return err
			}
			return serve(ctx, func() { ready.Store(&isReady); up() })
		}}, ready: func() error {
			if ask := ready.Load(); ask != nil {
				return (*ask)()
			}
			return errors.New("waiting for the bus")
		}}, nil
	}
}

// gatewayFlags are a gateway's own, shared by `gateway` and `up`.
type gatewayFlags struct {
	host        string
	port        int
	maxBody     int64
	maxInFlight int64
	timeout     time.Duration
	keyFile     string
}

func (g *gatewayFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&g.host, "host", "127.0.0.1", "address of the public listener")
	portVar(f, &g.port, "port", 8080, "port of the public listener; 0 picks a free one")
	int64Var(f, &g.maxBody, "max-payload-size", 512<<20, 1, "bytes of one request body")
	int64Var(f, &g.maxInFlight, "max-inflight-bytes", 2<<30, 1, "bytes of all request bodies held at a time")
	durationVar(f, &g.timeout, "request-timeout", 30*time.Minute, time.Millisecond, "for requests that name no deadline")
	f.StringVar(&g.keyFile, "digest-key-file", "", "file with the secret of the digests, shared by all gateways (default: one that the gateways agree on over the bus)")
}

// secret reads the digest secret from its file, or asks the other gateways.
func (g *gatewayFlags) secret(ctx context.Context, b *bus.Bus, log *slog.Logger) ([]byte, error) {
	if g.keyFile != "" {
		return g.fileSecret()
	}
	secret, err := gateway.SharedSecret(ctx, b.Control)
	if err == nil {
		return secret, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("digest secret: %w", context.Cause(ctx))
	}
	log.Warn("no digest secret shared over the bus; with several gateways give each the same --digest-key-file", "error", err)
	return newSecret(), nil
}

// fileSecret is the digest secret of the file, if there is one.
func (g *gatewayFlags) fileSecret() ([]byte, error) {
	secret, err := readSecret("digest-key-file", g.keyFile)
	if err != nil {
		return nil, err
	}
	if g.keyFile != "" && len(secret) < prefix.MinSecret {
		return nil, &ExitError{2, fmt.Errorf("--digest-key-file %q: %d bytes, want at least %d", g.keyFile, len(secret), prefix.MinSecret)}
	}
	return []byte(secret), nil
}

func newSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) //nolint:errcheck // never fails
	return secret
}

func (e *env) gatewayCommand() *cobra.Command {
	var r role
	var g gatewayFlags
	c := &cobra.Command{
		Use: "gateway", Short: "Take requests from clients and bring back answers", Args: noArgs,
		Long: "Serves the OpenAI and SGLang routes. The URL is on the first line of standard output.",
	}
	r.flags(c.Flags())
	g.flags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		return r.serve(c.Context(), e, "gateway", func(connect connector, reg *prometheus.Registry, log *slog.Logger) (service, error) {
			gw, err := g.gateway(func(ctx context.Context) (gateway.Parts, error) {
				b, err := connect(ctx)
				if err != nil {
					return gateway.Parts{}, err
				}
				schedulers, err := gateway.NewBusScheduler(b.Control, wire.Subjects{})
				if err != nil {
					return gateway.Parts{}, err
				}
				return g.parts(ctx, b, schedulers, log)
			}, r.drain, reg, log)
			if err != nil {
				return service{}, err
			}
			return service{part: run.Part{Name: "gateway", Grace: r.drain + 10*time.Second, Run: func(ctx context.Context, ready func()) error {
				fmt.Fprintln(e.Stdout, gw.URL())
				return gw.Run(ctx, ready)
			}}, ready: isReady(gw), control: gw.Admin()}, nil
		})
	}
	return c
}

// isReady asks a gateway within a bound.
func isReady(gw *gateway.Gateway) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return gw.Ready(ctx)
	}
}

// parts are what a gateway stands on, once its bus is there.
func (g *gatewayFlags) parts(ctx context.Context, b *bus.Bus, s gateway.Scheduler, log *slog.Logger) (gateway.Parts, error) {
	secret, err := g.secret(ctx, b, log)
	if err != nil {
		return gateway.Parts{}, err
	}
	key, err := prefix.NewKey(secret)
	return gateway.Parts{Bus: b, Scheduler: s, Key: key}, err
}

func (g *gatewayFlags) gateway(join func(context.Context) (gateway.Parts, error), drain time.Duration, reg *prometheus.Registry, log *slog.Logger) (*gateway.Gateway, error) {
	if _, err := g.fileSecret(); err != nil { // now, not once the bus is there
		return nil, err
	}
	return gateway.New(gateway.Config{
		Join: join, Host: g.host, Port: g.port, MaxBody: g.maxBody, MaxInFlight: max(g.maxInFlight, g.maxBody),
		RequestTimeout: g.timeout, DrainTimeout: drain, Registry: reg, Log: log,
	})
}

func (e *env) schedulerCommand() *cobra.Command {
	var r role
	var policy string
	c := &cobra.Command{Use: "scheduler", Short: "Choose a worker for every request", Args: noArgs}
	r.flags(c.Flags())
	policyFlag(c.Flags(), &policy)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if _, err := core.NewPolicy(policy); err != nil { // now, not once the bus is there
			return &ExitError{2, err}
		}
		return r.serve(c.Context(), e, "scheduler", onceConnected("scheduler", r.drain, func(b *bus.Bus, reg *prometheus.Registry, log *slog.Logger) (func(context.Context, func()) error, func() error, error) {
			s, err := scheduler.New(scheduler.Config{Bus: b, Region: r.region, Policy: policy, Cost: prefix.LadderBytes, Registry: reg, Log: log})
			if err != nil {
				return nil, nil, &ExitError{2, err}
			}
			return s.Run, s.Ready, nil
		}))
	}
	return c
}

func policyFlag(f *pflag.FlagSet, policy *string) {
	f.StringVar(policy, "policy", "radix", "how workers are chosen: "+strings.Join(core.Policies(), ", "))
}

// readSecret reads the file that a flag names; none is no secret. An empty file is a mistake: without a key, what it was to
// lock would be open.
func readSecret(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(doc))
	if secret == "" {
		return "", &ExitError{2, fmt.Errorf("--%s: there is no key in %q", flag, path)}
	}
	return secret, nil
}
