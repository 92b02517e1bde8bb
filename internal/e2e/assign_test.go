package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/assignload"
)

func TestLoadOnASchedulerAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	s, admin := c.role("scheduler")
	admin.Ready(t)
	report, err := assignload.Run(t.Context(), assignload.Config{
		URL: c.url, Workers: []int{2, 5}, PromptBytes: []int{1 << 16}, InFlight: 4, Rounds: 1,
		Duration: 50 * time.Millisecond, Idle: time.Millisecond, PIDs: map[string]int{"scheduler": s.Cmd.Process.Pid},
	})
	if err != nil {
		t.Fatal(err)
	}
	var workers []int
	for _, r := range report.Results {
		workers = append(workers, r.Workers)
		if r.Answers == 0 || r.Refused > 0 || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("got %+v, want answers, none of them a refusal, and their times", r)
		}
		if _, told := r.CPU["scheduler"]; !told {
			t.Errorf("got %+v, want the scheduler's CPU time", r)
		}
	}
	if want := []int{2, 5}; !slices.Equal(workers, want) {
		t.Errorf("variants of %v workers, want %v", workers, want)
	}
	s.Terminate()
}
