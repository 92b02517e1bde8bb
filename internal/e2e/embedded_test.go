package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/command"
	"github.com/radixbus/radixbus/internal/simengine"
	"github.com/radixbus/radixbus/internal/testkit"
)

const llama = "meta-llama/Llama-3.1-8B-Instruct"

func TestFirstScreenTellsWhatAUserNeeds(t *testing.T) {
	h := up(t, "--workers", "2", "--speed", "50", "--policy", "round-robin", "--model", "my model")
	screen := h.stdout.String()
	if first, _, _ := strings.Cut(screen, "\n"); first != h.Base || !regexp.MustCompile(`^http://127\.0\.0\.1:\d+$`).MatchString(first) {
		t.Errorf("first line %q, want the URL alone", first)
	}
	for _, want := range []string{"round-robin", `"model": "my model"`, "2 simulated workers", h.Base + "/v1/chat/completions", h.admin.Base} {
		if !strings.Contains(screen, want) {
			t.Errorf("the first screen lacks %q:\n%s", want, screen)
		}
	}
	if len(h.engines) != 2 {
		t.Errorf("engines %v, want two", h.engines)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if status, _ := h.admin.Get(t, path); status != http.StatusOK {
			t.Errorf("admin %s = %d", path, status)
		}
	}
	if a := h.Ask(t.Context(), "/v1/chat/completions", chat("my model", "hi")); !a.OK() {
		t.Error(a)
	}
	if err := h.stop(t); err != nil {
		t.Errorf("up = %v, want nil when asked to stop", err)
	}
}

// The three routes, streamed and whole: what comes through is what the engine says.
func TestAnswersEqualTheEngines(t *testing.T) {
	t.Parallel()
	h := up(t, "--workers", "2", "--speed", "50")
	direct := testkit.NewClient(t, h.engines[0])
	model := modelOf(t, h.Client)
	routes := []struct {
		path string
		body func(question string) object
	}{
		{"/v1/chat/completions", func(q string) object { return chat(model, q) }},
		{"/v1/completions", func(q string) object {
			return object{"model": model, "prompt": q, "temperature": 0, "max_tokens": 16}
		}},
		{"/generate", func(q string) object {
			return object{"text": q, "sampling_params": object{"temperature": 0, "max_new_tokens": 16}}
		}},
	}
	for _, route := range routes {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s stream=%v", route.path, stream), func(t *testing.T) {
				events := 0
				for i := range 4 {
					body := route.body(fmt.Sprintf("Question %d: why?\n\nÄ \"quoted\" \t one.", i))
					body["stream"] = stream
					got, want := h.Ask(t.Context(), route.path, body), direct.Ask(t.Context(), route.path, body)
					if !want.OK() || want.Text == "" {
						t.Fatalf("the engine itself: %v", want)
					}
					if !got.OK() || got.Text != want.Text || got.Finish != want.Finish || got.Done != stream {
						t.Errorf("got %v %q, want what the engine says: %q", got, got.Text, want.Text)
					}
					if got.Usages != want.Usages || !stream && got.Prompt != want.Prompt {
						t.Errorf("usage told %d times, prompt %d; the engine: %d times, %d", got.Usages, got.Prompt, want.Usages, want.Prompt)
					}
					for _, name := range []string{"X-Radixbus-Worker", "X-Request-Id", "X-Radixbus-Request"} {
						if got.Header.Get(name) == "" {
							t.Errorf("no header %s", name)
						}
					}
					events += got.Events
				}
				if stream && events < 8 { // a hurried engine may put several tokens into one
					t.Errorf("%d events in four streams of 16 tokens: that is no stream", events)
				}
			})
		}
	}
	h.idle(t)
}

func modelOf(t *testing.T, c *testkit.Client) string {
	t.Helper()
	status, doc := c.Get(t, "/v1/models")
	m := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(doc)
	if status != http.StatusOK || m == nil {
		t.Fatalf("/v1/models = %d %s", status, doc)
	}
	return m[1]
}

