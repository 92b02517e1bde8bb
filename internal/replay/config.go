package replay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrConfig is wrapped by every error about a Config that [Run] will not start with.
var ErrConfig = errors.New("replay: invalid configuration")

// An API is the route that prompts are sent to.
type API string

const (
	Chat     API = "chat"     // POST /v1/chat/completions
	Generate API = "generate" // POST /generate, SGLang's own
)

// maxConcurrency bounds users: each costs a goroutine, a connection and its buffers, about 60 KB.
const maxConcurrency = 16384

// Bounds of rates and speeds.
const (
	minRate = 1e-6
	maxRate = 1e6
)

// Config describes one run. URL and Workload are required; the zero value of every other field means its
// documented default.
type Config struct {
	// URL is the endpoint's base, such as http://127.0.0.1:8080; a trailing /v1 is understood.
	URL string
	// Replicas are further endpoints like URL, each a base of its own: all are used in turn.
	Replicas []string
	// Workload says what to send.
	Workload Workload
	// API is the route used. Default Chat. A workload of message lists cannot be sent to Generate.
	API API
	// Model is sent with every request. Default: the first base model that GET /v1/models lists. Generate
	// needs none; when named, it travels there in the header x-radixbus-model.
	Model string
	// APIKey, if set, is sent as a bearer token. It is in no report and no error.
	APIKey string

	// NoStream asks for whole replies. TTFT, TPOT and ITL are then unknown.
	NoStream bool
	// Portable leaves out of chat requests what only SGLang and its like understand: ignore_eos (so
	// replies may be shorter than asked) and return_cached_tokens_details (so cached tokens are reported only by
	// engines started with --enable-cache-report).
	Portable bool
	// OutputTokens overrides the max_tokens of every request. Default: what the workload says.
	OutputTokens int

	// Arrivals decides when conversations begin. Default: Poisson if Rate is set, Recorded if the workload knows its
	// times, else Closed.
	Arrivals Arrivals
	// Rate is how many conversations begin a second (requests, where conversations have one turn), for Poisson and
	// Fixed arrivals only.
	Rate float64
	// Speed divides recorded times, for Recorded arrivals only. Default 1.
	Speed float64
	// Concurrency is the number of users of a closed loop, and the most conversations that an open one holds at a time;
	// so no more requests than that are in flight. Default 16, in an open loop 4096; at most 16384.
	Concurrency int
	// Interleave is how many conversations each user of a closed loop keeps open; the next turn comes from a random one of
	// those whose think time is over. Default 1: conversations back to back. SGLang's
	// bench_multiturn keeps 256 clients open at 128 in flight: Concurrency 128, Interleave 2.
	Interleave int
	// Requests ends the run after so many requests. Default: no such bound if Conversations is set, else
	// the workload's natural size. Negative: no bound, run until the context or the workload ends.
	Requests int
	// Conversations ends the run after so many conversations. Default: no such bound if Requests is set,
	// else the workload's natural size.
	Conversations int
	// Think is the pause between a reply and the next turn of the same conversation, where the workload does not know
	// it. Default none.
	Think time.Duration
	// Seed fixes generated content. Default 1, as in SGLang's bench_serving.
	Seed uint64

	// SLO bounds what a request may take; Attainment is the share of requests that must be within, default 0.9. Default:
	// no bounds, and no word about them in the report.
	SLO        SLO
	Attainment float64

	// Timeout bounds one request, from sending to the end of the reply. Default 5 min.
	Timeout time.Duration
	// Grace is how long requests in flight may go on after the run's context ended; then they are
	// abandoned and counted as unfinished. Default 2 s; negative: none.
	Grace time.Duration
	// MaxEventBytes bounds one event of a stream. Default 1 MiB.
	MaxEventBytes int
	// MaxReplyBytes bounds one reply's output, or the body of a whole reply. Default 8 MiB.
	MaxReplyBytes int

	// Progress receives a live progress bar if Terminal says that it is a terminal. Default: none.
	Progress io.Writer
	Terminal bool

	// Transport replaces the HTTP/1.1 connection pool that Run makes (sized to Concurrency, no proxy) and
	// closes. The caller closes a transport of its own.
	Transport http.RoundTripper

	// around, if set, is given the whole of the load to run, and sees what is before and after it.
	around func(load func())
}

