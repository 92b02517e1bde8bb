package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/command"
)

// buffer is what a command wrote; it may be read while the command runs.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// run runs one command to its end.
func run(t *testing.T, environ []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, log buffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = command.Run(ctx, command.Process{Args: args, Environ: environ, Stdout: &out, Stderr: &log})
	if ctx.Err() != nil {
		t.Fatalf("%q did not end by itself\n%s", args, log.String())
	}
	return out.String(), log.String(), err
}

// code is the exit code that an error stands for.
func code(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*command.ExitError](err); ok {
		return exit.Code
	}
	return 1
}

func TestMistakesOfUseExitWithTwoAndNameThemselves(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("bad.yaml", []byte("up:\n  polizy: radix\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("self.yaml", []byte("config: other.yaml\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("empty.key", []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args    string
		environ []string
		say     string
	}{
		// An unknown command exited with 1, like a failure at run time.
		{"upp", nil, "did you mean up?"},
		{"frobnicate", nil, `unknown command "frobnicate"`},
		{"--no-such-flag", nil, "no-such-flag"},
		{"up --no-such-flag", nil, "no-such-flag"},
		{"up extra", nil, "extra"},
		{"up --workers 257", nil, "256"},
		{"up --port 8080x", nil, "8080x"},
		{"up --port 99999", nil, "65535"},
		{"up --port -1", nil, "65535"},
		{"up --max-payload-size 0", nil, "max-payload-size"},
		{"up --request-timeout 0s", nil, "request-timeout"},
		{"up", []string{"RADIXBUS_DRAIN_TIMEOUT=-5s"}, "RADIXBUS_DRAIN_TIMEOUT"},
		{"up --engine http://127.0.0.1:1 --engine http://127.0.0.1:1", nil, "are one"},
		{"bench --concurrency 0 http://127.0.0.1:1", nil, "concurrency"},
		{"up --policy best", nil, "best"},
		{"up --profile abacus", nil, "abacus"},
		{"up --engine ftp://host", nil, "ftp://host"},
		{"up --bus-host 0.0.0.0", nil, "0.0.0.0"},
		{"up --log-level loud", nil, "loud"},
		{"up --config absent.yaml", nil, "absent.yaml"},
		{"up --config bad.yaml", nil, "up.polizy"},
		{"up --config self.yaml", nil, `"config"`},
		// RADIXBUS_CONFIG was read after the file had been looked for, and did nothing.
		{"up", []string{"RADIXBUS_CONFIG=bad.yaml"}, "up.polizy"},
		{"up", []string{"RADIXBUS_WORKERS=many"}, "RADIXBUS_WORKERS"},
		{"up", []string{"RADIXBUS_POLICY=best"}, "best"},
		{"worker", nil, "--engine"},
		{"worker --engine dns://engines", nil, "port"},
		{"worker --engine dns://engines:1 --name w", nil, "--name"},
		{"worker --engine http://127.0.0.1:1 --alias gpt-4", nil, "NAME=VALUE"},
		{"worker --engine http://127.0.0.1:1 --lora =/path", nil, "NAME=VALUE"},
		{"up --engine dns://engines:0", nil, "port"},
		{"up --alias =x", nil, "NAME=VALUE"},
		{"worker --engine host:1 --nats nats://127.0.0.1:1,nats://[", nil, "URL"},
		{"scheduler --nats-creds absent.creds", nil, "absent.creds"},
		{"scheduler", []string{"NATS_CREDS=absent.creds"}, "absent.creds"},
		{"sim --n 300", nil, "256"},
		{"sim --eviction random", nil, "random"},
		{"sim --dp-size 65", nil, "ranks"},
		{"sim --lora sql", nil, "name=path"},
		{"sim --lora sql=/a --lora law=/b --max-loaded-loras 1", nil, "fewer may be loaded"},
		// A file without a key was no key: orders were open to everybody on the machine.
		{"up --admin-key-file empty.key", nil, `--admin-key-file: there is no key in "empty.key"`},
		{"up --engine-key-file empty.key", nil, "empty.key"},
		{"up --digest-key-file empty.key", nil, "empty.key"},
		{"scheduler --admin-key-file empty.key", nil, "empty.key"},
		{"worker --engine http://127.0.0.1:1 --engine-key-file empty.key", nil, "empty.key"},
		{"gateway --digest-key-file empty.key", nil, "empty.key"},
		{"bench --api-key-file empty.key http://127.0.0.1:1", nil, "empty.key"},
		{"bench", nil, "one URL"},
		{"bench --html missing/page.html http://127.0.0.1:1", nil, "--html: stat missing"},
		{"bench --json bad.yaml/r.json http://127.0.0.1:1", nil, "bad.yaml"},
		{"bench --json - --html - http://127.0.0.1:1", nil, "standard output"},
		{"bench --workload pangram http://127.0.0.1:1", nil, "pangram"},
	} {
		out, _, err := run(t, tt.environ, append(strings.Fields(tt.args), flagsOf(tt.args)...)...)
		if code(err) != 2 || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("radixbus %s (with %q): %v (exit %d), want exit 2 and %q", tt.args, tt.environ, err, code(err), tt.say)
		}
		if out != "" {
			t.Errorf("radixbus %s wrote %q to standard output", tt.args, out)
		}
	}
}

// flagsOf keeps commands that would start off the default ports.
func flagsOf(args string) []string {
	switch name, _, _ := strings.Cut(args, " "); name {
	case "up":
		return []string{"--admin-port", "0", "--bus-port", "0"}
	case "worker", "scheduler":
		return []string{"--admin-port", "0"}
	}
	return nil
}

func TestHelpAndVersionNeedNoConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range [][]string{nil, {"--help"}, {"help", "up"}, {"up", "--help"}, {"version"}, {"completion", "bash"}} {
		out, _, err := run(t, nil, args...)
		if err != nil || !strings.Contains(out, "radixbus") {
			t.Errorf("radixbus %q: %v, %.80q", args, err, out)
		}
	}
	out, _, _ := run(t, nil, "--help")
	for _, name := range []string{"up", "gateway", "scheduler", "worker", "sim", "bench", "version"} {
		if !strings.Contains(out, "\n  "+name+" ") {
			t.Errorf("the help does not list %s", name)
		}
	}
}