func TestRepeatFindsItsPrefixOnTheWorkerThatHasIt(t *testing.T) {
	t.Parallel()
	h := up(t, "--workers", "4", "--speed", "10")
	model := modelOf(t, h.Client)
	homes, strays := map[string]bool{}, 0
	for i := range 8 {
		document := filler(1000*i, 8000)
		first := h.Ask(t.Context(), "/v1/chat/completions", chat(model, document+" First question?"))
		if !first.OK() || first.Prompt < 1000 {
			t.Fatal(first)
		}
		home := first.Header.Get("X-Radixbus-Worker")
		homes[home] = true
		for range 2 {
			again := h.Ask(t.Context(), "/v1/chat/completions", chat(model, document+" Another question?"))
			if !again.OK() {
				t.Fatal(again)
			}
			switch worker := again.Header.Get("X-Radixbus-Worker"); {
			case worker != home:
				strays++
				t.Logf("document %d: on %s, though %s has it", i, worker, home)
			case again.Cached < again.Prompt*9/10:
				t.Errorf("document %d: %d of %d tokens cached at home, want nearly all", i, again.Cached, again.Prompt)
			}
		}
	}
	if strays > 4 { // a worker that the machine just held up may rightly look dearer than a prefill
		t.Errorf("%d of 16 repeats went where their prefix is not", strays)
	}
	if len(homes) < 3 {
		t.Errorf("eight documents went to the workers %v alone", homes)
	}
	h.idle(t)
	if got := h.admin.Metric(t, "radixbus_belief_prompt_tokens_total"); got < 24*1000 {
		t.Errorf("belief was compared with truth for %g tokens only", got)
	}
}

func TestUsageIsToldOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	for _, report := range []bool{true, false} {
		h := up(t, "--workers", "1", "--speed", "50", fmt.Sprintf("--cache-report=%v", report))
		model := modelOf(t, h.Client)
		ask := func(more object) *testkit.Reply {
			t.Helper()
			a := h.Ask(t.Context(), "/v1/chat/completions", chat(model, filler(1, 2000), object{"stream": true}, more))
			if !a.OK() || !a.Done {
				t.Fatal(a)
			}
			return a
		}
		if a := ask(object{}); a.Usages != 0 {
			t.Errorf("cache report %v: usage %d times in a stream that did not ask", report, a.Usages)
		}
		if a := ask(object{"stream_options": object{"include_usage": true}}); a.Usages != 1 || a.Prompt == 0 {
			t.Errorf("cache report %v: usage %d times (prompt %d), want once", report, a.Usages, a.Prompt)
		}
		if a := ask(object{"stream_options": object{"include_usage": false}}); a.Usages != 0 {
			t.Errorf("cache report %v: usage %d times in a stream that refused it", report, a.Usages)
		}
		whole := h.Ask(t.Context(), "/v1/chat/completions", chat(model, filler(1, 2000)))
		if whole.Usages != 1 || strings.Contains(string(whole.Raw), "sglext") || whole.Cached > 0 != report {
			t.Errorf("cache report %v: whole answer %s", report, whole.Raw)
		}
		// What the client is not told, we are.
		testkit.Eventually(t, "the adapter knows the cached tokens", func() bool { return h.admin.Metric(t, "radixbus_worker_cached_tokens_total") > 500 })
	}
}

func TestMistakesGetTheEnvelope(t *testing.T) {
	t.Parallel()
	h := up(t, "--workers", "1", "--speed", "50", "--max-payload-size", "1048576")
	model := modelOf(t, h.Client)
	const route = "/v1/chat/completions"
	for _, tt := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"no JSON", "POST", route, `{nope`, 400},
		{"nothing", "POST", route, ``, 400},
		{"an array", "POST", route, `[1]`, 400},
		{"no model of ours", "POST", route, `{"model":"no-such","messages":[{"role":"user","content":"x"}]}`, 404},
		{"messages of a wrong type", "POST", route, `{"model":"` + model + `","messages":7}`, 400},
		{"a parameter that the engine refuses", "POST", route, `{"model":"` + model + `","max_tokens":-5,"messages":[{"role":"user","content":"x"}]}`, 400},
		{"two documents", "POST", route, `{"model":"` + model + `","messages":[{"role":"user","content":"x"}]} {}`, 400},
		{"too large", "POST", route, `{"model":"` + model + `","messages":[{"role":"user","content":"` + filler(1, 1<<20) + `"}]}`, 413},
		{"no route", "POST", "/v1/nothing", `{}`, 404},
		{"an engine's control route", "POST", "/flush_cache", `{}`, 404},
		{"wrong method", "GET", route, ``, 405},
		{"wrong method of a GET route", "POST", "/v1/models", `{}`, 405},
		{"unknown model's card", "GET", "/v1/models/no-such", ``, 404},
	} {
		a := h.Send(t.Context(), tt.method, tt.path, []byte(tt.body))
		if a.Err != nil || a.Status != tt.want || a.Failure == "" {
			t.Errorf("%s: %v, want %d with an error envelope", tt.name, a, tt.want)
		}
	}
	if a := h.Ask(t.Context(), route, chat(model, "still fine?")); !a.OK() {
		t.Errorf("afterwards: %v", a)
	}
	h.idle(t)
}

