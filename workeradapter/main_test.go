package workeradapter_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// site is an adapter beside a scripted engine, with a scripted gateway on the bus.
type site struct {
	t       testing.TB
	hub     *testkit.Hub
	engine  *testkit.Engine
	gateway *testkit.Gateway
	adapter *workeradapter.Adapter
	reg     *prometheus.Registry
	stop    func()
	now     wire.Instance
}

// newSite starts one and waits for its first beat. Its cleanup fails the test when the adapter holds on to anything.
func newSite(t testing.TB, prepare func(*testkit.Engine, *workeradapter.Config)) *site {
	t.Helper()
	return newSiteOn(t, testkit.NewHub(t), prepare)
}

func newSiteOn(t testing.TB, hub *testkit.Hub, prepare func(*testkit.Engine, *workeradapter.Config)) *site {
	t.Helper()
	s := &site{t: t, hub: hub, engine: testkit.NewEngine(t, "m"), reg: prometheus.NewRegistry()}
	s.gateway = testkit.NewGateway(t, s.hub, "g")
	cfg := workeradapter.Config{
		Bus: s.hub.Connect(t, "worker", "w"), Engine: s.engine.URL(), Name: "w", Registry: s.reg,
		Beat: 100 * time.Millisecond, Probe: 100 * time.Millisecond, ClaimWait: 20 * time.Millisecond, DrainTimeout: 10 * time.Second,
		GatewayTimeout: testkit.Patience, // tests of a silent gateway set it; others must not depend on the machine's speed
	}
	if prepare != nil {
		prepare(s.engine, &cfg)
	}
	var err error
	if s.adapter, err = workeradapter.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if attempts, bodies, _ := s.adapter.Held(); attempts != 0 || bodies != 0 {
			t.Errorf("the adapter holds %d attempts and %d bytes after its end", attempts, bodies)
		}
	})
	s.stop = testkit.Start(t, s.adapter.Run)
	s.now = s.gateway.AwaitBeat(wire.Ready, 0).Instance
	return s
}

// idle waits until the adapter holds nothing.
func (s *site) idle() {
	s.t.Helper()
	testkit.Eventually(s.t, "the adapter holds nothing", func() bool {
		attempts, bodies, streams := s.adapter.Held()
		return attempts == 0 && bodies == 0 && streams == 0
	})
}

// ask sends a request to the worker.
func (s *site) ask(route prefix.Route, body string) *testkit.Stream {
	s.t.Helper()
	return s.gateway.Send("w", s.now, route, body)
}

// finished waits for the event of an attempt's end.
func (s *site) finished(st *testkit.Stream) (f *wire.Finished) {
	s.t.Helper()
	testkit.Eventually(s.t, "the finished event", func() bool {
		for _, one := range s.gateway.Finished() {
			if one.Request == st.Request && one.Attempt == st.Attempt {
				f = one
				return true
			}
		}
		return false
	})
	return f
}

// count is the value of a counter, of the one with the label value if there is one.
func (s *site) count(name, label string) float64 {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "radixbus_worker_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if label == "" || l.GetValue() == label {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

const (
	whole  = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	stream = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`
	first  = `{"id":"x","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}`
	second = `{"id":"x","choices":[{"index":0,"delta":{"content":" \"usage\": {"},"finish_reason":null}],"usage":null}`
	last   = `{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`
	usage  = `{"id":"x","choices":[],"usage":{"prompt_tokens":40,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":32}}}`
	ext    = `{"id":"x","choices":[],"sglext":{"cached_tokens_details":{"device":20,"host":12,"storage":0}}}`
)

// sse writes documents as events.
func sse(docs ...string) (s string) {
	for _, d := range docs {
		s += "data: " + d + "\n\n"
	}
	return s
}
