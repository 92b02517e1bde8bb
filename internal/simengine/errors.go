package simengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// errGone reports that the engine no longer, or not yet again, takes requests.
var errGone = errors.New("simengine: engine is gone")

type duplicateError struct{ rid string }

func (e *duplicateError) Error() string { return "Duplicate request ID detected: " + e.rid }

// A badRequest is a fault of the request's. Its text is for the client.
type badRequest struct{ message string }

func (e *badRequest) Error() string { return e.message }

func badf(format string, args ...any) error { return &badRequest{fmt.Sprintf(format, args...)} }

// failure is what a client is told of an error. SGLang has a shape for each of its layers; who asks
// chooses.
type failure struct {
	message string
	kind    string
	status  int
	context bool // the prompt is longer than the context
	pool    bool // the prompt is longer than the KV cache
}

// explain turns any error of a request into what the client is told.
func explain(err error) failure {
	if tooLong, ok := errors.AsType[*TooLongError](err); ok {
		f := failure{kind: "BadRequestError", status: http.StatusBadRequest, context: !tooLong.Pool, pool: tooLong.Pool}
		if tooLong.Pool {
			f.message = fmt.Sprintf("Input length (%d tokens) exceeds the maximum allowed length (%d tokens). "+
				"Use a shorter input or enable --allow-auto-truncate.", tooLong.Tokens, tooLong.Limit)
		} else {
			f.message = fmt.Sprintf("The input (%d tokens) is longer than the model's context length (%d tokens).",
				tooLong.Tokens, tooLong.Limit+1)
		}
		return f
	}
	if budget, ok := errors.AsType[*overContext](err); ok {
		return failure{message: budget.Error(), kind: "BadRequestError", status: http.StatusBadRequest, context: true}
	}
	if errors.Is(err, ErrQueueFull) {
		return failure{message: "The request queue is full.", kind: "ServiceUnavailableError",
			status: http.StatusServiceUnavailable}
	}
	return failure{message: err.Error(), kind: "BadRequestError", status: http.StatusBadRequest}
}

// overContext is a prompt that fits the context only without the output that was asked for.
type overContext struct{ prompt, output, context int }

func (e *overContext) Error() string {
	return fmt.Sprintf("Requested token count exceeds the model's maximum context length of %d tokens. "+
		"You requested a total of %d tokens: %d tokens from the input messages and %d tokens for the completion. "+
		"Please reduce the number of tokens in the input messages or the completion to fit within the limit.",
		e.context, e.prompt+e.output, e.prompt, e.output)
}

// flatError is the shape of bad JSON anywhere and of the OpenAI routes.
type flatError struct {
	Object  string  `json:"object"`
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    int     `json:"code"`
}

func (f failure) flat() flatError {
	return flatError{Object: "error", Message: f.message, Type: f.kind, Code: f.status}
}

func writeFlat(w http.ResponseWriter, f failure) { writeJSON(w, f.status, f.flat()) }

// writeNested is the shape of /generate's own validation.
func writeNested(w http.ResponseWriter, f failure) {
	writeJSON(w, f.status, map[string]any{"error": map[string]any{"message": f.message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only for values that this package does not build
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone reads nothing
}
