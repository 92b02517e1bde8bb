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
	"github.com/radixbus/radixbus/internal/wire"
)

// A Failure is an error on its way to a client. It renders as the OpenAI error envelope.
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

// envelope is the JSON document of the failure.
func (f *Failure) envelope() []byte {
	type inner struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	e := inner{Message: f.Message, Type: f.Type, Code: f.Code}
	if f.Param != "" {
		e.Param = &f.Param
	}
	doc, err := json.Marshal(map[string]inner{"error": e})
	if err != nil { // strings only: cannot happen, and must not hide the failure
		return []byte(`{"error":{"message":"internal error","type":"server_error","param":null,"code":"internal_error"}}`)
	}
	return doc
}

// write sends the failure as a whole answer.
func (f *Failure) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if f.Allow != "" {
		h.Set("Allow", f.Allow)
	}
	w.WriteHeader(f.Status)
	w.Write(append(f.envelope(), '\n')) //nolint:errcheck // the client may be gone; there is nobody to tell
}

// event is the failure inside a stream.
func (f *Failure) event() []byte {
	return append(append([]byte("data: "), f.envelope()...), '\n', '\n')
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
