package e2e

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.RemovePrograms()
	os.Exit(code)
}

// natsServer is the program that is the external bus.
const natsServer = "github.com/nats-io/nats-server/v2"

// processes skips the test when it has to be short.
func processes(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: runs no processes")
	}
}

// freePort is a port that can be given up and taken again.
func freePort(t *testing.T) int { return testkit.FreePort(t, 20000, 32000) }

// A cluster is an external bus and roles around it.
type cluster struct {
	t    *testing.T
	port int
	args []string // more of the bus
	nats *testkit.Process
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
	c.nats = testkit.StartProcess(c.t, testkit.Program(c.t, natsServer), append([]string{"-a", "127.0.0.1", "-p", fmt.Sprint(c.port)}, c.args...)...)
	testkit.Eventually(c.t, "the bus listens", func() bool {
		nc, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", c.port))
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// role starts one role; its admin listener is at the returned client.
func (c *cluster) role(name string, args ...string) (*testkit.Process, *testkit.Client) {
	c.t.Helper()
	admin := freePort(c.t)
	p := testkit.StartProcess(c.t, testkit.Program(c.t, module), append([]string{name, "--nats", c.url, "--admin-port", fmt.Sprint(admin)}, args...)...)
	return p, testkit.NewClient(c.t, fmt.Sprint("http://127.0.0.1:", admin))
}

// gateway starts one and returns a client of its public side, which may not be up yet.
func (c *cluster) gateway(args ...string) (*testkit.Process, *testkit.Client) {
	c.t.Helper()
	port := freePort(c.t)
	p, _ := c.role("gateway", append([]string{"--port", fmt.Sprint(port)}, args...)...)
	return p, testkit.NewClient(c.t, fmt.Sprint("http://127.0.0.1:", port))
}

// worker starts an adapter and waits until its engine is taken in.
func (c *cluster) worker(name, engine string) *testkit.Process {
	c.t.Helper()
	p, admin := c.role("worker", "--engine", engine, "--name", name)
	admin.Ready(c.t)
	return p
}
