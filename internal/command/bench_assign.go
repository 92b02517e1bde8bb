package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/radixbus/radixbus/internal/assignload"
)

// assignFlags are what `bench assign` may be told.
type assignFlags struct {
	cfg               assignload.Config
	nats, creds, json string
	scheduler, busPID int
}

func (e *env) assignCommand() *cobra.Command {
	var b assignFlags
	c := &cobra.Command{
		Use: "assign", Short: "Put load on schedulers alone: questions over the bus, of workers that do not exist", Args: noArgs,
		Long: "Lets workers that do not exist beat on a bus that has a scheduler, keeps questions under way, and ends what is placed\n" +
			"as adapters would. With several numbers of workers or lengths of prompts, these take turns, round by round. For a bus\n" +
			"on which nobody works.\n\n" +
			"  radixbus bench assign --workers 8,4000 --scheduler-pid 4711 --bus-pid 4712",
	}
	f := c.Flags()
	f.StringVar(&b.nats, "nats", "", "NATS servers, separated by commas (default $NATS_URL, else "+defaultNATS+")")
	f.StringVar(&b.creds, "nats-creds", "", "NATS credentials file (default $NATS_CREDS)")
	f.IntSliceVar(&b.cfg.Workers, "workers", []int{8}, "workers; several numbers take turns")
	f.IntSliceVar(&b.cfg.PromptBytes, "prompt-bytes", []int{1 << 10}, "length of prompts, of which 75 % are shared within a group; several take turns")
	intVar(f, &b.cfg.InFlight, "in-flight", 64, 1, 1<<16, "questions under way at a time")
	intVar(f, &b.cfg.Connections, "connections", 2, 1, 1024, "clients that ask them")
	intVar(f, &b.cfg.Running, "running", 2, 1, 256, "placements that each worker keeps before the oldest ends")
	intVar(f, &b.cfg.Groups, "groups", 64, 1, 1<<20, "groups of prompts")
	intVar(f, &b.cfg.Rounds, "rounds", 3, 1, 1000, "turns of each variant; their medians are reported")
	durationVar(f, &b.cfg.Duration, "duration", 3*time.Second, time.Millisecond, "of a turn, after a quarter of it to warm up")
	durationVar(f, &b.cfg.Idle, "idle", time.Second, time.Millisecond, "how long workers only beat at the start of a turn")
	intVar(f, &b.scheduler, "scheduler-pid", 0, 0, 1<<30, "process of this machine whose CPU time is told")
	intVar(f, &b.busPID, "bus-pid", 0, 0, 1<<30, "likewise, of the bus")
	f.Uint64Var(&b.cfg.Seed, "seed", 1, "of generated prompts")
	f.StringVar(&b.json, "json", "", "write the report to this file; - is standard output, without the table")
	c.RunE = func(c *cobra.Command, _ []string) error { return e.assign(c.Context(), &b) }
	return c
}

func (e *env) assign(ctx context.Context, b *assignFlags) error {
	b.cfg.URL = cmp.Or(b.nats, e.lookup("NATS_URL"), defaultNATS)
	if creds := cmp.Or(b.creds, e.lookup("NATS_CREDS")); creds != "" {
		b.cfg.Options = append(b.cfg.Options, nats.UserCredentials(creds))
	}
	b.cfg.PIDs = make(map[string]int)
	for name, pid := range map[string]int{"scheduler": b.scheduler, "bus": b.busPID} {
		if pid > 0 {
			b.cfg.PIDs[name] = pid
		}
	}
	b.cfg.Progress = e.Stderr
	report, err := assignload.Run(ctx, b.cfg)
	if errors.Is(err, assignload.ErrConfig) {
		return &ExitError{2, err}
	}
	if err != nil {
		return err
	}
	if err := e.writeFile(b.json, asJSON(report)); err != nil {
		return err
	}
	if b.json != "-" {
		if err := report.WriteTable(e.Stdout); err != nil {
			return err
		}
	}
	for _, r := range report.Results {
		if r.Refused > 0 {
			return fmt.Errorf("%d questions were refused, with %d workers and prompts of %d bytes", r.Refused, r.Workers, r.PromptBytes)
		}
	}
	return nil
}
