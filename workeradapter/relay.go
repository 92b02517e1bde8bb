package workeradapter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/radixbus/radixbus/internal/buffer"
	"github.com/radixbus/radixbus/internal/h1"
	"github.com/radixbus/radixbus/internal/jsonscan"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// Bounds of an engine's answer.
const (
	eventBound = 32 << 20  // bytes of one event; cumulative text makes them long
	wholeBound = 4 << 20   // bytes of a whole answer that is read to its end before any of it is sent on
	dataPiece  = 128 << 10 // bytes of one data frame, on a bus that takes as many
	wholePiece = 32 << 10  // bytes read at a time of a whole answer beyond wholeBound
	holdBound  = 64 << 10  // bytes of comments that are held back in front of a stream's first event
	eventRoom  = 8 << 10   // bytes that are read at a time of a stream
	textBound  = 512       // bytes of an engine's broken answer that a client may see
)

// A relay hands one engine answer to the gateway.
type relay struct {
	t           *attempt
	status      int
	contentType string
	body        io.Reader
	info        *wire.WorkerInfo

	told  told
	first time.Time // when the first event, or the whole answer, was there
	begun bool      // the head has been sent
	fault *fault    // an error inside the answer
	done  bool      // the stream's last document has come

	reload   bool // an adapter that the engine does not have is not the client's business yet
	unloaded bool // and so it was
}

// run relays the answer and returns its end.
func (r *relay) run() wire.End {
	switch status := r.status; {
	case status != http.StatusOK:
		return r.refusal()
	case strings.HasPrefix(r.contentType, "text/event-stream"):
		return r.events()
	}
	return r.whole()
}

func (r *relay) sendHead(status int, contentType string) {
	r.begun = true
	r.t.begun.Store(true)
	r.t.letGo()
	r.t.stream.head(status, []wire.Header{{Name: "Content-Type", Value: contentType[:min(len(contentType), wire.MaxName)]}})
}

// send passes bytes on, as fast as the client takes them; the last of them leave with the next flush. Those that are lent are the
// caller's again afterwards, the others must not be changed.
func (r *relay) send(b []byte, lent bool) {
	for sent := true; len(b) > 0 && sent; {
		n := min(len(b), r.t.w.out.piece)
		sent = r.t.stream.send(r.t.ctx, b[:n:n], lent)
		b = b[n:]
	}
}

// end is the last frame of an answer that ended with code.
func (r *relay) end(code wire.Code) wire.End {
	e := r.told.end(r.t.d)
	e.Code, e.Begun = code, r.begun
	if r.t.ctx.Err() != nil {
		e.Code = r.t.causeCode()
	}
	if !r.first.IsZero() {
		e.TTFTMicros = uint64(r.first.Sub(r.t.calledAt).Microseconds())
	}
	e.TotalMicros = uint64(time.Since(r.t.calledAt).Microseconds())
	return e
}

func (r *relay) saw() {
	if r.first.IsZero() {
		r.first = time.Now()
		r.t.w.metrics.firstByte.Observe(r.first.Sub(r.t.calledAt).Seconds())
	}
}

// refusal passes an HTTP error on: a client's mistake verbatim, a full engine as a reason to try another, anything else as
// a fault with the engine's words.
func (r *relay) refusal() wire.End {
	doc, err := io.ReadAll(io.LimitReader(r.body, wholeBound))
	if err != nil {
		return r.end(wire.CodeEngineBroke)
	}
	r.saw()
	status := cmp.Or(serverStatus(errorText(doc)), r.status)
	return r.refuse(&fault{status: status, text: errorText(doc)}, doc, r.contentType)
}

// refuse ends an answer of which the client has seen nothing. doc is what it may see of a mistake of its own.
func (r *relay) refuse(f *fault, doc []byte, contentType string) wire.End {
	code := f.code()
	if code == wire.CodeEngineRefused && r.reload && notLoaded(f.text) {
		r.unloaded = true
		return wire.End{}
	}
	if code == wire.CodeEngineRefused {
		r.sendHead(f.status, contentType)
		r.send(doc, false)
		return r.end(code)
	}
	e := r.end(code)
	e.Message = f.text
	if code == wire.CodeEngineBusy {
		e.RetryAfterMillis = 1000
	}
	return e
}

