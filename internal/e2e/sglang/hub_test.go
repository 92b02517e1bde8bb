package sglang

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/testkit"
)

type object = map[string]any

// The models: all engines but one kind serve the first.
const (
	tiny     = "tiny"
	embedder = "embedder"
)

const (
	chatRoute     = "/v1/chat/completions"
	textRoute     = "/v1/completions"
	generateRoute = "/generate"
)

// A hub is `radixbus up` in front of engines: w0, w1 and so on.
type hub struct {
	*testkit.Client
	admin   *testkit.Client
	process *testkit.Process
	engines []*engine
}

// up starts a hub and waits until all of its workers are there.
func up(t *testing.T, engines []*engine, args ...string) *hub {
	t.Helper()
	port, admin := testkit.FreePort(t, 28000, 29000), testkit.FreePort(t, 28000, 29000)
	all := []string{"up", "--port", strconv.Itoa(port), "--admin-port", strconv.Itoa(admin), "--bus-port", strconv.Itoa(testkit.FreePort(t, 28000, 29000))}
	for _, e := range engines {
		all = append(all, "--engine", e.url)
	}
	h := &hub{engines: engines}
	h.process = testkit.StartProcess(t, testkit.Program(t, "github.com/radixbus/radixbus"), append(all, args...)...)
	h.admin = testkit.NewClient(t, fmt.Sprint("http://127.0.0.1:", admin))
	select {
	case url := <-h.process.Stdout.First:
		h.Client = testkit.NewClient(t, url)
	case <-h.process.Done:
		t.Fatalf("up ended:\n%s", h.process.Stderr)
	case <-time.After(testkit.Patience):
		t.Fatalf("no first line in %v:\n%s", testkit.Patience, h.process.Stderr)
	}
	h.Ready(t)
	testkit.Eventually(t, "all workers are there", func() bool {
		return h.admin.Metric(t, "radixbus_scheduler_workers", `state="ready"`) >= float64(h.workers())
	})
	return h
}

// workers is how many the engines make: one for each rank.
func (h *hub) workers() (n int) {
	for _, e := range h.engines {
		n += e.kind.ranks
	}
	return n
}

// by is the engine that has answered.
func (h *hub) by(t *testing.T, r *testkit.Reply) *engine {
	t.Helper()
	worker := r.Header.Get("X-Radixbus-Worker")
	engine, _, _ := strings.Cut(worker, "-") // what follows is a rank
	i, err := strconv.Atoi(strings.TrimPrefix(engine, "w"))
	if err != nil || i >= len(h.engines) {
		t.Fatalf("answered by worker %q: %v", worker, r)
	}
	return h.engines[i]
}

// direct talks to an engine past the hub.
func direct(t *testing.T, e *engine) *testkit.Client { return testkit.NewClient(t, e.url) }

// idle waits until everything that counts requests is back to zero.
func (h *hub) idle(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"radixbus_gateway_requests_in_flight", "radixbus_worker_running", "radixbus_scheduler_leases",
		"radixbus_scheduler_held_requests", "radixbus_scheduler_worker_running",
	} {
		testkit.Eventually(t, name+" is back to zero", func() bool { return h.admin.Metric(t, name) == 0 })
	}
}

var busLine = regexp.MustCompile(`(?m)^  bus +(nats://\S+)$`)

