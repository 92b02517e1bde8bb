package sglang

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
)

// A kind is a configuration of engines.
type kind struct {
	name  string
	ranks int
	flags []string
}

var (
	// plain engines have a cache page of one token, two adapters and stored responses.
	plain = kind{"plain", 1, []string{
		"--enable-response-store", "--enable-lora", "--lora-paths", "red={home}/lora/red", "blue={home}/lora/blue", "--max-lora-rank", "8",
		"--lora-target-modules", "q_proj", "v_proj", "--max-loras-per-batch", "2", "--max-loaded-loras", "3", "--lora-backend", "torch_native",
	}}
	// narrow engines have large pages in a small cache, evict by priority, and are easily full.
	narrow = kind{"narrow", 1, []string{
		"--page-size", "16", "--radix-eviction-policy", "priority", "--max-total-tokens", "4096", "--context-length", "8192",
		"--max-running-requests", "2", "--max-queued-requests", "2",
	}}
	// embedding engines have a model of another name, which embeds.
	embedding = kind{"embedding", 1, []string{"--is-embedding", "--served-model-name", embedder}}
	// ranked engines have two ranks behind their port, each with a cache of its own.
	ranked = kind{"ranked", 2, []string{"--dp-size", "2"}}
)

// maxEngines bounds what runs at a time: an engine has 2 GB of its own.
const maxEngines = 3

// startPatience is for an engine's start, which costs half a minute of CPU.
const startPatience = 5 * time.Minute

// fleet is every engine that runs.
var fleet struct {
	mu      sync.Mutex
	folder  string // for logs
	running []*engine
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, e := range fleet.running {
		e.kill()
	}
	if fleet.folder != "" {
		os.RemoveAll(fleet.folder) //nolint:errcheck // the system's temporary folder is cleaned by others too
	}
	testkit.RemovePrograms()
	os.Exit(code)
}

// home is where SGLang was installed. Without it there is nothing to test.
func home(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RADIXBUS_SGLANG_HOME")
	switch {
	case dir == "":
		t.Skip("no real engines: `task test:sglang` installs SGLang (6 GB) and names its folder in $RADIXBUS_SGLANG_HOME")
	case testing.Short():
		t.Skip("-short: starts no engines")
	}
	if _, err := os.Stat(filepath.Join(dir, "venv")); err != nil {
		t.Fatalf("no SGLang in $RADIXBUS_SGLANG_HOME: %v", err)
	}
	return dir
}

// An engine is a real SGLang in processes of its own.
type engine struct {
	kind kind
	port int
	url  string

	asks  *http.Client
	cmd   *exec.Cmd
	tie   io.Closer     // its standard input: once closed, the whole process group ends
	done  chan struct{} // closed once the main process is gone
	spent bool          // what a test did to it is not to be seen by the next
}

// engines returns one engine of each kind asked for, serving, with nothing in its cache. It starts what does not run.
func engines(t *testing.T, kinds ...kind) []*engine {
	t.Helper()
	dir := home(t)
	fleet.mu.Lock()
	defer fleet.mu.Unlock()
	var free, taken []*engine
	for _, e := range fleet.running {
		if e.alive() && !e.spent {
			free = append(free, e)
		} else {
			e.kill()
		}
	}
	var starting []*engine
	for _, k := range kinds {
		if i := slices.IndexFunc(free, func(e *engine) bool { return e.kind.name == k.name }); i >= 0 {
			taken, free = append(taken, free[i]), slices.Delete(free, i, i+1)
			continue
		}
		port := testkit.FreePort(t, 27000, 28000)
		e := &engine{kind: k, port: port, url: fmt.Sprint("http://127.0.0.1:", port), asks: &http.Client{Timeout: testkit.Patience, Transport: new(http.Transport)}}
		taken, starting = append(taken, e), append(starting, e)
	}
	for len(free) > 0 && len(free)+len(taken) > maxEngines {
		free[0].kill()
		free = free[1:]
	}
	fleet.running = slices.Concat(free, taken)
	for _, e := range starting {
		e.start(t, dir)
	}
	for _, e := range taken {
		e.serves(t)
		c := testkit.NewClient(t, e.url)
		if r := c.Send(t.Context(), http.MethodPost, "/flush_cache?timeout=20", nil); r.Status != http.StatusOK {
			t.Fatalf("flush the cache of %s: %v", e.url, r)
		}
	}
	return taken
}

