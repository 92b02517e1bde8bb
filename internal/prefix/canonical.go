package prefix

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/minio/highwayhash"
	"github.com/radixbus/radixbus/internal/jsonscan"
)

// Framing bytes. No UTF-8 text holds them.
const (
	markMessage = 0xF8 // a message begins with its role
	markField   = 0xF9 // one of the letters below follows, and then the field
	markPart    = 0xFA // one of the letters below follows, and then something that is not text
	markString  = 0xFB // around a string within JSON
)

// What follows markField. The order is that of rendering.
const (
	fieldTools      = 'T' // of the request, or of a message
	fieldName       = 'n'
	fieldReasoning  = 'r'
	fieldContent    = 'c' // always there: no content, null and "" are the same
	fieldToolCalls  = 't'
	fieldToolCallID = 'i'
	fieldSuffix     = 's' // of a completions prompt: the text behind the gap to fill
)

// What follows markPart.
const (
	partMedia     = 'm' // 16 bytes of hash
	partJSON      = 'j' // canonical JSON
	partReference = 't' // the name of a tool, as a string within JSON
)

// A writer renders prompts of one request into its chain.
type writer struct {
	*Request
	chain
	media *highwayhash.Digest // reused, made when first needed
	pairs []pair              // a stack of the members of the objects being rendered
}

// A pair is a member of an object that is being rendered.
type pair struct {
	key   []byte // decoded
	order int    // among the members
	value int    // node index
}

// renderPrompt writes one prompt.
func (w *writer) renderPrompt(p prompt) {
	switch p.kind {
	case textPrompt:
		w.renderText(p.escaped, w.body[p.start:p.end])
		if f := w.given("suffix"); f != nil && w.Route == Completions && f.Kind == jsonscan.String && f.End-f.Start > 2 {
			w.write([]byte{markField, fieldSuffix})
			w.renderText(f.Escaped, f.Raw(w.body))
		}
	case idsPrompt:
		w.renderIDs(p)
	case chatPrompt:
		w.renderTools()
		for _, at := range w.doc.Elems(w.doc.Field("messages").Root) {
			w.renderMessage(at)
		}
	case messagesPrompt:
		w.renderMessages()
	case responsesPrompt:
		w.renderResponses()
	case embedsPrompt:
		w.total = uint64(p.end - p.start)
	}
}

// renderText writes the inside of a JSON string, decoded.
func (w *writer) renderText(escaped bool, raw []byte) {
	if escaped {
		w.unescape(raw)
	} else {
		w.write(raw)
	}
}

func (w *writer) renderIDs(p prompt) {
	var buf [256]byte
	n := 0
	it := idReader{b: w.body[p.start+1 : p.end-1]}
	for {
		id, ok := it.next()
		if !ok {
			break
		}
		binary.LittleEndian.PutUint32(buf[n:], id)
		if n += 4; n == len(buf) {
			w.write(buf[:])
			n = 0
		}
	}
	w.write(buf[:n])
}

func (w *writer) renderTools() {
	if w.noTools {
		return
	}
	w.write([]byte{markField, fieldTools})
	for _, at := range w.doc.Elems(w.doc.Field("tools").Root) {
		if w.namedTool {
			if name, ok := w.functionName(at); !ok || name != w.onlyTool {
				continue
			}
		}
		w.renderJSON(at)
	}
}

func (w *writer) renderMessage(at int) {
	m := w.message(at)
	w.write([]byte{markMessage})
	w.renderString(m.role)
	w.renderField(fieldName, m.name)
	w.renderField(fieldReasoning, m.reasoning)
	w.write([]byte{markField, fieldContent})
	w.renderContent(m.content)
	w.renderField(fieldTools, m.tools)
	w.renderField(fieldToolCalls, m.toolCalls)
	w.renderField(fieldToolCallID, m.toolCallID)
}

