package gateway

import (
	"fmt"
	"testing"
	"time"
)

func TestWhomToAsk(t *testing.T) {
	var r replicas
	now := time.Unix(1_800_000_000, 0)
	if to := r.first(now); to != "" {
		t.Errorf("at first: %q, want the group", to)
	}
	if to := r.next(now, []string{""}); to != "" {
		t.Errorf("nobody has ever answered, and %q is asked", to)
	}
	r = replicas{}
	for i, name := range []string{"a", "b", "c"} {
		r.heard(now.Add(time.Duration(i)*time.Millisecond), name)
	}
	now = now.Add(time.Second)
	if to := r.first(now); to != "" {
		t.Errorf("all is well: %q, want the group", to)
	}
	if to := r.next(now, []string{""}); to != "c" {
		t.Errorf("the group is silent: %q, want the one that answered last", to)
	}
	if to := r.next(now, []string{"", "c"}); to != "b" {
		t.Errorf("and so is c: %q, want b", to)
	}
	if to := r.first(now); to != "b" {
		t.Errorf("right after it: %q, want b", to)
	}
	now = now.Add(2 * probeReplica)
	if to := r.first(now); to != "" {
		t.Errorf("a while later: %q, want a probe of the group", to)
	}
	if to := r.first(now); to != "b" {
		t.Errorf("right after it: %q, want b", to)
	}
	if to := r.first(now.Add(shyFor)); to != "" {
		t.Errorf("later: %q, want the group again", to)
	}
	if to := r.next(now.Add(2*replicaKept), []string{""}); to != "" {
		t.Errorf("long after: %q, want nobody: it may be gone", to)
	}
}

func TestReplicasAreBounded(t *testing.T) {
	var r replicas
	now := time.Unix(1_800_000_000, 0)
	for i := range 10 * maxReplicas {
		r.heard(now, fmt.Sprint(i))
	}
	r.heard(now, "")
	if len(r.answered) != maxReplicas {
		t.Errorf("%d remembered, want %d", len(r.answered), maxReplicas)
	}
	r.heard(now.Add(2*replicaKept), "new")
	if len(r.answered) != 1 {
		t.Errorf("%d remembered after all others have been silent for long, want 1", len(r.answered))
	}
}
