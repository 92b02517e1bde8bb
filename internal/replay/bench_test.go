package replay

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

const (
	benchChunk = `data: {"id":"8f0c1d3e5a7b4c6d8e9f0a1b2c3d4e5f","object":"chat.completion.chunk","created":1790000000,"model":"llama",` +
		`"choices":[{"index":0,"delta":{"role":null,"content":" word","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}` + "\n\n"
	benchUsage = `data: {"id":"8f","object":"chat.completion.chunk","created":1790000000,"model":"llama","choices":[],` +
		`"usage":{"prompt_tokens":520,"total_tokens":584,"completion_tokens":64,"prompt_tokens_details":{"cached_tokens":512}}}` + "\n\ndata: [DONE]\n\n"
)

// BenchmarkStreamedEvent is the client's own cost of one chunk of one token: read, parsed, timed, kept.
func BenchmarkStreamedEvent(b *testing.B) {
	const events = 1000
	stream := strings.Repeat(benchChunk, events) + benchUsage
	x := newExchange(Config{MaxEventBytes: 1 << 20})
	in := strings.NewReader(stream)
	read := func() {
		*x = exchange{gaps: x.gaps[:0], text: x.text[:0], events: x.events, chunk: x.chunk, usage: noUsage}
		in.Reset(stream)
		x.events.reset(in)
		x.readStream(b.Context(), 1<<20)
	}
	if read(); x.kind != "" || len(x.gaps) != events-1 || len(x.text) != events*len(" word") || x.usage != (usage{520, 64, 512}) {
		b.Fatalf("read %q %q: %d gaps, usage %+v", x.kind, x.message, len(x.gaps), x.usage)
	}
	b.SetBytes(int64(len(benchChunk)))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%events == 0 { // so that an iteration is an event
			read()
		}
	}
}

// BenchmarkShortRequest is a whole request of 8 streamed chunks against a transport that answers at once: all
// of the client but net/http.
func BenchmarkShortRequest(b *testing.B) {
	reply := strings.Repeat(benchChunk, 8) + benchUsage
	benchmarkRequests(b, Config{URL: "http://engine", Transport: instant(reply), Concurrency: 1})
}

// BenchmarkShortRequestOverLoopback adds net/http, the kernel, and a server of a few lines that never parses
// what it gets, at 64 users. All of it shares the machine.
func BenchmarkShortRequestOverLoopback(b *testing.B) {
	reply := strings.Repeat(benchChunk, 8) + benchUsage
	benchmarkRequests(b, Config{URL: "http://" + serveRaw(b, reply), Concurrency: 64})
}

func benchmarkRequests(b *testing.B, cfg Config) {
	work, err := NewMultiturn(MultiturnConfig{Rounds: 1, InputTokens: 16, OutputTokens: 8})
	if err != nil {
		b.Fatal(err)
	}
	cfg.Workload, cfg.Model = work, "llama"
	var before Report
	cfg.Requests = 100
	if before, err = Run(b.Context(), cfg); err != nil || before.Errors != 0 || before.ITL.Count != 700 {
		b.Fatalf("would not measure success: %v %v, %d gaps", err, before.ErrorSamples, before.ITL.Count)
	}
	b.ReportAllocs()
	b.ResetTimer()
	cfg.Requests = b.N
	after, err := Run(b.Context(), cfg)
	if err != nil || after.Errors != 0 || after.Requests != int64(b.N) {
		b.Fatalf("%v %v", err, after.ErrorSamples)
	}
	b.ReportMetric(after.RequestsPerSecond, "req/s")
}

// instant answers every request with the same stream.
type instant string

func (reply instant) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"text/event-stream"}},
		Body:       io.NopCloser(strings.NewReader(string(reply))),
	}, nil
}

// serveRaw answers every request with one write. It reads requests only for where they end: with the brace
// of their body, which the workload's text does not hold at a packet's end otherwise.
func serveRaw(b *testing.B, reply string) (address string) {
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(reply), reply)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return // the client is done
					}
					if !bytes.HasSuffix(buf[:n], []byte("}")) {
						continue
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	b.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}
