package workeradapter

import (
	"strconv"

	"github.com/radixbus/radixbus/internal/jsonscan"
)

// readPlain takes in a document of OpenAI's that tells no more than tokens, finish reasons and a weight version, as nearly all
// do, for a fraction of what decoding it takes. It tells whether it was one; if not, it has taken in nothing.
func (t *told) readPlain(doc []byte) bool {
	var d jsonscan.Doc
	if jsonscan.Scan(&d, doc, plainMembers) != nil {
		return false
	}
	now := *t
	now.bare = false
	for i := range d.Fields {
		var ok bool
		switch f := &d.Fields[i]; f.Key {
		case "choices":
			ok = now.plainChoices(doc[f.Start:f.End], f.Kind)
		case "usage":
			ok = now.plainUsage(&d, doc, f)
		case "metadata":
			ok = now.plainMetadata(&d, doc, f)
		case "object":
			ok = f.Kind == jsonscan.String && string(f.Text(doc)) != "error" && string(f.Text(doc)) != "response"
		default: // something that has to be read
			ok = f.Kind == jsonscan.Null
		}
		if !ok {
			return false
		}
	}
	*t = now
	return true
}

// plainMembers are all members that a [document] has.
func plainMembers(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "choices":
		return "choices", jsonscan.Note
	case "object":
		return "object", jsonscan.Note
	case "usage":
		return "usage", jsonscan.Tape
	case "metadata":
		return "metadata", jsonscan.Tape
	case "type", "message", "code", "error", "sglext", "meta_info", "stop_reason", "delta", "status", "response", "timings":
		return string(key), jsonscan.Note
	}
	return "", jsonscan.Skip
}

func (t *told) plainChoices(choices []byte, kind jsonscan.Kind) bool {
	if kind != jsonscan.Array {
		return kind == jsonscan.Null
	}
	t.bare = true
	var d jsonscan.Doc
	for n := range jsonscan.Elements(choices, 0) {
		t.bare = false
		choice := choices[n.Start:n.End]
		if jsonscan.Scan(&d, choice, finishReason) != nil {
			return false
		}
		switch f := d.Field("finish_reason"); {
		case f == nil, f.Kind == jsonscan.Null:
		case f.Kind == jsonscan.String:
			t.finish = string(f.Text(choice))
		default:
			return false
		}
	}
	return true
}

func finishReason(key []byte) (string, jsonscan.Mode) {
	if string(key) == "finish_reason" {
		return "finish_reason", jsonscan.Note
	}
	return "", jsonscan.Skip
}

// plainUsage reads OpenAI's usage; Anthropic's spelling of it is for others.
func (t *told) plainUsage(d *jsonscan.Doc, doc []byte, f *jsonscan.Field) bool {
	if f.Kind != jsonscan.Object {
		return f.Kind == jsonscan.Null
	}
	t.usages++
	for k, v := range d.Pairs(f.Root) {
		ok := true
		switch string(d.Nodes[k].Text(doc)) {
		case "prompt_tokens":
			_, ok = plainNumber(&t.prompt, d.Nodes[v], doc)
		case "completion_tokens":
			_, ok = plainNumber(&t.completion, d.Nodes[v], doc)
		case "prompt_tokens_details":
			ok = t.plainDetails(d, doc, v)
		case "input_tokens", "output_tokens", "input_tokens_details", "cache_read_input_tokens", "cache_creation_input_tokens":
			ok = d.Nodes[v].Kind == jsonscan.Null
		}
		if !ok {
			return false
		}
	}
	return true
}

func (t *told) plainDetails(d *jsonscan.Doc, doc []byte, at int) bool {
	if kind := d.Nodes[at].Kind; kind != jsonscan.Object {
		return kind == jsonscan.Null
	}
	if cached := d.Member(doc, at, "cached_tokens"); cached >= 0 {
		told, ok := plainNumber(&t.cached, d.Nodes[cached], doc)
		t.cachedKnown = t.cachedKnown || told
		return ok
	}
	return true
}

func (t *told) plainMetadata(d *jsonscan.Doc, doc []byte, f *jsonscan.Field) bool {
	if f.Kind != jsonscan.Object {
		return f.Kind == jsonscan.Null
	}
	if at := d.Member(doc, f.Root, "weight_version"); at >= 0 {
		n := d.Nodes[at]
		if n.Kind == jsonscan.String && n.End-n.Start > 2 {
			t.weights = string(n.Text(doc))
		}
		return n.Kind == jsonscan.String || n.Kind == jsonscan.Null
	}
	return true
}

// plainNumber reads a whole number. It tells whether there is one, and whether what there is can be: null is nothing.
func plainNumber(into *int64, n jsonscan.Node, doc []byte) (told, ok bool) {
	if n.Kind == jsonscan.Null {
		return false, true
	}
	v, err := strconv.ParseInt(string(n.Raw(doc)), 10, 64)
	if n.Kind != jsonscan.Number || err != nil {
		return false, false
	}
	*into = v
	return true, true
}
