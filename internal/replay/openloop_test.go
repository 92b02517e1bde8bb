package replay_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/radixbus/radixbus/internal/replay"
)

func unique(t testing.TB, cfg replay.UniqueConfig) *replay.Unique {
	t.Helper()
	w, err := replay.NewUnique(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestAnOpenLoopSendsWhatIsDueWhateverTheReplies: 40 requests, one each 50 ms, to an engine that takes 1.19 s for each. With
// room for all of them none is late; with room for one, each waits for those before it, and says so.
func TestAnOpenLoopSendsWhatIsDueWhateverTheReplies(t *testing.T) {
	const n, gap, took = 40, 0.050, 1.190
	for _, tt := range []struct {
		name               string
		concurrency        int
		duration, lateness float64 // seconds; lateness is that of the last request
		late               int64
	}{
		{"room", 0, (n-1)*gap + took, 0, 0},
		{"room for one", 1, n * took, (n - 1) * (took - gap), n - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport, stop := serveInMemory(&engine{first: time.Second, between: 10 * time.Millisecond})
				defer stop()
				got := run(t, t.Context(), replay.Config{
					URL: "http://engine", Transport: transport, Workload: unique(t, replay.UniqueConfig{InputTokens: 5, OutputTokens: 20}),
					Rate: 1 / gap, Arrivals: replay.Fixed, Concurrency: tt.concurrency, Requests: n,
				})
				if got.Requests != n || got.Errors != 0 || got.Late != tt.late {
					t.Errorf("%d requests, %d errors, %d late; want %d, 0, %d", got.Requests, got.Errors, got.Late, n, tt.late)
				}
				if math.Abs(got.DurationSeconds-tt.duration) > 1e-6 || math.Abs(got.Lateness.Max-tt.lateness) > 1e-6 {
					t.Errorf("took %v s, at most %v s late; want %v, %v", got.DurationSeconds, got.Lateness.Max, tt.duration, tt.lateness)
				}
				if math.Abs(got.E2E.P99-took) > 1e-6 || math.Abs(got.TTFT.P50-1) > 1e-6 { // from sending on, however late that was
					t.Errorf("E2E p99 %v, TTFT p50 %v", got.E2E.P99, got.TTFT.P50)
				}
			})
		})
	}
}

func TestGoodputCountsWhatIsWithinEveryBound(t *testing.T) {
	for _, tt := range []struct {
		slo    string
		wanted float64
		met    int64
		missed bool
	}{
		{"ttft=1s,tpot=10ms,e2e=1190ms", 0, 10, false},
		{"ttft=999ms,e2e=2s", 0, 0, true},
		{"ttft=2s,tpot=9ms", 0, 0, true},
		{"e2e=1s", 0.5, 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			transport, stop := serveInMemory(&engine{first: time.Second, between: 10 * time.Millisecond})
			defer stop()
			slo, err := replay.ParseSLO(tt.slo)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, t.Context(), replay.Config{
				URL: "http://engine", Transport: transport, Workload: unique(t, replay.UniqueConfig{InputTokens: 5, OutputTokens: 20}),
				Concurrency: 5, Requests: 10, SLO: slo, Attainment: tt.wanted,
			})
			g := got.Goodput
			if g == nil || g.Met != tt.met || g.Missed != tt.missed || math.Abs(g.RequestsPerSecond-float64(tt.met)/got.DurationSeconds) > 1e-9 {
				t.Errorf("%s: %+v", tt.slo, g)
			}
		})
	}
	for _, bad := range []string{"", "ttft", "ttft=", "ttft=0s", "ttft=-1s", "itl=1s", "ttft=1s,ttft=2s", "ttft=1"} {
		if slo, err := replay.ParseSLO(bad); !errors.Is(err, replay.ErrConfig) {
			t.Errorf("%q is %+v, %v", bad, slo, err)
		}
	}
}