// whole relays an answer that is no stream. It is read to its end first, so that an engine that dies in the middle costs
// the client nothing; one beyond the bound is passed on as it comes.
func (r *relay) whole() wire.End {
	doc, err := io.ReadAll(io.LimitReader(r.body, wholeBound))
	if err != nil {
		return r.end(wire.CodeEngineBroke)
	}
	r.saw()
	if len(doc) < wholeBound {
		if f, own := r.judge(doc); f != nil {
			return r.refuse(f, own, "application/json")
		}
		if r.t.hidesDetails(r.info) {
			doc = without(doc, "sglext")
		}
		r.sendHead(r.status, r.contentType)
		r.send(doc, false)
		return r.end(wire.CodeOK)
	}
	r.sendHead(r.status, r.contentType)
	r.send(doc, false)
	piece := make([]byte, wholePiece)
	for {
		n, err := r.body.Read(piece)
		r.send(piece[:n], true)
		r.t.stream.flush()
		switch {
		case err == io.EOF: // and no other error: a connection that broke gives io.ErrUnexpectedEOF
			return r.end(wire.CodeOK)
		case err != nil:
			return r.end(wire.CodeEngineBroke)
		}
	}
}

// judge finds what is wrong with a whole answer, and the document of it that the client may see. What an engine keeps, and
// what is no JSON by its own word, is passed on as it is.
func (r *relay) judge(doc []byte) (f *fault, own []byte) {
	generates := r.t.route.Dialect != surface.Plain
	switch {
	case r.t.route.Kind == surface.Kept, !generates && !strings.Contains(r.contentType, "json"):
		return nil, nil
	case r.told.readPlain(doc):
		return nil, nil
	case !json.Valid(doc):
		return &fault{status: http.StatusBadGateway, text: errorText(doc)}, nil
	}
	if f := r.told.readAny(doc); f != nil && generates { // an aborted or failed request answers 200
		return f, envelope(f)
	}
	return nil, nil
}

// events relays a stream: whole events, verbatim but for what we asked for ourselves.
func (r *relay) events() wire.End {
	var room *buffer.Buffer // it is let go while nothing comes: there may be many streams
	var buf []byte
	defer func() { room.Release() }()
	body, waits := r.body.(interface{ Wait() })
	for {
		if len(buf) == 0 && waits {
			room.Release()
			room = nil
			body.Wait()
		}
		if room == nil {
			room = buffer.Get(eventRoom)
			buf = room.B
		}
		seen := len(buf)
		if !r.begun {
			seen = 0 // what is held back is looked at again
		}
		if len(buf) == cap(buf) {
			if len(buf) >= eventBound {
				r.fault = &fault{status: http.StatusBadGateway, text: fmt.Sprintf("An event of the stream has more than %d bytes.", eventBound)}
				return r.faulty()
			}
			more := buffer.Get(2 * cap(buf))
			buf = append(more.B, buf...)
			room.Release()
			room = more
		}
		n, err := r.body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		buf = r.relayEvents(buf, seen)
		switch {
		case r.fault != nil:
			return r.faulty()
		case r.done:
			return r.end(wire.CodeOK)
		case err == nil:
			r.t.stream.flush()
		case r.t.ctx.Err() != nil:
			return r.end(wire.CodeCancelled)
		case err == io.EOF && r.t.route.Dialect == surface.Plain: // a stream of no kind that we know the end of
			return r.end(wire.CodeOK)
		default: // the end, or the connection's: without its last document both mean that the engine broke off
			return r.end(wire.CodeEngineBroke)
		}
	}
}

// faulty ends a stream in which the engine reported an error.
func (r *relay) faulty() wire.End {
	if !r.begun {
		return r.refuse(r.fault, envelope(r.fault), "application/json")
	}
	code := r.fault.code()
	if code == wire.CodeEngineRefused {
		code = wire.CodeEngineFault // too late to be a refusal
	}
	e := r.end(code)
	e.Message = r.fault.text
	return e
}

// relayEvents passes on the whole events at the front of buf and returns the rest, moved to buf's front. The first seen
// bytes were there the last time.
func (r *relay) relayEvents(buf []byte, seen int) []byte {
	at, kept := 0, 0 // events end at at; those in front of kept are passed on
	var out []byte
	for !r.done && r.fault == nil {
		n := eventLen(buf[at:], seen)
		if n == 0 {
			break
		}
		event := buf[at : at+n]
		at, seen = at+n, 0
		pass, replaced := r.event(event)
		switch {
		case !pass:
			out = append(out, buf[kept:at-n]...)
			kept = at
		case replaced != nil:
			out = append(append(out, buf[kept:at-n]...), replaced...)
			kept = at
		}
	}
	if !r.begun && (r.fault != nil || r.first.IsZero() && at < holdBound) {
		return buf // nothing is committed by comments alone, or in front of an error
	}
	lent := kept == 0
	if lent { // nothing had to be changed
		out = buf[:at]
	} else {
		out = append(out, buf[kept:at]...)
	}
	if len(out) > 0 {
		if !r.begun {
			r.sendHead(r.status, r.contentType)
		}
		r.send(out, lent)
	}
	return buf[:copy(buf, buf[at:])]
}

