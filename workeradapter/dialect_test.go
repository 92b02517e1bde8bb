package workeradapter_test

import (
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
)

// named writes documents as events with the names of their types.
func named(docs ...string) (s string) {
	for _, d := range docs {
		_, rest, _ := strings.Cut(d, `"type":"`)
		name, _, _ := strings.Cut(rest, `"`)
		s += "event: " + name + "\ndata: " + d + "\n\n"
	}
	return s
}

// As seen on SGLang 0.5.23.
const (
	messageStart  = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","usage":{"input_tokens":14,"output_tokens":0,"cache_read_input_tokens":26}}}`
	messageEmpty  = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","usage":{"input_tokens":0,"output_tokens":0}}}`
	blockStart    = `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`
	blockDelta    = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"say \"message_stop\" or error"}}`
	blockStop     = `{"type":"content_block_stop","index":0}`
	messageDelta  = `{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":2}}`
	messageStop   = `{"type":"message_stop"}`
	messageError  = `{"type":"error","error":{"type":"invalid_request_error","message":"Input length (27012 tokens) exceeds the maximum allowed length."}}`
	messageFailed = `{"type":"error","error":{"type":"api_error","message":"Internal server error"}}`

	created    = `{"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress","usage":null,"error":null},"sequence_number":0}`
	inProgress = `{"type":"response.in_progress","response":{"id":"resp_1","object":"response","status":"in_progress","usage":null,"error":null},"sequence_number":1}`
	textDelta  = `{"content_index":0,"delta":"response.completed","sequence_number":4,"type":"response.output_text.delta"}`
	incomplete = `{"type":"response.incomplete","response":{"id":"resp_1","object":"response","status":"incomplete","error":null,"usage":{"input_tokens":40,"input_tokens_details":{"cached_tokens":26},"output_tokens":2}},"sequence_number":8}`
	failed     = `{"type":"response.failed","response":{"id":"resp_1","status":"failed","usage":{"input_tokens":1,"output_tokens":1},"error":{"code":"server_error","message":"Input length (27012 tokens) exceeds the maximum allowed length (8186 tokens)."}},"sequence_number":2}`
	failedBusy = `{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"rate_limit_exceeded","message":"The queue is full."}},"sequence_number":2}`
)

func TestStreamsOfMessagesAndResponses(t *testing.T) {
	t.Parallel()
	const message = `{"model":"m","max_tokens":2,"stream":true,"messages":[{"role":"user","content":"hi"}]}`
	const response = `{"model":"m","stream":true,"input":"hi"}`
	s := newSite(t, cacheReport)
	for _, tt := range []struct {
		name, path, body, sent string
		want                   string // "": all of sent
		code                   wire.Code
		status                 int
		finish                 string
	}{
		{"messages", "/v1/messages", message, named(messageStart, blockStart, `{"type":"ping"}`, blockDelta, blockStop, messageDelta, messageStop), "", wire.CodeOK, 200, "max_tokens"},
		{"messages cut", "/v1/messages", message, named(messageStart, blockStart, blockDelta), "", wire.CodeEngineBroke, 200, ""},
		{"messages cut at the start", "/v1/messages", message, named(messageStart), "", wire.CodeEngineBroke, 0, ""},
		{"messages refused behind a start", "/v1/messages", message, named(messageEmpty, messageError, messageStop), messageError, wire.CodeEngineRefused, 400, ""},
		{"messages failed behind a start", "/v1/messages", message, named(messageEmpty, messageFailed, messageStop), "", wire.CodeEngineFault, 0, ""},
		{"messages failed in the middle", "/v1/messages", message, named(messageStart, blockStart) + "SPLIT" + named(messageFailed, messageStop), "", wire.CodeOK, 200, ""},
		{"responses", "/v1/responses", response, named(created, inProgress, textDelta, incomplete), "", wire.CodeOK, 200, "incomplete"},
		{"responses cut", "/v1/responses", response, named(created, inProgress, textDelta), "", wire.CodeEngineBroke, 200, ""},
		{"responses cut at the start", "/v1/responses", response, named(created, inProgress), "", wire.CodeEngineBroke, 0, ""},
		{"responses refused behind a start", "/v1/responses", response, named(created, inProgress, failed), `{"error":{"code":400,"message":"Input length (27012 tokens) exceeds the maximum allowed length (8186 tokens).","param":null,"type":"invalid_request_error"}}`, wire.CodeEngineRefused, 400, ""},
		{"responses for which there is no room", "/v1/responses", response, named(created, failedBusy), "", wire.CodeEngineBusy, 0, ""},
		{"responses failed in the middle", "/v1/responses", response, named(created, inProgress, textDelta) + "SPLIT" + named(failed), "", wire.CodeOK, 200, "failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			head, tail, split := strings.Cut(tt.sent, "SPLIT")
			next := make(chan struct{})
			s.engine.Answer(func(x *testkit.Exchange) {
				x.Begin()
				x.Send(head) //nolint:errcheck // a difference shows
				if split {
					<-next
					x.Send(tail) //nolint:errcheck // a difference shows
				}
			})
			st := s.gateway.NewPath("w", s.now, tt.path, tt.body)
			st.Flags |= wire.FlagStream
			st.Send()
			if split {
				testkit.Eventually(t, "the first part", func() bool { return st.Answer().Body != "" })
			}
			close(next)
			got := st.Wait()
			want := tt.want
			if want == "" && tt.status != 0 {
				want = head + tail
			}
			if got.End.Code != tt.code || got.Status != tt.status || got.Body != want || got.End.Finish != tt.finish && tt.code == wire.CodeOK && tt.finish != "" {
				t.Errorf("got %+v, status %d, body\n%s, want %v, %d,\n%s", got.End, got.Status, got.Body, tt.code, tt.status, want)
			}
			if strings.HasSuffix(tt.finish, "max_tokens") || tt.finish == "incomplete" {
				if e := got.End; e.Prompt != 40 || e.Completion != 2 || e.CachedPlus1 != 27 || e.TTFTMicros == 0 {
					t.Errorf("end = %+v, want 40 prompt tokens, 26 of them cached, and 2 of the answer", e)
				}
			}
		})
	}
	s.idle()
}

