package simengine

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
)

// bytesPerSecond turns a file's size into its length: sixteen bits at 16 kHz.
const bytesPerSecond = 32_000

// A transcript is a request to write down what an audio file says.
type transcript struct {
	model    string
	format   string
	language *string
	stream   bool
	warm     number
	file     []byte
}

func (t *transcript) seconds() float64 { return float64(len(t.file)) / bytesPerSecond }

func (e *Engine) transcriptions(w http.ResponseWriter, r *http.Request) {
	t, err := e.readTranscript(w, r)
	if err != nil {
		refuseFlat(w, r, err)
		return
	}
	if t.format != "json" && t.format != "text" && t.format != "verbose_json" {
		writeNested(w, "Only 'json', 'text', and 'verbose_json' formats supported")
		return
	}
	if !e.cfg.Audio { // a real engine fails in the same way
		if t.stream {
			startStream(w)
			flush(w)
			breakOff(w)
			return
		}
		refuseFlat(w, r, &bugError{"the model does not understand audio"})
		return
	}
	s := newSampling()
	s.temperature = t.warm
	s.limit = new(max(int(2.5*t.seconds()), 1)) // words
	s.ignoreEOS = true
	q := e.newRequest(ask{model: t.model, stream: t.stream}, prompts{all: []prompt{{tokens: e.appendAttachment(nil, string(t.file))}}}, s)
	e.serve(w, r, scribe{t}, q)
}

// readTranscript reads the form.
func (e *Engine) readTranscript(w http.ResponseWriter, r *http.Request) (*transcript, error) {
	r.Body = http.MaxBytesReader(w, r.Body, e.cfg.MaxBody)
	t := &transcript{model: "default", format: "json"}
	if err := r.ParseMultipartForm(e.cfg.MaxBody); err != nil && mediaType(r) == "multipart/form-data" {
		return nil, refusef("There was an error parsing the body")
	}
	defer func() {
		if r.MultipartForm != nil {
			_ = r.MultipartForm.RemoveAll() // nothing was promised
		}
	}()
	file, _, err := r.FormFile("file")
	if err != nil {
		return nil, invalid("missing", "Field required", []byte("null"), "'body'", "'file'")
	}
	defer file.Close() //nolint:errcheck // read to its end
	if t.file, err = io.ReadAll(file); err != nil {
		return nil, refusef("There was an error parsing the body")
	}
	form := &fields{values: map[string]json.RawMessage{}}
	for name, all := range r.MultipartForm.Value {
		form.values[name] = appendJSON(nil, all[0])
	}
	may(form, "model", asText, &t.model)
	may(form, "response_format", asText, &t.format)
	may(form, "temperature", asNumber, &t.warm)
	may(form, "stream", asBool, &t.stream)
	t.language = maybe(form, "language", asText)
	return t, form.err()
}

// scribe is how a transcription is answered.
type scribe struct{ t *transcript }

// plainText is an answer that is no JSON.
type plainText string

func (d scribe) refuse(w http.ResponseWriter, r *http.Request, err error) { refuseFlat(w, r, err) }

type scribeUsage struct {
	Type    string `json:"type"`
	Seconds int    `json:"seconds"`
}

func (d scribe) whole(q *request) any {
	s := q.seqs[0]
	n, _ := s.progress()
	text, spent := s.text(n), scribeUsage{"duration", int(math.Ceil(d.t.seconds()))}
	switch d.t.format {
	case "text":
		return plainText(text)
	case "verbose_json":
		return struct {
			Task     string      `json:"task"`
			Language *string     `json:"language"`
			Duration float64     `json:"duration"`
			Text     string      `json:"text"`
			Segments []any       `json:"segments"`
			Usage    scribeUsage `json:"usage"`
		}{"transcribe", d.t.language, math.Round(100*d.t.seconds()) / 100, text, []any{}, spent}
	}
	return struct {
		Text  string      `json:"text"`
		Usage scribeUsage `json:"usage"`
	}{text, spent}
}

func (d scribe) events(q *request) eventWriter {
	head := strconv.AppendInt([]byte(`data: {"id":"trsc-`+newRID()+`","object":"transcription.chunk","created":`), q.created, 10)
	return &scribeEvents{append(appendJSON(append(head, `,"model":`...), q.model), `,"choices":[{"delta":{"role":null,"content":`...)}
}

type scribeEvents struct{ head []byte }

func (o *scribeEvents) early() bool { return true }

func (o *scribeEvents) begin(b []byte) []byte { return b }

func (o *scribeEvents) frame(b []byte, content, reason string) []byte {
	b = append(append(b, o.head...), content...)
	return append(b, `,"reasoning_content":null,"tool_calls":null},"finish_reason":`+reason+`}],"usage":null}`+"\n\n"...)
}

func (o *scribeEvents) chunk(b []byte, s *sequence, n int, how Ending) []byte {
	if text := s.text(n)[len(s.text(s.sent)):]; text != "" {
		b = o.frame(b, string(appendText(nil, text)), "null")
	}
	if how != Unended {
		b = o.frame(b, "null", `"`+s.reason(how)+`"`)
	}
	return b
}

func (o *scribeEvents) tail(b []byte) []byte { return append(b, done...) }

func (o *scribeEvents) fail(b []byte, err error) []byte {
	return append(appendEvent(b, map[string]any{"error": flat(err.Error(), "BadRequestError", http.StatusBadRequest)}), done...)
}

func (o *scribeEvents) reject(b []byte, s *sequence) ([]byte, bool) {
	return o.fail(b, s.refused), true
}