// launch runs a command in the background until stop is called, which returns its error.
func launch(t *testing.T, environ []string, args ...string) (out, log *buffer, stop func() error) {
	t.Helper()
	out, log = new(buffer), new(buffer)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- command.Run(ctx, command.Process{Args: args, Environ: environ, Stdout: out, Stderr: log})
	}()
	stop = sync.OnceValue(func() error {
		cancel(command.Signal("terminated"))
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("it did not stop in 30 s")
		}
	})
	t.Cleanup(func() { stop() })
	return out, log, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(doc)
}

func TestSimulatedEnginesAreListedServedAndBenched(t *testing.T) {
	t.Chdir(t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	out, _, stop := launch(t, []string{"RADIXBUS_SPEED=100"}, "sim", "--port", "0", "--n", "2", "--model", "pretend")
	eventually(t, "two URLs", func() bool { return strings.Count(out.String(), "\n") == 2 })
	urls := strings.Fields(out.String())
	for _, url := range urls {
		if status, doc := get(t, url+"/v1/models"); status != http.StatusOK || !strings.Contains(doc, `"pretend"`) {
			t.Errorf("%s serves %d %s", url, status, doc)
		}
	}
	table, _, err := run(t, nil, "bench", urls[0], "--requests", "6", "--concurrency", "2", "--rounds", "3", "--input-tokens", "20", "--output-tokens", "4", "--json", "report.json", "--html", "report.html")
	if err != nil || table == "" {
		t.Fatalf("bench: %v, %q", err, table)
	}
	doc, err := os.ReadFile(filepath.Join(".", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Requests int `json:"requests"`
		Errors   int `json:"errors"`
	}
	if err := json.Unmarshal(doc, &report); err != nil || report.Requests != 6 || report.Errors != 0 {
		t.Errorf("report %.300s (%v), want six requests without an error", doc, err)
	}
	page, err := os.ReadFile("report.html")
	if want := "radixbus bench " + urls[0] + " --concurrency 2 --input-tokens 20 --output-tokens 4 --requests 6 --rounds 3\n"; err != nil ||
		!strings.Contains(string(page), "<svg") || !strings.Contains(strings.ReplaceAll(string(page), "</code>", "\n"), want) {
		t.Errorf("the page (%v, %d bytes) has no chart, or not the command %q", err, len(page), want)
	}
	page2, _, err := run(t, nil, "bench", "compare", "one="+urls[0], "two="+urls[1], "--requests", "3", "--rounds", "1", "--warm", "0", "--output-tokens", "4", "--html", "-")
	if err != nil || !strings.HasPrefix(page2, "<!doctype html>") || !strings.Contains(page2, "one, two") {
		t.Errorf("bench compare --html -: %v, %.300q", err, page2)
	}
	if err := stop(); err != nil {
		t.Errorf("sim = %v, want nil when asked to stop", err)
	}
	if status, _ := get(t, urls[0]+"/health"); status != 0 {
		t.Error("the engine is still there")
	}
}

func TestASimulatedEngineTakesSGLangsFlagsAndDrains(t *testing.T) {
	t.Chdir(t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	out, _, stop := launch(t, nil, "sim", "--port", "0", "--dp-size", "2", "--page-size", "16", "--lora", "sql=/adapters/sql", "--enable-response-store", "--drain-timeout", "100ms")
	eventually(t, "its URL", func() bool { return strings.HasSuffix(out.String(), "\n") })
	url := strings.TrimSpace(out.String())
	for path, want := range map[string]string{"/v1/models": `"sql"`, "/server_info": `"dp_size":2`, "/v1/responses/resp_x": "resp_x"} {
		if _, doc := get(t, url+path); !strings.Contains(doc, want) {
			t.Errorf("%s: %.300s, want %s in it", path, doc, want)
		}
	}
	answer := make(chan error, 1)
	go func() {
		resp, err := http.Post(url+"/generate", "application/json", strings.NewReader(`{"text":"a","sampling_params":{"max_new_tokens":100000,"ignore_eos":true}}`))
		if err == nil {
			resp.Body.Close()
		}
		answer <- err
	}()
	eventually(t, "the request runs", func() bool {
		_, doc := get(t, url+"/v1/loads")
		return strings.Contains(doc, `"num_running_reqs":1`)
	})
	if err := stop(); err == nil || !strings.Contains(err.Error(), "drain") {
		t.Errorf("sim = %v, want to be told that the drain took too long", err)
	}
	if err := <-answer; err == nil {
		t.Error("a request outlived its engine")
	}
}

func TestRoleReadsFileAndEnvironmentAndTellsWhetherItIsReady(t *testing.T) {
	t.Chdir(t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	if err := os.WriteFile("fleet.yaml", []byte("nats: nats://127.0.0.1:1\nworker:\n  engine: http://127.0.0.1:2\n  name: from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, log, stop := launch(t, []string{"RADIXBUS_CONFIG=fleet.yaml"}, "worker", "--admin-port", "0", "--log-level", "debug")
	admin := func() string {
		for line := range strings.Lines(log.String()) {
			var entry struct{ Admin string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Admin != "" {
				return entry.Admin
			}
		}
		return ""
	}
	eventually(t, "it waits for the bus that the file names", func() bool {
		return admin() != "" && strings.Contains(log.String(), "waiting for the bus") && strings.Contains(log.String(), "127.0.0.1:1")
	})
	for range 20 { // beside the role's start, for the race detector
		if status, why := get(t, admin()+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(why, "waiting for the bus") {
			t.Fatalf("readyz = %d %s", status, why)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("worker = %v, want nil when asked to stop while it waits", err)
	}
}
