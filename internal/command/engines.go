package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/run"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// engineFlags say how engines are served, by `worker` and by `up`.
type engineFlags struct {
	keyFile    string
	aliases    []string
	loras      []string
	maxRunning int
}

func (f *engineFlags) flags(fs *pflag.FlagSet) {
	fs.StringVar(&f.keyFile, "engine-key-file", "", "file with the engine's API key")
	fs.StringArrayVar(&f.aliases, "alias", nil, "NAME=MODEL: another name for a model that the engine serves; repeatable")
	fs.StringArrayVar(&f.loras, "lora", nil, "NAME=PATH: a LoRA adapter that the engine loads, from the path as it sees it, when it is first asked for; repeatable")
	intVar(fs, &f.maxRunning, "max-running", 0, 0, wire.MaxLeases, "requests given to an engine at a time (default: what the engine says)")
}

// config is what is the same for all adapters of the process.
func (f *engineFlags) config(region string, drain time.Duration, reg prometheus.Registerer, log *slog.Logger) (c workeradapter.Config, err error) {
	c = workeradapter.Config{Region: region, MaxRunning: f.maxRunning, DrainTimeout: drain, Version: version(), Registry: reg, Log: log}
	if c.EngineKey, err = readSecret("engine-key-file", f.keyFile); err != nil {
		return c, err
	}
	if c.Host, err = os.Hostname(); err != nil {
		c.Host = "" // it is for people only
	}
	for _, pair := range f.aliases {
		name, model, err := cutPair("alias", pair)
		if err != nil {
			return c, err
		}
		c.Aliases = append(c.Aliases, workeradapter.Alias{Name: name, Model: model})
	}
	for _, pair := range f.loras {
		name, path, err := cutPair("lora", pair)
		if err != nil {
			return c, err
		}
		c.LoRAs = append(c.LoRAs, workeradapter.LoRA{Name: name, Path: path})
	}
	return c, nil
}

func cutPair(flag, pair string) (name, value string, err error) {
	name, value, _ = strings.Cut(pair, "=")
	if name == "" || value == "" {
		return "", "", &ExitError{2, fmt.Errorf("--%s %q: want NAME=VALUE", flag, pair)}
	}
	return name, value, nil
}

// checkEngine tells what is wrong with the address of an engine, or of a fleet of them.
func checkEngine(engine string) (err error) {
	if workeradapter.IsFleet(engine) {
		_, err = workeradapter.NewFleet(workeradapter.FleetConfig{Name: engine, Serve: func(context.Context, string) error { return nil }})
	} else {
		err = workeradapter.CheckEngine(engine)
	}
	if err != nil {
		return &ExitError{2, err}
	}
	return nil
}

// A fleet is the part of a process that serves the engines behind one DNS name.
type fleet struct {
	config  workeradapter.Config
	connect func(ctx context.Context, name string) (*bus.Bus, error) // each adapter has its own

	mu       sync.Mutex
	adapters map[string]*workeradapter.Adapter // by engine
}

func (f *fleet) part(engines string) (run.Part, error) {
	f.adapters = make(map[string]*workeradapter.Adapter)
	all, err := workeradapter.NewFleet(workeradapter.FleetConfig{Name: engines, Serve: f.serve, Log: f.config.Log})
	if err != nil {
		return run.Part{}, &ExitError{2, err}
	}
	return run.Part{Name: "workers of " + engines, Run: all.Run, Grace: f.config.DrainTimeout + 10*time.Second}, nil
}

// serve runs one engine's adapter on a bus of its own.
func (f *fleet) serve(ctx context.Context, engine string) error {
	c := f.config
	c.Engine, c.Name = engine, workerName(engine)
	b, err := f.connect(ctx, c.Name)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // a drain that took too long is told by the adapter
	c.Bus = b
	a, err := workeradapter.New(c)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.adapters[engine] = a
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.adapters, engine)
	}()
	return a.Run(ctx, func() {})
}

