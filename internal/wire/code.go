package wire

// A Code says why something did not go as asked. Errors cross the bus as codes; texts beside them are for people.
type Code uint16

// Codes. Their numbers are part of the protocol.
const (
	CodeOK            Code = 0
	CodeInternal      Code = 1  // a bug on our side
	CodeVersion       Code = 2  // the peer speaks another wire version
	CodeMalformed     Code = 3  // the peer sent no message we understand
	CodeModelUnknown  Code = 4  // nobody serves this model
	CodeNoWorker      Code = 5  // no live worker for the pool (left)
	CodeNoScheduler   Code = 6  // no scheduler answers for the pool
	CodeOverloaded    Code = 7  // every worker is full and the hold is over
	CodeBusy          Code = 8  // this worker is at its admission bound: try another
	CodeDraining      Code = 9  // this worker takes nothing new: try another
	CodeWorkerGone    Code = 10 // the adapter is gone or silent
	CodeEngineDown    Code = 11 // the engine refused the connection, or stopped answering before it began to
	CodeEngineBroke   Code = 12 // the engine broke off after it had the request
	CodeEngineBusy    Code = 13 // the engine's own queue is full
	CodeEngineRefused Code = 14 // the engine answered 4xx: final, its answer is passed on
	CodeEngineFault   Code = 15 // the engine answered 5xx or nonsense
	CodeDeadline      Code = 16 // the request's time is over
	CodeCancelled     Code = 17 // the client or its gateway left
	CodeSlowClient    Code = 18 // the client did not read its stream in time
	CodeTooLarge      Code = 19 // a bound on bytes was reached
	CodeLost          Code = 20 // frames or parts were lost and could not be sent again
	CodeStale         Code = 21 // the message names an instance that is no longer alive
	CodeAborted       Code = 22 // the client asked for the end of it by another request
	CodePoison        Code = 23 // requests like it have broken engines: it is given to no further one
	CodeNoBus         Code = 24 // the gateway itself has lost its bus
	CodeNoSession     Code = 25 // this scheduler does not know where the session was opened
)

var codes = [...]struct {
	name   string
	status int
	retry  bool
}{
	CodeOK:            {"ok", 200, false},
	CodeInternal:      {"internal_error", 500, false},
	CodeVersion:       {"unsupported_version", 502, false},
	CodeMalformed:     {"malformed_message", 502, false},
	CodeModelUnknown:  {"model_not_found", 404, false},
	CodeNoWorker:      {"no_worker", 503, false},
	CodeNoScheduler:   {"no_scheduler", 503, true},
	CodeOverloaded:    {"overloaded", 429, false},
	CodeBusy:          {"worker_busy", 503, true},
	CodeDraining:      {"worker_draining", 503, true},
	CodeWorkerGone:    {"worker_gone", 503, true},
	CodeEngineDown:    {"engine_down", 503, true},
	CodeEngineBroke:   {"engine_broke", 502, true},
	CodeEngineBusy:    {"engine_busy", 503, true},
	CodeEngineRefused: {"engine_refused", 400, false},
	CodeEngineFault:   {"engine_fault", 502, true},
	CodeDeadline:      {"deadline_exceeded", 504, false},
	CodeCancelled:     {"cancelled", 499, false},
	CodeSlowClient:    {"slow_client", 499, false},
	CodeTooLarge:      {"too_large", 413, false},
	CodeLost:          {"lost_frames", 502, true},
	CodeStale:         {"stale_instance", 503, true},
	CodeAborted:       {"aborted", 499, false},
	CodePoison:        {"breaks_engines", 422, false},
	CodeNoBus:         {"no_bus", 503, false},
	CodeNoSession:     {"session_not_found", 404, false},
}

// String is the code's name in logs, metrics and error envelopes.
func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c].name
	}
	return "unknown"
}

// Status is the HTTP status a client gets when the code ends its request.
func (c Code) Status() int {
	if int(c) < len(codes) {
		return codes[c].status
	}
	return 502
}

// Retryable tells whether another worker may be tried, provided the client has seen no byte yet.
func (c Code) Retryable() bool { return int(c) < len(codes) && codes[c].retry }