// eventLen is the length of the event at the front of b, its blank line included; 0 when it is not whole, as it was not
// when there were the first seen bytes only.
func eventLen(b []byte, seen int) int {
	for at := max(0, seen-2); ; { // a line that ended there may have had no successor yet
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		switch {
		case at < len(b) && b[at] == '\n':
			return at + 1
		case at+1 < len(b) && b[at] == '\r' && b[at+1] == '\n':
			return at + 2
		}
	}
}

// event looks at one event: whether the client gets it, and what instead if it has to be changed.
func (r *relay) event(event []byte) (pass bool, replaced []byte) {
	data, ok := payload(event)
	if !ok {
		return true, nil // a comment, or a field that is not ours to read
	}
	kind := kindOf(r.t.route.Dialect, data)
	first := r.first.IsZero()
	if kind != preamble {
		r.saw()
	}
	if r.done = kind == closing; string(data) == "[DONE]" {
		return true, nil
	}
	if first && !json.Valid(data) {
		r.fault = &fault{status: http.StatusBadGateway, text: errorText(data)}
		return false, nil
	}
	if kind == plainDocument {
		return true, nil
	}
	before := r.told
	if f := r.told.read(data); f != nil {
		if r.begun && (r.t.route.Dialect == surface.Anthropic || r.t.route.Dialect == surface.Responses) {
			r.told.finish = "failed"
			return true, nil // these have events of their own for it
		}
		if !first && f.one && (r.t.d.Prompts > 1 || r.t.d.N > 1) {
			return true, nil // the engine goes on with the others
		}
		r.fault, r.done = f, false
		return false, nil
	}
	if r.told.bare { // no choices: the usage or the details that somebody asked for
		if r.t.hidesUsage() && r.told.usages > before.usages && (r.told.details == before.details || r.t.hidesDetails(r.info)) {
			return false, nil
		}
		if r.told.details > before.details && r.told.usages == before.usages && r.t.hidesDetails(r.info) {
			return false, nil
		}
	}
	if r.told.details > before.details && r.t.hidesDetails(r.info) {
		return true, append(append([]byte("data: "), without(data, "sglext")...), "\n\n"...)
	}
	return true, nil
}

// payload is what an event's first data line carries.
func payload(event []byte) ([]byte, bool) {
	for line := range bytes.Lines(event) {
		if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			return bytes.TrimSpace(rest), true
		}
	}
	return nil, false
}

// without removes a top-level member, leaving every other byte as it is.
func without(doc []byte, key string) []byte {
	var d jsonscan.Doc
	err := jsonscan.Scan(&d, doc, func(k []byte) (string, jsonscan.Mode) {
		if string(k) == key {
			return key, jsonscan.Note
		}
		return "", jsonscan.Skip
	})
	if err != nil || d.Field(key) == nil {
		return doc
	}
	edited, err := d.Points(nil).Apply(doc, []jsonscan.Set{{Key: key, Delete: true}})
	if err != nil {
		return doc
	}
	return edited
}

// unseen tells whether the engine cannot have seen anything of what failed.
func unseen(err error) bool {
	if e, ok := errors.AsType[*h1.Error](err); ok {
		return !e.Sent
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// envelope is a fault as the engine's clients know it.
func envelope(f *fault) []byte {
	if f.doc != nil {
		return f.doc
	}
	doc, err := json.Marshal(map[string]any{"error": map[string]any{"message": f.text, "type": "invalid_request_error", "param": nil, "code": f.status}})
	if err != nil {
		return []byte(`{"error":{"message":"the engine refused the request"}}`)
	}
	return doc
}

// errorText finds the words in an error document of any of the shapes that engines have; other texts are cut short.
func errorText(doc []byte) string {
	var shapes struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	text := string(doc)
	if json.Unmarshal(doc, &shapes) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		var plain string
		switch {
		case json.Unmarshal(shapes.Error, &inner) == nil && inner.Message != "":
			text = inner.Message
		case json.Unmarshal(shapes.Error, &plain) == nil && plain != "":
			text = plain
		case shapes.Message != "":
			text = shapes.Message
		case json.Unmarshal(shapes.Detail, &plain) == nil && plain != "":
			text = plain
		}
	}
	return clip(strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD")), textBound)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
