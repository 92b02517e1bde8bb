package nullengine

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An answer writes one connection's answers, one after the other. Its memory is reused.
type answer struct {
	engine *Engine
	conn   *conn
	over   <-chan struct{} // the engine ends
	timer  *time.Timer
	ask    ask
	id     []byte // of the answer, as the inside of a JSON string
	out    []byte // to be written
	event  []byte
	said   []byte // all text so far
}

// give answers one request. An error is that of its connection.
func (a *answer) give(r *request) error {
	switch r.path {
	case "/v1/chat/completions":
		return a.generate(r, &chat)
	case "/v1/completions":
		return a.generate(r, &completion)
	case "/generate":
		return a.generate(r, &native)
	case "/v1/loads", "/get_load":
		return a.document(r, http.StatusOK, a.engine.loads(r.path))
	case "/abort_request":
		return a.abort(r)
	}
	if doc, ok := a.engine.texts.documents[r.path]; ok {
		return a.document(r, http.StatusOK, doc)
	}
	return a.refuse(http.StatusNotFound, "there is no such route", r.last)
}

func (a *answer) abort(r *request) error {
	var q struct {
		RID string `json:"rid"`
		All bool   `json:"abort_all"`
	}
	if err := json.Unmarshal(r.body, &q); err != nil {
		return a.refuse(http.StatusBadRequest, "not JSON", r.last)
	}
	if q.All {
		a.engine.abortAll()
	} else {
		a.engine.abort(q.RID)
	}
	return a.document(r, http.StatusOK, nil)
}

// document writes a whole answer.
func (a *answer) document(r *request, status int, doc []byte) error {
	a.head(status, "application/json", r.last)
	a.out = append(a.out, "Content-Length: "...)
	a.out = strconv.AppendInt(a.out, int64(len(doc)), 10)
	a.out = append(a.out, "\r\n\r\n"...)
	if r.method != http.MethodHead {
		a.out = append(a.out, doc...)
	}
	return a.flush()
}

// refuse writes an error as SGLang words it.
func (a *answer) refuse(status int, what string, last bool) error {
	doc := append([]byte(nil), `{"object":"error","message":`...)
	doc = append(doc, must(json.Marshal(what))...)
	doc = append(doc, `,"type":"BadRequestError","param":null,"code":`...)
	doc = append(strconv.AppendInt(doc, int64(status), 10), '}')
	return a.document(&request{last: last}, status, doc)
}

// head begins an answer.
func (a *answer) head(status int, kind string, last bool) {
	a.out = append(a.out[:0], "HTTP/1.1 "...)
	a.out = strconv.AppendInt(a.out, int64(status), 10)
	a.out = append(append(a.out, ' '), http.StatusText(status)...)
	a.out = append(append(a.out, "\r\nContent-Type: "...), kind...)
	if last {
		a.out = append(a.out, "\r\nConnection: close"...)
	}
	a.out = append(a.out, "\r\n"...)
}

func (a *answer) flush() error {
	_, err := a.conn.Write(a.out)
	a.out = a.out[:0]
	return err
}

// generate answers with tokens.
func (a *answer) generate(r *request, f *form) error {
	if r.method != http.MethodPost {
		return a.refuse(http.StatusMethodNotAllowed, "method not allowed", r.last)
	}
	if err := a.ask.read(r.body); err != nil {
		return a.refuse(http.StatusBadRequest, err.Error(), r.last)
	}
	tokens := a.ask.tokens
	if tokens == 0 {
		tokens = a.engine.cfg.Tokens
	}
	counts := counts{prompt: len(r.body) / 4, output: tokens}
	a.conn.done() // the prompt is not needed any more, and a stream may last

	a.setID()
	var stop chan struct{}
	if cfg := a.engine.cfg; cfg.TTFT > 0 || cfg.ITL > 0 {
		id := a.ask.rid
		if id == "" {
			id = string(a.id)
		}
		stop = a.engine.begin(id)
		defer a.engine.finish(id, stop)
	}
	if !a.ask.stream {
		return a.whole(r, f, counts, stop)
	}
	return a.stream(r, f, counts, stop)
}

