package e2e

import (
	"errors"
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

// binaries are built once, by the first test that needs them; the folder is gone when the tests are.
var binaries struct {
	once          sync.Once
	dir           string
	radixbus      string
	nats          string
	err           error
	portsTaken    sync.Mutex
	portsHandedTo map[int]bool
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir) //nolint:errcheck // the system's temporary folder is cleaned by others too
	}
	os.Exit(code)
}

// processes makes sure that the programs are there, or skips the test when it has to be short.
func processes(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: runs no processes")
	}
	binaries.once.Do(func() {
		if binaries.dir, binaries.err = os.MkdirTemp("", "radixbus-e2e-"); binaries.err != nil {
			return
		}
		for _, b := range []struct {
			into *string
			pkg  string
		}{{&binaries.radixbus, module}, {&binaries.nats, "github.com/nats-io/nats-server/v2"}} {
			*b.into = filepath.Join(binaries.dir, filepath.Base(strings.TrimSuffix(b.pkg, "/v2")))
			if out, err := exec.Command("go", "build", "-o", *b.into, b.pkg).CombinedOutput(); err != nil {
				binaries.err = errors.Join(binaries.err, fmt.Errorf("build %s: %w\n%s", b.pkg, err, out))
			}
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
}

// freePort finds a port below the range from which outgoing connections take theirs, so that it can be given up and
// taken again.
func freePort(t *testing.T) int {
	t.Helper()
	binaries.portsTaken.Lock()
	defer binaries.portsTaken.Unlock()
	if binaries.portsHandedTo == nil {
		binaries.portsHandedTo = make(map[int]bool)
	}
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		if binaries.portsHandedTo[port] {
			continue
		}
		ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		ln.Close()
		binaries.portsHandedTo[port] = true
		return port
	}
	t.Fatal("no free port")
	return 0
}

// A process is a program that was started by a test, and is killed with it.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	done   chan struct{} // closed once it is gone
	err    error         // how; read after done
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), stdout: newOutput(), stderr: newOutput(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.Dir = t.TempDir() // no configuration file
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + p.cmd.Dir, "HOME=" + p.cmd.Dir}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %q said:\n%s", filepath.Base(program), args, tail(p.stderr.String()))
		}
	})
	return p
}

// kill ends it at once, as a crash would.
func (p *process) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may be gone already
	<-p.done
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for its end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%q still runs after %v", p.cmd.Args[1:], patience)
		return -1
	}
}

// terminate asks it to stop and wants exit code 0.
func (p *process) terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		p.t.Errorf("%q exits with %d after SIGTERM, want 0: %s", p.cmd.Args[1], code, tail(p.stderr.String()))
	}
}

// A cluster is an external bus and roles around it.
type cluster struct {
	t    *testing.T
	port int
	args []string // more of the bus
	nats *process
	url  string
}

// newCluster chooses the bus's address; bus starts it.
func newCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	processes(t)
	c := &cluster{t: t, port: freePort(t), args: args}
	c.url = fmt.Sprint("nats://127.0.0.1:", c.port)
	return c
}

func (c *cluster) bus() {
	c.t.Helper()
	c.nats = start(c.t, binaries.nats, append([]string{"-a", "127.0.0.1", "-p", fmt.Sprint(c.port)}, c.args...)...)
	eventually(c.t, "the bus listens", func() bool {
		nc, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", c.port))
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// role starts one role; its admin listener is at the returned client.
func (c *cluster) role(name string, args ...string) (*process, *client) {
	c.t.Helper()
	admin := freePort(c.t)
	p := start(c.t, binaries.radixbus, append([]string{name, "--nats", c.url, "--admin-port", fmt.Sprint(admin)}, args...)...)
	return p, newClient(c.t, fmt.Sprint("http://127.0.0.1:", admin))
}

// gateway starts one and returns a client of its public side, which may not be up yet.
func (c *cluster) gateway(args ...string) (*process, *client) {
	c.t.Helper()
	port := freePort(c.t)
	p, _ := c.role("gateway", append([]string{"--port", fmt.Sprint(port)}, args...)...)
	return p, newClient(c.t, fmt.Sprint("http://127.0.0.1:", port))
}

// worker starts an adapter and waits until its engine is taken in.
func (c *cluster) worker(name, engine string) *process {
	c.t.Helper()
	p, admin := c.role("worker", "--engine", engine, "--name", name)
	admin.ready(c.t)
	return p
}
