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
	cfg       replay.Config
	turns     replay.MultiturnConfig
	unique    replay.UniqueConfig
	shared    replay.SharedPrefixConfig
	slo       string
	recording replay.TraceConfig
	arrivals  string
	order     string
	workload  string
	trace     string
	format    string
	generate  bool
	stream    bool
	json      string
	html      string
	keyFile   string
}

func (e *env) benchCommand() *cobra.Command {
	var b benchFlags
	c := &cobra.Command{
		Use: "bench URL", Short: "Put load on an OpenAI or SGLang endpoint and report what it felt",
		Long: "Users hold conversations: the next turn is sent when the reply is complete (closed loop). With --rate, or a trace that\n" +
			"has times, conversations begin when they are due, whatever the replies do (open loop). Prompts are generated\n" +
			"(--workload) or those of a recorded trace (--trace FILE): real text of taubench and miniswe; of mooncake and\n" +
			"agentic-weka, text made of their block ids, equal where the ids are; of azure, text of the recorded lengths.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &ExitError{2, errors.New("bench takes one URL, such as http://127.0.0.1:8080")}
			}
			return nil
		},
	}
	b.flags(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error { return e.bench(c, &b, args[0]) }
	c.AddCommand(e.compareCommand(), e.nullCommand(), e.assignCommand())
	return c
}

// flags are those of the load, which every command that makes one takes.
func (b *benchFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&b.workload, "workload", "multiturn", "generated load: "+strings.Join(workloads, ", "))
	f.StringVar(&b.trace, "trace", "", "trace file, plain or .gz, in place of a workload")
	f.StringVar(&b.format, "format", "", "the trace's format, when it is not to be recognised: "+formats())
	durationVar(f, &b.recording.MaxThink, "max-think", time.Minute, time.Millisecond, "agentic-weka: bound of recorded think times")
	intVar(f, &b.recording.MaxContext, "max-context", 128<<10, 1, 1<<30, "agentic-weka: tokens at which a session ends")
	intVar(f, &b.cfg.Requests, "requests", 0, 0, math.MaxInt32, "requests to send (default: the workload's natural size)")
	intVar(f, &b.cfg.Conversations, "conversations", 0, 0, math.MaxInt32, "conversations to hold (default: the workload's natural size)")
	intVar(f, &b.cfg.Concurrency, "concurrency", 0, 1, 1<<20, "users at a time, or conversations of an open loop (default 16; 4096)")
	f.Float64Var(&b.cfg.Rate, "rate", 0, "conversations to begin a second, whatever the replies do: an open loop")
	f.StringVar(&b.arrivals, "arrivals", "", "how they come: poisson, fixed, trace, closed (default: poisson with a rate, else trace where it has times, else closed)")
	f.Float64Var(&b.cfg.Speed, "speed", 0, "divides a trace's own times (default 1)")
	f.StringVar(&b.slo, "slo", "", "what a request may take, such as ttft=2s,tpot=50ms,e2e=30s; exit code 99 when it is missed")
	f.Float64Var(&b.cfg.Attainment, "slo-attainment", 0, "share of requests that must be within the SLO (default 0.9)")
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
	intVar(f, &b.turns.InputTokens, "input-tokens", 0, 0, math.MaxInt32, "multiturn: tokens of each question (default 512); unique: of each prompt (default 1024)")
	intVar(f, &b.unique.PromptBytes, "prompt-bytes", 0, 0, math.MaxInt32, "unique: bytes of each prompt, instead of tokens")
	intVar(f, &b.shared.Groups, "groups", 0, 0, 1<<20, "gsp, longdoc: beginnings that are shared (default 64; 16)")
	intVar(f, &b.shared.Prompts, "prompts", 0, 0, 1<<20, "gsp, longdoc: conversations of each group (default 16; 8)")
	intVar(f, &b.shared.QuestionTokens, "question-tokens", 0, 0, math.MaxInt32, "gsp, longdoc: tokens behind what is shared (default 128; 64)")
	intVar(f, &b.shared.Turns, "turns", 0, 0, 1<<20, "gsp, longdoc: questions of a conversation (default 1)")
	f.Float64Var(&b.shared.RangeRatio, "range-ratio", 0, "gsp, longdoc: lengths vary from this share up (default 1: all equal; negative: from one token)")
	f.Float64Var(&b.shared.Zipf, "zipf", 0, "gsp, longdoc: exponent of the groups' popularity (default 0: equal)")
	f.Float64Var(&b.shared.HotGroup, "hot-group", 0, "gsp, longdoc: share of conversations that go to one group")
	f.StringVar(&b.order, "order", "", "gsp, longdoc: shuffled, grouped, rounds")
	f.BoolVar(&b.shared.RoutingKey, "send-routing-key", false, "gsp, longdoc: name each group in the header x-smg-routing-key")
	intVar(f, &b.turns.SystemPrompts, "system-prompts", 0, 0, 1<<20, "multiturn: distinct system prompts that conversations share")
	intVar(f, &b.turns.SystemTokens, "system-tokens", 0, 0, math.MaxInt32, "multiturn: tokens of each (default 2048); gsp, longdoc: of what a group shares (default 2048; 24000)")
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
	if g := report.Goodput; g != nil && g.Missed {
		return &ExitError{sloMissed, fmt.Errorf("%.1f %% of the requests were within %v, of which %.1f %% were to be", 100*g.Attainment, g.SLO, 100*g.Wanted)}
	}
	return nil
}

// sloMissed is the exit code of a run that was slower than it was to be.
const sloMissed = 99

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
	b.cfg.Arrivals, b.shared.Order = replay.Arrivals(b.arrivals), replay.Order(b.order)
	if b.slo != "" {
		if b.cfg.SLO, err = replay.ParseSLO(b.slo); err != nil {
			return usage(err)
		}
	}
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
		b.recording.Format = replay.Format(b.format)
		w, err := replay.OpenTrace(b.trace, b.recording)
		if errors.Is(err, replay.ErrRatesOnly) {
			return nil, &ExitError{2, err}
		}
		return w, err
	}
	var w replay.Workload
	var err error
	switch b.shared.SystemTokens, b.shared.OutputTokens = b.turns.SystemTokens, b.cfg.OutputTokens; b.workload {
	case "multiturn":
		w, err = replay.NewMultiturn(b.turns)
	case "unique":
		b.unique.InputTokens, b.unique.OutputTokens = b.turns.InputTokens, b.cfg.OutputTokens
		w, err = replay.NewUnique(b.unique)
	case "gsp":
		w, err = replay.NewSharedPrefix(b.shared)
	case "longdoc":
		w, err = replay.NewLongDoc(b.shared)
	default:
		err = fmt.Errorf("unknown workload %q: there are %s", b.workload, strings.Join(workloads, ", "))
	}
	if err != nil {
		return nil, &ExitError{2, err}
	}
	return w, nil
}

// workloads are those that are generated.
var workloads = []string{"multiturn", "unique", "gsp", "longdoc"}
