package command

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/run"
	"github.com/radixbus/radixbus/internal/simengine"
)

func (e *env) simCommand() *cobra.Command {
	var s simServerFlags
	c := &cobra.Command{
		Use: "sim", Short: "Run simulated engines that speak SGLang's HTTP", Args: noArgs,
		Long: "Starts simulated SGLang servers on successive ports and prints the URL of each on a line of its own.",
	}
	s.flags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		log, err := e.log()
		if err != nil {
			return err
		}
		var parts []run.Part
		for i := range s.n {
			at := 0
			if s.port != 0 {
				at = s.port + i
			}
			cfg, err := s.config(i)
			if err != nil {
				return err
			}
			part, url, ln, err := enginePart(i, cfg, net.JoinHostPort(s.host, strconv.Itoa(at)), s.drain, log)
			if err != nil {
				return err
			}
			defer ln.Close() //nolint:errcheck // the part has closed it, unless it never ran
			fmt.Fprintln(e.Stdout, url)
			parts = append(parts, part)
		}
		return run.All(c.Context(), run.Together("engines", parts...)) // they drain together
	}
	return c
}

// simServerFlags are what `sim` may be told. Those that SGLang has too go by its names as well.
type simServerFlags struct {
	simFlags
	host       string
	port, n    int
	drain      time.Duration
	cfg        simengine.Config // what goes into it as it is
	lora       []string
	cheapCheck bool
}

func (s *simServerFlags) flags(f *pflag.FlagSet) {
	s.simFlags.flags(f)
	f.StringVar(&s.host, "host", "127.0.0.1", "address to listen on")
	portVar(f, &s.port, "port", 30000, "first port; 0 picks free ones")
	intVar(f, &s.n, "n", 1, 1, 256, "engines")
	durationVar(f, &s.drain, "drain-timeout", 30*time.Second, 0, "how long what is under way may take once asked to stop")
	f.IntVar(&s.cfg.DP, "dp", 1, "data-parallel ranks of an engine, each with a cache of its own")
	f.IntVar(&s.cfg.PageSize, "page-size", 1, "page of the KV cache in tokens")
	f.IntVar(&s.cfg.ContextLength, "context-length", 0, "longest sequence in tokens (default: the profile's)")
	f.IntVar(&s.cfg.MaxRunning, "max-running-requests", 0, "requests that run at once on a rank (default 2048)")
	f.IntVar(&s.cfg.MaxQueued, "max-queued-requests", 0, "requests that wait on a rank; further ones are refused (default: no bound)")
	f.BoolVar(&s.cfg.LoRA, "enable-lora", false, "adapters can be loaded and asked for")
	f.StringArrayVar(&s.lora, "lora", nil, "adapter that is loaded from the start, as name=path; repeatable, implies --enable-lora")
	f.IntVar(&s.cfg.MaxLoadedAdapters, "max-loaded-loras", 0, "adapters loaded at once (default 64)")
	f.BoolVar(&s.cfg.Embedding, "embedding", false, "the model embeds instead of generating")
	f.BoolVar(&s.cfg.Audio, "audio", false, "the model transcribes audio too")
	f.BoolVar(&s.cfg.ResponseStore, "response-store", false, "keep the answers of /v1/responses")
	f.BoolVar(&s.cheapCheck, "cheap-health", true, "/health answers at once, without generating a token")
	f.BoolVar(&s.cfg.Poison, "poison", false, "requests that kill a real engine kill this one")
	f.SetNormalizeFunc(alias)
}

// alias takes SGLang's names for what is called otherwise here.
func alias(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "dp-size", "data-parallel-size":
		name = "dp"
	case "enable-cache-report":
		name = "cache-report"
	case "enable-response-store":
		name = "response-store"
	case "is-embedding":
		name = "embedding"
	case "max-total-tokens":
		name = "capacity"
	case "radix-eviction-policy":
		name = "eviction"
	case "served-model-name":
		name = "model"
	}
	return pflag.NormalizedName(name)
}

// config is that of the engine with number i.
func (s *simServerFlags) config(i int) (simengine.Config, error) {
	cfg := s.cfg
	for _, l := range s.lora {
		name, path, ok := strings.Cut(l, "=")
		if !ok || name == "" || path == "" {
			return cfg, &ExitError{2, fmt.Errorf("--lora %q is not name=path", l)}
		}
		cfg.LoRA = true
		cfg.Adapters = append(cfg.Adapters, simengine.Adapter{Name: name, Path: path})
	}
	cfg.GeneratingHealth = !s.cheapCheck
	s.fill(&cfg, i)
	return cfg, nil
}
