package replay_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/replay"
)

var update = flag.Bool("update", false, "rewrite golden files")

func report() replay.Report {
	return replay.Report{
		URL: "http://127.0.0.1:8080", API: replay.Chat, Model: "llama", Workload: "multiturn", Stream: true,
		Parameters: map[string]any{"rounds": 5, "input_tokens": 512}, Seed: 1, Concurrency: 16, Interleave: 2, ThinkSeconds: 0.5,
		Partial: true, Stopped: "interrupt", Requests: 1280, Errors: 12, Unfinished: 3,
		ErrorsByKind:      map[replay.Kind]int64{"http_429": 9, replay.CutStream: 3},
		ErrorSamples:      map[replay.Kind]string{"http_429": "no room\x1b[31m\nhere", replay.CutStream: "unexpected EOF"},
		DurationSeconds:   83.25,
		TTFT:              replay.Distribution{Count: 1268, Mean: 0.0521, Min: 0.01, P50: 0.04512, P90: 0.0891, P99: 0.2, Max: 1.2345},
		TPOT:              replay.Distribution{Count: 1268, Mean: 0.0121, Min: 0.01, P50: 0.012, P90: 0.0133, P99: 0.02, Max: 0.03},
		ITL:               replay.Distribution{Count: 1_200_000, Mean: 0.0121, Min: 0.000001, P50: 0.012, P90: 0.0133, P99: 0.02, Max: 0.03, Approximate: true},
		RequestsPerSecond: 15.23, PromptTokensPerSecond: new(25_000.4), OutputTokensPerSecond: new(974.8), MeanConcurrency: 15.9,
		PromptTokens: new(int64(2_081_280)), OutputTokens: new(int64(81_152)), CachedTokens: new(int64(1_440_000)), HitRate: new(0.69188),
		UsageReported: 1268, CachedReported: 1000,
		Workers: map[string]replay.WorkerShare{
			"w1": {Requests: 640, Share: 0.5, HitRate: new(0.701), Work: 350_000},
			"w2": {Requests: 640, Errors: 12, Share: 0.5, Work: 372_432},
		},
		WorkMaxOverMean: new(1.031),
	}
}

// openReport is of an open loop with an SLO.
func openReport() replay.Report {
	r := report()
	r.Arrivals, r.Rate, r.Concurrency, r.Interleave = replay.Poisson, 15.5, 4096, 1
	r.Late, r.Lateness = 31, replay.Distribution{Count: 1283, Mean: 0.0012, P50: 0.0005, P90: 0.0011, P99: 0.011, Max: 0.0312}
	r.Goodput = &replay.Goodput{
		SLO: replay.SLO{TTFTSeconds: 2, TPOTSeconds: 0.05}, Met: 1100, Attainment: 0.859375, Wanted: 0.9, Missed: true, RequestsPerSecond: 13.21,
	}
	return r
}

func TestTableLooksLikeThis(t *testing.T) {
	for golden, report := range map[string]replay.Report{
		"testdata/table.golden":      report(),
		"testdata/table-open.golden": openReport(),
	} {
		var got bytes.Buffer
		if err := report.WriteTable(&got); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got.String()); d != "" {
			t.Errorf("%s (-want +got)\n%s", golden, d)
		}
	}
}

func TestTableTellsOfAWriterThatFails(t *testing.T) {
	if err := report().WriteTable(failing{}); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

var errFull = errors.New("disk full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
