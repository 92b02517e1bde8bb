package e2e

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
	"github.com/radixbus/radixbus/internal/testkit"
)

func question(u, i int) object {
	return chat(countingModel, fmt.Sprintf("user %d asks %d", u, i))
}

// streaming starts a stream of n tokens and returns once it has begun.
func streaming(t *testing.T, c *testkit.Client, n int) <-chan *testkit.Reply {
	t.Helper()
	begun, got := make(chan struct{}), make(chan *testkit.Reply, 1)
	go func() {
		once := sync.OnceFunc(func() { close(begun) })
		got <- c.Ask(context.Background(), "/v1/chat/completions", chat(countingModel, "count", object{"stream": true, "max_tokens": n}), func(*testkit.Reply) { once() })
	}()
	select {
	case <-begun:
	case a := <-got:
		t.Fatalf("the stream did not begin: %v", a)
	case <-time.After(testkit.Patience):
		t.Fatalf("the stream did not begin in %v", testkit.Patience)
	}
	return got
}

func TestRolesStartInAnyOrderOnABusWithoutJetStream(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	engine := newCountingEngine(t, time.Millisecond)
	gw, client := c.gateway()
	w, admin := c.role("worker", "--engine", engine.url, "--name", "w0")
	testkit.Eventually(t, "a role without its bus lives, and says what it waits for", func() bool {
		live, _ := admin.Get(t, "/livez")
		ready, why := admin.Get(t, "/readyz")
		return live == http.StatusOK && ready == http.StatusServiceUnavailable && strings.Contains(why, "waiting for the bus")
	})
	s, _ := c.role("scheduler")
	time.Sleep(300 * time.Millisecond)
	c.bus()
	client.Ready(t)
	for _, stream := range []bool{true, false} {
		if a := client.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, "count", object{"stream": stream, "max_tokens": 200})); !a.OK() || a.Text != counted(200) {
			t.Errorf("stream %v: %v", stream, a)
		}
	}
	if line, _, _ := strings.Cut(gw.Stdout.String(), "\n"); line != client.Base {
		t.Errorf("the gateway's first line is %q, want %s", line, client.Base)
	}
	if log := gw.Stderr.String(); !strings.Contains(log, "no digest secret shared over the bus") {
		t.Errorf("no word about the digest secret on a bus without JetStream:\n%s", log)
	}
	for _, p := range []*testkit.Process{gw, s, w} {
		p.Terminate()
	}
}

func TestRoleThatWaitsForItsBusStopsWhenAsked(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, args := range [][]string{{"scheduler"}, {"gateway", "--port", "0"}, {"worker", "--engine", "http://127.0.0.1:1"}} {
		p, admin := c.role(args[0], args[1:]...)
		testkit.Eventually(t, args[0]+" lives", func() bool { status, _ := admin.Get(t, "/livez"); return status == http.StatusOK })
		p.Terminate()
	}
}

func TestKilledAdapterCostsNothingThatHadNotBegun(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	one, two := newCountingEngine(t, 2*time.Millisecond), newCountingEngine(t, 2*time.Millisecond)
	_, client := c.gateway()
	c.role("scheduler")
	c.worker("w0", one.url)
	victim := c.worker("w1", two.url)
	client.Ready(t)
	var l load
	defer l.stop()
	l.start(t, client, 8, question)
	testkit.Eventually(t, "both engines serve", func() bool {
		a, _ := one.count()
		b, _ := two.count()
		return a >= 20 && b >= 20
	})
	victim.Kill()
	served := l.served.Load()
	testkit.Eventually(t, "the other worker takes over", func() bool { return l.served.Load() > served+100 })
	c.worker("w1", two.url)
	again, _ := two.count()
	testkit.Eventually(t, "the adapter's next life is used", func() bool { n, _ := two.count(); return n > again+10 })
	l.check(t, 8)
}

