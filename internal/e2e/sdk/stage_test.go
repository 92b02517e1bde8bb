package sdk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A target is what a suite is told of what it runs against, as JSON.
type target struct {
	URL       string            `json:"url"`
	Model     string            `json:"model"`     // of one engine, whose answers at temperature 0 can be repeated
	Embedder  string            `json:"embedder"`  // a model that embeds; "" with its need among Lacks
	Adapter   string            `json:"adapter"`   // a LoRA adapter of the model; "" likewise
	Scripted  string            `json:"scripted"`  // a model whose streams say "half of " and break off, on every route that streams
	BodyLimit int               `json:"bodyLimit"` // bytes of one body; half as many more fit into the gateway at a time
	Forever   int               `json:"forever"`   // tokens that take longer than any check and that the engine would give
	Lacks     map[string]string `json:"lacks"`     // needs of checks that the engine cannot meet, and why
	Stage     string            `json:"stage"`     // where a suite has things done: see stage
}

// A stage does for suites what no client of a gateway can do. Every call is a POST and answers with JSON.
//
//	/late         a gateway whose engine does not run: its url, and the model
//	/late/begin   starts that engine
//	/doomed       a gateway with an engine: its url and the model
//	/doomed/kill  ends it as a crash would
type stage struct {
	program string
	url     string

	mu     sync.Mutex
	begun  []*process
	late   int // port of the engine that does not run yet
	doomed *process
}

func newStage(t *testing.T) *stage {
	s := &stage{program: program(t)}
	mux := http.NewServeMux()
	for path, do := range map[string]func() (any, error){"/late": s.setLate, "/late/begin": s.beginLate, "/doomed": s.setDoomed, "/doomed/kill": s.killDoomed} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			v, err := do()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			json.NewEncoder(w).Encode(v) //nolint:errcheck // the suite may be gone
		})
	}
	srv := httptest.NewServer(mux)
	s.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		for i := len(s.begun) - 1; i >= 0; i-- { // gateways before their engines
			if err := s.begun[i].stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// place is where a suite finds a gateway.
type place struct {
	URL   string `json:"url"`
	Model string `json:"model"`
}

const lateModel = "late"

func (s *stage) start(args ...string) (*process, error) {
	p, err := start(s.program, args...)
	if err == nil {
		s.begun = append(s.begun, p)
	}
	return p, err
}

func (s *stage) setLate() (any, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.late = port
	p, err := s.start("up", "--port", "0", "--admin-port", "0", "--engine", fmt.Sprint("http://127.0.0.1:", port))
	if err != nil {
		return nil, err
	}
	return place{p.url, lateModel}, nil
}

func (s *stage) beginLate() (any, error) {
	_, err := s.start("sim", "--port", fmt.Sprint(s.late), "--model", lateModel, "--speed", "20")
	return struct{}{}, err
}

func (s *stage) setDoomed() (any, error) {
	p, err := s.start("up", "--port", "0", "--admin-port", "0", "--workers", "1", "--model", "doomed")
	if err != nil {
		return nil, err
	}
	s.doomed = p
	return place{p.url, "doomed"}, ready(p.url)
}

func (s *stage) killDoomed() (any, error) {
	if s.doomed == nil {
		return nil, errors.New("nobody is doomed")
	}
	s.doomed.kill()
	return struct{}{}, nil
}

const (
	bodyLimit = 1 << 20
	forever   = 50_000 // tokens, at 20 times the speed of the GPU that is simulated: 17 s
)

// simulated is a hub in front of an engine that generates, one that embeds, and one that breaks off.
func simulated(t *testing.T, s *stage) *target {
	chats := run(t, "sim", "--port", "0", "--model", "org/chat", "--speed", "20", "--response-store", "--audio", "--lora", "red=/lora/red")
	embeds := run(t, "sim", "--port", "0", "--model", "org/embed", "--speed", "20", "--embedding")
	return &target{
		URL: hub(t, chats.url, embeds.url), Model: "org/chat", Embedder: "org/embed", Adapter: "red", Scripted: scriptedModel,
		BodyLimit: bodyLimit, Forever: forever, Lacks: map[string]string{}, Stage: s.url,
	}
}

// hub is a gateway in front of engines and of one that breaks off.
func hub(t *testing.T, engines ...string) string {
	args := []string{"--max-payload-size", fmt.Sprint(bodyLimit), "--max-inflight-bytes", fmt.Sprint(bodyLimit * 3 / 2), "--engine", breaking(t).url}
	for _, url := range engines {
		args = append(args, "--engine", url)
	}
	url := up(t, args...)
	for end := time.Now().Add(startBound); ; time.Sleep(20 * time.Millisecond) { // it is ready with the first of them
		var models struct {
			Data []struct{ ID, Parent string }
		}
		bases := 0
		if err := fetch(url+"/v1/models", &models); err != nil {
			t.Fatal(err)
		}
		for _, m := range models.Data {
			if m.Parent == "" {
				bases++
			}
		}
		switch {
		case bases == len(engines)+1:
			return url
		case time.Now().After(end):
			t.Fatalf("after %v the models are %+v", startBound, models.Data)
		}
	}
}

func fetch(url string, into any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// breaking is an engine whose streams break off in the middle, in the words of each route.
func breaking(t *testing.T) *engine {
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) { breakOff(w, "data: "+words("half of ")+"\n\n") })
	e.mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		breakOff(w, `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"scripted","usage":{"input_tokens":5,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half of "}}

`)
	})
	e.mux.HandleFunc("POST /v1/responses", func(w http.ResponseWriter, r *http.Request) {
		breakOff(w, `event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"scripted","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":1,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"half of ","logprobs":[]}

`)
	})
	return e
}

