package workeradapter_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// The engine gets the client's bytes but for what had to be edited. RID stands for a fresh name of the engine's request.
func TestBodiesAreEditedBySplice(t *testing.T) {
	t.Parallel()
	const messages = `"messages": [ {"role":"user","content":"h\u00e9"} ]`
	plain := func(e *testkit.Engine, _ *workeradapter.Config) { e.PlainOpenAI() }
	for _, tt := range []struct {
		name    string
		prepare func(*testkit.Engine, *workeradapter.Config)
		route   prefix.Route
		body    string
		edits   []wire.Edit
		want    string
	}{
		{"a rid is added", cacheReport, prefix.Chat, `{ "model":"m",` + messages + `,"temperature":1.0e0 }`, nil, `{"rid":"RID", "model":"m",` + messages + `,"temperature":1.0e0 }`},
		{"a client's rid is replaced", cacheReport, prefix.Chat, `{"model":"m","rid" : "theirs",` + messages + `}`, nil, `{"model":"m","rid" : "RID",` + messages + `}`},
		{"details are asked for without a cache report", nil, prefix.Chat, `{"model":"m",` + messages + `}`, nil, `{"rid":"RID","return_cached_tokens_details":true,"model":"m",` + messages + `}`},
		{"details that were declined", nil, prefix.Chat, `{"return_cached_tokens_details":false,"model":"m",` + messages + `}`, nil, `{"rid":"RID","return_cached_tokens_details":true,"model":"m",` + messages + `}`},
		{"usage is asked for", cacheReport, prefix.Chat, `{"model":"m",` + messages + `,"stream":true}`, nil, `{"rid":"RID","stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`},
		{"usage beside other options", cacheReport, prefix.Chat, `{"stream_options":{ "x":1.50,"include_usage":false , "y" : [1e3]},"model":"m",` + messages + `,"stream":true}`, nil, `{"rid":"RID","stream_options":{ "x":1.50,"include_usage":true , "y" : [1e3]},"model":"m",` + messages + `,"stream":true}`},
		{"usage among empty options", cacheReport, prefix.Chat, `{"stream_options":{},"model":"m",` + messages + `,"stream":true}`, nil, `{"rid":"RID","stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`},
		{"options that are null", cacheReport, prefix.Chat, `{"stream_options":null,"model":"m",` + messages + `,"stream":true}`, nil, `{"rid":"RID","stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`},
		{"usage named twice", cacheReport, prefix.Chat, `{"stream_options":{"include_usage":true,"include_usage":false},"model":"m",` + messages + `,"stream":true}`, nil, `{"rid":"RID","stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`},
		{"usage that was asked for", cacheReport, prefix.Chat, `{"stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`, nil, `{"rid":"RID","stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`},
		{"no usage in a whole answer", cacheReport, prefix.Chat, `{"model":"m",` + messages + `,"stream":false}`, nil, `{"rid":"RID","model":"m",` + messages + `,"stream":false}`},
		{"generate tells by itself", nil, prefix.Generate, `{"text":"x","stream":true}`, nil, `{"rid":"RID","text":"x","stream":true}`},
		{"a name for each prompt", nil, prefix.Generate, `{"text":["x","y"],"rid":["a","b"]}`, nil, `{"text":["x","y"],"rid":["RID","RID"]}`},
		{"a name for the only prompt of a list", nil, prefix.Generate, `{"text":["x"]}`, nil, `{"rid":["RID"],"text":["x"]}`},
		{"the scheduler's edit", cacheReport, prefix.Generate, `{"text":"x","routed_dp_rank":0}`, []wire.Edit{{Key: "routed_dp_rank", Value: []byte("3")}}, `{"rid":"RID","text":"x","routed_dp_rank":3}`},
		{"the scheduler's new edit", cacheReport, prefix.Generate, `{"text":"x"}`, []wire.Edit{{Key: "routed_dp_rank", Value: []byte("3")}}, `{"routed_dp_rank":3,"rid":"RID","text":"x"}`},
		{"another kind of engine gets usage alone", plain, prefix.Chat, `{"model":"m",` + messages + `,"stream":true}`, nil, `{"stream_options":{"include_usage":true},"model":"m",` + messages + `,"stream":true}`},
		{"spaces around", cacheReport, prefix.Generate, " \n{\"text\":\"x\"} \n", nil, " \n{\"rid\":\"RID\",\"text\":\"x\"} \n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tt.prepare)
			s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
			seen := make(map[string]bool)
			for range 2 {
				st := s.gateway.NewStream("w", s.now, tt.route, tt.body)
				st.Edits = tt.edits
				st.Send()
				if got := st.Wait(); got.End.Code != wire.CodeOK {
					t.Fatalf("got %+v", got.End)
				}
			}
			rid := regexp.MustCompile(`"[0-9a-f]{32}"`)
			for _, x := range s.engine.Requests() {
				if got := rid.ReplaceAllString(string(x.Body), `"RID"`); got != tt.want {
					t.Errorf("the engine got\n%s, want\n%s", got, tt.want)
				}
				if !json.Valid(x.Body) {
					t.Errorf("no JSON: %s", x.Body)
				}
				for _, name := range rid.FindAllString(string(x.Body), -1) {
					if seen[name] {
						t.Errorf("the name %s is used twice", name)
					}
					seen[name] = true
				}
			}
			s.idle()
		})
	}
}

