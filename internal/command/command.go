// Package command is the program's command line: it turns flags, environment and file into the configurations of the
// roles, and runs them in order.
//
// It is the one package besides the tests that knows every service; main only lends it the process.
package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/radixbus/radixbus/internal/config"
	"github.com/radixbus/radixbus/internal/heap"
	"github.com/radixbus/radixbus/internal/procs"
	"github.com/radixbus/radixbus/internal/run"
	"github.com/radixbus/radixbus/internal/telemetry"
)

// A Process is what a command may use of the process it runs in.
type Process struct {
	Args    []string
	Environ []string
	Stdout  io.Writer // data
	Stderr  io.Writer // everything else
}

// An ExitError is an error with an exit code of its own: 2 for wrong usage, 99 for a missed objective.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// A Signal is the cause of a stop that a signal asked for.
type Signal string

func (s Signal) Error() string { return "stopped by " + string(s) }

// Run runs one command until it is done or ctx ends.
func Run(ctx context.Context, p Process) error {
	root := newRoot(p)
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	return root.ExecuteContext(ctx)
}

// env is what the commands share.
type env struct {
	Process
	config   string
	logLevel string
	logJSON  bool
	all      config.Commands
}

func newRoot(p Process) *cobra.Command {
	e := &env{Process: p, all: make(config.Commands)}
	root := &cobra.Command{
		Args:  noCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
		Use:   "radixbus",
		Short: "Routes LLM requests to the worker that has their prefix cached",
		Long: "Radixbus is a cache-aware router for SGLang workers, on NATS.\n\n" +
			"Every flag has a twin in the environment (--admin-port: RADIXBUS_ADMIN_PORT) and in the configuration file\n" +
			"(admin-port). Command line wins over environment, environment over file.",
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &ExitError{2, err} })
	root.PersistentFlags().StringVar(&e.config, "config", "", "configuration file (default "+config.DefaultFile+" if it is there)")
	root.PersistentFlags().StringVar(&e.logLevel, "log-level", "info", "debug, info, warn or error")
	root.PersistentFlags().BoolVar(&e.logJSON, "log-json", false, "log JSON even on a terminal")
	commands := []*cobra.Command{
		e.upCommand(), e.gatewayCommand(), e.schedulerCommand(), e.workerCommand(), e.simCommand(), e.benchCommand(), e.versionCommand(),
	}
	for _, c := range commands {
		root.AddCommand(c)
		e.know(c)
		for _, sub := range c.Commands() {
			e.know(sub)
		}
	}
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		name := section(c)
		if e.all[name] == nil {
			return nil // help, completion: nothing to configure
		}
		path := cmp.Or(e.config, e.lookup(config.EnvPrefix+"CONFIG"))
		if err := config.Bind(c.Flags(), name, path, e.all, e.Environ); err != nil {
			return &ExitError{2, err}
		}
		return nil
	}
	return root
}

// know takes a command's flags into those that environment and file may set.
func (e *env) know(c *cobra.Command) {
	name := section(c)
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.AddFlagSet(c.Flags())
	c.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" { // a file cannot name the file
			flags.AddFlag(f)
		}
	})
	e.all[name] = flags
}

// section is what a configuration file calls a command: its name, with its parent's before it, as in bench-compare.
func section(c *cobra.Command) string {
	_, path, _ := strings.Cut(c.CommandPath(), " ")
	return strings.ReplaceAll(path, " ", "-")
}

// log makes the process's logger: lines for people on a terminal, JSON otherwise.
func (e *env) log() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.logLevel)); err != nil {
		return nil, &ExitError{2, fmt.Errorf("--log-level %q: debug, info, warn or error", e.logLevel)}
	}
	tty := terminal(e.Stderr) && !e.logJSON
	return telemetry.NewLog(e.Stderr, tty, !slices.ContainsFunc(e.Environ, func(v string) bool {
		return strings.HasPrefix(v, "NO_COLOR=") && v != "NO_COLOR="
	}), level), nil
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// thrift is the part that keeps a role from taking processors and memory that it has no use for. GOMAXPROCS and GOGC in the
// environment say otherwise.
func (e *env) thrift() run.Part {
	return run.Part{Name: "thrift", Run: func(ctx context.Context, ready func()) error {
		ready()
		var keeping sync.WaitGroup
		if e.lookup("GOMAXPROCS") == "" {
			keeping.Go(func() { procs.Keep(ctx) })
		}
		if e.lookup("GOGC") == "" {
			keeping.Go(func() { heap.Keep(ctx) })
		}
		<-ctx.Done()
		keeping.Wait()
		return nil
	}}
}

// lookup reads one environment variable that is not ours.
func (e *env) lookup(name string) string {
	for _, v := range e.Environ {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// noCommand refuses what is no command's name, with the exit code of wrong usage.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q; radixbus --help lists them", args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return &ExitError{2, err}
}

// noArgs refuses arguments, with the exit code of wrong usage.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &ExitError{2, fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// version is what the build knows of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v += "-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}

func (e *env) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(e.Stdout, "radixbus", version())
			return err
		},
	}
}
