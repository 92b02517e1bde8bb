package workeradapter_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/prefix"
	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

func TestModelsThatAWorkerAnswersTo(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(e *testkit.Engine, c *workeradapter.Config) {
		e.AddModel(`{"id":"law","parent":"m","owned_by":"acme"}`)
		c.LoRAs = []workeradapter.LoRA{{Name: "sql", Path: "/sql"}, {Name: "law", Path: "/law"}}
		c.Aliases = []workeradapter.Alias{{Name: "gpt-4o", Model: "m"}, {Name: "lawyer", Model: "law"}, {Name: "m", Model: "law"}, {Name: "none", Model: "absent"}}
	})
	var got []wire.Model
	for _, m := range s.gateway.Info("w").Models {
		m.Created, m.ContextLength, m.OwnedBy = 0, 0, ""
		got = append(got, m)
	}
	want := []wire.Model{
		{Name: "m", Kind: wire.BaseModel}, {Name: "law", Kind: wire.LoRAModel, Loaded: true}, {Name: "sql", Kind: wire.LoRAModel},
		{Name: "gpt-4o", Kind: wire.AliasModel, Root: "m"}, {Name: "lawyer", Kind: wire.LoRAModel, Root: "law", Loaded: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("models (-want +got):\n%s", d)
	}

	// The engine hears its own names. SGLang takes an adapter's name alone for its base model's.
	s.engine.Handle("/load_lora_adapter", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"success":true}`)) }) //nolint:errcheck // a difference shows
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	for _, tt := range []struct {
		model string
		route prefix.Route
		body  string
		key   string
		want  string
	}{
		{"m", prefix.Chat, whole, "model", `"m"`},
		{"gpt-4o", prefix.Chat, strings.Replace(whole, `"m"`, `"gpt-4o"`, 1), "model", `"m"`},
		{"sql", prefix.Chat, strings.Replace(whole, `"m"`, `"sql"`, 1), "model", `"m:sql"`},
		{"lawyer", prefix.Chat, strings.Replace(whole, `"m"`, `"lawyer"`, 1), "model", `"m:law"`},
		{"m", prefix.Chat, strings.Replace(whole, `"model":"m",`, ``, 1), "model", `"m"`},
		{"sql", prefix.Generate, `{"text":"x"}`, "lora_path", `"sql"`},
		{"m", prefix.Generate, `{"text":"x"}`, "lora_path", ``},
	} {
		n := len(s.engine.Requests())
		st := s.gateway.NewStream("w", s.now, tt.route, tt.body)
		st.Model = tt.model
		st.Send()
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Fatalf("%s: %+v", tt.model, got.End)
		}
		if x := s.engine.Requests()[n]; x.Field(tt.key) != tt.want {
			t.Errorf("%s on %s: the engine got %s %s, want %s", tt.model, tt.route, tt.key, x.Field(tt.key), tt.want)
		}
	}
	s.idle()
}

// An engine that has room for two adapters drops one for a third, and loads it again by itself when it is asked for. One that
// goes although there is room is gone.
func TestAdaptersThatMadeRoomAreStillServed(t *testing.T) {
	t.Parallel()
	lora := func(name string) string { return `{"id":"` + name + `","parent":"m"}` }
	serve := func(e *testkit.Engine, loras ...string) {
		doc := `{"data":[` + strings.Join(append([]string{`{"id":"m"}`}, loras...), ",") + `]}`
		e.Handle("/v1/models", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(doc)) }) //nolint:errcheck // a difference shows
	}
	s := newSite(t, func(e *testkit.Engine, c *workeradapter.Config) {
		e.SetInfo("max_loaded_loras", 2)
		serve(e, lora("a"), lora("b"))
		c.Describe = 20 * time.Millisecond
	})
	serves := func(want ...string) {
		t.Helper()
		testkit.Eventually(t, "the names are right", func() bool {
			var names []string
			for _, m := range s.gateway.Info("w").Models {
				if m.Loaded || m.Kind == wire.BaseModel {
					names = append(names, m.Name)
				} else {
					names = append(names, m.Name+" dropped")
				}
			}
			return cmp.Equal(names, want)
		})
	}
	serves("m", "a", "b")
	serve(s.engine, lora("b"), lora("c"))
	serves("m", "b", "c", "a dropped")
	serve(s.engine, lora("c"))
	serves("m", "c")
	if info := s.gateway.Info("w"); info.Instance != s.now {
		t.Error("adapters that come and go are no other life")
	}
}

func TestAdaptersAreLoadedWhenTheyAreFirstAskedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) {
		c.LoRAs = []workeradapter.LoRA{{Name: "sql", Path: "/sql"}, {Name: "bad", Path: "/bad"}}
	})
	var loads atomic.Int32
	s.engine.Handle("/load_lora_adapter", func(w http.ResponseWriter, r *http.Request) {
		loads.Add(1)
		var ask struct {
			Name string `json:"lora_name"`
			Path string `json:"lora_path"`
		}
		if json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Path != "/"+ask.Name {
			t.Errorf("load %+v", ask)
		}
		time.Sleep(100 * time.Millisecond)
		if ask.Name == "bad" {
			w.WriteHeader(400)
			w.Write([]byte(`{"success":false,"error_message":"no such rank"}`)) //nolint:errcheck // a difference shows
			return
		}
		s.engine.AddModel(`{"id":"sql","parent":"m"}`)
		w.Write([]byte(`{"success":true}`)) //nolint:errcheck // a difference shows
	})
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	send := func(model string) *testkit.Stream {
		st := s.gateway.NewStream("w", s.now, prefix.Chat, strings.Replace(whole, `"m"`, `"`+model+`"`, 1))
		st.Model = model
		st.Send()
		return st
	}
	var streams []*testkit.Stream
	for range 5 {
		streams = append(streams, send("sql"))
	}
	for _, st := range streams {
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("got %+v", got.End)
		}
	}
	if n := loads.Load(); n != 1 {
		t.Errorf("loaded %d times for 5 requests, want once", n)
	}
	testkit.Eventually(t, "it is registered as loaded, in the same life", func() bool {
		info := s.gateway.Info("w")
		return info.Instance == s.now && info.Models[1].Name == "sql" && info.Models[1].Loaded
	})
	for range 2 {
		if got := send("bad").Wait(); got.End.Code != wire.CodeEngineFault || got.End.Message != `The engine could not load the adapter "bad".` {
			t.Errorf("an adapter that cannot be loaded: %+v", got.End)
		}
	}
	if n := loads.Load(); n != 3 {
		t.Errorf("loaded %d times, want a try for each request that needs the one that fails", n)
	}
	s.idle()
}

func TestOtherEnginesAreRecognised(t *testing.T) {
	t.Parallel()
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(s)) } //nolint:errcheck // a difference shows
	}
	for _, tt := range []struct {
		owner  string
		routes map[string]string
		want   wire.WorkerInfo
	}{
		{"vllm", map[string]string{
			"/version": `{"version":"0.12.1"}`,
			"/metrics": "# TYPE x gauge\nvllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"2500\",cache_dtype=\"auto\"} 1.0\n",
		}, wire.WorkerInfo{EngineKind: "vllm", EngineVersion: "0.12.1", PageSize: 16, CapacityTokens: 40_000, ContextLength: 8192, MaxRunning: 256}},
		{"vllm", nil, wire.WorkerInfo{EngineKind: "vllm", ContextLength: 8192, MaxRunning: 256}},
		// In its development mode it has SGLang's route, and was taken for one.
		{"vllm", map[string]string{"/server_info": `{"vllm_config":"model='m'","vllm_env":{}}`},
			wire.WorkerInfo{EngineKind: "vllm", ContextLength: 8192, MaxRunning: 256}},
		{"somebody", map[string]string{"/server_info": `{"version":7}`}, wire.WorkerInfo{EngineKind: "openai", ContextLength: 8192, MaxRunning: 256}},
		{"llamacpp", map[string]string{"/props": `{"total_slots":4,"default_generation_settings":{"n_ctx":4096},"build_info":"b7000"}`},
			wire.WorkerInfo{EngineKind: "llama.cpp", EngineVersion: "b7000", CapacityTokens: 16384, ContextLength: 4096, MaxRunning: 4}},
		{"tensorrt_llm", map[string]string{"/version": `{"version":"1.3"}`}, wire.WorkerInfo{EngineKind: "tensorrt-llm", EngineVersion: "1.3", ContextLength: 8192, MaxRunning: 256}},
		{"somebody", nil, wire.WorkerInfo{EngineKind: "openai", ContextLength: 8192, MaxRunning: 256}},
	} {
		t.Run(tt.owner, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(e *testkit.Engine, _ *workeradapter.Config) {
				e.PlainOpenAI()
				e.SetOwner(tt.owner)
				for path, doc := range tt.routes {
					e.Handle(path, text(doc))
				}
			})
			info := s.gateway.Info("w")
			got := wire.WorkerInfo{
				EngineKind: info.EngineKind, EngineVersion: info.EngineVersion, PageSize: info.PageSize, CapacityTokens: info.CapacityTokens,
				ContextLength: info.ContextLength, MaxRunning: info.MaxRunning,
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("info (-want +got):\n%s", d)
			}
			s.engine.Answer(func(x *testkit.Exchange) {
				x.Reply(200, "application/json", `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2},"timings":{"cache_n":7}}`)
			})
			if e := s.ask(prefix.Chat, whole).Wait().End; e.Code != wire.CodeOK || e.Prompt != 9 || e.CachedPlus1 != 8 {
				t.Errorf("got %+v", e)
			}
			if told := s.gateway.Order("w", wire.Ask{Op: wire.OpFlush}); told.OK || told.Status != 501 {
				t.Errorf("flush: %+v", told)
			}
			testkit.Eventually(t, "nothing runs", func() bool {
				told := s.gateway.Order("w", wire.Ask{Op: wire.OpLoad})
				return told.OK && strings.Contains(string(told.Body), `"num_running_reqs":0`)
			})
		})
	}
}

func TestWhatAnEngineCannotDoIsTold(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string][2]bool{
		`{"is_generation":false,"has_audio_understanding":true}`: {true, false},
		`{"is_generation":true,"has_audio_understanding":false}`: {false, true},
		`{"model_path":"m"}`: {false, false},
	} {
		s := newSite(t, func(e *testkit.Engine, _ *workeradapter.Config) {
			e.Handle("/model_info", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(doc)) }) //nolint:errcheck // a difference shows
		})
		if info := s.gateway.Info("w"); info.Embeds != want[0] || info.NoAudio != want[1] {
			t.Errorf("%s: embeds %v, no audio %v", doc, info.Embeds, info.NoAudio)
		}
	}
}

// An idle engine whose weights change says nothing by itself; and it names its model anew, though it is called as before.
func TestNewWeightsOfAnIdleEngineAreSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.Describe = time.Hour })
	reply := func(doc string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(doc)) } //nolint:errcheck // a difference shows
	}
	s.engine.Handle("/v1/models", reply(`{"data":[{"id":"/models/b","owned_by":"sglang"}]}`))
	s.engine.Handle("/server_info", reply(`{"version":"0.5.23","served_model_name":"m","max_total_num_tokens":1000,"page_size":1}`))
	s.engine.Handle("/model_info", reply(`{"model_path":"/models/b","weight_version":"v2"}`))
	next := s.gateway.AwaitBeat(wire.Ready, s.now)
	if info := s.gateway.Info("w"); info.Instance != next.Instance || info.WeightVersion != "v2" || info.Pool != "m" || info.Models[0].Name != "m" {
		t.Errorf("info %+v", info)
	}
}

// An engine whose weights change while it runs says so in its answers: it is looked at again at once.
func TestNewWeightsAreSeenInAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.Describe = time.Hour })
	s.engine.Handle("/model_info", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"weight_version":"v2"}`)) }) //nolint:errcheck // a difference shows
	s.engine.Answer(func(x *testkit.Exchange) {
		x.Reply(200, "application/json", `{"choices":[],"metadata":{"weight_version":"v2"}}`)
	})
	if got := s.ask(prefix.Chat, whole).Wait(); got.End.WeightVersion != "v2" {
		t.Fatalf("got %+v", got.End)
	}
	next := s.gateway.AwaitBeat(wire.Ready, s.now)
	if info := s.gateway.Info("w"); info.Instance != next.Instance || info.WeightVersion != "v2" {
		t.Errorf("info %+v", info)
	}
}
