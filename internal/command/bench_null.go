package command

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/radixbus/radixbus/internal/nullengine"
	"github.com/radixbus/radixbus/internal/run"
)

// nullFlags are what `bench null` may be told.
type nullFlags struct {
	cfg     nullengine.Config
	port, n int
}

func (e *env) nullCommand() *cobra.Command {
	var b nullFlags
	c := &cobra.Command{
		Use: "null", Short: "Run engines that do nothing, to measure what stands in front of them", Args: noArgs,
		Long: "Starts engines on successive ports of 127.0.0.1 and prints the URL of each on a line of its own. They speak as much of\n" +
			"SGLang's HTTP as a router asks for and answer with made-up tokens, at once or at a pace, for as little processor\n" +
			"time as they can. They have no cache and no model; `radixbus sim` has engines to learn about routing from.",
	}
	f := c.Flags()
	portVar(f, &b.port, "port", 31000, "first port; 0 picks free ones")
	intVar(f, &b.n, "n", 1, 1, 256, "engines")
	f.StringVar(&b.cfg.Model, "model", "null", "model name")
	durationVar(f, &b.cfg.TTFT, "ttft", 0, 0, "time to the first token")
	durationVar(f, &b.cfg.ITL, "itl", 0, 0, "time between tokens")
	intVar(f, &b.cfg.Tokens, "tokens", 16, 1, nullengine.MaxTokens, "tokens of answers to requests that ask for none")
	c.RunE = func(c *cobra.Command, _ []string) error { return e.null(c.Context(), &b) }
	return c
}

func (e *env) null(ctx context.Context, b *nullFlags) error {
	var parts []run.Part
	for i := range b.n {
		engine, err := nullengine.New(b.cfg)
		if err != nil {
			return &ExitError{2, err}
		}
		port := 0
		if b.port != 0 {
			port = b.port + i
		}
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return fmt.Errorf("null engine: %w", err)
		}
		defer ln.Close() //nolint:errcheck // the part has closed it, unless it never ran
		if _, err := fmt.Fprintln(e.Stdout, "http://"+ln.Addr().String()); err != nil {
			return err
		}
		parts = append(parts, run.Part{Name: fmt.Sprintf("engine %d", i), Run: func(ctx context.Context, ready func()) error {
			ready()
			return engine.Serve(ctx, ln)
		}})
	}
	return run.All(ctx, run.Together("engines", parts...))
}