// roster hears what the workers say of themselves, as every role does.
func (h *hub) roster(t *testing.T) *roster.Listener {
	t.Helper()
	bus := busLine.FindStringSubmatch(h.process.Stdout.String())
	if bus == nil {
		t.Fatalf("the first screen tells no bus:\n%s", h.process.Stdout)
	}
	nc, err := nats.Connect(bus[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l, err := roster.NewListener(roster.Config{Conn: nc})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, l.Run)
	testkit.Eventually(t, "all workers are heard", func() bool { return len(l.View().Workers) == h.workers() })
	return l
}

// A belief is what the scheduler thought of caches, and what was true, in tokens.
type belief struct{ prompt, predicted, actual, wrong float64 }

// belief reads the sums. They count requests that the scheduler has heard the end of.
func (h *hub) belief(t *testing.T) belief {
	t.Helper()
	read := func(name string) float64 { return max(0, h.admin.Metric(t, "radixbus_belief_"+name+"_tokens_total")) }
	return belief{read("prompt"), read("predicted"), read("actual"), read("error")}
}

func (b belief) minus(a belief) belief {
	return belief{b.prompt - a.prompt, b.predicted - a.predicted, b.actual - a.actual, b.wrong - a.wrong}
}

// asking does something, and returns what it adds to the belief once all that was asked is counted: prompt tokens in all.
func (h *hub) asking(t *testing.T, do func() (prompt int)) belief {
	t.Helper()
	before := h.belief(t)
	prompt := do()
	testkit.Eventually(t, "the scheduler has heard of all answers", func() bool {
		return h.belief(t).minus(before).prompt >= float64(prompt)
	})
	return h.belief(t).minus(before)
}

// ask wants a good answer.
func (h *hub) ask(t *testing.T, path string, body any) *testkit.Reply {
	t.Helper()
	r := h.Ask(t.Context(), path, body)
	if !r.OK() {
		t.Fatalf("%s: %v", path, r)
	}
	return r
}

// chat is a chat request for one question.
func chat(question string, more ...object) object {
	b := object{"model": tiny, "temperature": 0, "max_tokens": 16, "messages": []object{{"role": "user", "content": question}}}
	for _, m := range more {
		for k, v := range m {
			b[k] = v
		}
	}
	return b
}

// long makes an answer that goes on for n tokens, whatever the model says.
func long(n int) object { return object{"max_tokens": n, "ignore_eos": true} }

// generate is a request of the native route. Engines that serve adapters too are asked for their base.
func generate(text any, tokens int, stream bool) object {
	return object{"model": tiny, "text": text, "stream": stream, "sampling_params": object{"temperature": 0, "max_new_tokens": tokens, "ignore_eos": true}}
}

// prose is n words that stand in no other prose of another seed in this order.
func prose(seed, n int) string {
	words := strings.Fields("cache prompt scheduler worker answer tokens question tree index document summary user person system content tools path root table short")
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d ", words[(i*i*7+i*seed*13+seed*31)%len(words)], (i*seed*7919+seed*131+i*17)%997)
	}
	return strings.TrimSpace(b.String())
}

// A follower is a client in the middle of a request.
type follower struct {
	leave  func() // ends the request from the client's side, and waits
	events atomic.Int64
	doc    atomic.Pointer[[]byte] // the first event's
	done   chan struct{}
	reply  *testkit.Reply // once done
}

// follow asks, and returns once an answer has begun; at once, for an answer that is no stream.
func follow(t *testing.T, c *testkit.Client, path string, body object) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{done: make(chan struct{})}
	f.leave = func() { cancel(); <-f.done }
	t.Cleanup(f.leave)
	go func() {
		defer close(f.done)
		f.reply = c.Ask(ctx, path, body, func(r *testkit.Reply) {
			doc := bytes.Clone(r.Doc)
			f.doc.CompareAndSwap(nil, &doc)
			f.events.Add(1)
		})
	}()
	if body["stream"] == true {
		testkit.Eventually(t, "a stream begins", func() bool {
			select {
			case <-f.done:
				t.Fatalf("the stream did not begin: %v", f.reply)
			default:
			}
			return f.events.Load() > 0
		})
	}
	return f
}

// wait is the whole answer.
func (f *follower) wait(t *testing.T, patience time.Duration) *testkit.Reply {
	t.Helper()
	select {
	case <-f.done:
	case <-time.After(patience):
		t.Fatalf("no end of an answer in %v, after %d events", patience, f.events.Load())
	}
	return f.reply
}