// renderContent writes a string or a list of parts, and nothing for -1.
func (w *writer) renderContent(content int) {
	if content < 0 {
		return
	}
	if w.doc.Nodes[content].Kind == jsonscan.String {
		w.renderString(content)
		return
	}
	for _, part := range w.doc.Elems(content) {
		w.renderPart(part)
	}
}

// renderField writes a field of a message, if it says anything.
func (w *writer) renderField(letter byte, at int) {
	if at < 0 {
		return
	}
	n := w.doc.Nodes[at]
	switch {
	case n.Kind == jsonscan.String:
		if n.End-n.Start > 2 {
			w.write([]byte{markField, letter})
			w.renderString(at)
		}
	case n.Kind == jsonscan.Array && int(n.Next) == at+1:
	default:
		w.write([]byte{markField, letter, markPart, partJSON})
		w.renderJSON(at)
	}
}

func (w *writer) renderString(at int) {
	n := w.doc.Nodes[at]
	w.renderText(n.Escaped, n.Raw(w.body))
}

func (w *writer) renderPart(at int) {
	switch kind, value := w.part(at); kind {
	case textPart:
		w.renderString(value)
	case mediaPart:
		w.write([]byte{markPart, partMedia})
		w.renderMedia(at, value)
	default:
		w.write([]byte{markPart, partJSON})
		w.renderJSON(at)
	}
}

// renderMedia writes the hash of a media part's type and value.
func (w *writer) renderMedia(part, value int) {
	if w.media == nil {
		w.media, _ = highwayhash.NewDigest128(w.key[:]) // the key has the right length
	}
	w.media.Reset()
	w.side = w.media
	w.writeString(mediaDomain)
	kind := w.doc.Member(w.body, part, "type")
	w.renderJSON(kind)
	if w.Route == Responses && string(w.text(kind)) == "input_image" {
		w.renderObject(part, imageMember)
	} else {
		w.renderJSON(value)
	}
	w.side = nil
	var sum [highwayhash.Size128]byte
	w.write(w.media.Sum(sum[:0]))
}

// renderJSON writes a value as canonical JSON: no spaces, members sorted by key, of duplicates the last,
// strings decoded between marks, numbers as they are spelt.
func (w *writer) renderJSON(at int) {
	switch n := w.doc.Nodes[at]; n.Kind {
	case jsonscan.String:
		w.write([]byte{markString})
		w.renderString(at)
		w.write([]byte{markString})
	case jsonscan.Array:
		w.write([]byte{'['})
		for i, e := range w.doc.Elems(at) {
			if i > 0 {
				w.write([]byte{','})
			}
			w.renderJSON(e)
		}
		w.write([]byte{']'})
	case jsonscan.Object:
		w.renderObject(at, nil)
	default:
		w.write(n.Raw(w.body))
	}
}

// A selection says of a member of an object whether it reaches the prompt.
type selection func(r *Request, key []byte, value int) bool

// renderObject writes an object as canonical JSON, of its members the selected ones; nil selects all.
func (w *writer) renderObject(at int, selected selection) {
	base := len(w.pairs)
	if w.pairs == nil {
		w.pairs = make([]pair, 0, 32)
	}
	for k, v := range w.doc.Pairs(at) {
		w.pairs = append(w.pairs, pair{w.doc.Nodes[k].Text(w.body), len(w.pairs), v})
	}
	end := len(w.pairs)
	slices.SortFunc(w.pairs[base:end], func(a, b pair) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return a.order - b.order
	})
	w.write([]byte{'{'})
	first := true
	for i := base; i < end; i++ {
		p := w.pairs[i]
		if i+1 < end && bytes.Equal(p.key, w.pairs[i+1].key) || selected != nil && !selected(w.Request, p.key, p.value) {
			continue
		}
		if !first {
			w.write([]byte{','})
		}
		first = false
		w.write([]byte{markString})
		w.write(p.key)
		w.write([]byte{markString, ':'})
		w.renderJSON(p.value)
	}
	w.write([]byte{'}'})
	w.pairs = w.pairs[:base]
}
