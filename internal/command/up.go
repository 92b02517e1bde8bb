package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/localbus"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/run"
	"github.com/radixbus/radixbus/internal/simengine"
	"github.com/radixbus/radixbus/internal/telemetry"
	"github.com/radixbus/radixbus/scheduler"
	"github.com/radixbus/radixbus/workeradapter"
)

// upFlags are what `up` may be told.
type upFlags struct {
	gatewayFlags
	sim     simFlags
	engine  engineFlags
	admin   adminFlags
	busHost string
	busPort int
	workers int
	engines []string
	policy  string
	data    string
	region  string
	drain   time.Duration
}

func (e *env) upCommand() *cobra.Command {
	var u upFlags
	c := &cobra.Command{
		Use: "up", Short: "Run everything in one process: bus, gateway, scheduler and workers", Args: noArgs,
		Long: "Starts an embedded bus, a gateway, a scheduler and workers: simulated ones, or adapters for the engines named with\n" +
			"--engine. The URL is on the first line of standard output.",
	}
	f := c.Flags()
	u.gatewayFlags.flags(f)
	u.sim.flags(f)
	u.engine.flags(f)
	u.admin.flags(f, 8081)
	f.StringVar(&u.busHost, "bus-host", "127.0.0.1", "address where other processes reach the embedded bus")
	portVar(f, &u.busPort, "bus-port", 0, "its port; 0 picks a free one")
	intVar(f, &u.workers, "workers", 4, 0, 256, "simulated workers, when no engine is named; 0: adapters run elsewhere")
	f.StringArrayVar(&u.engines, "engine", nil, "base URL of a real engine, or dns://host:port for one at each address of the host; repeatable, no simulated workers then")
	policyFlag(f, &u.policy)
	f.StringVar(&u.data, "data", "", "folder for what outlives a restart (default: nothing does)")
	f.StringVar(&u.region, "region", "local", "datacenter that this process is in")
	durationVar(f, &u.drain, "drain-timeout", 30*time.Second, time.Millisecond, "how long what is under way may take once asked to stop")
	c.RunE = func(c *cobra.Command, _ []string) error { return e.up(c.Context(), &u) }
	return c
}

// up builds the parts and runs them: bus, admin, scheduler, engines, adapters, gateway, in this order.
func (e *env) up(ctx context.Context, u *upFlags) error {
	log, err := e.log()
	if err != nil {
		return err
	}
	for i, engine := range u.engines {
		if first := slices.Index(u.engines, engine); first < i {
			return &ExitError{2, fmt.Errorf("--engine: the engines %d and %d are one: an engine has one adapter", first+1, i+1)}
		}
		if err := checkEngine(engine); err != nil {
			return err
		}
	}
	quiet := log // a fleet's comings and goings are for roles that run alone
	if terminal(e.Stderr) && e.logLevel == "info" {
		e.logLevel = "warn"
		if quiet, err = e.log(); err != nil {
			return err
		}
	}
	lb, err := localbus.Start(localbus.Config{Host: u.busHost, Port: u.busPort, Dir: u.data, Log: quiet})
	if errors.Is(err, localbus.ErrOpenBus) {
		return &ExitError{2, err}
	}
	if err != nil {
		return err
	}
	defer lb.Stop() //nolint:errcheck // a folder of ours may stay behind in the system's temporary one
	h := &hub{e: e, u: u, lb: lb, log: quiet, reg: telemetry.NewRegistry()}
	defer h.close()
	parts, err := h.parts(ctx)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return nil // asked to stop before it was up
	}
	if err != nil {
		return err
	}
	return run.All(ctx, append([]run.Part{e.thrift()}, parts...)...)
}

// hub is one process with everything in it.
type hub struct {
	e       *env
	u       *upFlags
	lb      *localbus.Server
	log     *slog.Logger
	reg     *prometheus.Registry
	buses   []*bus.Bus
	opened  []io.Closer // listeners; those that a part owns are closed already
	workers []string    // for the first screen: name and engine
}

func (h *hub) close() {
	for _, c := range h.opened {
		c.Close() //nolint:errcheck // see opened
	}
	for i := len(h.buses) - 1; i >= 0; i-- {
		h.buses[i].Close() //nolint:errcheck // told by the part that was late
	}
}

// connect connects a role through the pipe. Who asks for it closes it.
func (h *hub) connect(ctx context.Context, role, id string) (*bus.Bus, error) {
	return bus.Connect(ctx, bus.Config{URL: h.lb.URL(), Role: role, ID: id, NoEcho: deaf(role), Extra: []nats.Option{h.lb.InProcess()}, Registry: h.reg, Log: h.log})
}

// bus is connect for what runs as long as the hub does.
func (h *hub) bus(ctx context.Context, role, id string) (*bus.Bus, error) {
	b, err := h.connect(ctx, role, id)
	if err == nil {
		h.buses = append(h.buses, b)
	}
	return b, err
}

