package wire_test

import (
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/radixbus/radixbus/internal/wire"
)

func TestCodes(t *testing.T) {
	names := map[string]string{}
	usual := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	consts := readSource(t).consts["Code"]
	numbers := slices.Sorted(maps.Values(consts))
	if len(numbers) < 20 || numbers[len(numbers)-1] != uint64(len(numbers)-1) {
		t.Fatalf("codes are numbered %v, want all from 0 on", numbers)
	}
	for constant, n := range consts {
		c := wire.Code(n)
		if other, ok := names[c.String()]; ok || !usual.MatchString(c.String()) || c.String() == "unknown" {
			t.Errorf("%s is called %q, as is %q", constant, c, other)
		}
		names[c.String()] = constant
		switch status := c.Status(); {
		case c == wire.CodeOK && status != 200:
			t.Errorf("%s has status %d, want 200", constant, status)
		case c != wire.CodeOK && (status < 400 || status > 599):
			t.Errorf("%s has status %d, want an error's", constant, status)
		case c.Retryable() && status != 502 && status != 503:
			t.Errorf("%s may be tried again; its status %d says whose fault it is", constant, status)
		}
	}
}

// TestUnknownCodes come from newer peers: a bad gateway, and no reason to try again.
func TestUnknownCodes(t *testing.T) {
	for _, c := range []wire.Code{wire.Code(len(readSource(t).consts["Code"])), 1_000, 1<<16 - 1} {
		if c.String() != "unknown" || c.Status() != 502 || c.Retryable() {
			t.Errorf("code %d: %s, %d, %t; want unknown, 502, false", c, c, c.Status(), c.Retryable())
		}
		got, err := wire.ParseCancel((&wire.Cancel{Code: c}).AppendTo(nil))
		if got.Code != c || err != nil {
			t.Errorf("code %d arrived as %d, %v", c, got.Code, err)
		}
	}
}

func TestStateNames(t *testing.T) {
	want := map[wire.State]string{0: "unknown", wire.Ready: "ready", wire.Draining: "draining", wire.Down: "down", wire.Silent: "silent", 5: "unknown", 255: "unknown"}
	for s, name := range want {
		if s.String() != name {
			t.Errorf("state %d is %q, want %q", s, s, name)
		}
	}
}
