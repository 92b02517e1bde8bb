package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
	"github.com/radixbus/radixbus/internal/testkit"
)

// inTime logs how long something took, and fails when it is far from what is promised on a machine that was not starved.
// What is promised is measured, with its command, in docs/benchmarks.md.
func inTime(t *testing.T, dog *watchdog, what string, since time.Time, promised time.Duration) {
	t.Helper()
	took := time.Since(since)
	t.Logf("%s after %v (promised: %v)", what, took.Round(time.Millisecond), promised)
	if took > 2*promised && !dog.starved() {
		t.Errorf("%s after %v, promised within %v", what, took, promised)
	}
}

// servedBy asks until a worker answers, and returns the number of questions.
func servedBy(t *testing.T, c *testkit.Client, model, worker string) (asked int) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); time.Now().Before(end); asked++ {
		a := c.Ask(t.Context(), "/v1/chat/completions", chat(model, fmt.Sprintf("%s %d", worker, asked), object{"max_tokens": 1}))
		if !a.OK() {
			t.Fatalf("a question while %s is waited for: %v", worker, a)
		}
		if a.Header.Get("X-Radixbus-Worker") == worker {
			return asked + 1
		}
	}
	t.Fatalf("%s answers nothing within %v", worker, testkit.Patience)
	return 0
}

func statusOf(t *testing.T, c *testkit.Client, worker string) string {
	t.Helper()
	status, doc := c.Get(t, "/workers")
	var list struct {
		Workers []struct{ ID, Status string }
	}
	if status != http.StatusOK || json.Unmarshal([]byte(doc), &list) != nil {
		t.Fatalf("/workers = %d %s", status, doc)
	}
	for _, w := range list.Workers {
		if w.ID == worker {
			return w.Status
		}
	}
	return "absent"
}

// fleetOf is a cluster with a gateway, a scheduler and an adapter for each engine.
func fleetOf(t *testing.T, engines ...string) (*cluster, *testkit.Client, []*testkit.Process) {
	t.Helper()
	c := newCluster(t)
	c.bus()
	_, client := c.gateway()
	c.role("scheduler")
	var workers []*testkit.Process
	for i, engine := range engines {
		workers = append(workers, c.worker(fmt.Sprint("w", i), engine))
	}
	client.Ready(t)
	return c, client, workers
}

func TestALateWorkerHasTrafficSoon(t *testing.T) {
	t.Parallel()
	first, second := newCountingEngine(t, time.Millisecond), newCountingEngine(t, time.Millisecond)
	c, client, _ := fleetOf(t, first.url)
	dog := newWatchdog(t)
	began := time.Now()
	c.role("worker", "--engine", second.url, "--name", "late")
	servedBy(t, client, countingModel, "late")
	inTime(t, dog, "a late worker's first answer", began, time.Second)
}

func TestAnEngineThatComesBackHasTrafficSoon(t *testing.T) {
	t.Parallel()
	_, first := simulated(t, simengine.Config{Speed: 20})
	victim, second := simulated(t, simengine.Config{Speed: 20})
	_, client, _ := fleetOf(t, first, second)
	dog := newWatchdog(t)
	for _, away := range []time.Duration{0, 500 * time.Millisecond, 3 * time.Second} {
		servedBy(t, client, llama, "w1")
		victim.Crash()
		for asked, end := 0, time.Now().Add(away); asked == 0 || time.Now().Before(end); asked++ {
			if a := client.Ask(t.Context(), "/v1/chat/completions", chat(llama, fmt.Sprint("meanwhile ", asked), object{"max_tokens": 1})); !a.OK() {
				t.Fatalf("a question while the engine is down: %v", a)
			}
		}
		victim.Restart()
		back := time.Now()
		servedBy(t, client, llama, "w1")
		inTime(t, dog, fmt.Sprintf("the first answer of an engine that was away for %v", away), back, 2*time.Second)
	}
}

func TestADeadAdapterIsOutWithinARoundTrip(t *testing.T) {
	t.Parallel()
	first, second := newCountingEngine(t, time.Millisecond), newCountingEngine(t, time.Millisecond)
	_, client, workers := fleetOf(t, first.url, second.url)
	servedBy(t, client, countingModel, "w1")
	dog := newWatchdog(t)
	workers[1].Kill()
	killed := time.Now()
	for i := range 20 {
		asked := time.Now()
		if a := client.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, fmt.Sprint("after the end ", i), object{"max_tokens": 1})); !a.OK() || a.Header.Get("X-Radixbus-Worker") != "w0" {
			t.Fatalf("a question after the adapter's end: %v by %s", a, a.Header.Get("X-Radixbus-Worker"))
		}
		if i == 0 {
			inTime(t, dog, "the first answer after it", asked, 250*time.Millisecond)
		}
	}
	testkit.Eventually(t, "it is no longer listed as ready", func() bool { return statusOf(t, client, "w1") != "ready" })
	inTime(t, dog, "it is listed as gone", killed, 500*time.Millisecond)
}

