package simengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// bodyRule is what a route demands of its body.
type bodyRule struct {
	onlyJSON bool   // the content type must be application/json
	kind     string // of the complaint about what is no object; "": the route fails over it
	text     string
	bound    int64
}

// readBody reads a JSON object.
func readBody(w http.ResponseWriter, r *http.Request, rule bodyRule) (*fields, error) {
	kind := mediaType(r)
	if rule.onlyJSON && kind != "application/json" {
		return nil, invalid("value_error", "Unsupported Media Type: Only 'application/json' is allowed", nil, "'header'", "'content-type'")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rule.bound))
	if err != nil {
		status := http.StatusBadRequest
		if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
			status = http.StatusRequestEntityTooLarge
		}
		return nil, &refusedError{err.Error(), "BadRequestError", status}
	}
	if len(raw) == 0 {
		return nil, invalid("missing", "Field required", []byte("null"), "'body'")
	}
	isJSON := kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
	if isJSON {
		if err := checkJSON(raw); err != nil {
			return nil, err
		}
	}
	raw = bytes.TrimSpace(raw)
	switch {
	case isJSON && raw[0] == '{':
		return readFields(raw), nil
	case rule.kind == "":
		return nil, &bugError{"the body is no object"}
	case !isJSON: // a real engine quotes it as bytes
		raw = json.RawMessage(`"..."`)
	}
	return nil, invalid(rule.kind, rule.text, raw, "'body'")
}

// checkJSON refuses what is no JSON.
func checkJSON(raw []byte) error {
	if json.Valid(raw) && utf8.Valid(raw) {
		return nil
	}
	at := "0"
	var v json.RawMessage
	if bad, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(raw, &v)); ok {
		at = strconv.FormatInt(bad.Offset, 10)
	}
	return invalid("json_invalid", "JSON decode error", []byte("{}"), "'body'", at)
}

// mediaType is the content type without its parameters.
func mediaType(r *http.Request) string {
	kind, _, _ := strings.Cut(strings.ToLower(r.Header.Get("Content-Type")), ";")
	return strings.TrimSpace(kind)
}

func (e *Engine) nativeRule() bodyRule {
	return bodyRule{kind: "dataclass_type", text: "Input should be a dictionary or an instance of GenerateReqInput", bound: e.cfg.MaxBody}
}

func (e *Engine) openAIRule() bodyRule {
	return bodyRule{onlyJSON: true, kind: "model_attributes_type",
		text: "Input should be a valid dictionary or object to extract fields from", bound: e.cfg.MaxBody}
}

// body gives a route the fields of its body, or answers for it.
func (e *Engine) body(rule bodyRule, refuse func(http.ResponseWriter, *http.Request, error), next func(http.ResponseWriter, *http.Request, *fields)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := readBody(w, r, rule)
		var bug *bugError
		switch {
		case errors.As(err, &bug):
			internalError(w)
		case err != nil:
			refuse(w, r, err)
		default:
			next(w, r, f)
		}
	}
}

// controlBody reads the JSON object of a control route and answers for itself when it cannot.
func (e *Engine) controlBody(w http.ResponseWriter, r *http.Request) (*fields, bool) {
	f, err := readBody(w, r, bodyRule{kind: "dict_type", text: "Input should be a valid dictionary", bound: 1 << 20})
	if err != nil {
		refuseFlat(w, r, err)
		return nil, false
	}
	return f, true
}
