package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/gateway"
	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const model = "llama"

// edge is a gateway with scripted workers behind it.
type edge struct {
	t       testing.TB
	gw      *gateway.Gateway
	sched   *testkit.Scheduler
	workers []*testkit.Worker
	client  *http.Client
	stop    func()
}

// newEdge starts a gateway and n workers. Its cleanup fails the test when the gateway holds on to anything.
func newEdge(t testing.TB, n int, change func(*gateway.Config)) *edge {
	t.Helper()
	return newEdgeOn(t, testkit.NewHub(t), n, change)
}

func newEdgeOn(t testing.TB, hub *testkit.Hub, n int, change func(*gateway.Config)) *edge {
	t.Helper()
	e := &edge{t: t}
	for i := range n {
		e.workers = append(e.workers, testkit.NewWorker(t, hub, "w"+string(rune('0'+i)), model))
	}
	e.sched = testkit.NewScheduler(e.workers...)
	key, err := prefix.NewKey([]byte("a secret for tests only"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := gateway.Config{
		ID: "g", Join: gateway.Parts{Bus: hub.Connect(t, "gateway", "g"), Scheduler: e.sched, Key: key}.Join,
		AcceptTimeout: 5 * time.Second, DrainTimeout: 5 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	if e.gw, err = gateway.New(cfg); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	e.client = &http.Client{Transport: transport, Timeout: testkit.Patience}
	t.Cleanup(func() {
		testkit.Eventually(t, "all streams are closed", func() bool { return e.gw.Streams() == 0 })
		testkit.Eventually(t, "all bytes are given back", func() bool { return e.gw.InFlight() == 0 })
		testkit.Eventually(t, "no request is known", func() bool { calls, names := e.gw.Calls(); return calls+names == 0 })
	})
	e.stop = testkit.Start(t, e.gw.Run)
	t.Cleanup(transport.CloseIdleConnections)
	if n > 0 {
		testkit.Eventually(t, "the gateway knows the workers", func() bool { return e.gw.Ready(t.Context()) == nil })
	}
	return e
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// failure is the error envelope of an answer.
type failure struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// failureIn reads an error envelope, which has to be one.
func failureIn(t testing.TB, doc string) failure {
	t.Helper()
	var v struct {
		Error *failure `json:"error"`
	}
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil || v.Error == nil || v.Error.Message == "" || v.Error.Type == "" || v.Error.Code == "" {
		t.Fatalf("no error envelope: %q (%v)", doc, err)
	}
	return *v.Error
}

func (e *edge) request(method, path, body string, headers ...string) *http.Request {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.gw.URL()+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func (e *edge) do(r *http.Request) answer {
	e.t.Helper()
	resp, err := e.client.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (e *edge) post(path, body string, headers ...string) answer {
	e.t.Helper()
	return e.do(e.request(http.MethodPost, path, body, headers...))
}

const chatPath = "/v1/chat/completions"

// chat is a chat request.
func chat(stream bool) string {
	doc := `{"model":"` + model + `","messages":[{"role":"user","content":"hello"}]`
	if stream {
		doc += `,"stream":true`
	}
	return doc + "}"
}

// padded is a chat request of about n bytes.
func padded(n int) string {
	return `{"model":"` + model + `","messages":[{"role":"user","content":"` + string(bytes.Repeat([]byte("0123456789abcdef"), n/16)) + `"}]}`
}

// firstJob waits for the n-th dispatch of a worker.
func firstJob(t testing.TB, w *testkit.Worker, n int) *testkit.Job {
	t.Helper()
	testkit.Eventually(t, "a dispatch arrives", func() bool { return len(w.Jobs()) >= n })
	return w.Jobs()[n-1]
}

// history is what an assign request tells of earlier attempts.
func history(r wire.AssignRequest) (codes []wire.Code) {
	for _, o := range r.History {
		codes = append(codes, o.Code)
	}
	return codes
}

// placeByPool sends each pool's requests to one worker.
func placeByPool(of map[string]*testkit.Worker) func(context.Context, *wire.AssignRequest) (*wire.AssignReply, error) {
	return func(_ context.Context, r *wire.AssignRequest) (*wire.AssignReply, error) {
		return testkit.Placed(of[r.Pool]), nil
	}
}