// What an engine computes or keeps is passed on as it is.
func TestAnswersOfOtherRoutes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, tt := range []struct {
		name, method, path, body, contentType, answer string
		status                                        int
		code                                          wire.Code
		prompt                                        uint32
	}{
		{"embeddings", "POST", "/v1/embeddings", `{"model":"m","input":"x"}`, "application/json", `{"object":"list","data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}`, 200, wire.CodeOK, 3},
		{"scores", "POST", "/v1/score", `{"model":"m","query":"x"}`, "application/json", `{"scores":[[0.5]]}`, 200, wire.CodeOK, 0},
		{"a refusal", "POST", "/v1/embeddings", `{"model":"m","input":"x"}`, "application/json", `{"object":"error","message":"No embedding model.","code":400}`, 400, wire.CodeEngineRefused, 0},
		{"a fault", "POST", "/v1/embeddings", `{"model":"m","input":"x"}`, "text/plain", `boom`, 500, wire.CodeEngineFault, 0},
		{"JSON that is none", "POST", "/v1/score", `{"model":"m"}`, "application/json", `{"sco`, 200, wire.CodeEngineFault, 0},
		{"a text", "POST", "/separate_reasoning", `{"model":"m"}`, "text/plain", `plain`, 200, wire.CodeOK, 0},
		{"a session", "POST", "/open_session", `{"capacity_of_str_len":10}`, "application/json", `"rb1x"`, 200, wire.CodeOK, 0},
		{"a stored response that failed", "GET", "/v1/responses/resp_1", ``, "application/json", `{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"x"}}`, 200, wire.CodeOK, 0},
		{"none stored", "GET", "/v1/responses/resp_2", ``, "application/json", `{"error":{"message":"not found","code":404}}`, 404, wire.CodeEngineRefused, 0},
		{"a cancel", "POST", "/v1/responses/resp_1/cancel", ``, "application/json", `{"id":"resp_1","status":"cancelled"}`, 200, wire.CodeOK, 0},
		{"health", "GET", "/health_generate", ``, "", ``, 200, wire.CodeOK, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.engine.Answer(func(x *testkit.Exchange) { x.Reply(tt.status, tt.contentType, tt.answer) })
			n := len(s.engine.Requests())
			st := s.gateway.NewPath("w", s.now, tt.path, tt.body)
			st.Method = tt.method
			st.Send()
			got := st.Wait()
			passed := tt.code == wire.CodeOK || tt.code == wire.CodeEngineRefused
			if got.End.Code != tt.code || passed && (got.Status != tt.status || got.Body != tt.answer) || got.End.Prompt != tt.prompt {
				t.Errorf("got %+v, status %d, %q", got.End, got.Status, got.Body)
			}
			x := s.engine.Requests()[n]
			if x.R.URL.Path != tt.path || x.R.Method != tt.method || x.Field("rid") != "" {
				t.Errorf("the engine saw %s %s %s", x.R.Method, x.R.URL.Path, x.Body)
			}
			if tt.body == "" && (len(x.Body) != 0 || x.R.Header.Get("Content-Type") != "") {
				t.Errorf("a body of %d bytes, %s", len(x.Body), x.R.Header.Get("Content-Type"))
			}
		})
	}
	t.Run("names of what is kept", func(t *testing.T) {
		s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
		for _, tt := range []struct{ path, body, key string }{
			{"/v1/responses", `{"model":"m","input":"x"}`, "request_id"},
			{"/open_session", `{"capacity_of_str_len":10}`, "session_id"},
		} {
			st := s.gateway.NewPath("w", s.now, tt.path, tt.body)
			st.Send()
			st.Wait()
			x := s.engine.Requests()[len(s.engine.Requests())-1]
			name := strings.Trim(x.Field(tt.key), `"`)
			if at, ok := wire.ParseReference(name); !ok || at.Engine != wire.EngineHash(s.gateway.Info("w").Engine) || at.Rank != 0 {
				t.Errorf("%s: the engine got %s %q", tt.path, tt.key, name)
			}
		}
	})
	t.Run("opaque bodies", func(t *testing.T) {
		const form = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\x00\xff{not json\r\n--b--\r\n"
		st := s.gateway.NewPath("w", s.now, "/v1/audio/transcriptions", form)
		st.Headers = []wire.Header{{Name: "Content-Type", Value: "multipart/form-data; boundary=b"}}
		st.Send()
		st.Wait()
		x := s.engine.Requests()[len(s.engine.Requests())-1]
		if string(x.Body) != form || x.R.Header.Get("Content-Type") != "multipart/form-data; boundary=b" {
			t.Errorf("the engine got %q as %s", x.Body, x.R.Header.Get("Content-Type"))
		}
	})
	s.idle()
}
