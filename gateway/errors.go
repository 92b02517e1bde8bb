package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/surface"
	"github.com/radixbus/radixbus/internal/wire"
)

// A Failure is an error on its way to a client. It renders as the OpenAI error envelope; on Anthropic's routes, as that one's.
type Failure struct {
	Status     int
	Type       string // OpenAI's class: invalid_request_error, server_error, rate_limit_error …
	Code       string
	Param      string // the field at fault, if it is one
	Message    string
	RetryAfter time.Duration // 0: the header is not sent
	Allow      string        // methods, with a 405
}

func (f *Failure) Error() string { return f.Message }

// An envelope is the JSON document of a failure. Its type and what numbers it are only there where they are said.
type envelope struct {
	Type  string `json:"type,omitempty"`
	Error inner  `json:"error"`
}

type inner struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

func (f *Failure) inner() inner {
	e := inner{Message: f.Message, Type: f.Type, Code: f.Code}
	if f.Param != "" {
		e.Param = &f.Param
	}
	return e
}

// anthropic is the failure as Anthropic's clients know it, with what OpenAI's tells besides.
func (f *Failure) anthropic() envelope {
	e := envelope{Type: "error", Error: f.inner()}
	switch {
	case f.Status == http.StatusNotFound:
		e.Error.Type = "not_found_error"
	case f.Status == http.StatusRequestEntityTooLarge:
		e.Error.Type = "request_too_large"
	case f.Type == "server_error" && f.Status == http.StatusServiceUnavailable:
		e.Error.Type = "overloaded_error"
	case f.Type == "server_error":
		e.Error.Type = "api_error"
	}
	return e
}

// encode is the JSON of one of our own types, which cannot fail, and must not hide the failure.
func encode(v any) []byte {
	doc, err := json.Marshal(v)
	if err != nil {
		return []byte(`{"error":{"message":"internal error","type":"server_error","param":null,"code":"internal_error"}}`)
	}
	return doc
}

// write sends the failure as a whole answer, in the shape that clients of the path expect.
func (f *Failure) write(w http.ResponseWriter, path string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if f.Allow != "" {
		h.Set("Allow", f.Allow)
	}
	if f.Status == http.StatusNotImplemented || f.Status == http.StatusGatewayTimeout {
		h.Set("X-Should-Retry", "false") // official SDKs try every other 5xx again: here it only takes three times as long
	}
	e := envelope{Error: f.inner()}
	if surface.IsAnthropic(path) {
		e = f.anthropic()
	}
	w.WriteHeader(f.Status)
	w.Write(append(encode(e), '\n')) //nolint:errcheck // the client may be gone; there is nobody to tell
}

// event is the failure inside a stream, in the words of its dialect. n numbers it where events have numbers.
func (f *Failure) event(d surface.Dialect, n int) []byte {
	var name string
	var doc []byte
	switch d {
	case surface.Anthropic:
		name, doc = "event: error\n", encode(f.anthropic())
	case surface.Responses: // OpenAI's own members, and those by which its clients tell an error from an event
		e := f.inner()
		name, doc = "event: error\n", encode(struct {
			envelope
			Code    string  `json:"code"`
			Message string  `json:"message"`
			Param   *string `json:"param"`
			Number  int     `json:"sequence_number"`
		}{envelope{"error", e}, e.Code, e.Message, e.Param, n})
	default:
		doc = encode(envelope{Error: f.inner()})
	}
	return fmt.Appendf(nil, "%sdata: %s\n\n", name, doc)
}

func badRequest(param, format string, args ...any) *Failure {
	return &Failure{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Param: param, Message: fmt.Sprintf(format, args...)}
}

// gone is what an engine kept and is not to be found.
func gone(param, format string, args ...any) *Failure {
	return &Failure{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "not_found", Param: param, Message: fmt.Sprintf(format, args...)}
}

// noWorkerYet is the answer while nobody is there.
func noWorkerYet() *Failure { return failureOf(wire.CodeNoWorker, "", time.Second) }

func fieldFailure(err *prefix.FieldError) *Failure { return badRequest(err.Field, "%s", err.Message) }

