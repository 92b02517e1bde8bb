package simengine

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A real engine finds a request's faults in layers, and each layer answers in a shape of its own. The errors
// are named after the layers; a [dialect] knows the shapes.

// errGone reports that the engine no longer, or not yet again, takes requests.
var errGone = errors.New("simengine: engine is gone")

// An invalidError is a body that does not fit its route's schema.
type invalidError struct{ complaints []complaint }

func (e *invalidError) Error() string { return e.list("; ") }

// list joins the complaints, each in the form of a Python dictionary.
func (e *invalidError) list(separator string) string {
	all := make([]string, len(e.complaints))
	for i, c := range e.complaints {
		where := strings.Join(c.where, ", ")
		if len(c.where) == 1 {
			where += ","
		}
		all[i] = fmt.Sprintf("{'type': %s, 'loc': (%s), 'msg': %s, 'input': %s}", pyText(c.kind), where, pyText(c.text), pyValue(c.input))
	}
	return strings.Join(all, separator)
}

// message is what an engine says of the complaints, without the file and line of its source that it adds.
func (e *invalidError) message(r *http.Request) string {
	s := ""
	if len(e.complaints) != 1 {
		s = "s"
	}
	return fmt.Sprintf("%d validation error%s:\n  %s\n\n    %s %s [%s]", len(e.complaints), s, e.list("\n  "), r.Method, r.URL.Path, e.list(", "))
}

// short names the fields and the faults alone.
func (e *invalidError) short() string {
	var all []string
	for _, c := range e.complaints {
		where := slices.Clone(c.where)
		for i := range where {
			where[i] = strings.Trim(where[i], `'"`)
		}
		if len(where) > 0 && where[0] == "body" {
			where = where[1:]
		}
		all = append(all, strings.TrimPrefix(strings.Join(where, ".")+": "+c.text, ": "))
	}
	return strings.Join(all, "; ")
}

func invalid(kind, text string, input []byte, where ...string) error {
	return &invalidError{[]complaint{{kind, where, text, input}}}
}

// A contractError is a body that only the second, stricter schema of /generate refuses.
type contractError struct{ text string }

func (e *contractError) Error() string { return e.text }

// A refusedError is a route's own no, before anything was opened or queued.
type refusedError struct {
	text   string
	kind   string
	status int
}

func (e *refusedError) Error() string { return e.text }

func refusef(format string, args ...any) error {
	return &refusedError{fmt.Sprintf(format, args...), "BadRequestError", http.StatusBadRequest}
}

// A valueError stops a request on its way to the scheduler; some routes have opened their stream by then.
type valueError struct{ text string }

func (e *valueError) Error() string { return e.text }

func valuef(format string, args ...any) error { return &valueError{fmt.Sprintf(format, args...)} }

// A bugError is what the engine itself did not expect.
type bugError struct{ text string }

func (e *bugError) Error() string { return e.text }

// A rejection is the scheduler's answer to a sequence that it does not take.
type rejection struct {
	text   string
	status int
	kind   string // err_type; none for a full queue
}

func (e *rejection) Error() string { return e.text }

// reject turns a Core's refusal into what the scheduler says.
func reject(err error) *rejection {
	if tooLong, ok := errors.AsType[*TooLongError](err); ok {
		return &rejection{fmt.Sprintf("Input length (%d tokens) exceeds the maximum allowed length (%d tokens). "+
			"Use a shorter input or enable --allow-auto-truncate.", tooLong.Tokens, tooLong.Limit), http.StatusBadRequest, "BadRequestError"}
	}
	if errors.Is(err, ErrQueueFull) {
		return &rejection{"The request queue is full.", http.StatusServiceUnavailable, ""}
	}
	return &rejection{err.Error(), http.StatusBadRequest, "BadRequestError"}
}

// flatError is the commonest shape of an error.
type flatError struct {
	Object  string  `json:"object"`
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    int     `json:"code"`
}

func flat(message, kind string, status int) flatError {
	return flatError{Object: "error", Message: message, Type: kind, Code: status}
}

func writeFlat(w http.ResponseWriter, message, kind string, status int) {
	writeJSON(w, status, flat(message, kind, status))
}

// refuseFlat answers any error as the OpenAI routes do.
func refuseFlat(w http.ResponseWriter, r *http.Request, err error) {
	switch err := err.(type) { // never wrapped: all are made here and told at once
	case *invalidError:
		writeFlat(w, err.message(r), "Bad Request", http.StatusBadRequest)
	case *refusedError:
		writeFlat(w, err.text, err.kind, err.status)
	case *headerError:
		writeFlat(w, err.text, "400", http.StatusBadRequest)
	case *rejection:
		if err.status == http.StatusBadRequest {
			writeFlat(w, err.text, "BadRequestError", err.status)
			return
		}
		writeFlat(w, err.text, fmt.Sprint(err.status), err.status)
	case *bugError:
		writeFlat(w, "Internal server error: "+err.text, "InternalServerError", http.StatusInternalServerError)
	default:
		writeFlat(w, err.Error(), "BadRequestError", http.StatusBadRequest)
	}
}

// refuseNative answers any error as the engine's own routes do.
func refuseNative(w http.ResponseWriter, r *http.Request, err error) {
	switch err := err.(type) {
	case *invalidError:
		refuseFlat(w, r, err)
	case *contractError:
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.text})
	case *rejection:
		if err.status != http.StatusBadRequest {
			refuseFlat(w, r, err)
			return
		}
		writeNested(w, err.text)
	case *bugError:
		internalError(w)
	default:
		writeNested(w, err.Error())
	}
}

func writeNested(w http.ResponseWriter, message string) {
	writeJSON(w, http.StatusBadRequest, map[string]any{"error": map[string]string{"message": message}})
}

// internalError is what the web server says when a route fails with an exception.
func internalError(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write([]byte("Internal Server Error")) // a client that is gone reads nothing
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body := appendJSON(nil, v)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone reads nothing
}
