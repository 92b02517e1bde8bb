package simengine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

func responsesBody(more string) string {
	return `{"model":"m","input":"hello there","temperature":0,"max_output_tokens":5` + more + `}`
}

type responseObject struct {
	ID     string
	Status string
	Output []struct {
		Type, Name, Arguments string
		Content               []struct{ Text string }
	}
	Usage *struct {
		Input   int `json:"input_tokens"`
		Output  int `json:"output_tokens"`
		Details struct {
			Cached int `json:"cached_tokens"`
		} `json:"input_tokens_details"`
	}
	Error *struct{ Message string }
}

func TestResponses(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", Model: "m", ResponseStore: true})
	first := parse[responseObject](t, second(r.post("/v1/responses", responsesBody(`,"request_id":"resp_a"`))))
	if first.ID != "resp_a" || first.Status != "incomplete" || first.Usage.Output != 3 || len(strings.Fields(first.Output[0].Content[0].Text)) != 3 {
		t.Errorf("%+v, want resp_a with the three tokens that a limit of five leaves", first)
	}
	code, stream := r.post("/v1/responses", responsesBody(`,"stream":true,"request_id":"resp_b"`))
	const want = "response.created response.in_progress response.output_item.added response.content_part.added response.output_text.delta " +
		"response.output_text.done response.content_part.done response.output_item.done response.incomplete"
	if got := names(stream); code != 200 || got != want || strings.Contains(stream, "[DONE]") {
		t.Errorf("%d, events %q, want %q", code, got, want)
	}
	if !strings.Contains(stream, fmt.Sprintf(`"cached_tokens":%d`, first.Usage.Input-1)) {
		t.Errorf("a repeated prompt in %s", stream)
	}
	for _, id := range []string{"resp_a", "resp_b"} {
		got := parse[responseObject](t, second(r.get("/v1/responses/"+id)))
		if got.ID != id || got.Output[0].Content[0].Text != first.Output[0].Content[0].Text {
			t.Errorf("stored %+v, want what was said", got)
		}
	}
	next := parse[responseObject](t, second(r.post("/v1/responses", `{"model":"m","input":"go on","previous_response_id":"resp_a","max_output_tokens":5}`)))
	if next.Usage.Details.Cached < first.Usage.Input {
		t.Errorf("%d tokens cached of a continued conversation, want its first turn's %d", next.Usage.Details.Cached, first.Usage.Input)
	}
	call := parse[responseObject](t, second(r.post("/v1/responses", `{"model":"m","input":"hi","tool_choice":"required","tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}}]}`)))
	if o := call.Output[0]; call.Status != "completed" || o.Type != "function_call" || o.Name != "f" || o.Arguments != `{"ok": true}` {
		t.Errorf("a required tool: %+v", call)
	}
}

func TestResponsesRefuse(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", Model: "m", ResponseStore: true})
	off := start(t, simengine.Config{Profile: "instant", Model: "m"})
	for _, tt := range []struct {
		name string
		on   *rig
		body string
		code int
		want string
	}{
		{"a model that is not served", r, responsesBody(`,"model":"other"`), 404, `{"error":{"message":"The model 'other' does not exist","type":"invalid_request_error","param":"model","code":404}}`},
		{"an adapter, which is ignored", r, responsesBody(`,"model":"m:none"`), 200, `"model":"m:none"`},
		{"an unknown turn", r, responsesBody(`,"previous_response_id":"resp_x"`), 404, `"param":"response_id"`},
		{"no turn's id", r, responsesBody(`,"previous_response_id":"x"`), 400, "Expected an ID that begins with 'resp'."},
		{"the store is off", off, responsesBody(`,"previous_response_id":"resp_x"`), 400, `"param":"previous_response_id"`},
		{"in the background, store off", off, responsesBody(`,"background":true`), 400, `"param":"background"`},
		{"in the background, not stored", r, responsesBody(`,"background":true,"store":false`), 400, "background=true requires store=true."},
		{"a limit of less than two", r, responsesBody(`,"max_output_tokens":1`), 400, "max_new_tokens must be at least 0, got -1."},
		{"no input", r, `{"model":"m"}`, 400, `"type":"Bad Request"`},
		{"an empty conversation", r, `{"model":"m","input":[]}`, 400, "empty conversation"},
		{"a bad number in a stream", r, responsesBody(`,"stream":true,"temperature":-1`), 200, `"code":"server_error","message":"temperature must be`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, body := tt.on.post("/v1/responses", tt.body); code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s, want %d with %s", code, body, tt.code, tt.want)
			}
		})
	}
	for path, want := range map[string]int{"/v1/responses/resp_x": 404, "/v1/responses/x": 400} {
		if code, body := r.get(path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	if code, _ := off.get("/v1/responses/resp_x"); code != 400 {
		t.Errorf("without a store: %d, want 400", code)
	}
}

func TestResponsesInTheBackground(t *testing.T) {
	r := start(t, simengine.Config{Model: "m", ResponseStore: true, MaxResponses: 2})
	body := `{"model":"m","input":"hi","background":true,"max_output_tokens":100000,"request_id":%q}`
	queued := parse[responseObject](t, second(r.post("/v1/responses", fmt.Sprintf(body, "resp_1"))))
	if queued.Status != "queued" || queued.Usage != nil {
		t.Errorf("at once: %+v, want queued", queued)
	}
	r.until("running", func(s simengine.Stats) bool { return s.Output > 1 })
	if got := parse[responseObject](t, second(r.get("/v1/responses/resp_1"))); got.Status != "in_progress" {
		t.Errorf("while it runs: %s", got.Status)
	}
	if _, body := r.post("/v1/responses/resp_1/cancel", ""); parse[responseObject](t, body).Status != "cancelled" {
		t.Errorf("cancel: %s", body)
	}
	r.until("aborted", func(s simengine.Stats) bool { return s.Live == 0 && s.Aborted == 1 })
	if got := parse[responseObject](t, second(r.get("/v1/responses/resp_1"))); got.Status != "cancelled" {
		t.Errorf("after the end: %s, want cancelled still", got.Status)
	}
	r.post("/v1/responses", fmt.Sprintf(`{"model":"m","input":"hi","background":true,"max_output_tokens":4,"request_id":%q}`, "resp_2"))
	r.until("finished", func(s simengine.Stats) bool { return s.Finished == 1 })
	for deadline := 1000; ; deadline-- {
		if got := parse[responseObject](t, second(r.get("/v1/responses/resp_2"))); got.Status == "incomplete" && len(got.Output) == 1 {
			break
		} else if deadline == 0 {
			t.Fatalf("never complete: %+v", got)
		}
	}
	r.post("/v1/responses", `{"model":"m","input":"hi","max_output_tokens":4}`)
	if code, _ := r.get("/v1/responses/resp_1"); code != http.StatusNotFound {
		t.Errorf("the oldest of three where two are kept: %d, want 404", code)
	}
}