func (c Config) withDefaults() Config {
	c.API = cmp.Or(c.API, Chat)
	if c.Arrivals == "" {
		c.Arrivals = c.naturalArrivals()
	}
	users := 4096
	if c.Arrivals == Closed {
		users = 16
	}
	if c.Arrivals == Recorded {
		c.Speed = cmp.Or(c.Speed, 1)
	}
	c.Concurrency = cmp.Or(c.Concurrency, users)
	c.Attainment = cmp.Or(c.Attainment, 0.9)
	c.Interleave = cmp.Or(c.Interleave, 1)
	c.Seed = cmp.Or(c.Seed, 1)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Minute)
	c.Grace = max(0, cmp.Or(c.Grace, 2*time.Second))
	c.MaxEventBytes = cmp.Or(c.MaxEventBytes, 1<<20)
	c.MaxReplyBytes = cmp.Or(c.MaxReplyBytes, 8<<20)
	if c.Requests == 0 && c.Conversations == 0 && c.Workload != nil {
		c.Conversations, _ = c.Workload.Size()
	}
	return c
}

func (c Config) naturalArrivals() Arrivals {
	switch {
	case c.Rate != 0:
		return Poisson
	case c.timed():
		return Recorded
	}
	return Closed
}

// timed reports whether the workload knows when its conversations began.
func (c Config) timed() bool {
	w, ok := c.Workload.(Timed)
	return ok && w.Times(c.Seed) != nil
}

// think is the pause before a turn that is not a conversation's first.
func (c Config) think(turn Turn) time.Duration { return cmp.Or(turn.Think, c.Think) }

// validate reports everything that is wrong with a Config that has its defaults.
func (c Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, raw := range append([]string{c.URL}, c.Replicas...) {
		if _, err := parseBase(raw); err != nil {
			errs = append(errs, err)
		}
	}
	check(c.API == Chat || c.API == Generate, "unknown API %q: want %q or %q", c.API, Chat, Generate)
	if c.Workload == nil {
		errs = append(errs, errors.New("no workload"))
	} else {
		check(c.Workload.Supports(c.API), "workload %q cannot be sent to the %s API", c.Workload.Name(), c.API)
	}
	check(c.Concurrency > 0 && c.Concurrency <= maxConcurrency, "concurrency %d is not in 1..%d", c.Concurrency, maxConcurrency)
	switch c.Arrivals {
	case Closed, Recorded:
		check(c.Rate == 0, "a rate without %s or %s arrivals", Poisson, Fixed)
	case Poisson, Fixed:
		check(c.Rate >= minRate && c.Rate <= maxRate, "rate %v is not in %v..%v a second", c.Rate, minRate, float64(maxRate))
	default:
		check(false, "unknown arrivals %q: want %s, %s, %s or %s", c.Arrivals, Closed, Poisson, Fixed, Recorded)
	}
	if c.Arrivals == Recorded {
		check(c.timed(), "the workload knows no times to send at")
		check(c.Speed >= minRate && c.Speed <= maxRate, "speed %v is not in %v..%v", c.Speed, minRate, float64(maxRate))
	} else {
		check(c.Speed == 0, "a speed without a trace's own times")
	}
	check(c.Arrivals == Closed || c.Interleave == 1, "an open loop does not interleave conversations")
	check(c.Attainment > 0 && c.Attainment <= 1, "attainment %v is not in 0..1", c.Attainment)
	check(c.SLO.valid(), "an SLO's bound is not positive")
	check(!c.NoStream || c.SLO.TTFTSeconds == 0 && c.SLO.TPOTSeconds == 0, "TTFT and TPOT are known of streams only")
	check(c.Interleave > 0 && c.Interleave <= 1<<16, "interleave %d is not in 1..65536", c.Interleave)
	check(c.Conversations >= 0, "conversations %d is negative", c.Conversations)
	check(c.OutputTokens >= 0, "output tokens %d is negative", c.OutputTokens)
	check(c.Think >= 0, "think time %v is negative", c.Think)
	check(c.Timeout > 0, "timeout %v is not positive", c.Timeout)
	check(c.MaxEventBytes > 0, "event bound %d is not positive", c.MaxEventBytes)
	check(c.MaxReplyBytes > 0, "reply bound %d is not positive", c.MaxReplyBytes)
	check(!strings.ContainsAny(c.APIKey, "\r\n\x00"), "the API key holds a control character")
	check(!strings.ContainsAny(c.Model, "\r\n\x00"), "the model name holds a control character")
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
}

// parseBase returns the endpoint's root, to which routes such as /v1/models are joined.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's text repeats the URL, which may hold a password.
		return nil, errors.New("the URL cannot be parsed")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("URL %q does not look like http://host:port", u.Redacted())
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("URL %q has more than scheme, host and path", u.Redacted())
	}
	path := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1")
	// The slash at the end makes what is joined to an empty path absolute.
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(path, "/") + "/"}, nil
}
