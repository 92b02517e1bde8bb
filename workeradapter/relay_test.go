package workeradapter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/radixbus/radixbus/internal/bus"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// unsent is an adapter whose bus takes everything and brings nothing: what is sent is read from the kept frames.
func unsent(t testing.TB) *worker {
	t.Helper()
	nc := new(nats.Conn) // publishing on it is an error, as on a bus that is away
	a, err := New(Config{Bus: &bus.Bus{Control: nc, Tokens: nc, Bulk: nc}, Engine: "http://127.0.0.1:1", Name: "w", Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	a.runCtx = context.Background()
	w := &worker{a: a, name: "w", metrics: newMetrics(prometheus.NewRegistry(), "w"), running: make(map[streamKey]*attempt), early: make(map[streamKey]time.Time)}
	w.out = newOutboxes(w)
	return w
}

// relayOf makes the relay of a stream that reads from body.
func relayOf(t testing.TB, w *worker, body io.Reader, flags wire.Flags, cacheReport bool) *relay {
	t.Helper()
	d := &wire.Dispatch{Request: wire.NewRequestID(), Attempt: 1, Instance: 7, Stream: 1, Gateway: "g", Pool: "m", Path: "/v1/chat/completions", Window: wire.StreamWindow, Flags: flags | wire.FlagStream}
	d.Method = "POST"
	at := newAttempt(w, d, "")
	at.calledAt = time.Now()
	at.open()
	at.stream.window = 1 << 30
	return &relay{t: at, status: 200, contentType: "text/event-stream", body: body, info: &wire.WorkerInfo{EngineKind: "sglang", CacheReport: cacheReport}}
}

// sentBy is what the frames of a relay carry.
func sentBy(r *relay) (data []byte, heads int) {
	for _, f := range r.t.stream.kept {
		switch f.Type {
		case wire.FrameHead:
			heads++
		case wire.FrameData:
			data = append(data, f.Data...)
		}
	}
	return data, heads
}

// eventsOf cuts a stream into its whole events, the slow and certain way.
func eventsOf(b []byte) (events []string) {
	for {
		n := 0
		for i := 1; i < len(b); i++ {
			if b[i] == '\n' && (b[i-1] == '\n' || b[i-1] == '\r' && i >= 2 && b[i-2] == '\n') {
				n = i + 1
				break
			}
		}
		if n == 0 {
			return events
		}
		events, b = append(events, string(b[:n])), b[n:]
	}
}

// chunks reads a stream in pieces of the sizes that cuts tells, and ends with an error.
type chunks struct {
	b, cuts []byte
	err     error
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, c.err
	}
	n := len(c.b)
	if len(c.cuts) > 0 {
		n, c.cuts = min(n, int(c.cuts[0])+1), c.cuts[1:]
	}
	n = copy(p, c.b[:n])
	c.b = c.b[n:]
	return n, nil
}

// FuzzRelay relays anything as an engine's stream, in any dialect, cut anywhere. It never panics; what comes out is a
// subsequence of the stream's whole events, with one head in front at most; a stream without its last document has not
// ended well; and where it was cut makes no difference to a stream without errors.
func FuzzRelay(f *testing.F) {
	f.Add([]byte("data: {\"choices\":[{\"delta\":{}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n"), []byte{0, 1, 2}, true, uint8(0))
	f.Add([]byte(": c\r\n\r\ndata: {\"error\":{\"message\":\"x\",\"code\":400}}\r\n\r\ndata: [DONE]\r\n\r\n"), []byte{9}, false, uint8(1))
	f.Add([]byte("\n\n\n\r\n\r\ndata:\n\ndata: {\"sglext\":{\"cached_tokens_details\":{\"device\":1}},\"choices\":[]}\n\ndata: [DONE]\n\nmore\n\n"), []byte{}, true, uint8(2))
	f.Add([]byte("data: {\"meta_info\":{\"finish_reason\":{\"type\":\"abort\",\"status_code\":503,\"message\":\"\\ud800\"}}}\n\n"), []byte{255, 0}, true, uint8(2))
	f.Add([]byte("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"x\"}}\n\n"), []byte{30}, true, uint8(3))
	f.Add([]byte("data: {\"type\":\"response.created\"}\n\ndata: {\"type\":\"response.output_text.delta\"}\n\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n"), []byte{1}, true, uint8(4))
	w := unsent(f)
	paths := []string{"/v1/chat/completions", "/v1/completions", "/generate", "/v1/messages", "/v1/responses", "/v1/audio/transcriptions"}
	relayed := func(t *testing.T, r *relay) (string, wire.End) {
		end := r.events()
		got, heads := sentBy(r)
		if heads > 1 || heads == 0 && len(got) > 0 {
			t.Fatalf("%d heads in front of %q", heads, got)
		}
		if r.t.stream.end(&end); len(r.t.stream.kept) == 0 || r.t.stream.kept[len(r.t.stream.kept)-1].End == nil {
			t.Fatal("no last frame")
		}
		n := len(r.t.stream.kept)
		if r.t.stream.end(&end); len(r.t.stream.kept) != n {
			t.Fatal("two last frames")
		}
		w.out.forget(r.t.stream.key)
		return string(got), end
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte, cacheReport bool, path uint8) {
		route := surface.Lookup("POST", paths[int(path)%len(paths)])
		r := relayOf(t, w, &chunks{bytes.Clone(stream), cuts, errors.New("cut")}, 0, cacheReport)
		r.t.route = route
		got, end := relayed(t, r)
		if r.done != (end.Code == wire.CodeOK) {
			t.Fatalf("[DONE] has come: %v, and it ended as %v", r.done, end.Code)
		}
		if !wire.Code.Retryable(end.Code) && end.Code != wire.CodeOK && r.fault == nil {
			t.Fatalf("ended as %v without a fault", end.Code)
		}
		if end.Code != wire.CodeEngineRefused && !bytes.Contains(stream, []byte("sglext")) { // of those, the engine's words are taken out of their event, or a member of it
			left := eventsOf(stream)
			for _, e := range eventsOf([]byte(got)) {
				at := -1
				for i := range left {
					if left[i] == e {
						at = i
						break
					}
				}
				if at < 0 {
					t.Fatalf("event %q is not one of the engine's, or out of order, in %q", e, got)
				}
				left = left[at+1:]
			}
			if strings.Join(eventsOf([]byte(got)), "") != got {
				t.Fatalf("%q does not end with a whole event", got)
			}
		}
		if r.fault != nil {
			return // whether it came before the client saw anything depends on the cuts
		}
		again := relayOf(t, w, iotest.OneByteReader(&chunks{bytes.Clone(stream), nil, io.ErrUnexpectedEOF}), 0, cacheReport)
		again.t.route = route
		if one, _ := relayed(t, again); one != got {
			t.Fatalf("byte by byte: %q, in other pieces: %q", one, got)
		}
	})
}

