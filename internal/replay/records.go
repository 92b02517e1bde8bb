package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A record is one session of any format; the keys that are there tell which.
type record struct {
	Traj  *[]json.RawMessage `json:"traj"`
	Calls *[]minisweCall     `json:"calls"`
	mooncakeRecord
	wekaRecord
	azure *azureRecord // of a table
}

func (r *record) format() Format {
	switch {
	case r.Traj != nil:
		return Taubench
	case r.Calls != nil:
		return Miniswe
	case r.Blocks != nil:
		return Mooncake
	case r.Reqs != nil:
		return Weka
	case r.azure != nil:
		return Azure
	}
	return ""
}

// session is the n-th of a trace, and when it began, where that is known.
func (r *record) session(f Format, n int, cfg TraceConfig) (s session, at time.Duration, err error) {
	if r.format() != f {
		return nil, 0, fmt.Errorf("it is no session of the format %s", f)
	}
	switch f {
	case Taubench:
		s, err = newTrajectory(*r.Traj)
	case Miniswe:
		s, err = newDeltaSession(*r.Calls)
	case Weka:
		s, err = newAgentSession(n, &r.wekaRecord, cfg)
	case Mooncake:
		return r.mooncakeRecord.session(n)
	case Azure:
		return r.azure.session(n)
	}
	return s, 0, err
}

// errForeign reports what is not of a format that is known.
var errForeign = errors.New("not of a known format")

// isForeign reports that a first record is not of these formats, rather than broken.
func isForeign(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, shape := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || shape
}

// records yields the elements of one array, or values that follow each other, or the rows of a table.
type records struct {
	dec   *json.Decoder
	array bool
	table *azureTable
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
		}
		_ = br.UnreadByte() // cannot fail right after ReadByte
		if b != '[' && b != '{' {
			table, err := newAzureTable(br)
			return &records{table: table}, err
		}
		d := &records{dec: json.NewDecoder(br), array: b == '['}
		if d.array {
			_, err = d.dec.Token()
		}
		return d, err
	}
}

// next decodes the next record, or returns io.EOF after the last.
func (d *records) next(into *record) (err error) {
	if d.table != nil {
		into.azure, err = d.table.next()
		return err
	}
	if d.array && !d.dec.More() {
		if _, err := d.dec.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF // the array is not closed
			}
			return err
		}
		return io.EOF
	}
	err = d.dec.Decode(into)
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
