package simengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// Handler serves the engine's HTTP API. It may be served before Run, which the requests then wait for.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, h := range map[string]http.HandlerFunc{
		"GET /health": e.health, "GET /ready": e.health, "GET /ping": e.health,
		"GET /health_generate": e.healthGenerate,
		"GET /model_info":      e.modelInfo, "GET /get_model_info": e.modelInfo,
		"GET /server_info": e.serverInfo, "GET /get_server_info": e.serverInfo,
		"GET /v1/models": e.models, "GET /v1/models/{id...}": e.oneModel,
		"GET /v1/loads": e.loads, "GET /metrics": e.metrics,
		"POST /v1/chat/completions": e.inference(e.chat, false),
		"POST /v1/completions":      e.inference(e.completions, false),
		"POST /generate":            e.inference(e.generate, true), "PUT /generate": e.inference(e.generate, true),
		"POST /abort_request": e.abortRequest,
		"GET /flush_cache":    e.flushCache, "POST /flush_cache": e.flushCache,
		"POST /pause_generation": e.pauseGeneration, "POST /continue_generation": e.continueGeneration,
		"POST /update_weights_from_disk": e.updateWeights,
	} {
		mux.HandleFunc(path, h)
	}
	if e.cfg.Faults {
		mux.HandleFunc("POST /_fault", e.postFault)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.cfg.Faults && r.URL.Path == "/_fault" || e.pass(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

// inference reads the body and refuses, in the shapes of a real engine, what is no JSON object.
func (e *Engine) inference(next func(http.ResponseWriter, *http.Request, []byte), native bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !native && !jsonContent(r) {
			writeFlat(w, failure{message: "Unsupported Media Type: Only 'application/json' is allowed",
				kind: "BadRequestError", status: http.StatusBadRequest})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.cfg.MaxBody))
		if err != nil {
			status := http.StatusBadRequest
			if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
				status = http.StatusRequestEntityTooLarge
			}
			writeFlat(w, failure{message: err.Error(), kind: "BadRequestError", status: status})
			return
		}
		if !json.Valid(body) {
			writeFlat(w, failure{message: "JSON decode error", kind: "Bad Request", status: http.StatusBadRequest})
			return
		}
		switch bytes.TrimSpace(body)[0] {
		case '{':
			next(w, r, body)
		case '[':
			w.Header().Set("Connection", "close")
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "Internal Server Error")
		default:
			writeFlat(w, failure{message: "Input should be a valid dictionary", kind: "Bad Request",
				status: http.StatusBadRequest})
		}
	}
}

// decode parses a body; what is wrong with it is the client's to know.
func decode(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return &badRequest{err.Error()}
	}
	return nil
}

// gone ends a request that the engine's death or absence leaves without an answer. It reports whether err
// was that.
func (e *Engine) gone(w http.ResponseWriter, err error) bool {
	if !errors.Is(err, errGone) {
		return false
	}
	breakOff(w)
	return true
}