// A host that is gone says nothing, not even that it has left.
func TestADeadHostIsOutWithinSeconds(t *testing.T) {
	t.Parallel()
	first, second := newCountingEngine(t, time.Millisecond), newCountingEngine(t, time.Millisecond)
	_, client, workers := fleetOf(t, first.url, second.url)
	servedBy(t, client, countingModel, "w1")
	dog := newWatchdog(t)
	workers[1].Signal(syscall.SIGSTOP)
	stopped := time.Now()
	for i := 0; statusOf(t, client, "w1") == "ready"; i++ {
		if a := client.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, fmt.Sprint("into silence ", i), object{"max_tokens": 1})); !a.OK() {
			t.Fatalf("a question while the host is silent: %v", a)
		}
	}
	inTime(t, dog, "a silent host is out", stopped, 3*time.Second)
	workers[1].Signal(syscall.SIGCONT)
	again := time.Now()
	servedBy(t, client, countingModel, "w1")
	inTime(t, dog, "one that was only frozen has traffic", again, 2*time.Second)
}

func TestReadinessTellsTheTruth(t *testing.T) {
	t.Parallel()
	engine := newCountingEngine(t, time.Millisecond)
	c, client, workers := fleetOf(t, engine.url)
	becomes := func(want int) {
		testkit.Eventually(t, fmt.Sprint("readiness is ", want), func() bool { status, _ := client.Get(t, "/readyz"); return status == want })
	}
	dog := newWatchdog(t)
	workers[0].Kill()
	at := time.Now()
	becomes(503)
	inTime(t, dog, "unready after its only adapter's end", at, time.Second)
	at = time.Now()
	w := c.worker("w0", engine.url)
	becomes(200)
	inTime(t, dog, "ready after another one's start", at, time.Second)
	w.Signal(syscall.SIGSTOP)
	at = time.Now()
	becomes(503)
	inTime(t, dog, "unready after its only host's silence", at, time.Second)
	w.Signal(syscall.SIGCONT)
	becomes(200)
	w.Terminate()
	at = time.Now()
	becomes(503)
	inTime(t, dog, "unready after it has drained", at, time.Second)
}

func TestReadinessKnowsADeadEngine(t *testing.T) {
	t.Parallel()
	processes(t)
	port := fmt.Sprint(freePort(t))
	engine := func() *testkit.Process {
		return testkit.StartProcess(t, testkit.Program(t, module), "sim", "--port", port, "--speed", "20")
	}
	victim := engine()
	_, client, _ := fleetOf(t, "http://127.0.0.1:"+port)
	dog := newWatchdog(t)
	victim.Kill()
	at := time.Now()
	testkit.Eventually(t, "not ready", func() bool { status, _ := client.Get(t, "/readyz"); return status == 503 })
	inTime(t, dog, "unready after its only engine's end", at, time.Second)
	engine()
	at = time.Now()
	testkit.Eventually(t, "ready", func() bool { status, _ := client.Get(t, "/readyz"); return status == 200 })
	inTime(t, dog, "ready after its return", at, 2*time.Second)
}

func TestTheSameNameTwiceIsRefusedWithWords(t *testing.T) {
	t.Parallel()
	first, second := newCountingEngine(t, time.Millisecond), newCountingEngine(t, time.Millisecond)
	c, client, workers := fleetOf(t, first.url)
	twin, _ := c.role("worker", "--engine", second.url, "--name", "w0")
	if code := twin.Exit(); code != 1 || !strings.Contains(twin.Stderr.String(), "w0") || !strings.Contains(twin.Stderr.String(), "taken") && !strings.Contains(twin.Stderr.String(), "another") {
		t.Errorf("the second adapter of a name exits with %d: %s", code, testkit.Tail(twin.Stderr.String()))
	}
	for i := range 10 {
		if a := client.Ask(t.Context(), "/v1/chat/completions", question(0, i)); !a.OK() {
			t.Errorf("a question beside it: %v", a)
		}
	}
	if n, _ := second.count(); n != 0 {
		t.Errorf("the second one's engine served %d", n)
	}
	workers[0].Kill() // the name of one that died is free
	c.worker("w0", second.url)
	servedBy(t, client, countingModel, "w0")
}