// With nobody to go on with it, a stream that had begun ends with an error event, never in silence.
func TestKilledAdapterEndsItsStreamsWithAWord(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	engine := newCountingEngine(t, 10*time.Millisecond)
	_, client := c.gateway()
	c.role("scheduler")
	victim := c.worker("w0", engine.url)
	client.Ready(t)
	got := streaming(t, client, 100_000)
	victim.Kill()
	killed := time.Now()
	a := <-got
	if a.Err != nil || a.Failure == "" || a.Text == "" || !strings.HasPrefix(counted(10_000), a.Text) {
		t.Errorf("the stream of the killed adapter: %v, want an error event after its tokens", a)
	}
	if took := time.Since(killed); took > 15*time.Second {
		t.Errorf("the error came after %v", took)
	}
	if a := client.Ask(t.Context(), "/v1/chat/completions", question(0, 0)); a.Status != http.StatusServiceUnavailable || a.Failure == "" {
		t.Errorf("a request while nobody is there: %v, want 503", a)
	}
	testkit.Eventually(t, "the engine notices", func() bool { return engine.active() == 0 })
}

func TestKilledSchedulerCostsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	engine := newCountingEngine(t, 2*time.Millisecond)
	_, client := c.gateway()
	scheduler, _ := c.role("scheduler")
	c.worker("w0", engine.url)
	client.Ready(t)
	long := streaming(t, client, 1000)
	var l load
	defer l.stop()
	l.start(t, client, 8, question)
	testkit.Eventually(t, "the load runs", func() bool { return l.served.Load() >= 50 })
	scheduler.Kill()
	time.Sleep(300 * time.Millisecond)
	c.role("scheduler")
	served := l.served.Load()
	testkit.Eventually(t, "the next scheduler places requests", func() bool { return l.served.Load() > served+50 })
	l.check(t, 0)
	if a := <-long; !a.OK() || a.Text != counted(1000) {
		t.Errorf("the stream that ran meanwhile: %v", a)
	}
}

// A scheduler that is stuck and still connected got every other question: a third of the requests failed.
func TestFrozenSchedulerCostsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	engine := newCountingEngine(t, 2*time.Millisecond)
	_, client := c.gateway()
	frozen, _ := c.role("scheduler")
	c.role("scheduler")
	c.worker("w0", engine.url)
	client.Ready(t)
	var l load
	defer l.stop()
	l.start(t, client, 8, question)
	testkit.Eventually(t, "the load runs", func() bool { return l.served.Load() >= 100 })
	frozen.Signal(syscall.SIGSTOP)
	served := l.served.Load()
	testkit.Eventually(t, "requests are placed by the other one", func() bool { return l.served.Load() > served+500 })
	frozen.Signal(syscall.SIGCONT)
	served = l.served.Load()
	testkit.Eventually(t, "both place requests", func() bool { return l.served.Load() > served+200 })
	l.check(t, 0)
}

func TestKilledGatewayHasItsAttemptsAborted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	engine := newCountingEngine(t, 20*time.Millisecond)
	gw, first := c.gateway()
	_, second := c.gateway()
	c.role("scheduler")
	c.worker("w0", engine.url)
	first.Ready(t)
	second.Ready(t)
	got := streaming(t, first, 100_000)
	gw.Kill()
	killed := time.Now()
	testkit.Eventually(t, "the engine is relieved", func() bool { _, aborts := engine.count(); return engine.active() == 0 && aborts > 0 })
	if took := time.Since(killed); took > 5*time.Second { // the adapter gives a gateway a second
		t.Errorf("the abort took %v", took)
	}
	if a := <-got; a.Err == nil || a.Done {
		t.Errorf("the client of a killed gateway: %v, want a broken connection", a)
	}
	if a := second.Ask(t.Context(), "/v1/chat/completions", question(0, 0)); !a.OK() {
		t.Errorf("through the other gateway: %v", a)
	}
}

