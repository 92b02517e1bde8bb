package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

var realEngine = flag.Bool("real", false, "ask a real SGLang instead of simulated engines")

// suiteBound is for one suite, on a busy machine.
const suiteBound = 10 * time.Minute

// TestSDKs runs the suite of every SDK against one hub, one after the other, and ends with a table. The Go one needs nothing but
// Go; the others are skipped unless $RADIXBUS_SDKS_HOME names a folder into which suites/install.py has put the SDKs.
func TestSDKs(t *testing.T) {
	s := newStage(t)
	var x *target
	if *realEngine {
		x = realOne(t, s)
	} else {
		x = simulated(t, s)
	}
	home := os.Getenv("RADIXBUS_SDKS_HOME")
	node := "node"
	if own := filepath.Join(home, "node", "node_modules", ".bin", "node"); home != "" && exists(own) {
		node = own
	}
	python := filepath.Join(home, "python", "bin", "python")
	var table table
	for _, suite := range []struct {
		name    string
		command []string // "": in this process
		needs   string
	}{
		{"openai-go", nil, ""},
		{"openai-python", []string{python, "-W", "ignore", filepath.Join("suites", "openai_suite.py")}, python},
		{"openai-node", []string{node, filepath.Join("suites", "openai_suite.cjs")}, filepath.Join(home, "js", "node_modules", "openai")},
		{"anthropic-python", []string{python, "-W", "ignore", filepath.Join("suites", "anthropic_suite.py")}, python},
	} {
		t.Run(suite.name, func(t *testing.T) {
			note := func(line verdict) { table.add(suite.name, line) }
			switch {
			case suite.command == nil:
				inGo(t, x, note)
			case home == "":
				t.Skip("not installed: `task test:sdks` installs the SDKs and names their folder in $RADIXBUS_SDKS_HOME")
			case !exists(suite.needs):
				t.Skipf("not installed in %s: suites/install.py tells why", home)
			default:
				outside(t, x, home, suite.command, note)
			}
		})
	}
	t.Logf("against %s\n%s", map[bool]string{false: "simulated engines", true: "a real SGLang"}[*realEngine], table.String())
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
	checks := 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Errorf("a line that is no verdict: %s", lines.Text())
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
	if err := c.Wait(); err != nil || checks == 0 {
		t.Errorf("%s ended after %d checks: %v\n%s", command[len(command)-1], checks, err, log.String())
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
			for _, need := range one.needs {
				if why := x.Lacks[need]; why != "" {
					v.Skipped = why
					t.Skip(why)
				}
			}
			one.do(t, newGoClient(t, x))
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