// An engine whose process comes and goes must not take requests down with it, and has traffic once it stays.
func TestAFlappingEngineIsDamped(t *testing.T) {
	t.Parallel()
	_, first := simulated(t, simengine.Config{Speed: 20})
	victim, second := simulated(t, simengine.Config{Speed: 20})
	_, client, _ := fleetOf(t, first, second)
	dog := newWatchdog(t)
	var l load
	defer l.stop()
	l.start(t, client, 4, func(u, i int) object { return chat(llama, fmt.Sprintf("user %d asks %d", u, i)) })
	for range 8 {
		victim.Crash()
		time.Sleep(150 * time.Millisecond)
		victim.Restart()
		time.Sleep(350 * time.Millisecond)
	}
	calm := time.Now()
	servedBy(t, client, llama, "w1")
	inTime(t, dog, "traffic again after eight falls in four seconds", calm, 10*time.Second)
	l.check(t, 4*8)
}

// Whatever operators do to a worker, requests that have not begun to be answered do not fail.
func TestWorkersComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	engines := []*countingEngine{newCountingEngine(t, 2*time.Millisecond), newCountingEngine(t, 2*time.Millisecond), newCountingEngine(t, 2*time.Millisecond)}
	c := newCluster(t)
	c.bus()
	port := freePort(t)
	_, admin := c.role("gateway", "--port", fmt.Sprint(port))
	client := testkit.NewClient(t, fmt.Sprint("http://127.0.0.1:", port))
	c.role("scheduler")
	one, _ := c.role("scheduler")
	var workers []*testkit.Process
	for i, e := range engines {
		workers = append(workers, c.worker(fmt.Sprint("w", i), e.url))
	}
	client.Ready(t)
	var l load
	defer l.stop()
	l.start(t, client, 8, question)
	more := func(n int64) {
		t.Helper()
		served := l.served.Load()
		testkit.Eventually(t, "the load goes on", func() bool { return l.served.Load() > served+n })
	}
	order := func(method, path string, want int) {
		t.Helper()
		if a := admin.Send(t.Context(), method, path, nil); a.Err != nil || a.Status != want {
			t.Errorf("%s %s: %v", method, path, a)
		}
	}
	idle := func(e *countingEngine) {
		t.Helper()
		before := -1
		testkit.Eventually(t, "the drained engine rests", func() bool {
			n, _ := e.count()
			rests := n == before && e.active() == 0
			before = n
			time.Sleep(50 * time.Millisecond)
			return rests
		})
	}
	more(100)
	order("POST", "/drain?worker=w1", 200)
	idle(engines[1])
	more(50)
	order("POST", "/undrain?worker=w1", 200)
	began, _ := engines[1].count()
	testkit.Eventually(t, "the undrained worker is used", func() bool { n, _ := engines[1].count(); return n > began+10 })

	order("DELETE", "/workers/w2", 202)
	if code := workers[2].Exit(); code != 0 {
		t.Errorf("a removed worker exits with %d: %s", code, testkit.Tail(workers[2].Stderr.String()))
	}
	more(50)
	workers[2] = c.worker("w2", engines[2].url)
	more(50)
	workers[1].Terminate() // as a deployment does
	more(50)
	workers[1] = c.worker("w1", engines[1].url)
	more(50)
	one.Kill() // one of two scheduler replicas
	more(100)
	workers[0].Kill()
	more(50)
	workers[0] = c.worker("w0", engines[0].url)
	began, _ = engines[0].count()
	testkit.Eventually(t, "the worker of a new process is used", func() bool { n, _ := engines[0].count(); return n > began+10 })
	l.check(t, 8)
	for _, e := range engines {
		testkit.Eventually(t, "the engines are idle", func() bool { return e.active() == 0 })
	}
}

// Abort finds a request on whichever gateway it is.
func TestAbortFromAnotherGateway(t *testing.T) {
	t.Parallel()
	engine := newCountingEngine(t, 10*time.Millisecond)
	c, first, _ := fleetOf(t, engine.url)
	_, second := c.gateway()
	second.Ready(t)
	begun, got := make(chan struct{}), make(chan *testkit.Reply, 1)
	go func() {
		var once bool
		got <- first.Ask(context.Background(), "/v1/chat/completions", chat(countingModel, "count", object{"stream": true, "max_tokens": 100_000}), func(a *testkit.Reply) {
			if !once {
				once = true
				close(begun)
			}
		})
	}()
	<-begun
	a := second.Ask(t.Context(), "/abort_request", object{"abort_all": true})
	if a.Status != 200 || !strings.Contains(string(a.Raw), `"aborted":1`) {
		t.Errorf("abort: %v %s", a, a.Raw)
	}
	<-got
	testkit.Eventually(t, "the engine is idle", func() bool { return engine.active() == 0 })
}