// A load keeps users busy until stopped, and counts what they got.
type load struct {
	dog    *watchdog
	users  sync.WaitGroup
	halt   atomic.Bool
	served atomic.Int64

	mu     sync.Mutex
	failed []*testkit.Reply // requests that failed without a word of an answer
	broken []*testkit.Reply // streams that had begun
}

// start runs users one request after the other; every third streams.
func (l *load) start(t *testing.T, c *testkit.Client, users int, body func(user, i int) object) {
	l.dog = newWatchdog(t)
	for u := range users {
		l.users.Go(func() {
			for i := 0; !l.halt.Load(); i++ {
				time.Sleep(5 * time.Millisecond) // else the users alone would fill the machine
				b := body(u, i)
				b["stream"] = i%3 == 0
				a := c.Ask(t.Context(), "/v1/chat/completions", b)
				switch {
				case a.OK():
					l.served.Add(1)
				case a.Text != "":
					l.mu.Lock()
					l.broken = append(l.broken, a)
					l.mu.Unlock()
				default:
					l.mu.Lock()
					l.failed = append(l.failed, a)
					l.mu.Unlock()
				}
			}
		})
	}
}

func (l *load) stop() { l.halt.Store(true); l.users.Wait() }

// check wants no request to have failed that had not begun, and those that had to say so.
func (l *load) check(t *testing.T, mayBreak int) {
	t.Helper()
	l.stop()
	for _, a := range l.failed {
		if a.Failure != "" && a.Err == nil && l.dog.starved() {
			t.Logf("refused while the machine stood still: %v", a)
			continue
		}
		t.Errorf("failed before it had begun: %v", a)
	}
	for _, a := range l.broken {
		if a.Failure == "" || a.Err != nil {
			t.Errorf("broke without an error event: %v", a)
		}
	}
	if len(l.broken) > mayBreak && !l.dog.starved() {
		t.Errorf("%d streams broke, at most %d can have been on the victim", len(l.broken), mayBreak)
	}
	t.Logf("%d served, %d streams broke", l.served.Load(), len(l.broken))
}

func TestEngineThatDiesUnderLoadCostsNothingThatHadNotBegun(t *testing.T) {
	t.Parallel()
	_, first := simulated(t, simengine.Config{Speed: 20})
	victim, second := simulated(t, simengine.Config{Speed: 20})
	h := up(t, "--engine", first, "--engine", second)
	testkit.Eventually(t, "both workers are ready", func() bool {
		return h.admin.Metric(t, `radixbus_scheduler_workers{pool="`+llama+`",state="ready"}`) == 2
	})
	var l load
	defer l.stop()
	l.start(t, h.Client, 8, func(u, i int) object { return chat(llama, fmt.Sprintf("user %d asks %d: %s", u, i, filler(u, 400))) })
	worked := func(n int64) { testkit.Eventually(t, "the load goes on", func() bool { return l.served.Load() >= n }) }
	worked(60)
	onVictim := func() float64 { return h.admin.Metric(t, `radixbus_worker_attempts_total{outcome="ok",worker="w1"}`) }
	if onVictim() < 5 {
		t.Fatalf("the second worker served %g requests: there is nothing to break", onVictim())
	}
	victim.Crash()
	worked(l.served.Load() + 60)
	before := onVictim()
	victim.Restart()
	testkit.Eventually(t, "the engine is used again", func() bool { return onVictim() > before+5 })
	l.check(t, 8)
	h.idle(t)
}

