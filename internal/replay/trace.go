package replay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Format names the layout of a trace file.
type Format string

const (
	// Taubench is a list of trajectories, each with an OpenAI-style message list under "traj"
	// (github.com/sierra-research/tau-bench, historical_trajectories).
	Taubench Format = "taubench"
	// Miniswe is a list of sessions, each with "calls" whose input is the leading "keep" characters of
	// the input before it, then "add" (made from github.com/LMCache/lmcache-agent-trace, miniswe).
	Miniswe Format = "miniswe"
	// Mooncake is a list of requests with times, lengths and the ids of 512-token blocks, of which equal ones mean equal
	// text up to their end (github.com/kvcache-ai/Mooncake, FAST25-release/traces).
	Mooncake Format = "mooncake"
	// Weka is a list of a coding agent's sessions, each with its requests' lengths, think times and block ids as differences,
	// and with sub-agents among them (made from github.com/callanjfox/kv-cache-tester, traces).
	Weka Format = "agentic-weka"
	// Azure is a table of requests' times and lengths (github.com/Azure/AzurePublicDataset, LLM inference traces of 2023).
	Azure Format = "azure"
)

// Formats lists the formats that can be replayed.
func Formats() []Format { return []Format{Taubench, Miniswe, Mooncake, Weka, Azure} }

// TraceConfig says how a trace is read. The zero value of every field means its documented default.
type TraceConfig struct {
	// Format of the file. Default: recognised from its content.
	Format Format
	// MaxThink bounds a recorded think time: people go to lunch. Default 60 s.
	MaxThink time.Duration
	// MaxContext, in tokens, ends an agent's recorded session before the first request that with its reply is longer.
	// Default 131072.
	MaxContext int
}

func (c TraceConfig) withDefaults() TraceConfig {
	c.MaxThink = cmp.Or(c.MaxThink, time.Minute)
	c.MaxContext = cmp.Or(c.MaxContext, 128<<10)
	return c
}

// An UnknownFormatError is a trace whose format was not recognised, or a format name that is none.
type UnknownFormatError struct {
	Source string // what was read; empty if only a name was given
	Format Format // the name that was given; empty if the content was to tell
}

func (e *UnknownFormatError) Error() string {
	names := make([]string, 0, len(Formats()))
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	known := "recognised are " + strings.Join(names, ", ")
	if e.Format != "" {
		return fmt.Sprintf("replay: unknown trace format %q: %s", e.Format, known)
	}
	return fmt.Sprintf("replay: %s: trace format not recognised from its content: %s", e.Source, known)
}

// A TraceError is a trace that is in a known format but cannot be read.
type TraceError struct {
	Source string
	Record int // counted from 0
	Err    error
}

func (e *TraceError) Error() string {
	return fmt.Sprintf("replay: %s: record %d: %v", e.Source, e.Record, e.Err)
}

func (e *TraceError) Unwrap() error { return e.Err }

// ErrTraceTooLarge reports a trace beyond what is kept in memory.
var ErrTraceTooLarge = errors.New("trace too large")

// maxTraceBytes bounds a trace after decompression, and what its sessions take in memory.
const maxTraceBytes = 1 << 30

// A Trace is a workload read from a recording: one conversation per session, in the file's order, sending the recorded
// prompts, or made-up ones of the recorded lengths and repetitions, whatever the model replies. It ends with its last session.
type Trace struct {
	format   Format
	source   string
	requests int
	sessions []session
	times    []time.Duration // of the sessions, where they are recorded
}

// A session starts one conversation of a trace.
type session interface {
	requests() int
	bytes() int
	start(seed uint64) Conversation
}

// OpenTrace reads a trace file, plain or gzip.
func OpenTrace(path string, cfg TraceConfig) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("replay: open trace: %w", err)
	}
	defer f.Close()
	return ReadTrace(f, filepath.Base(path), cfg)
}

// ReadTrace is OpenTrace for a reader; source is what errors and reports call it. Records may be the elements of one JSON
// array, or follow each other as in JSON lines, or be the rows of a table.
func ReadTrace(r io.Reader, source string, cfg TraceConfig) (*Trace, error) {
	return readTrace(r, source, cfg, maxTraceBytes)
}

func readTrace(r io.Reader, source string, cfg TraceConfig, limit int64) (*Trace, error) {
	cfg = cfg.withDefaults()
	if cfg.Format != "" && !slices.Contains(Formats(), cfg.Format) {
		return nil, &UnknownFormatError{Format: cfg.Format}
	}
	t := &Trace{format: cfg.Format, source: source}
	n := 0
	fail := func(err error) (*Trace, error) {
		if errors.Is(err, errForeign) && cfg.Format == "" {
			return nil, &UnknownFormatError{Source: source}
		}
		return nil, &TraceError{Source: source, Record: n, Err: err}
	}
	plain, err := decompress(r)
	if err != nil {
		return fail(err)
	}
	in, err := newRecords(&boundedReader{r: plain, left: limit})
	if err != nil {
		return fail(err)
	}
	for room := limit; ; n++ {
		var rec record
		if err := in.next(&rec); errors.Is(err, io.EOF) {
			break
		} else if n == 0 && isForeign(err) {
			return fail(errors.Join(errForeign, err))
		} else if err != nil {
			return fail(err)
		}
		if t.format == "" {
			if t.format = rec.format(); t.format == "" {
				return fail(errForeign)
			}
		}
		s, at, err := rec.session(t.format, n, cfg)
		if err != nil {
			return fail(err)
		}
		if room -= int64(s.bytes()); room < 0 {
			return fail(ErrTraceTooLarge)
		}
		if s.requests() == 0 {
			continue
		}
		t.sessions, t.requests = append(t.sessions, s), t.requests+s.requests()
		if !t.timed() {
			continue
		}
		if last := len(t.times) - 1; last >= 0 && at < t.times[last] {
			return fail(fmt.Errorf("it was sent %v before the one in front of it", t.times[last]-at))
		}
		t.times = append(t.times, at)
	}
	if t.requests == 0 {
		return fail(errors.New("the trace holds no request"))
	}
	return t, nil
}

// timed tells whether the format records when sessions began.
func (t *Trace) timed() bool { return t.format == Mooncake || t.format == Azure }

// Times yields the requests of a Mooncake or Azure trace. Mooncake's times are rounded to about three seconds: equal ones are
// spread at random up to the next, since sent as they stand they would come in bursts that never were.
func (t *Trace) Times(seed uint64) iter.Seq2[int, time.Duration] {
	if !t.timed() {
		return nil
	}
	return spreadTimes(t.times, t.format == Mooncake, seed)
}

func (t *Trace) Name() string { return string(t.format) }

// Format is the format that was forced or recognised.
func (t *Trace) Format() Format { return t.format }

func (t *Trace) Params() map[string]any {
	return map[string]any{"trace": t.source, "sessions": len(t.sessions), "requests": t.requests}
}

// Supports reports that message lists need the chat API; text can be sent to either.
func (t *Trace) Supports(api API) bool {
	return api == Chat || api == Generate && t.format != Taubench
}

func (t *Trace) Size() (conversations, requests int) { return len(t.sessions), t.requests }

func (t *Trace) Conversation(n int, seed uint64, _ API) (Conversation, bool) {
	if n < 0 || n >= len(t.sessions) {
		return nil, false
	}
	return t.sessions[n].start(seed), true
}