// start runs it on its port. It does not wait.
func (e *engine) start(t *testing.T, dir string) {
	t.Helper()
	if fleet.folder == "" {
		var err error
		if fleet.folder, err = os.MkdirTemp("", "radixbus-sglang-"); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(e.log())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e.cmd = exec.Command("nice", "-n", "10", filepath.Join(dir, "venv", "bin", "python"), filepath.Join("rig", "rig.py"), "serve", "--tied", "--port", strconv.Itoa(e.port))
	for _, flag := range e.kind.flags {
		e.cmd.Args = append(e.cmd.Args, strings.ReplaceAll(flag, "{home}", dir))
	}
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tie, err := e.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	e.tie, e.done = tie, done
	go func() {
		e.cmd.Wait() //nolint:errcheck // how it ends is for tests to see elsewhere
		close(done)
	}()
}

func (e *engine) log() string { return filepath.Join(fleet.folder, fmt.Sprint(e.port, ".log")) }

// serves waits until the engine says that it serves, and returns when that was.
func (e *engine) serves(t *testing.T) time.Time {
	t.Helper()
	asked := time.Now()
	for end := asked.Add(startPatience); ; time.Sleep(20 * time.Millisecond) {
		if e.healthy() {
			if took := time.Since(asked); took > time.Second {
				t.Logf("engine %s (%s) serves after %.0f s", e.url, e.kind.name, took.Seconds())
			}
			return time.Now()
		}
		if text, err := os.ReadFile(e.log()); !e.alive() {
			t.Fatalf("engine %s ended before it served (%v):\n%s", e.url, err, testkit.Tail(string(text)))
		} else if time.Now().After(end) {
			t.Fatalf("engine %s does not serve after %v (%v):\n%s", e.url, startPatience, err, testkit.Tail(string(text)))
		}
	}
}

func (e *engine) healthy() bool {
	status, _ := e.get("/health")
	return status == http.StatusOK
}

// get reads a document; status 0 when there is none.
func (e *engine) get(path string) (status int, doc []byte) {
	resp, err := e.asks.Get(e.url + path)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	if doc, err = io.ReadAll(resp.Body); err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, doc
}

func (e *engine) alive() bool {
	if e.done == nil {
		return false
	}
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}

// terminate asks it to stop, as an operator does.
func (e *engine) terminate(t *testing.T) {
	t.Helper()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// kill ends all of its processes at once, as a crash of the machine would.
func (e *engine) kill() {
	if e.cmd == nil || e.cmd.Process == nil {
		return
	}
	if err := syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		fmt.Fprintln(os.Stderr, "kill an engine:", err)
	}
	<-e.done
	e.tie.Close()
	e.asks.CloseIdleConnections()
}

// running is how many requests the engine has, by its own count.
func (e *engine) running(t *testing.T) int { return e.count(t, "num_running_reqs", "num_waiting_reqs") }

func (e *engine) count(t *testing.T, fields ...string) (n int) {
	t.Helper()
	for _, rank := range e.loads(t) {
		for _, f := range fields {
			v, ok := rank[f].(float64)
			if !ok {
				t.Fatalf("/v1/loads of %s tells no %s: %v", e.url, f, rank)
			}
			n += int(v)
		}
	}
	return n
}

// loads is the engine's account of each of its ranks.
func (e *engine) loads(t *testing.T) []object {
	t.Helper()
	status, doc := e.get("/v1/loads")
	var loads struct {
		Loads []object `json:"loads"`
	}
	if err := json.Unmarshal(doc, &loads); err != nil || status != http.StatusOK || len(loads.Loads) == 0 {
		t.Fatalf("/v1/loads of %s: %d %.200s", e.url, status, doc)
	}
	return loads.Loads
}