func tooLarge(limit int64) *Failure {
	return &Failure{
		Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large",
		Message: fmt.Sprintf("The request body is larger than the limit of %d bytes (%.4g MiB).", limit, float64(limit)/(1<<20)),
	}
}

func overBudget() *Failure {
	return &Failure{
		Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: "bodies_in_flight", RetryAfter: time.Second,
		Message: "Too many bytes of request bodies are in flight at this gateway. Retry shortly.",
	}
}

// leaving is what a gateway that drains says to new requests.
func leaving() *Failure {
	return &Failure{
		Status: http.StatusServiceUnavailable, Type: "server_error", Code: "gateway_draining", RetryAfter: time.Second,
		Message: "This gateway is shutting down: another one serves the request.",
	}
}

// namesTold bounds the models that an error lists.
const namesTold = 20

func unknownModel(model string, known []string, total int) *Failure {
	list := strings.Join(known, ", ")
	switch {
	case total == 0:
		list = "no model is served at the moment"
	case total > len(known):
		list = fmt.Sprintf("the models are %s and %d more", list, total-len(known))
	default:
		list = "the models are " + list
	}
	return &Failure{
		Status: http.StatusNotFound, Type: "invalid_request_error", Code: "model_not_found", Param: "model",
		Message: fmt.Sprintf("The model %.200q does not exist here: %s.", model, list),
	}
}

// said are the words for codes that end a request, for people who know nothing of our parts.
var said = map[wire.Code]string{
	wire.CodeMalformed:     "The worker's answer could not be understood.",
	wire.CodeVersion:       "The worker speaks another version of the router's protocol.",
	wire.CodeModelUnknown:  "No worker serves this model.",
	wire.CodeTooLarge:      "The request is larger than its worker takes.",
	wire.CodeEngineRefused: "The engine refused the request.",
	wire.CodeNoWorker:      "No worker is ready to serve this model at the moment.",
	wire.CodeNoScheduler:   "No scheduler answers for this model at the moment.",
	wire.CodeOverloaded:    "All workers of this model are full.",
	wire.CodeBusy:          "All workers of this model are full.",
	wire.CodeDraining:      "The workers of this model are draining.",
	wire.CodeWorkerGone:    "The worker that had the request is gone.",
	wire.CodeEngineDown:    "The engines of this model refuse connections.",
	wire.CodeEngineBroke:   "The engine broke off while it had the request.",
	wire.CodeEngineBusy:    "The engines of this model are full.",
	wire.CodeEngineFault:   "The engine failed to answer the request.",
	wire.CodeDeadline:      "The request's time is over.",
	wire.CodeCancelled:     "The request was cancelled.",
	wire.CodeSlowClient:    "The client did not read its answer in time.",
	wire.CodeLost:          "Part of the answer was lost on the way.",
	wire.CodeStale:         "The worker that had the request has restarted.",
	wire.CodeAborted:       "The request was aborted by another request of its client.",
	wire.CodePoison:        "Engines have broken off one after the other on this very request: it is not given to another one for a while.",
	wire.CodeNoSession:     "No engine holds this session: open it again.",
	wire.CodeNoBus:         "This gateway has lost the connection to its bus.",
}

// failureOf turns a code that ended a request into what the client is told. detail is the engine's own text, if any.
func failureOf(code wire.Code, detail string, retryAfter time.Duration) *Failure {
	msg := said[code]
	if msg == "" {
		msg = "The request failed inside the router."
	}
	if detail != "" {
		msg += " " + detail
	}
	f := &Failure{Status: code.Status(), Type: "server_error", Code: code.String(), Message: msg}
	switch f.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		f.Type = "invalid_request_error"
	case http.StatusTooManyRequests:
		f.Type = "rate_limit_error"
	case http.StatusGatewayTimeout:
		f.Type = "timeout_error"
	}
	if f.Status == http.StatusTooManyRequests || f.Status == http.StatusServiceUnavailable {
		f.RetryAfter = max(retryAfter, time.Second)
	}
	return f
}
