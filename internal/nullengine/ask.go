package nullengine

import (
	"bytes"
	"math"
	"strconv"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// An ask is what matters of a request for tokens. It is reused.
type ask struct {
	tokens int // 0: it does not say
	stream bool
	usage  bool
	rid    string

	doc, inner jsonscan.Doc
}

// read takes the body of any of the routes that generate: what they share has the same name.
func (a *ask) read(body []byte) error {
	a.tokens, a.stream, a.usage, a.rid = 0, false, false, ""
	if err := jsonscan.Scan(&a.doc, body, wanted); err != nil {
		return err
	}
	for i := range a.doc.Fields {
		f := &a.doc.Fields[i]
		switch raw := f.Raw(body); f.Key {
		case "stream":
			a.stream = f.Kind == jsonscan.True
		case "stream_options":
			a.usage = bytes.Contains(raw, []byte("true")) // of include_usage; continuous_usage_stats is nobody's here
		case "rid":
			if f.Kind == jsonscan.String && len(raw) <= maxID {
				a.rid = string(f.Text(body))
			}
		case "sampling_params":
			if f.Kind == jsonscan.Object && jsonscan.Scan(&a.inner, raw, wanted) == nil {
				for _, g := range a.inner.Fields {
					a.limit(g.Raw(raw))
				}
			}
		default:
			a.limit(raw)
		}
	}
	return nil
}

// maxID bounds a request's id, in bytes.
const maxID = 256

func (a *ask) limit(raw []byte) {
	if n, err := strconv.ParseUint(string(raw), 10, 32); err == nil {
		a.tokens = max(a.tokens, int(min(n, MaxTokens, math.MaxInt32)))
	}
}

func wanted(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "max_tokens":
		return "max_tokens", jsonscan.Note
	case "max_completion_tokens":
		return "max_completion_tokens", jsonscan.Note
	case "max_new_tokens":
		return "max_new_tokens", jsonscan.Note
	case "sampling_params":
		return "sampling_params", jsonscan.Note
	case "stream":
		return "stream", jsonscan.Note
	case "stream_options":
		return "stream_options", jsonscan.Note
	case "rid":
		return "rid", jsonscan.Note
	}
	return "", jsonscan.Skip
}