// BenchmarkRelayEvent relays one token's event of a chat from the engine's bytes to the message for the gateway.
func BenchmarkRelayEvent(b *testing.B) {
	w := unsent(b)
	r := relayOf(b, w, nil, 0, true)
	event := []byte(`data: {"id":"5f0c1d2e","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":null,"content":" token","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}` + "\n\n")
	buf := make([]byte, 0, 8<<10)
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		buf = r.relayEvents(append(buf, event...), 0)
		if s := r.t.stream; len(s.kept) > 64 { // as a gateway acknowledges
			s.box.mu.Lock()
			s.acked(s.next - 1)
			s.box.mu.Unlock()
		}
	}
	if r.fault != nil || !r.begun || len(buf) != 0 || r.t.stream.next < uint64(b.N) {
		b.Fatalf("not relayed: %d frames of %d events", r.t.stream.next, b.N)
	}
}

func TestCancelledDispatchesLeaveNothingBehind(t *testing.T) {
	w := unsent(t)
	w.a.workers = []*worker{w}
	for i := range uint64(1000) { // refused: there is no engine
		d := &wire.Dispatch{Attempt: 1, Instance: 7, Stream: i, Gateway: "g", Size: 1, Body: []byte("x")}
		w.admit(d, "")
		w.cancel(wire.Cancel{Gateway: "g", Stream: i})
	}
	if attempts, bodies, streams := w.a.Held(); attempts != 0 || bodies != 0 || streams != 0 {
		t.Errorf("%d attempts, %d bytes, %d streams", attempts, bodies, streams)
	}
	w.a.forgetEarly(time.Now().Add(2 * earlyFor))
	if n := len(w.early); n != 0 {
		t.Errorf("%d cancels are remembered", n)
	}
	w.out.ping(time.Now())
	if n := len(w.out.all); n != 0 {
		t.Errorf("%d ways to gateways that nobody uses", n)
	}
}

// A stream may last for minutes: the adapter holds neither its request nor room for what may come.
func TestARelayHoldsNothingWhileNothingComes(t *testing.T) {
	t.Parallel()
	w := unsent(t)
	body := &waited{pieces: []string{"data: {\"a\":1}\n\n", "data: {\"b\"", ":2}\n\n", "data: [DONE]\n\n"}}
	r := relayOf(t, w, body, 0, true)
	r.t.body = []byte("the request")
	body.onWait = func() {
		if r.begun && r.t.body != nil {
			t.Error("the request is held although its answer has begun")
		}
	}
	if end := r.run(); end.Code != wire.CodeOK {
		t.Fatalf("it ended with %v", end.Code)
	}
	if data, _ := sentBy(r); string(data) != strings.Join(body.all, "") {
		t.Errorf("sent %q", data)
	}
	if body.waits != 3 { // not in the middle of an event: what has come of it needs room anyway
		t.Errorf("it waited without room %d times, want 3", body.waits)
	}
}

// waited is a body that can be waited for.
type waited struct {
	pieces, all []string
	waits       int
	onWait      func()
}

func (b *waited) Wait() { b.waits++; b.onWait() }

func (b *waited) Read(p []byte) (int, error) {
	if len(b.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.pieces[0])
	b.all = append(b.all, b.pieces[0])
	b.pieces = b.pieces[1:]
	return n, nil
}
