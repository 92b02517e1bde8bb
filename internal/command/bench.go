package command

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/replay"
)

// benchFlags are what `bench` may be told.
type benchFlags struct {
	cfg      replay.Config
	turns    replay.MultiturnConfig
	workload string
	trace    string
	format   string
	generate bool
	stream   bool
	json     string
	html     string
	keyFile  string
}

func (e *env) benchCommand() *cobra.Command {
	var b benchFlags
	c := &cobra.Command{
		Use: "bench URL", Short: "Put load on an OpenAI or SGLang endpoint and report what it felt",
		Long: "Users hold conversations: the next turn is sent when the reply is complete (closed loop). Prompts are generated\n" +
			"(--workload multiturn) or those of a recorded trace of message lists (--trace FILE).",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &ExitError{2, errors.New("bench takes one URL, such as http://127.0.0.1:8080")}
			}
			return nil
		},
	}
	b.flags(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error { return e.bench(c, &b, args[0]) }
	c.AddCommand(e.compareCommand(), e.assignCommand())
	return c
}

// flags are those of the load, which every command that makes one takes.
func (b *benchFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&b.workload, "workload", "multiturn", "generated load: multiturn")
	f.StringVar(&b.trace, "trace", "", "trace file, plain or .gz, in place of a workload")
	f.StringVar(&b.format, "format", "", "the trace's format, when it is not to be recognised: "+formats())
	intVar(f, &b.cfg.Requests, "requests", 0, 0, math.MaxInt32, "requests to send (default: the workload's natural size)")
	intVar(f, &b.cfg.Conversations, "conversations", 0, 0, math.MaxInt32, "conversations to hold (default: the workload's natural size)")
	intVar(f, &b.cfg.Concurrency, "concurrency", 16, 1, 1<<20, "users at a time")
	intVar(f, &b.cfg.Interleave, "interleave", 1, 1, 1<<20, "conversations that each user keeps open")
	durationVar(f, &b.cfg.Think, "think", 0, 0, "pause between a reply and the next turn")
	f.BoolVar(&b.stream, "stream", true, "read streams")
	f.BoolVar(&b.generate, "generate", false, "use /generate in place of /v1/chat/completions")
	f.BoolVar(&b.cfg.Portable, "portable", false, "send only what every OpenAI endpoint understands")
	f.StringVar(&b.cfg.Model, "model", "", "model name (default: the first at /v1/models)")
	f.Uint64Var(&b.cfg.Seed, "seed", 1, "of generated content")
	durationVar(f, &b.cfg.Timeout, "timeout", 5*time.Minute, 0, "for one request")
	intVar(f, &b.cfg.OutputTokens, "output-tokens", 0, 0, math.MaxInt32, "tokens of each reply (default: the workload's)")
	intVar(f, &b.turns.Rounds, "rounds", 0, 0, 1<<20, "multiturn: turns of a conversation (default 5)")
	intVar(f, &b.turns.InputTokens, "input-tokens", 0, 0, math.MaxInt32, "multiturn: tokens of each question (default 512)")
	intVar(f, &b.turns.SystemPrompts, "system-prompts", 0, 0, 1<<20, "multiturn: distinct system prompts that conversations share")
	intVar(f, &b.turns.SystemTokens, "system-tokens", 0, 0, math.MaxInt32, "multiturn: tokens of each (default 2048)")
	f.StringVar(&b.json, "json", "", "write the report to this file; - is standard output, without the table")
	f.StringVar(&b.html, "html", "", "write the report to this file as one HTML page with charts; - is standard output, without the table")
	f.StringVar(&b.keyFile, "api-key-file", "", "file with the API key (default: $OPENAI_API_KEY)")
}

func formats() string {
	var names []string
	for _, f := range replay.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

func (e *env) bench(c *cobra.Command, b *benchFlags, url string) error {
	if err := e.configure(b); err != nil {
		return err
	}
	b.cfg.URL = url
	b.cfg.Progress, b.cfg.Terminal = e.Stderr, terminal(e.Stderr)
	report, err := replay.Run(c.Context(), b.cfg)
	if err != nil {
		return usage(err)
	}
	if err := e.report(b, report, commandLine(c, url)); err != nil {
		return err
	}
	if report.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed", report.Errors, report.Requests)
	}
	return nil
}

// usage is the exit code of an error of a run that did not begin.
func usage(err error) error {
	if errors.Is(err, replay.ErrConfig) {
		return &ExitError{2, err}
	}
	return err
}

// configure makes of the flags what is sent, but not where to.
func (e *env) configure(b *benchFlags) (err error) {
	if err := b.checkFiles(); err != nil {
		return err
	}
	b.cfg.NoStream = !b.stream
	b.cfg.API = replay.Chat
	if b.generate {
		b.cfg.API = replay.Generate
	}
	b.turns.OutputTokens = b.cfg.OutputTokens
	if b.cfg.Workload, err = b.load(); err != nil {
		return err
	}
	if b.cfg.APIKey, err = readSecret("api-key-file", b.keyFile); err != nil {
		return err
	}
	if b.keyFile == "" {
		b.cfg.APIKey = e.lookup("OPENAI_API_KEY")
	}
	return nil
}

// load opens the trace, or makes the workload.
func (b *benchFlags) load() (replay.Workload, error) {
	if b.trace != "" {
		return replay.OpenTrace(b.trace, replay.Format(b.format))
	}
	if b.workload != "multiturn" {
		return nil, &ExitError{2, fmt.Errorf("unknown workload %q: there is multiturn", b.workload)}
	}
	w, err := replay.NewMultiturn(b.turns)
	if err != nil {
		return nil, &ExitError{2, err}
	}
	return w, nil
}