// breakOff says something and ends the connection.
func breakOff(w http.ResponseWriter, events string) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, events) //nolint:errcheck // it ends anyway
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// startsIn bounds the start of a real engine, which costs half a minute of CPU.
const startsIn = 5 * time.Minute

// real is a hub in front of a real SGLang, which internal/e2e/sglang/rig has installed.
func realOne(t *testing.T, s *stage) *target {
	home := os.Getenv("RADIXBUS_SGLANG_HOME")
	if home == "" {
		t.Skip("no real engine: `task test:sdks -- --real` installs SGLang (6 GB) and names its folder in $RADIXBUS_SGLANG_HOME")
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	rig := filepath.Join("..", "sglang", "rig", "rig.py")
	c := exec.Command("nice", "-n", "5", filepath.Join(home, "venv", "bin", "python"), rig, "serve", "--tied", "--port", fmt.Sprint(port),
		"--enable-response-store", "--enable-lora", "--lora-paths", "red="+filepath.Join(home, "lora", "red"), "--max-lora-rank", "8",
		"--lora-target-modules", "q_proj", "v_proj", "--max-loras-per-batch", "2", "--lora-backend", "torch_native",
		"--tool-call-parser", "llama3")
	log, err := os.Create(filepath.Join(t.TempDir(), "engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	tie, err := c.StdinPipe() // once it is closed, by us or by our end, all processes of the engine end
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		c.Wait() //nolint:errcheck // killed by what it is tied to
		close(done)
	}()
	t.Cleanup(func() {
		tie.Close()
		<-done
	})
	url := fmt.Sprint("http://127.0.0.1:", port)
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if resp, err := http.Get(url + "/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Logf("the engine serves after %.0f s", time.Since(began).Seconds())
				break
			}
		}
		select {
		case <-done:
		default:
			if time.Since(began) < startsIn {
				continue
			}
		}
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("the engine does not serve:\n%s", text[max(0, len(text)-4000):])
	}
	return &target{
		URL: hub(t, url), Model: "tiny", Adapter: "red", Scripted: scriptedModel, BodyLimit: bodyLimit, Forever: 7000, Stage: s.url,
		Lacks: map[string]string{
			"embeddings": "the tiny model does not embed",
			"audio":      "the tiny model does not hear",
			"schemas":    "noise does not find the end of an open schema",
			"seed":       "this engine is not started for determinism at a temperature",
		},
	}
}
