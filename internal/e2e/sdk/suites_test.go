package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// suiteBound is for one suite, on a busy machine.
const suiteBound = 10 * time.Minute

func TestSDKsOnSimulatedEngines(t *testing.T) { conform(t, simulated(t)) }

func TestSDKsOnSGLang(t *testing.T) { conform(t, sglang(t)) }

// conform runs the suite of every SDK against a target, one after the other, and ends with a table. The Go one needs nothing but
// Go; the others are skipped unless $RADIXBUS_SDKS_HOME names a folder into which suites/install.py has put the SDKs.
func conform(t *testing.T, x *target) {
	home := os.Getenv("RADIXBUS_SDKS_HOME")
	node := "node"
	if own := filepath.Join(home, "node", "node_modules", ".bin", "node"); exists(own) {
		node = own
	}
	python := filepath.Join(home, "python", "bin", "python")
	suite := func(name string) string { return filepath.Join("suites", name) }
	var table table
	for _, sdk := range []struct {
		name    string
		command []string // none: in this process
		stamp   string   // of what it needs
	}{
		{"openai-go", nil, ""},
		{"openai-python", []string{python, "-W", "ignore", suite("openai_suite.py")}, "python.done"},
		{"openai-node", []string{node, suite("openai_suite.cjs")}, "js.done"},
		{"anthropic-python", []string{python, "-W", "ignore", suite("anthropic_suite.py")}, "python.done"},
	} {
		t.Run(sdk.name, func(t *testing.T) {
			note := func(v verdict) { table.add(sdk.name, v) }
			switch {
			case sdk.command == nil:
				inGo(t, x, note)
			case home == "":
				t.Skip("not installed: $RADIXBUS_SDKS_HOME names no folder with the SDKs (`task test:sdks` makes one)")
			case !exists(filepath.Join(home, sdk.stamp)):
				t.Skipf("not installed in %s: `python3 internal/e2e/sdk/suites/install.py` does it, or tells why not", home)
			default:
				outside(t, x, home, sdk.command, note)
			}
		})
	}
	t.Log("\n" + table.String())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A verdict is what became of a check: a line of a suite's standard output.
type verdict struct {
	Check   string  `json:"check"`
	Skipped string  `json:"skipped"` // why
	Failed  string  `json:"failed"`  // how
	Seconds float64 `json:"seconds"`
	End     bool    `json:"end"` // no check, but the end of the suite: one that breaks off is not taken for whole
}

// outside runs a suite that is a program.
func outside(t *testing.T, x *target, home string, command []string, note func(verdict)) {
	ctx, cancel := context.WithTimeout(t.Context(), suiteBound)
	defer cancel()
	doc, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env = append(environment(), "PYTHONDONTWRITEBYTECODE=1", "NODE_PATH="+filepath.Join(home, "js", "node_modules"))
	c.Stdin = bytes.NewReader(doc)
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	checks, whole := 0, false
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Errorf("a line that is no verdict: %s", lines.Text())
			continue
		}
		if v.End {
			whole = true
			continue
		}
		checks++
		note(v)
		t.Run(v.Check, func(t *testing.T) {
			switch {
			case v.Failed != "":
				t.Error(v.Failed)
			case v.Skipped != "":
				t.Skip(v.Skipped)
			}
		})
	}
	if err := c.Wait(); err != nil || !whole || checks == 0 {
		t.Errorf("%s broke off after %d checks: %v\n%s", command[len(command)-1], checks, err, log.String())
	}
}

// inGo runs the suite of the Go SDK.
func inGo(t *testing.T, x *target, note func(verdict)) {
	for _, one := range goChecks {
		v := verdict{Check: one.name}
		t.Run(one.name, func(t *testing.T) {
			began := time.Now()
			t.Cleanup(func() {
				if t.Failed() {
					v.Failed = "see above"
				}
				v.Seconds = time.Since(began).Seconds()
			})
			defer func() { // a list without the element that it must have, say: the other checks go on, as in other languages
				if p := recover(); p != nil {
					t.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			for _, need := range one.needs {
				if why := x.Lacks[need]; why != "" {
					v.Skipped = why
					t.Skip(why)
				}
			}
			one.do(t, newGoClient(x))
		})
		note(v)
	}
}

// A table has a row for each check and a column for each SDK.
type table struct {
	sdks   []string
	checks []string
	of     map[string]map[string]verdict // by check, by SDK
}

func (s *table) add(sdk string, v verdict) {
	if !slices.Contains(s.sdks, sdk) {
		s.sdks = append(s.sdks, sdk)
	}
	if s.of[v.Check] == nil {
		if s.of == nil {
			s.of = make(map[string]map[string]verdict)
		}
		s.of[v.Check] = make(map[string]verdict)
		s.checks = append(s.checks, v.Check)
	}
	s.of[v.Check][sdk] = v
}

// slow is how many seconds of a check are told.
const slow = 5

func (s *table) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t%s\n", strings.Join(s.sdks, "\t"))
	reasons := make(map[string]bool)
	for _, check := range s.checks {
		fmt.Fprint(w, check)
		for _, sdk := range s.sdks {
			v, ran := s.of[check][sdk]
			word := "ok"
			switch {
			case !ran:
				word = "-"
			case v.Failed != "":
				word = "FAILED"
			case v.Skipped != "":
				word = "skipped"
				reasons[v.Skipped] = true
			}
			if v.Seconds > slow {
				word += fmt.Sprintf(" (%.0f s)", v.Seconds)
			}
			fmt.Fprint(w, "\t", word)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprint(&text, "-: the SDK has no such thing, or its suite no such check\n")
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(&text, "skipped: %s\n", why)
	}
	return text.String()
}