func TestStreamOutlivesARestartOfTheBus(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	engine := newCountingEngine(t, 5*time.Millisecond)
	_, client := c.gateway()
	c.role("scheduler")
	c.worker("w0", engine.url)
	client.Ready(t)
	var long []<-chan *testkit.Reply
	for range 8 {
		long = append(long, streaming(t, client, 600))
	}
	time.Sleep(200 * time.Millisecond)
	c.nats.Kill()
	c.bus()
	for _, got := range long {
		if a := <-got; !a.OK() || !a.Done || a.Text != counted(600) {
			t.Errorf("a stream that ran across the restart: %v", a)
		}
	}
	client.Ready(t)
	for i := range 5 {
		if a := client.Ask(t.Context(), "/v1/chat/completions", question(0, i)); !a.OK() {
			t.Errorf("afterwards: %v", a)
		}
	}
}

// A bus that was away for longer than a worker may be silent cost everything: streams were cut, requests refused at once, and
// all that was known of the caches was forgotten.
func TestALongOutageOfTheBusIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	_, sim := simulated(t, simengine.Config{Speed: 10, CacheReport: true})
	_, other := simulated(t, simengine.Config{Speed: 10, CacheReport: true})
	counting := newCountingEngine(t, 5*time.Millisecond)
	_, client := c.gateway()
	c.role("scheduler")
	c.worker("w0", sim)
	c.worker("w1", other)
	c.worker("w2", counting.url)
	client.Ready(t)
	document := filler(1, 6000)
	first := client.Ask(t.Context(), "/v1/chat/completions", chat(llama, document+" One?"))
	if !first.OK() {
		t.Fatal(first)
	}
	running := streaming(t, client, 2500) // 12.5 s
	c.nats.Kill()
	waiting := make(chan *testkit.Reply, 1)
	time.Sleep(time.Second)
	go func() { waiting <- client.Ask(context.Background(), "/v1/chat/completions", question(0, 0)) }()
	time.Sleep(6 * time.Second)
	c.bus()
	if a := <-waiting; !a.OK() {
		t.Errorf("a request that came meanwhile: %v", a)
	}
	if a := <-running; !a.OK() || !a.Done || a.Text != counted(2500) {
		t.Errorf("a stream that ran meanwhile: %v", a)
	}
	again := client.Ask(t.Context(), "/v1/chat/completions", chat(llama, document+" Two?"))
	if home := first.Header.Get("X-Radixbus-Worker"); again.Header.Get("X-Radixbus-Worker") != home || again.Cached < again.Prompt*9/10 {
		t.Errorf("%d of %d tokens are found on %s, they are on %s", again.Cached, again.Prompt, again.Header.Get("X-Radixbus-Worker"), home)
	}
}

func TestTwoGatewaysShareTheirDigests(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "-js", "-sd", t.TempDir())
	c.bus()
	_, one := simulated(t, simengine.Config{Speed: 10, CacheReport: true})
	_, two := simulated(t, simengine.Config{Speed: 10, CacheReport: true})
	_, first := c.gateway()
	_, second := c.gateway()
	c.role("scheduler")
	c.worker("w0", one)
	c.worker("w1", two)
	first.Ready(t)
	second.Ready(t)
	strays := 0
	for i := range 10 {
		document := filler(1000*i, 6000)
		a := first.Ask(t.Context(), "/v1/chat/completions", chat(llama, document+" One?"))
		b := second.Ask(t.Context(), "/v1/chat/completions", chat(llama, document+" Two?"))
		if !a.OK() || !b.OK() {
			t.Fatal(a, b)
		}
		if home := a.Header.Get("X-Radixbus-Worker"); b.Header.Get("X-Radixbus-Worker") != home || b.Cached < b.Prompt*9/10 {
			strays++
			t.Logf("document %d: the second gateway finds %d of %d tokens on %s, the first put them on %s", i, b.Cached, b.Prompt, b.Header.Get("X-Radixbus-Worker"), home)
		}
	}
	if strays > 2 { // with secrets of their own the second gateway would find none; by chance, half would be at home
		t.Errorf("%d of 10 documents that the first gateway placed are not found by the second", strays)
	}
}

var subscriptions = regexp.MustCompile(`"subscriptions": (\d+)`)

