package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
)

// Two hundred clients at a time, of which half leave at a random moment, for a few seconds: no token is lost or doubled,
// and afterwards nothing is counted that is not there.
func TestManyStreamsAndRandomCancelsLeaveAllBooksBalanced(t *testing.T) {
	span := 4 * time.Second
	if testing.Short() {
		span = time.Second
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const every = 40 * time.Millisecond
	engines := []*countingEngine{newCountingEngine(t, every), newCountingEngine(t, every), newCountingEngine(t, every)}
	var args []string
	for _, e := range engines {
		args = append(args, "--engine", e.url)
	}
	h, dog := up(t, args...), newWatchdog(t)
	var users sync.WaitGroup
	var whole, cancelled, honest atomic.Int64
	end := time.Now().Add(span)
	for u := range 200 {
		users.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(u)))
			for i := 0; time.Now().Before(end); i++ {
				tokens := 1 + rng.IntN(40)
				ctx, leave := context.WithTimeout(t.Context(), 2*testkit.Patience)
				leaves := rng.IntN(2) == 0
				if leaves {
					time.AfterFunc(time.Duration(rng.Int64N(int64(time.Second))), leave)
				}
				a := h.Ask(ctx, "/v1/chat/completions", chat(countingModel, fmt.Sprintf("user %d %s", u, filler(rng.IntN(20), rng.IntN(3000))),
					object{"stream": rng.IntN(4) > 0, "max_tokens": tokens}))
				leave()
				switch {
				case a.OK() && a.Text == counted(tokens):
					whole.Add(1)
				case leaves && a.Err != nil && a.Failure == "" && strings.HasPrefix(counted(tokens), a.Text):
					cancelled.Add(1)
				case a.Failure != "" && a.Err == nil && strings.HasPrefix(counted(tokens), a.Text) && dog.starved():
					honest.Add(1)
				default:
					t.Errorf("user %d, request %d (leaves: %v): %v", u, i, leaves, a)
				}
			}
		})
	}
	users.Wait()
	t.Logf("%d whole, %d cancelled, %d refused or broken off while the machine stood still", whole.Load(), cancelled.Load(), honest.Load())
	if honest.Load() == 0 && (whole.Load() < 100 || cancelled.Load() < 50) {
		t.Errorf("%d whole and %d cancelled answers: too few to mean anything", whole.Load(), cancelled.Load())
	}
	h.idle(t)
	for i, e := range engines {
		testkit.Eventually(t, fmt.Sprintf("engine %d is idle", i), func() bool { return e.active() == 0 })
		if served, _ := e.count(); served == 0 {
			t.Errorf("engine %d served nothing", i)
		}
	}
	if a := h.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, "still there?")); !a.OK() {
		t.Errorf("afterwards: %v", a)
	}
}