func TestDispatchesThatCannotBeServed(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	for name, spoil := range map[string]func(*wire.Dispatch){
		"a control route":      func(d *wire.Dispatch) { d.Path = "/flush_cache" },
		"a route with a query": func(d *wire.Dispatch) { d.Path = "/generate?x=/../flush_cache" },
		"a route below one":    func(d *wire.Dispatch) { d.Path = "/generate/../abort_request" },
		"another host":         func(d *wire.Dispatch) { d.Path = "@evil/generate" },
		"another method":       func(d *wire.Dispatch) { d.Method = "DELETE" },
		"points beyond":        func(d *wire.Dispatch) { d.Points = []wire.Point{{Key: "rid", KeyStart: 1, Start: 5, End: 1 << 60}} },
		"points of another":    func(d *wire.Dispatch) { d.Open = 5 },
		"an edit of no JSON":   func(d *wire.Dispatch) { d.Edits = []wire.Edit{{Key: "x", Value: []byte("{")}} },
		"an edit of the name":  func(d *wire.Dispatch) { d.Edits = []wire.Edit{{Key: "rid", Value: []byte(`"x"`)}} },
		"no body":              func(d *wire.Dispatch) { d.Body, d.Size = nil, 0 },
	} {
		st := s.gateway.NewStream("w", s.now, prefix.Generate, `{"text":"x"}`)
		spoil(st.Dispatch)
		st.Send()
		if got := st.Wait(); got.End.Code != wire.CodeMalformed || got.Status != 0 {
			t.Errorf("%s: got %v, status %d", name, got.End.Code, got.Status)
		}
	}
	if e := s.engine.Events(); len(e) != 0 {
		t.Errorf("the engine saw %q", strings.Join(e, ", "))
	}
	good := s.gateway.NewStream("w", s.now, prefix.Generate, `{"text":"x"}`).AppendTo(nil)
	for _, msg := range [][]byte{nil, []byte("x"), good[:len(good)-4], append([]byte{255}, good[1:]...)} {
		s.gateway.Publish("w", s.now, msg)
		s.gateway.Control("w", msg)
	}
	part := wire.Part{Gateway: "g", Stream: 999, Instance: s.now, Body: []byte("x")}
	spoilt := part.AppendTo(nil)
	s.gateway.Publish("w", s.now, spoilt) // of nobody
	s.gateway.Publish("w", s.now, spoilt[:len(spoilt)-1])
	testkit.Eventually(t, "what is not understood is counted", func() bool {
		return s.count("refused_total", "malformed_message")+s.count("refused_total", "unsupported_version") >= 5
	})
	if got := s.ask(prefix.Generate, `{"text":"x"}`).Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("afterwards: %+v", got.End)
	}
	s.idle()
}