func (h *hub) parts(ctx context.Context) ([]run.Part, error) {
	sb, err := h.bus(ctx, "scheduler", "hub")
	if err != nil {
		return nil, err
	}
	sched, err := scheduler.New(scheduler.Config{Bus: sb, Region: h.u.region, Policy: h.u.policy, Cost: prefix.LadderBytes, Registry: h.reg, Log: h.log})
	if err != nil {
		return nil, &ExitError{2, err}
	}
	parts := []run.Part{{Name: "scheduler", Run: sched.Run}}
	fleet, err := h.fleet(ctx)
	if err != nil {
		return nil, err
	}
	parts = append(parts, fleet...)
	gw, err := h.gateway(ctx, sched)
	if err != nil {
		return nil, err
	}
	admin, err := h.u.admin.listen(h.reg, isReady(gw), gw.Admin())
	if err != nil {
		return nil, err
	}
	h.opened = append(h.opened, admin)
	return append(parts,
		run.Part{Name: "admin", Run: admin.Run},
		run.Part{Name: "gateway", Grace: h.u.drain + 10*time.Second, Run: func(ctx context.Context, ready func()) error {
			return gw.Run(ctx, func() { h.welcome(gw.URL(), "http://"+admin.Addr().String()); ready() })
		}}), nil
}

func (h *hub) gateway(ctx context.Context, sched *scheduler.Scheduler) (*gateway.Gateway, error) {
	b, err := h.bus(ctx, "gateway", "hub")
	if err != nil {
		return nil, err
	}
	parts, err := h.u.parts(ctx, b, sched, h.log)
	if err != nil {
		return nil, err
	}
	return h.u.gatewayFlags.gateway(parts.Join, h.u.drain, h.reg, h.log)
}

// fleet makes the workers: an adapter for each engine, and the engines themselves when none are named.
func (h *hub) fleet(ctx context.Context) (parts []run.Part, err error) {
	config, err := h.u.engine.config(h.u.region, h.u.drain, h.reg, h.log)
	if err != nil {
		return nil, err
	}
	engines := h.u.engines
	if len(engines) == 0 {
		for i := range h.u.workers {
			var cfg simengine.Config
			h.u.sim.fill(&cfg, i)
			part, url, ln, err := enginePart(i, cfg, net.JoinHostPort("127.0.0.1", "0"), 5*time.Second, h.log)
			if err != nil {
				return nil, err
			}
			h.opened = append(h.opened, ln)
			parts, engines = append(parts, part), append(engines, url)
		}
	}
	var adapters []run.Part
	for i, engine := range engines {
		part, err := h.engine(ctx, config, engine, fmt.Sprintf("w%d", i))
		if err != nil {
			return nil, err
		}
		adapters = append(adapters, part)
	}
	return append(parts, run.Together("workers", adapters...)), nil
}

// engine makes the adapter of one engine, or those of all behind a DNS name.
func (h *hub) engine(ctx context.Context, config workeradapter.Config, engine, name string) (run.Part, error) {
	if workeradapter.IsFleet(engine) {
		f := &fleet{config: config, connect: func(ctx context.Context, name string) (*bus.Bus, error) { return h.connect(ctx, "worker", name) }}
		h.workers = append(h.workers, "w-…\t"+engine)
		return f.part(engine)
	}
	b, err := h.bus(ctx, "worker", name)
	if err != nil {
		return run.Part{}, err
	}
	config.Bus, config.Engine, config.Name = b, engine, name
	a, err := workeradapter.New(config)
	if err != nil {
		return run.Part{}, &ExitError{2, err}
	}
	h.workers = append(h.workers, name+"\t"+a.Engine())
	return run.Part{Name: "worker " + name, Run: stays(a, h.log), Grace: h.u.drain + 10*time.Second}, nil
}

// welcome is the first screen. Its first line is the URL alone, for scripts.
func (h *hub) welcome(url, admin string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", url)
	fmt.Fprintf(&b, "Radixbus %s is up.\n\n", version())
	tw := tabwriter.NewWriter(&b, 2, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "  bus\t%s\n  admin\t%s/metrics\n  policy\t%s\n", h.lb.URL(), admin, h.u.policy)
	model := ""
	switch {
	case len(h.u.engines) > 0: // which models they serve is theirs to say; with one, a request need not name it
		fmt.Fprintf(tw, "  workers\t%d engines; models: %s/v1/models\n", len(h.workers), url)
	case len(h.workers) > 0:
		fmt.Fprintf(tw, "  workers\t%d simulated workers (%s, speed %g)\n", len(h.workers), h.u.sim.profile, h.u.sim.speed)
		model = fmt.Sprintf("\"model\": %q, ", h.u.sim.name())
	default:
		fmt.Fprintf(tw, "  workers\tnone yet; beside each engine: radixbus worker --nats %s --engine URL\n", h.lb.URL())
	}
	for _, w := range h.workers[:min(len(h.workers), 16)] {
		fmt.Fprintf(tw, "  \t%s\n", strings.Replace(w, "\t", "  ", 1))
	}
	tw.Flush() //nolint:errcheck // into memory
	fmt.Fprintf(&b, "\nTry:\n\n  curl -N %s/v1/chat/completions -H 'Content-Type: application/json' -d '{\n", url)
	fmt.Fprintf(&b, "    %s\"stream\": true, \"max_tokens\": 40,\n", model)
	b.WriteString("    \"messages\": [{\"role\": \"user\", \"content\": \"Why is a radix tree a good index of prompts?\"}]}'\n\n")
	fmt.Fprint(h.e.Stdout, b.String())
}
