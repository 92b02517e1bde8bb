package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/run"
	"github.com/radixbus/radixbus/internal/simengine"
)

// simFlags say what simulated engines are like, to `sim` and to `up`.
type simFlags struct {
	profile     string
	speed       float64
	capacity    int
	model       string
	eviction    string
	cacheReport bool
}

func (s *simFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&s.profile, "profile", "llama-3.1-8b-h100", "model and GPU that simulated engines are like: "+profileNames())
	f.Float64Var(&s.speed, "speed", 1, "how many times faster than real time simulated engines are")
	f.IntVar(&s.capacity, "capacity", 0, "KV cache of a simulated engine in tokens (default: the profile's)")
	f.StringVar(&s.model, "model", "", "model name of simulated engines (default: the profile's)")
	f.StringVar(&s.eviction, "eviction", "lru", "what simulated engines evict first: lru or priority")
	f.BoolVar(&s.cacheReport, "cache-report", true, "simulated engines tell cached tokens in OpenAI answers")
}

func profileNames() string {
	var names []string
	for _, p := range simengine.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// name is the model's.
func (s *simFlags) name() string {
	if s.model != "" {
		return s.model
	}
	p, _ := simengine.LookupProfile(s.profile)
	return p.Model
}

// fill puts the flags into the configuration of the engine with number i.
func (s *simFlags) fill(c *simengine.Config, i int) {
	c.Model, c.Profile, c.Speed, c.Capacity = s.model, s.profile, s.speed, s.capacity
	c.Eviction, c.CacheReport, c.Seed = s.eviction, s.cacheReport, uint64(i)
}

// enginePart makes one simulated engine, listening already. The part closes the listener; who does not run it does.
func enginePart(i int, cfg simengine.Config, addr string, drain time.Duration, log *slog.Logger) (run.Part, string, io.Closer, error) {
	cfg.Log = log
	eng, err := simengine.New(cfg)
	if err != nil {
		return run.Part{}, "", nil, &ExitError{2, err}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return run.Part{}, "", nil, fmt.Errorf("simulated engine: %w", err)
	}
	srv := &http.Server{Handler: eng.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	serve := func(ctx context.Context, ready func()) error {
		ectx, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		done := make(chan error, 2)
		go func() { done <- eng.Run(ectx) }()
		go func() { done <- srv.Serve(ln) }()
		ready()
		var early error
		left := 2
		select {
		case early = <-done:
			left--
		case <-ctx.Done():
			bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
			early = eng.Shutdown(bound)
			cancel()
		}
		stop()
		srv.Close() //nolint:errcheck // nobody is left to hear
		for range left {
			<-done //nolint:errcheck // nothing that a stop did not bring about: an engine that is stopped before it ran says so
		}
		if errors.Is(early, http.ErrServerClosed) {
			early = nil
		}
		return early
	}
	return run.Part{Name: fmt.Sprintf("engine %d", i), Run: serve, Grace: drain + 10*time.Second}, "http://" + ln.Addr().String(), ln, nil
}