// ready tells why no engine takes requests now, or nil.
func (f *fleet) ready() error {
	f.mu.Lock()
	adapters := slices.Collect(maps.Values(f.adapters))
	f.mu.Unlock()
	if len(adapters) == 0 {
		return errors.New("no engine is known")
	}
	var why error
	for _, a := range adapters {
		if why = a.Ready(); why == nil {
			return nil
		}
	}
	return why
}

func (e *env) workerCommand() *cobra.Command {
	var r role
	var flags engineFlags
	var engine, name string
	c := &cobra.Command{
		Use: "worker", Short: "Stand beside one engine and bring it requests", Args: noArgs,
		Long: "Stands beside one engine and brings it requests. With --engine dns://host:port it stands beside all engines that the\n" +
			"name has addresses of, and follows them as they come and go.",
	}
	r.flags(c.Flags())
	flags.flags(c.Flags())
	c.Flags().StringVar(&engine, "engine", "", "base URL of the engine, or dns://host:port for an engine at each address of the host (required)")
	c.Flags().StringVar(&name, "name", "", "the worker's name, unique in the fleet (default: from the host and the engine's port)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if engine == "" {
			return &ExitError{2, errors.New("--engine is required: the base URL of the engine, such as http://127.0.0.1:30000")}
		}
		if err := checkEngine(engine); err != nil {
			return err
		}
		many := workeradapter.IsFleet(engine)
		if many && name != "" {
			return &ExitError{2, errors.New("--name is one engine's: the engines of a DNS name are named after their addresses")}
		}
		err := r.serve(c.Context(), e, "worker", func(connect connector, reg *prometheus.Registry, log *slog.Logger) (service, error) {
			config, err := flags.config(r.region, r.drain, reg, log)
			if err != nil {
				return service{}, err
			}
			if many {
				f := &fleet{config: config, connect: func(ctx context.Context, name string) (*bus.Bus, error) {
					return r.connect(ctx, e, "worker", name, reg, log)
				}}
				part, err := f.part(engine)
				return service{part: part, ready: f.ready}, err
			}
			config.Engine, config.Name = engine, cmp.Or(name, workerName(engine))
			return onceConnected("worker", r.drain+10*time.Second, func(b *bus.Bus, _ *prometheus.Registry, log *slog.Logger) (func(context.Context, func()) error, func() error, error) {
				config.Bus = b
				a, err := workeradapter.New(config)
				if err != nil {
					return nil, nil, &ExitError{2, err}
				}
				return a.Run, a.Ready, nil
			})(connect, reg, log)
		})
		if errors.Is(err, workeradapter.ErrRemoved) {
			return nil // that is what an operator wanted
		}
		return err
	}
	return c
}

// stays is an adapter's Run for a process that goes on without it: when an operator has removed the worker, or its name is
// another adapter's.
func stays(a *workeradapter.Adapter, log *slog.Logger) func(ctx context.Context, ready func()) error {
	return func(ctx context.Context, ready func()) error {
		err := a.Run(ctx, ready)
		if _, taken := errors.AsType[*workeradapter.NameTakenError](err); taken || errors.Is(err, workeradapter.ErrRemoved) {
			log.Error("worker gone; the others go on", "worker", a.Name(), "error", err)
			ready()
			<-ctx.Done()
			return nil
		}
		return err
	}
}

// workerName names a worker after its engine. An engine that is called by a loopback address gets the host's name: the
// same address means another engine on every host. A host may have several such addresses.
func workerName(engine string) string {
	u, err := url.Parse(engine)
	if err != nil {
		return ""
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		usual := ip == nil || ip.Equal(net.IPv4(127, 0, 0, 1)) || ip.Equal(net.IPv6loopback)
		if own, err := os.Hostname(); err == nil && own != "" && usual {
			host = own
		} else if err == nil && own != "" {
			host = own + "-" + host
		}
	}
	return strings.Trim("w-"+strings.NewReplacer(".", "-", ":", "-").Replace(host)+"-"+u.Port(), "-")
}
