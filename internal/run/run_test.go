package run_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/radixbus/radixbus/internal/run"
)

// diary notes what happens, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) want(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("got %q, want %q", d.lines, want)
	}
}

// part is ready after a second and drains for another.
func (d *diary) part(name string) run.Part {
	return run.Part{Name: name, Run: func(ctx context.Context, ready func()) error {
		time.Sleep(time.Second)
		d.note("%s up", name)
		ready()
		<-ctx.Done()
		d.note("%s asked: %v", name, context.Cause(ctx))
		time.Sleep(time.Second)
		d.note("%s down", name)
		return nil
	}}
}

var errBroke = errors.New("broke")

func TestPartsStartInOrderAndStopInReverseOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(errors.New("signal")) })
		began := time.Now()
		if err := run.All(ctx, d.part("bus"), d.part("scheduler"), d.part("gateway")); err != nil {
			t.Errorf("All = %v, want nil when the context ended", err)
		}
		if got := time.Since(began); got != 13*time.Second {
			t.Errorf("took %v, want 10s and a drain of one second for each part in turn", got)
		}
		d.want(t, "bus up", "scheduler up", "gateway up", "gateway asked: signal", "gateway down",
			"scheduler asked: signal", "scheduler down", "bus asked: signal", "bus down")
	})
}

func TestContextThatEndsDuringTheStartStopsWhatHasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := run.All(ctx, d.part("bus"), d.part("scheduler"), d.part("gateway")); err != nil {
			t.Errorf("All = %v, want nil", err)
		}
		d.want(t, "bus up", "scheduler up", "scheduler asked: context deadline exceeded", "scheduler down",
			"bus asked: context deadline exceeded", "bus down")
	})
}

func TestPartThatFailsStopsTheOthersAndIsNamed(t *testing.T) {
	tests := []struct {
		name   string
		before bool // it fails before it was ready
		err    error
		want   error
	}{
		{"after it was up", false, errBroke, errBroke},
		{"before it was up", true, errBroke, errBroke},
		{"with nil", false, nil, run.ErrEarly},
		{"with nil before it was up", true, nil, run.ErrEarly},
		// A part whose own inner context ended, while nobody had asked it to stop, has failed: this was swallowed once.
		{"with somebody else's cancellation", false, context.Canceled, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				broken := run.Part{Name: "worker", Run: func(_ context.Context, ready func()) error {
					if !tt.before {
						ready()
						ready() // harmless
						time.Sleep(5 * time.Second)
					}
					return tt.err
				}}
				err := run.All(t.Context(), d.part("bus"), broken, d.part("gateway"))
				if !errors.Is(err, tt.want) || err == nil || err.Error()[:8] != "worker: " {
					t.Errorf("All = %v, want worker: %v", err, tt.want)
				}
				if tt.before {
					d.want(t, "bus up", "bus asked: context canceled", "bus down")
				} else {
					d.want(t, "bus up", "gateway up", "gateway asked: context canceled", "gateway down", "bus asked: context canceled", "bus down")
				}
			})
		})
	}
}

func TestPartThatOverstaysIsLeftBehindAndTheOthersStillStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		release := make(chan struct{})
		stuck := run.Part{Name: "stuck", Grace: 3 * time.Second, Run: func(_ context.Context, ready func()) error {
			ready()
			<-release
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		began := time.Now()
		err := run.All(ctx, d.part("bus"), stuck)
		if !errors.Is(err, run.ErrOverstayed) {
			t.Errorf("All = %v, want ErrOverstayed", err)
		}
		if got, want := time.Since(began), 9*time.Second; got != want { // asked after 5, 3 of grace, 1 to stop the bus
			t.Errorf("took %v, want %v", got, want)
		}
		d.want(t, "bus up", "bus asked: context canceled", "bus down")
		close(release)
	})
}

func TestErrorOfADrainIsToldButTheCauseOfTheStopIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("terminated")
		ending := func(err func(ctx context.Context) error) run.Part {
			return run.Part{Name: "part", Run: func(ctx context.Context, ready func()) error {
				ready()
				<-ctx.Done()
				return err(ctx)
			}}
		}
		all := func(p run.Part) error {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			return run.All(ctx, p)
		}
		if err := all(ending(func(ctx context.Context) error { return fmt.Errorf("wait: %w", context.Cause(ctx)) })); err != nil {
			t.Errorf("a part that returns the cause: All = %v, want nil", err)
		}
		if err := all(ending(func(ctx context.Context) error { return fmt.Errorf("wait: %w", ctx.Err()) })); err != nil {
			t.Errorf("a part that returns its context's error: All = %v, want nil", err)
		}
		if err := all(ending(func(context.Context) error { return errBroke })); !errors.Is(err, errBroke) {
			t.Errorf("a part whose drain failed: All = %v, want %v", err, errBroke)
		}
	})
}

func TestPartsOfAGroupStartAndStopTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(errors.New("signal")) })
		began := time.Now()
		group := run.Together("workers", d.part("w"), d.part("w"), d.part("w"))
		if err := run.All(ctx, group, d.part("gateway")); err != nil {
			t.Errorf("All = %v, want nil when the context ended", err)
		}
		if took := time.Since(began); took != 12*time.Second { // the gateway's drain, and that of the group
			t.Errorf("took %v, want 12s", took)
		}
		d.want(t, "w up", "w up", "w up", "gateway up", "gateway asked: signal", "gateway down",
			"w asked: signal", "w asked: signal", "w asked: signal", "w down", "w down", "w down")
	})
}

func TestPartOfAGroupThatFailsStopsTheOthersAndIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{{"an error", errBroke, errBroke}, {"nil", nil, run.ErrEarly}, {"its own cancellation", context.Canceled, context.Canceled}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				failing := run.Part{Name: "bad", Run: func(_ context.Context, ready func()) error {
					ready()
					time.Sleep(5 * time.Second)
					return tt.err
				}}
				err := run.All(t.Context(), run.Together("workers", d.part("w"), failing, d.part("w")))
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "bad: ") || strings.Contains(err.Error(), "w: ") {
					t.Errorf("All = %v, want %v of the bad one", err, tt.want)
				}
				d.want(t, "w up", "w up", "w asked: a part beside it has stopped", "w asked: a part beside it has stopped", "w down", "w down")
			})
		})
	}
}

func TestAGroupOfNothingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := run.All(ctx, run.Together("workers")); err != nil {
			t.Error(err)
		}
	})
}