func TestLongPromptsPass(t *testing.T) {
	sizes := []int{1 << 20, 4 << 20}
	if !testing.Short() {
		sizes = append(sizes, 64<<20)
	}
	engine := newCountingEngine(t, 0)
	h := up(t, "--engine", engine.url)
	settled := func() uint64 {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := settled()
	for _, size := range sizes {
		prompt := strings.Repeat("word ", size/5)
		for _, stream := range []bool{false, true} {
			a := h.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, prompt, object{"stream": stream}))
			if !a.OK() || a.Text != counted(16) {
				t.Errorf("%d MiB, stream %v: %v", size>>20, stream, a)
			}
		}
		engine.mu.Lock()
		if got := engine.bodies; got < int64(len(prompt)) {
			t.Errorf("the engine got %d bytes of a prompt of %d", got, len(prompt))
		}
		engine.mu.Unlock()
	}
	h.idle(t)
	testkit.Eventually(t, "the memory of the bodies is given back", func() bool { return settled() < before+24<<20 })
}

func TestStopLetsARunningStreamFinish(t *testing.T) {
	t.Parallel()
	engine := newCountingEngine(t, 10*time.Millisecond)
	h := up(t, "--engine", engine.url)
	begun := make(chan struct{}, 1)
	got := make(chan *testkit.Reply, 1)
	go func() {
		got <- h.Ask(context.Background(), "/v1/chat/completions", chat(countingModel, "count", object{"stream": true, "max_tokens": 150}), func(*testkit.Reply) {
			select {
			case begun <- struct{}{}:
			default:
			}
		})
	}()
	<-begun
	h.cancel(errors.New("terminated"))
	a := <-got
	if !a.OK() || !a.Done || a.Text != counted(150) {
		t.Errorf("the stream that was running: %v", a)
	}
	if err := h.stop(t); err != nil {
		t.Errorf("up = %v, want nil", err)
	}
	if a := h.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, "late")); a.Err == nil {
		t.Errorf("a request after the end: %v, want no connection", a)
	}
}

func TestDrainHasABound(t *testing.T) {
	t.Parallel()
	engine := newCountingEngine(t, 50*time.Millisecond)
	h := up(t, "--engine", engine.url, "--drain-timeout", "500ms")
	begun, got := make(chan struct{}), make(chan *testkit.Reply, 1)
	go func() {
		once := sync.OnceFunc(func() { close(begun) })
		got <- h.Ask(context.Background(), "/v1/chat/completions", chat(countingModel, "count", object{"stream": true, "max_tokens": 100_000}), func(*testkit.Reply) { once() })
	}()
	<-begun
	began := time.Now()
	if err := h.stop(t); err != nil {
		t.Errorf("up = %v, want nil", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the drain took %v with a bound of 500 ms", took)
	}
	if a := <-got; a.Failure == "" || a.Err != nil || a.Text == "" {
		t.Errorf("the stream that outlasted the drain: %v, want an error event", a)
	}
	testkit.Eventually(t, "the engine is relieved", func() bool { _, aborts := engine.count(); return engine.active() == 0 && aborts > 0 })
}

func TestTwoHubsStandBesideEachOther(t *testing.T) {
	t.Parallel()
	one, two := up(t, "--workers", "1", "--speed", "50", "--model", "one"), up(t, "--workers", "1", "--speed", "50", "--model", "two")
	for _, h := range []struct {
		*hub
		serves, other string
	}{{one, "one", "two"}, {two, "two", "one"}} {
		if a := h.Ask(t.Context(), "/v1/chat/completions", chat(h.serves, "hi")); !a.OK() {
			t.Error(a)
		}
		if a := h.Ask(t.Context(), "/v1/chat/completions", chat(h.other, "hi")); a.Status != http.StatusNotFound {
			t.Errorf("a hub serves its neighbour's model: %v", a)
		}
	}
}

func TestHubOnATakenPortSaysSoAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, flag := range []string{"--port", "--admin-port", "--bus-port"} {
		h := begin(t, "--workers", "1", flag, port)
		select {
		case err := <-h.done:
			h.done <- err
			if err == nil || !strings.Contains(err.Error(), port) {
				t.Errorf("%s of another: %v, want an error with the port", flag, err)
			}
		case <-time.After(testkit.Patience):
			t.Fatalf("%s of another: still at it after %v", flag, testkit.Patience)
		}
		if out := h.stdout.String(); out != "" {
			t.Errorf("%s of another: it said %q", flag, out)
		}
	}
	noTempLeft(t)
}

func noTempLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("left behind in the temporary folder: %s", f.Name())
	}
}

func TestStartAndStopLeaveNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for range 3 {
		h := up(t, "--workers", "2", "--speed", "50")
		ctx, leave := context.WithCancel(t.Context())
		a := h.Ask(ctx, "/v1/chat/completions", chat(llama, "hi", object{"stream": true, "max_tokens": 4000}), func(*testkit.Reply) { leave() })
		if a.Err == nil && a.Done {
			t.Errorf("the aborted request: %v", a)
		}
		if a := h.Ask(t.Context(), "/v1/chat/completions", chat(llama, "hi")); !a.OK() {
			t.Error(a)
		}
		if err := h.stop(t); err != nil {
			t.Errorf("up = %v", err)
		}
		h.CloseIdleConnections()
		h.admin.CloseIdleConnections()
	}
	noTempLeft(t)
}

func TestStopWhileStartingIsNoError(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, after := range []time.Duration{0, 10 * time.Millisecond, 40 * time.Millisecond, 100 * time.Millisecond} {
		h := begin(t, "--workers", "2")
		time.Sleep(after)
		if err := h.stop(t); err != nil {
			t.Errorf("asked to stop %v after the start: %v, want nil", after, err)
		}
	}
	noTempLeft(t)
}

// The promise is 100 ms from the client's leaving to the engine's abort; half a second allows for a busy machine.
func TestClientThatLeavesStopsTheEngine(t *testing.T) {
	engine := newCountingEngine(t, 20*time.Millisecond)
	h := up(t, "--engine", engine.url)
	var took []time.Duration
	for i := range 5 {
		_, before := engine.count()
		ctx, leave := context.WithCancel(t.Context())
		got := make(chan *testkit.Reply, 1)
		go func() {
			got <- h.Ask(ctx, "/v1/chat/completions", chat(countingModel, fmt.Sprint("count ", i), object{"stream": i%2 == 0, "max_tokens": 5000}))
		}()
		testkit.Eventually(t, "the engine runs the request", func() bool { return engine.active() == 1 })
		left := time.Now()
		leave()
		if a := <-got; a.Err == nil {
			t.Fatalf("round %d: %v", i, a)
		}
		testkit.Eventually(t, "an abort reaches the engine", func() bool { _, n := engine.count(); return n > before && engine.active() == 0 })
		engine.mu.Lock()
		took = append(took, engine.aborted[len(engine.aborted)-1].Sub(left))
		engine.mu.Unlock()
	}
	slices.Sort(took)
	if took[2] > 500*time.Millisecond {
		t.Errorf("aborts took %v, the promise is 100 ms", took)
	}
	h.idle(t)
}

// An adapter elsewhere joins the hub's bus. Its readiness was written and read without a lock: run with -race.
func TestWorkerFromOutsideJoinsAHub(t *testing.T) {
	t.Parallel()
	h := up(t, "--workers", "1", "--model", "inside")
	engine := newCountingEngine(t, time.Millisecond)
	admin := freePort(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	log := testkit.NewOutput()
	go func() {
		done <- command.Run(ctx, command.Process{Stdout: testkit.NewOutput(), Stderr: log, Args: []string{
			"worker", "--nats", h.bus, "--engine", engine.url, "--name", "outside", "--admin-port", fmt.Sprint(admin),
		}})
	}()
	testkit.NewClient(t, fmt.Sprint("http://127.0.0.1:", admin)).Ready(t)
	serves := func() int { status, _ := h.Get(t, "/v1/models/"+countingModel); return status }
	testkit.Eventually(t, "its model is known", func() bool { return serves() == http.StatusOK })
	a := h.Ask(t.Context(), "/v1/chat/completions", chat(countingModel, "count", object{"stream": true}))
	if !a.OK() || a.Text != counted(16) || a.Header.Get("X-Radixbus-Worker") != "outside" {
		t.Errorf("%v from %q", a, a.Header.Get("X-Radixbus-Worker"))
	}
	cancel(command.Signal("terminated"))
	if err := <-done; err != nil {
		t.Errorf("worker = %v\n%s", err, log)
	}
	testkit.Eventually(t, "its model is gone with it", func() bool { return serves() == http.StatusNotFound })
}
