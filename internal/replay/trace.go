package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
)

// Formats lists the formats that can be replayed.
func Formats() []Format { return []Format{Taubench, Miniswe} }

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

// A Trace is a workload read from a recording: one conversation per session, in the file's order, sending
// the recorded prompts whatever the model replies. It ends with its last session.
type Trace struct {
	format   Format
	source   string
	requests int
	sessions []session
}

// A session starts one conversation of a trace.
type session interface {
	requests() int
	bytes() int
	start() Conversation
}

// OpenTrace reads a trace file, plain or gzip. An empty format means to recognise it from the content.
func OpenTrace(path string, format Format) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("replay: open trace: %w", err)
	}
	defer f.Close()
	return ReadTrace(f, filepath.Base(path), format)
}

// ReadTrace is OpenTrace for a reader; source is what errors and reports call it. Records may be the
// elements of one JSON array or follow each other, as in JSON lines.
func ReadTrace(r io.Reader, source string, format Format) (*Trace, error) {
	return readTrace(r, source, format, maxTraceBytes)
}

func readTrace(r io.Reader, source string, format Format, limit int64) (*Trace, error) {
	if format != "" && !slices.Contains(Formats(), format) {
		return nil, &UnknownFormatError{Format: format}
	}
	t := &Trace{format: format, source: source}
	records := 0
	fail := func(err error) (*Trace, error) {
		return nil, &TraceError{Source: source, Record: records, Err: err}
	}
	plain, err := decompress(r)
	if err != nil {
		return fail(err)
	}
	in := &boundedReader{r: plain, left: limit}
	dec, err := newRecords(in)
	if errors.Is(err, errNotJSON) && format == "" {
		return nil, &UnknownFormatError{Source: source}
	} else if err != nil {
		return fail(err)
	}
	room := limit
	for ; ; records++ {
		var rec record
		if err := dec.next(&rec); errors.Is(err, io.EOF) {
			break
		} else if records == 0 && format == "" && isForeign(err) {
			return nil, &UnknownFormatError{Source: source}
		} else if err != nil {
			return fail(err)
		}
		if t.format == "" {
			if t.format = rec.format(); t.format == "" {
				return nil, &UnknownFormatError{Source: source}
			}
		}
		s, err := rec.session(t.format)
		if err != nil {
			return fail(err)
		}
		if room -= int64(s.bytes()); room < 0 {
			return fail(ErrTraceTooLarge)
		}
		if s.requests() > 0 {
			t.sessions = append(t.sessions, s)
			t.requests += s.requests()
		}
	}
	if t.requests == 0 {
		return fail(errors.New("the trace holds no request"))
	}
	return t, nil
}

func (t *Trace) Name() string { return string(t.format) }

// Format is the format that was forced or recognised.
func (t *Trace) Format() Format { return t.format }

func (t *Trace) Params() map[string]any {
	return map[string]any{"trace": t.source, "sessions": len(t.sessions), "requests": t.requests}
}

// Supports reports that message lists need the chat API; text can be sent to either.
func (t *Trace) Supports(api API) bool {
	return api == Chat || (api == Generate && t.format == Miniswe)
}

func (t *Trace) Size() (conversations, requests int) { return len(t.sessions), t.requests }

func (t *Trace) Conversation(n int, _ uint64, _ API) (Conversation, bool) {
	if n < 0 || n >= len(t.sessions) {
		return nil, false
	}
	return t.sessions[n].start(), true
}

// A record is one session of either format; the key that is there tells which.
type record struct {
	Traj  *[]json.RawMessage `json:"traj"`
	Calls *[]minisweCall     `json:"calls"`
}

func (r record) format() Format {
	switch {
	case r.Traj != nil:
		return Taubench
	case r.Calls != nil:
		return Miniswe
	}
	return ""
}

func (r record) session(f Format) (session, error) {
	switch {
	case f == Taubench && r.Traj != nil:
		return newTrajectory(*r.Traj)
	case f == Miniswe && r.Calls != nil:
		return newDeltaSession(*r.Calls)
	case f == Taubench:
		return nil, errors.New(`no "traj"`)
	}
	return nil, errors.New(`no "calls"`)
}

// isForeign reports that a first record is not of these formats, rather than broken.
func isForeign(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, shape := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || shape
}

var errNotJSON = errors.New("not a JSON array or object")

// records yields the elements of one array, or values that follow each other.
type records struct {
	dec   *json.Decoder
	array bool
}

func newRecords(r io.Reader) (*records, error) {
	br := bufio.NewReader(r)
	for {
		b, err := br.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		case '[', '{':
			_ = br.UnreadByte() // cannot fail right after ReadByte
			d := &records{dec: json.NewDecoder(br), array: b == '['}
			if d.array {
				_, err = d.dec.Token()
			}
			return d, err
		}
		return nil, errNotJSON
	}
}

// next decodes the next record, or returns io.EOF after the last.
func (d *records) next(into *record) error {
	if d.array && !d.dec.More() {
		if _, err := d.dec.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF // the array is not closed
			}
			return err
		}
		return io.EOF
	}
	err := d.dec.Decode(into)
	if d.array && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // after a comma
	}
	return err
}

// decompress recognises gzip by its magic number (RFC 1952, 2.3.1).
func decompress(r io.Reader) (io.Reader, error) {
	br := bufio.NewReader(r)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return gzip.NewReader(br)
	}
	return br, nil
}

// A boundedReader fails, rather than ends, at its bound.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// Tell a source that is exactly at the bound from one beyond it.
		if n, err := b.r.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, ErrTraceTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