func TestRequestsAddNoSubscriptions(t *testing.T) {
	t.Parallel()
	monitor := freePort(t)
	c := newCluster(t, "-m", strconv.Itoa(monitor))
	c.bus()
	engine := newCountingEngine(t, time.Millisecond)
	_, client := c.gateway()
	c.role("scheduler")
	c.worker("w0", engine.url)
	client.Ready(t)
	varz := testkit.NewClient(t, fmt.Sprint("http://127.0.0.1:", monitor))
	count := func() int {
		_, doc := varz.Get(t, "/varz")
		m := subscriptions.FindStringSubmatch(doc)
		if m == nil {
			t.Fatalf("the bus tells no subscriptions: %.200s", doc)
		}
		return must(strconv.Atoi(m[1]))
	}
	before := count()
	var l load
	defer l.stop()
	l.start(t, client, 16, question)
	most := 0
	testkit.Eventually(t, "500 requests are served", func() bool { most = max(most, count()); return l.served.Load() >= 500 })
	l.check(t, 0)
	if after := count(); after != before || most != before {
		t.Errorf("%d subscriptions before the load, up to %d during it, %d after", before, most, after)
	}
}

func TestEveryRoleDrainsWhenAskedToStop(t *testing.T) {
	t.Parallel()
	for _, stops := range []string{"gateway", "worker", "scheduler"} {
		t.Run(stops, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.bus()
			engine := newCountingEngine(t, 5*time.Millisecond)
			roles := map[string]*testkit.Process{}
			var client *testkit.Client
			roles["gateway"], client = c.gateway()
			roles["scheduler"], _ = c.role("scheduler")
			roles["worker"] = c.worker("w0", engine.url)
			client.Ready(t)
			got := streaming(t, client, 300)
			roles[stops].Terminate()
			if a := <-got; !a.OK() || !a.Done || a.Text != counted(300) {
				t.Errorf("the stream that ran while %s stopped: %v", stops, a)
			}
		})
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.bus()
	engine := newCountingEngine(t, 20*time.Millisecond)
	gw, client := c.gateway()
	c.role("scheduler")
	c.worker("w0", engine.url)
	client.Ready(t)
	got := streaming(t, client, 100_000)
	gw.Signal(syscall.SIGTERM)
	testkit.Eventually(t, "it says that it drains", func() bool { return strings.Contains(gw.Stderr.String(), "draining; once more to stop now") })
	select {
	case <-gw.Done:
		t.Fatal("it did not wait for the stream")
	case <-time.After(300 * time.Millisecond):
	}
	gw.Signal(syscall.SIGTERM)
	if code := gw.Exit(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	<-got
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	processes(t)
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, 0},
		{[]string{"--help"}, 0},
		{nil, 0},
		{[]string{"upp"}, 2},
		{[]string{"up", "--no-such-flag"}, 2},
		{[]string{"up", "extra"}, 2},
		{[]string{"up", "--workers", "-1"}, 2},
		{[]string{"up", "--workers", "many"}, 2},
		{[]string{"up", "--policy", "no-such"}, 2},
		{[]string{"up", "--profile", "no-such"}, 2},
		{[]string{"up", "--engine", "no url"}, 2},
		{[]string{"up", "--bus-host", "0.0.0.0"}, 2},
		{[]string{"up", "--join", "nowhere"}, 2},
		{[]string{"up", "--log-level", "loud"}, 2},
		{[]string{"up", "--config", "absent.yaml"}, 2},
		{[]string{"worker"}, 2},
		{[]string{"scheduler", "--nats", "nats://[::1"}, 2},
		{[]string{"gateway", "--nats-creds", "absent.creds"}, 2},
		{[]string{"bench"}, 2},
		{[]string{"sim", "--n", "0"}, 2},
	} {
		p := testkit.StartProcess(t, testkit.Program(t, module), tt.args...)
		if got := p.Exit(); got != tt.want {
			t.Errorf("radixbus %q exits with %d, want %d: %s", tt.args, got, tt.want, p.Stderr)
		} else if tt.want != 0 && !strings.HasPrefix(p.Stderr.String(), "radixbus: ") && !strings.Contains(p.Stderr.String(), "\nradixbus: ") {
			t.Errorf("radixbus %q says nothing of its mistake: %q", tt.args, p.Stderr)
		}
	}
}
