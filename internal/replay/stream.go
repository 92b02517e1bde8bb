package replay

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

var errEventTooLarge = errors.New("event larger than its bound")

// An eventReader reads the data of server-sent events (WHATWG HTML, 9.2). It knows lines that end in LF or CRLF;
// comments, names and ids are passed over. It is reused from one stream to the next.
type eventReader struct {
	in   *bufio.Reader
	data []byte // of the current event
	most int    // bound on an event's bytes
}

func newEventReader(most int) *eventReader {
	return &eventReader{in: bufio.NewReaderSize(nil, 16<<10), most: most}
}

func (r *eventReader) reset(in io.Reader) { r.in.Reset(in) }

var doneMark = []byte("[DONE]")

// next returns an event's data, valid until the following call. At the end of the input it returns io.EOF;
// an event cut short there is dropped, as the standard says, unless it is the closing [DONE].
func (r *eventReader) next() ([]byte, error) {
	r.data = r.data[:0]
	some := false
	for {
		blank, found, err := r.line(some)
		some = some || found
		switch {
		case err != nil:
			if errors.Is(err, io.EOF) && bytes.Equal(r.data, doneMark) {
				return r.data, nil
			}
			return nil, err
		case blank && some:
			return r.data, nil
		}
	}
}

// line reads one line and appends its data, if it has any, behind that of the event's lines before it. A
// last line without an end counts as read; then comes io.EOF.
func (r *eventReader) line(more bool) (blank, data bool, err error) {
	begin, read := len(r.data), 0
	for {
		part, err := r.in.ReadSlice('\n')
		if read += len(part); len(r.data)+len(part) > r.most+len("data: \r\n") {
			return false, false, errEventTooLarge
		}
		r.data = append(r.data, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (read == 0 || !errors.Is(err, io.EOF)) {
			r.data = r.data[:begin]
			return false, false, err
		}
		break
	}
	text := bytes.TrimSuffix(bytes.TrimSuffix(r.data[begin:], []byte("\n")), []byte("\r"))
	blank = len(text) == 0
	value, data := bytes.CutPrefix(text, []byte("data:"))
	if !data {
		r.data = r.data[:begin]
		return blank, false, nil
	}
	value = bytes.TrimPrefix(value, []byte(" "))
	r.data = r.data[:begin]
	if more {
		r.data = append(r.data, '\n') // never beyond where value lies: "data:" was longer
	}
	r.data = append(r.data, value...)
	return false, true, nil
}
