package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// A Kind says how a request failed. A reply other than 200 is "http_" and its status, such as "http_429".
type Kind string

const (
	StreamError Kind = "stream_error" // the reply says that the generation failed, after a 200
	CutStream   Kind = "cut_stream"   // the reply ended before [DONE], or before its length
	Timeout     Kind = "timeout"      // Config.Timeout passed
	Connection  Kind = "connection"   // no reply: refused, reset, not HTTP
	BadReply    Kind = "bad_reply"    // a reply that is not what was asked for, or beyond its bound

	unfinished Kind = "unfinished" // abandoned because the run ended; not a failure
)

var (
	errTimeout     = errors.New("request timed out")
	errUserStopped = errors.New("run ended")
)

// An exchange is one user's request and reply. Everything in it is reused by the user's next one.
type exchange struct {
	kind    Kind // empty: success
	message string
	worker  string // who answered, if the router says so

	sent, head  time.Time // head is when the reply began; zero if there was none
	first, done time.Time // first is zero if there was no output, or no stream
	gaps        []time.Duration
	usage       usage
	text        []byte // output so far

	events      *eventReader
	chunk       chunk
	whole       []byte
	last        time.Time // of the last output chunk
	hidden      int       // output that is not text
	incremental bool      // /generate sends pieces, not all so far
}

func newExchange(cfg Config) *exchange { return &exchange{events: newEventReader(cfg.MaxEventBytes)} }

// do sends a turn and reads its reply. The end of ctx abandons it.
func (x *exchange) do(ctx context.Context, c *client, turn Turn) {
	*x = exchange{gaps: x.gaps[:0], text: x.text[:0], events: x.events, chunk: x.chunk, whole: x.whole[:0], usage: noUsage}
	bounded, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.cfg.Timeout, func() { cancel(errTimeout) })
	defer func() {
		timer.Stop()
		cancel(nil)
	}()

	x.sent = time.Now()
	resp, err := c.transport.RoundTrip(c.request(bounded, turn))
	if err != nil {
		x.broken(bounded, Connection, err)
		x.done = time.Now()
		return
	}
	x.head = time.Now()
	defer resp.Body.Close()
	if name := resp.Header.Get("x-radixbus-worker"); len(name) <= maxWorkerName {
		x.worker = name
	}
	x.events.reset(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		x.refused(bounded, resp)
	case c.cfg.NoStream:
		x.readWhole(bounded, c.cfg.MaxReplyBytes)
	default:
		if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/json" {
			x.fail(BadReply, "whole reply to a request for a stream")
		} else {
			x.readStream(bounded, c.cfg.MaxReplyBytes)
		}
	}
	x.done = time.Now()

	// Only a body read to its end leaves the connection usable. That end is due now: wait for it, not long.
	timer.Reset(drainWait)
	_, _ = x.events.in.Discard(drainBytes)
}

const (
	drainWait     = 200 * time.Millisecond
	drainBytes    = 4 << 10
	maxWorkerName = 128
)

func (x *exchange) fail(kind Kind, message string) { x.kind, x.message = kind, message }

// broken sorts a failure to read: by who ended it, and only then by where.
func (x *exchange) broken(ctx context.Context, kind Kind, err error) {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		x.fail(Timeout, errTimeout.Error())
	case cause != nil:
		x.fail(unfinished, cause.Error())
	default:
		x.fail(kind, clip(err.Error()))
	}
}

func clip(s string) string {
	return string(bytes.ToValidUTF8([]byte(s[:min(len(s), maxMessage)]), nil))
}

// refused reads a reply whose status is its answer.
func (x *exchange) refused(ctx context.Context, resp *http.Response) {
	const most = 16 << 10
	err := x.slurp(most)
	if cause := context.Cause(ctx); err != nil && !errors.Is(err, errReplyTooLarge) && cause != nil {
		x.broken(ctx, CutStream, err)
		return
	}
	x.fail(Kind("http_"+strconv.Itoa(resp.StatusCode)), x.chunk.errorText(x.whole))
}

// readWhole reads the reply to a request that asked for no stream.
func (x *exchange) readWhole(ctx context.Context, most int) {
	switch err := x.slurp(most); {
	case errors.Is(err, errReplyTooLarge):
		x.fail(BadReply, fmt.Sprintf("reply larger than %d bytes", most))
	case err != nil:
		x.broken(ctx, CutStream, err)
	case x.chunk.parse(x.whole) != nil:
		x.fail(BadReply, "reply is not a JSON object")
	case x.chunk.failed:
		x.fail(StreamError, x.chunk.sample())
	default:
		x.text = append(x.text, x.chunk.text...)
		x.usage = x.chunk.usage
	}
}

var errReplyTooLarge = errors.New("reply larger than its bound")

// slurp reads the body into whole.
func (x *exchange) slurp(most int) error {
	for {
		if len(x.whole) > most {
			x.whole = x.whole[:most]
			return errReplyTooLarge
		}
		if len(x.whole) == cap(x.whole) {
			x.whole = append(x.whole, 0)[:len(x.whole)]
		}
		n, err := x.events.in.Read(x.whole[len(x.whole):cap(x.whole)])
		x.whole = x.whole[:len(x.whole)+n]
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// readStream reads events up to [DONE].
func (x *exchange) readStream(ctx context.Context, most int) {
	for {
		data, err := x.events.next()
		switch {
		case errors.Is(err, errEventTooLarge):
			x.fail(BadReply, fmt.Sprintf("event larger than %d bytes", x.events.most))
			return
		case err != nil:
			x.broken(ctx, CutStream, err)
			return
		case bytes.Equal(data, doneMark):
			return
		}
		if err := x.chunk.parse(data); err != nil {
			x.fail(BadReply, "event is not a JSON object")
			return
		}
		x.usage.merge(x.chunk.usage)
		if x.chunk.failed {
			x.fail(StreamError, x.chunk.sample())
			return
		}
		if x.take() {
			x.mark(time.Now())
		}
		if len(x.text)+x.hidden > most {
			x.fail(BadReply, fmt.Sprintf("output larger than %d bytes", most))
			return
		}
	}
}

// take adds a chunk's output to the reply and reports whether there was any. /generate repeats all text so
// far in every chunk, unless the engine streams incrementally; it does once a chunk does not begin with what came before.
func (x *exchange) take() bool {
	x.hidden += x.chunk.hidden
	text := x.chunk.text
	if x.chunk.native && !x.incremental {
		if rest, ok := bytes.CutPrefix(text, x.text); ok {
			text = rest
		} else if len(text) > 0 {
			x.incremental = true
		}
	}
	x.text = append(x.text, text...)
	return len(text) > 0 || x.chunk.hidden > 0
}

// mark notes the time of an output chunk.
func (x *exchange) mark(now time.Time) {
	if x.first.IsZero() {
		x.first = now
	} else {
		x.gaps = append(x.gaps, now.Sub(x.last))
	}
	x.last = now
}
