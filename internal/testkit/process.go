package testkit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs are those that were built, by package.
var programs struct {
	mu   sync.Mutex
	dir  string
	path map[string]string
}

// Program builds the program of a package of this module, or of one that it depends on, once, and returns its path. What is
// built stays until [RemovePrograms].
func Program(t testing.TB, pkg string) string {
	t.Helper()
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if path := programs.path[pkg]; path != "" {
		return path
	}
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "radixbus-programs-")
		if err != nil {
			t.Fatal(err)
		}
		programs.dir, programs.path = dir, make(map[string]string)
	}
	path := filepath.Join(programs.dir, filepath.Base(strings.TrimSuffix(pkg, "/v2")))
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	programs.path[pkg] = path
	return path
}

// RemovePrograms takes away what [Program] has built. A TestMain calls it when its tests are over.
func RemovePrograms() {
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if programs.dir != "" {
		os.RemoveAll(programs.dir) //nolint:errcheck // the system's temporary folder is cleaned by others too
		programs.dir, programs.path = "", nil
	}
}

// ports are those that were handed out.
var ports struct {
	mu    sync.Mutex
	taken map[int]bool
}

// FreePort finds a port of loopback that nobody listens on, once. It takes them below the range from which outgoing
// connections take theirs, so that one can be given up and taken again: low to high, high excluded.
func FreePort(t testing.TB, low, high int) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.taken == nil {
		ports.taken = make(map[int]bool)
	}
	for range 1000 {
		port := low + rand.IntN(high-low)
		if ports.taken[port] {
			continue
		}
		ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		ln.Close()
		ports.taken[port] = true
		return port
	}
	t.Fatal("no free port")
	return 0
}

// Output collects what a program writes.
type Output struct {
	First chan string // the first line, once

	mu   sync.Mutex
	text bytes.Buffer
	told bool
}

func NewOutput() *Output { return &Output{First: make(chan string, 1)} }

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	if line, _, whole := strings.Cut(o.text.String(), "\n"); whole && !o.told {
		o.told = true
		o.First <- line
	}
	return len(b), nil
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Tail is the end of a log, for people.
func Tail(s string) string { return s[max(0, len(s)-4000):] }

// A Process is a program that was started by a test, and is killed with it.
type Process struct {
	Cmd    *exec.Cmd
	Stdout *Output
	Stderr *Output
	Done   chan struct{} // closed once it is gone

	t testing.TB
}

// StartProcess starts a program in a folder of its own, with next to nothing in its environment.
func StartProcess(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, Cmd: exec.Command(program, args...), Stdout: NewOutput(), Stderr: NewOutput(), Done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = p.Stdout, p.Stderr
	p.Cmd.Dir = t.TempDir() // no configuration file
	p.Cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + p.Cmd.Dir, "HOME=" + p.Cmd.Dir}
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Cmd.Wait() //nolint:errcheck // ProcessState tells
		close(p.Done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %q said:\n%s", filepath.Base(program), args, Tail(p.Stderr.String()))
		}
	})
	return p
}

// Kill ends it at once, as a crash would.
func (p *Process) Kill() {
	p.Cmd.Process.Kill() //nolint:errcheck // it may be gone already
	<-p.Done
}

// Signal sends a signal to a process that has to be there.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Exit waits for its end and returns the exit code.
func (p *Process) Exit() int {
	p.t.Helper()
	select {
	case <-p.Done:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(Patience):
		p.t.Fatalf("%q still runs after %v", p.Cmd.Args[1:], Patience)
		return -1
	}
}

// Terminate asks it to stop and wants exit code 0.
func (p *Process) Terminate() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		p.t.Errorf("%q exits with %d after SIGTERM, want 0: %s", p.Cmd.Args[1], code, Tail(p.Stderr.String()))
	}
}
