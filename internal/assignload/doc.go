// Package assignload puts load on schedulers alone: questions over the bus, as gateways ask them, and what adapters say
// of workers that do not exist.
//
// # Flow
//
// [Run] starts clients only. For each variant, a number of workers and a length of prompts, it lets that many workers
// beat and report, keeps a number of questions under way over a few connections, and ends each placement after a
// while as its worker's adapter would. Prompts are digests only, in groups that share their first part. Variants
// take turns, round by round, so that what else happens on the machine happens to all of them; a [Report] holds
// medians of the rounds.
//
// The workers are in pools of their own, which no gateway asks for; a bus on which others work is disturbed all the same.
//
// # Concurrency
//
// Run owns its goroutines and connections, and returns once they have ended.
package assignload

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/wire"
)

// ErrConfig reports a load that cannot be made, whatever the schedulers do.
var ErrConfig = errors.New("assignload: not possible")

// Config tells Run what load to make. The zero value of every field but URL means its documented default; a negative
// one is refused.
type Config struct {
	// URL of the bus. Required.
	URL string
	// Options of the connections, such as credentials. Default: none.
	Options []nats.Option
	// Subjects names what is said and heard.
	Subjects wire.Subjects
	// Workers and PromptBytes are the variants: each number with each length. Default: 8 workers, 1 KiB.
	Workers, PromptBytes []int
	// InFlight bounds the questions under way at a time, of all connections. Default 64.
	InFlight int
	// Connections is how many clients ask. Default 2.
	Connections int
	// Running is how many placements each worker keeps, on average, before the oldest ends. Default 2.
	Running int
	// Groups is how many different prompts there are. The first 75 % of a group's are the same. Default 64.
	Groups int
	// Rounds is how often each variant has its turn. Default 3.
	Rounds int
	// Duration of one turn, after a quarter of it to warm up. Default 3s.
	Duration time.Duration
	// Idle is how long the workers only beat at first, to see what that costs. Default 1s.
	Idle time.Duration
	// PIDs are processes whose CPU time is told, by name: the scheduler, the bus. Default: none.
	PIDs map[string]int
	// Seed of the prompts. Default 1.
	Seed uint64
	// Progress takes a line for each turn. Default: nothing.
	Progress io.Writer
}

func (c Config) withDefaults() Config {
	if len(c.Workers) == 0 {
		c.Workers = []int{8}
	}
	if len(c.PromptBytes) == 0 {
		c.PromptBytes = []int{1 << 10}
	}
	c.InFlight = cmp.Or(c.InFlight, 64)
	c.Connections = cmp.Or(c.Connections, 2)
	c.Running = cmp.Or(c.Running, 2)
	c.Groups = cmp.Or(c.Groups, 64)
	c.Rounds = cmp.Or(c.Rounds, 3)
	c.Duration = cmp.Or(c.Duration, 3*time.Second)
	c.Idle = cmp.Or(c.Idle, time.Second)
	c.Seed = cmp.Or(c.Seed, 1)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// maxWorkers bounds a variant's fleet: as many as a scheduler takes in.
const maxWorkers = 16384

func (c Config) check() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, fmt.Errorf("%w: no bus named", ErrConfig))
	}
	for _, n := range c.Workers {
		if n < 1 || n > maxWorkers {
			errs = append(errs, fmt.Errorf("%w: %d workers, want 1 to %d", ErrConfig, n, maxWorkers))
		}
	}
	for _, n := range c.PromptBytes {
		if n < 1 || n > wire.MaxBody {
			errs = append(errs, fmt.Errorf("%w: a prompt of %d bytes, want 1 to %d", ErrConfig, n, int64(wire.MaxBody)))
		}
	}
	if c.Connections < 1 || c.InFlight < c.Connections || c.InFlight > 1<<16 {
		errs = append(errs, fmt.Errorf("%w: %d questions over %d connections", ErrConfig, c.InFlight, c.Connections))
	}
	if min(c.Running, c.Groups, c.Rounds) < 1 || min(c.Duration, c.Idle) < time.Millisecond {
		errs = append(errs, fmt.Errorf("%w: a count below 1 or a time below 1ms", ErrConfig))
	}
	return errors.Join(errs...)
}

// A Variant is one kind of load.
type Variant struct {
	Workers     int `json:"workers"`
	PromptBytes int `json:"prompt_bytes"`
}
