package sdk_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
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

const (
	startBound = 30 * time.Second // for a process to be there, on a busy machine
	stopBound  = 20 * time.Second // for one to drain
)

// build is the program under test, made once.
var build struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	build.once.Do(func() {
		build.path = filepath.Join(build.dir, "radixbus")
		c := exec.Command("go", "build", "-buildvcs=false", "-o", build.path, ".")
		c.Dir = filepath.Join("..", "..", "..")
		if out, err := c.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatalf("build radixbus: %v", build.err)
	}
	return build.path
}

// A process is `radixbus …`, whose first line of standard output is its URL.
type process struct {
	cmd    *exec.Cmd
	url    string
	log    bytes.Buffer // of standard error; to be read once it has ended
	reader sync.WaitGroup
	killed bool
}

// start runs the program until it has said its URL.
func start(program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...)}
	p.cmd.Dir = build.dir // where there is no configuration file of anybody's
	p.cmd.Env = environment()
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = stdoutEnd, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	stdoutEnd.Close()
	lines := make(chan string, 1)
	p.reader.Go(func() {
		defer stdout.Close()
		r := bufio.NewReader(stdout)
		line, _ := r.ReadString('\n') // cut short: no URL, which is told below
		lines <- strings.TrimSpace(line)
		io.Copy(io.Discard, r) //nolint:errcheck // only so that the process can write
	})
	select {
	case p.url = <-lines:
	case <-time.After(startBound):
	}
	if !strings.HasPrefix(p.url, "http://127.0.0.1:") {
		p.kill()
		return nil, fmt.Errorf("radixbus %s: the first line of standard output is %q, want the URL; it said\n%s", strings.Join(args, " "), p.url, p.log.String())
	}
	return p, nil
}

// environment is what a program needs, and no setting of anybody's.
func environment() (env []string) {
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// stop asks it to end, which it must do cleanly.
func (p *process) stop() error {
	if p.killed {
		return nil
	}
	defer p.reader.Wait()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // one that is gone already is told by its exit code
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("radixbus %s ended with %w, want a clean exit after SIGTERM", p.cmd.Args[1], err)
		}
		return nil
	case <-time.After(stopBound):
		p.cmd.Process.Kill() //nolint:errcheck // gone in the meantime
		<-done               //nolint:errcheck // killed
		return fmt.Errorf("radixbus %s did not end in %v after SIGTERM", p.cmd.Args[1], stopBound)
	}
}

// kill ends it as a crash would.
func (p *process) kill() {
	p.killed = true
	p.cmd.Process.Kill() //nolint:errcheck // gone in the meantime
	p.cmd.Wait()         //nolint:errcheck // killed
	p.reader.Wait()
}

// run starts the program, and stops it when the test ends.
func run(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := start(program(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("radixbus %s said:\n%s", strings.Join(args, " "), p.log.String())
		}
	})
	return p
}

// freePort is a port of loopback that nobody has at the moment, and that no outgoing connection takes: those have higher ones.
func freePort() (int, error) {
	for range 1000 {
		port := 25000 + rand.IntN(2000)
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port")
}
