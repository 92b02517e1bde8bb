package procs

import (
	"context"
	"runtime"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	const w = 50 * time.Millisecond
	share := func(cores float64) time.Duration { return time.Duration(cores * float64(w)) }
	for name, tt := range map[string]struct {
		fit  Fit
		used time.Duration
		most int
		want int
	}{
		"one, idle":                   {Fit{Procs: 1}, 0, 8, 1},
		"one, half busy":              {Fit{Procs: 1}, share(0.5), 8, 1},
		"one, busy":                   {Fit{Procs: 1}, share(0.81), 8, 2},
		"one that is all":             {Fit{Procs: 1}, share(1), 1, 1},
		"four, busy":                  {Fit{Procs: 4}, share(3.3), 8, 8},
		"four of six, busy":           {Fit{Procs: 4}, share(3.3), 6, 6},
		"four, calm for a moment":     {Fit{Procs: 4}, share(1.1), 8, 4},
		"four, calm for long":         {Fit{Procs: 4, calm: calmFor - w}, share(1.1), 8, 2},
		"four, too much for two":      {Fit{Procs: 4, calm: calmFor - w}, share(1.3), 8, 4},
		"two, calm for long":          {Fit{Procs: 2, calm: calmFor - w}, share(0.5), 8, 1},
		"three, calm for long":        {Fit{Procs: 3, calm: calmFor - w}, share(0.5), 3, 1},
		"a container that got less":   {Fit{Procs: 8}, share(7), 4, 4},
		"a clock that stood still":    {Fit{Procs: 1}, 0, 8, 1},
		"more used than there can be": {Fit{Procs: 2}, share(9), 8, 4},
	} {
		if got := tt.fit.Next(tt.used, w, tt.most); got.Procs != tt.want {
			t.Errorf("%s: got %d, want %d", name, got.Procs, tt.want)
		}
	}
}

// What goes up at a load must not come down at it: the number would swing for ever.
func TestNextSettles(t *testing.T) {
	const w, most = 50 * time.Millisecond, 64
	for load := 0.0; load < 70; load += 0.05 {
		fit, changes := Fit{Procs: 1}, 0
		for range 10 * calmFor / w {
			next := fit.Next(time.Duration(min(load, float64(fit.Procs))*float64(w)), w, most)
			if next.Procs != fit.Procs {
				changes++
			}
			fit = next
		}
		if changes > 6 { // doublings to 64
			t.Errorf("a load of %.2f cores: %d changes, at %d in the end", load, changes, fit.Procs)
		}
		if load < 0.8*most && float64(fit.Procs) < load {
			t.Errorf("a load of %.2f cores has %d processors", load, fit.Procs)
		}
	}
}

func TestKeepGivesBackWhatItTook(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	if _, ok := used(); !ok {
		t.Skip("the processor time of a process cannot be read here")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { Keep(ctx); close(done) }()
	for end := time.Now().Add(30 * time.Second); runtime.GOMAXPROCS(0) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an idle process keeps all processors")
		}
	}
	cancel()
	<-done
	if got := runtime.GOMAXPROCS(0); got != all {
		t.Errorf("%d processors afterwards, want %d", got, all)
	}
}
