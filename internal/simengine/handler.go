package simengine

import (
	"net/http"
	"slices"
	"strings"
)

// Handler serves the engine's HTTP API. It may be served before Run, which the requests then wait for.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	get, post := []string{http.MethodGet}, []string{http.MethodPost}
	both, put := append(get, post...), append(post, http.MethodPut)
	for _, route := range []struct {
		path    string
		methods []string
		serve   http.HandlerFunc
	}{
		{"/{$}", append(get, http.MethodHead), e.root},
		{"/health", get, e.health}, {"/health_generate", get, e.healthGenerate}, {"/ready", get, e.ready}, {"/ping", get, e.ping},
		{"/model_info", get, e.modelInfo}, {"/get_model_info", get, e.modelInfo},
		{"/server_info", get, e.serverInfo}, {"/get_server_info", get, e.serverInfo},
		{"/v1/models", get, e.models}, {"/v1/models/{id...}", get, e.oneModel},
		{"/v1/loads", get, e.loads}, {"/metrics", get, e.metrics},

		{"/generate", put, e.body(e.nativeRule(), refuseNative, e.generate)},
		{"/v1/completions", post, e.body(e.openAIRule(), refuseFlat, e.completions)},
		{"/v1/chat/completions", post, e.body(bodyRule{onlyJSON: true, bound: e.cfg.MaxBody}, refuseFlat, e.chatCompletions)},
		{"/v1/messages", post, e.body(e.openAIRule(), anthropic{e}.refuse, e.messages)},
		{"/v1/messages/count_tokens", post, e.body(e.openAIRule(), anthropic{e}.refuse, e.countTokens)},
		{"/v1/embeddings", post, e.body(e.openAIRule(), refuseFlat, e.embeddings)},
		{"/v1/classify", post, e.body(e.openAIRule(), refuseFlat, e.classify)},
		{"/v1/rerank", put, e.body(e.openAIRule(), refuseFlat, e.rerank)},
		{"/v1/score", post, e.body(e.openAIRule(), refuseFlat, e.score)},
		{"/encode", put, e.body(e.nativeRule(), refuseNative, e.encode)},
		{"/classify", put, e.body(e.nativeRule(), refuseNative, e.encode)},
		{"/v1/tokenize", post, e.body(e.openAIRule(), refuseFlat, e.tokenize)},
		{"/tokenize", post, e.body(e.openAIRule(), refuseFlat, e.tokenize)},
		{"/v1/detokenize", post, e.body(e.openAIRule(), refuseFlat, e.detokenize)},
		{"/detokenize", post, e.body(e.openAIRule(), refuseFlat, e.detokenize)},
		{"/v1/audio/transcriptions", post, e.transcriptions},
		{"/v1/responses", post, e.body(e.openAIRule(), responder{}.refuse, e.createResponse)},
		{"/v1/responses/{id}", get, e.retrieveResponse}, {"/v1/responses/{id}/cancel", post, e.cancelResponse},

		{"/abort_request", post, e.abortRequest}, {"/flush_cache", both, e.flushCache},
		{"/pause_generation", post, e.pauseGeneration}, {"/continue_generation", post, e.continueGeneration},
		{"/update_weights_from_disk", post, e.updateWeights},
		{"/load_lora_adapter", post, e.loadAdapter}, {"/unload_lora_adapter", post, e.unloadAdapter},
		{"/open_session", both, e.openSession}, {"/close_session", both, e.closeSession},
		{"/start_profile", both, profile("Start profiling.\n")},
		{"/stop_profile", both, profile("Stop profiling. This will take some time.\n")},
	} {
		mux.HandleFunc(route.path, only(route.methods, route.serve))
	}
	mux.HandleFunc("/", notFound)
	if e.cfg.Faults {
		mux.HandleFunc("POST /_fault", e.postFault)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case (!e.cfg.Faults || r.URL.Path != "/_fault") && !e.pass(w, r):
		case strings.Contains(r.URL.Path, "//"): // where mux would send the client elsewhere
			notFound(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusNotFound, map[string]string{"detail": "Not Found"})
}

// only serves the route's methods; others are answered as the web framework of a real engine does.
func only(methods []string, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"detail": "Method Not Allowed"})
			return
		}
		serve(w, r)
	}
}