// setID makes the answer's id.
func (a *answer) setID() {
	if a.ask.rid != "" {
		if a.id = append(a.id[:0], a.ask.rid...); !plain(a.ask.rid) {
			quoted := must(json.Marshal(a.ask.rid))
			a.id = append(a.id[:0], quoted[1:len(quoted)-1]...)
		}
		return
	}
	a.id = append(a.id[:0], "null-"...)
	a.id = strconv.AppendUint(a.id, a.engine.ids.Add(1), 16)
}

// plain tells whether a string is the same within JSON.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c >= 0x7f || c == '"' || c == '\\' })
}

// wait sleeps until a moment; false when the answer was aborted, or the engine ends.
func (a *answer) wait(until time.Time, stop <-chan struct{}) bool {
	d := time.Until(until)
	if d <= 0 {
		return true
	}
	if a.timer == nil {
		a.timer = time.NewTimer(d)
	} else {
		a.timer.Reset(d)
	}
	select {
	case <-a.timer.C:
		return true
	case <-stop:
	case <-a.over:
	}
	a.timer.Stop()
	return false
}

// ended tells whether the engine ends: what is under way is cut.
func (a *answer) ended() bool {
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

func (a *answer) whole(r *request, f *form, n counts, stop <-chan struct{}) error {
	cfg := a.engine.cfg
	reason := f.finished
	if wait := cfg.TTFT + time.Duration(n.output-1)*cfg.ITL; !a.wait(time.Now().Add(wait), stop) {
		if a.ended() {
			return net.ErrClosed
		}
		reason, n.output = f.aborted, 0
	}
	a.said = a.said[:0]
	for i := range n.output {
		a.said = appendToken(a.said, i)
	}
	a.event = f.document(a.event[:0], &a.engine.texts, a.id, a.said, n, reason)
	return a.document(r, http.StatusOK, a.event)
}

// stream writes an event a token. The first one leaves with the head, the last one with the end.
func (a *answer) stream(r *request, f *form, n counts, stop <-chan struct{}) error {
	chunked := !r.old
	a.head(http.StatusOK, "text/event-stream", r.last)
	if chunked {
		a.out = append(a.out, "Transfer-Encoding: chunked\r\n"...)
	}
	a.out = append(a.out, "\r\n"...)
	if f.opening != nil {
		a.add(f.opening(a.event[:0], &a.engine.texts, a.id), chunked)
	}
	reason := f.finished
	due := time.Now().Add(a.engine.cfg.TTFT)
	paced := stop != nil
	a.said = a.said[:0]
	for i := range n.output {
		if paced && !a.wait(due, stop) {
			if a.ended() {
				return net.ErrClosed
			}
			reason, n.output = f.aborted, i
			break
		}
		due = due.Add(a.engine.cfg.ITL)
		from := len(a.said)
		a.said = appendToken(a.said, i)
		text := a.said[from:]
		if !f.cumulative {
			a.said = a.said[:0]
		} else {
			text = a.said
		}
		last := i == n.output-1
		a.add(f.token(a.event[:0], &a.engine.texts, a.id, text, counts{n.prompt, i + 1}, last), chunked)
		if !last {
			if err := a.flush(); err != nil {
				return err
			}
		}
	}
	if f.closing != nil {
		a.add(f.closing(a.event[:0], &a.engine.texts, a.id, n, reason, a.ask.usage), chunked)
	}
	a.add(append(a.event[:0], "data: [DONE]\n\n"...), chunked)
	if chunked {
		a.out = append(a.out, "0\r\n\r\n"...)
	}
	return a.flush()
}

// add puts an event, or several, behind what is to be written.
func (a *answer) add(event []byte, chunked bool) {
	a.event = event
	if len(event) == 0 {
		return // a chunk of nothing would be the end
	}
	if !chunked {
		a.out = append(a.out, event...)
		return
	}
	a.out = strconv.AppendInt(a.out, int64(len(event)), 16)
	a.out = append(a.out, "\r\n"...)
	a.out = append(a.out, event...)
	a.out = append(a.out, "\r\n"...)
}
