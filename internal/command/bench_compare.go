package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/replay"
)

// compareFlags are what `bench compare` may be told.
type compareFlags struct {
	benchFlags
	cmp replay.CompareConfig
}

func (e *env) compareCommand() *cobra.Command {
	var b compareFlags
	c := &cobra.Command{
		Use: "compare NAME=URL[,pids=1+2][,model=M] ...", Short: "Measure endpoints beside each other, round by round",
		Long: "Gives every target the same load in every round, one target after the other in an order that changes from round to\n" +
			"round, and prints medians over the rounds, what each target adds to the first one, and ratios to it. A URL may be\n" +
			"several with | between them: replicas, taken in turn. With pids, the processor time and memory of those processes\n" +
			"(of this machine) are the target's: all of its processes should be named.\n\n" +
			"  radixbus bench compare direct=http://127.0.0.1:31000 'bus=http://127.0.0.1:8080,pids=4711+4712' \\\n" +
			"    --workload unique --prompt-bytes 20000 --stream=false --concurrency 16 --requests 2000",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &ExitError{2, errors.New("bench compare takes targets, such as direct=http://127.0.0.1:31000 bus=http://127.0.0.1:8080,pids=4711")}
			}
			return nil
		},
	}
	load := pflag.NewFlagSet("load", pflag.ContinueOnError)
	b.flags(load)
	load.VisitAll(func(f *pflag.Flag) {
		if f.Name == "rounds" { // of a conversation; here rounds are those of the comparison
			f.Name = "multiturn-rounds"
		}
		c.Flags().AddFlag(f)
	})
	f := c.Flags()
	intVar(f, &b.cmp.Rounds, "rounds", 5, 1, 1000, "runs of each target; their medians are reported")
	intVar(f, &b.cmp.Warm, "warm", 50, 0, 1<<30, "requests to each target before each of its runs, unmeasured")
	f.StringArrayVar(&b.cmp.Bases, "base", nil, "a further target, by its name, that all are held against; repeatable")
	c.RunE = func(c *cobra.Command, args []string) error { return e.compare(c.Context(), &b, args) }
	return c
}

func (e *env) compare(ctx context.Context, b *compareFlags, args []string) error {
	var errs []error
	for _, arg := range args {
		t, err := parseTarget(arg)
		errs = append(errs, err)
		b.cmp.Targets = append(b.cmp.Targets, t)
	}
	if err := errors.Join(errs...); err != nil {
		return &ExitError{2, err}
	}
	if err := e.configure(&b.benchFlags); err != nil {
		return err
	}
	if b.cmp.Warm == 0 {
		b.cmp.Warm = -1 // its zero value means the default
	}
	b.cmp.Load = b.cfg
	b.cmp.Progress, b.cmp.Terminal = e.Stderr, terminal(e.Stderr)
	result, err := replay.Compare(ctx, b.cmp)
	if err != nil {
		return usage(err)
	}
	if err := e.report(b.json, result); err != nil {
		return err
	}
	failed, all := int64(0), int64(0)
	for _, t := range result.Targets {
		failed, all = failed+t.Errors, all+t.Requests
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, all)
	}
	return nil
}

// parseTarget reads NAME=URL[|URL...][,pids=1+2][,model=M].
func parseTarget(arg string) (replay.Target, error) {
	name, rest, ok := strings.Cut(arg, "=")
	if !ok || name == "" || strings.ContainsAny(name, "/:,") {
		return replay.Target{}, fmt.Errorf("target %q is not NAME=URL[,pids=1+2][,model=M]", arg)
	}
	urls, rest, more := strings.Cut(rest, ",")
	t := replay.Target{Name: name, URLs: strings.Split(urls, "|")}
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "pids":
			for text := range strings.SplitSeq(value, "+") {
				pid, err := strconv.ParseUint(text, 10, 31)
				if err != nil || pid == 0 {
					return t, fmt.Errorf("target %q: %q is no process id", name, text)
				}
				t.PIDs = append(t.PIDs, int(pid))
			}
		case "model":
			t.Model = value
			if more { // a name may hold commas: it is the last option
				t.Model, more = value+","+rest, false
			}
		default:
			return t, fmt.Errorf("target %q: unknown option %q; there are pids=1+2 and, last, model=M", name, option)
		}
	}
	return t, nil
}
