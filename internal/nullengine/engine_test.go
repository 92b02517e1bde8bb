package nullengine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/radixbus/radixbus/internal/nullengine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an engine and returns its address. It is stopped, and waited for, at the test's end.
func serve(t *testing.T, cfg nullengine.Config) string {
	t.Helper()
	engine, err := nullengine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return ln.Addr().String()
}

func ask(t *testing.T, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(doc)
}

// events are the data of a stream, without its end, which has to be there.
func events(t *testing.T, doc string) (data []string) {
	t.Helper()
	for event := range strings.SplitSeq(strings.TrimSuffix(doc, "\n\n"), "\n\n") {
		text, ok := strings.CutPrefix(event, "data: ")
		if !ok {
			t.Fatalf("event %q", event)
		}
		data = append(data, text)
	}
	if last := len(data) - 1; data[last] != "[DONE]" {
		t.Fatalf("the stream ends with %q", data[last])
	}
	return data[:len(data)-1]
}

type answer struct {
	ID      string
	Text    string
	Choices []struct {
		Text         string
		Message      struct{ Content string }
		Delta        struct{ Content string }
		FinishReason *string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	}
	Meta struct {
		ID         string
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Finish     any `json:"finish_reason"`
	} `json:"meta_info"`
}

func parse(t *testing.T, doc string) (a answer) {
	t.Helper()
	if err := json.Unmarshal([]byte(doc), &a); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	return a
}

func TestAnswersHaveTheTokensThatWereAskedFor(t *testing.T) {
	url := "http://" + serve(t, nullengine.Config{})
	const rid = `a "name"` + "\x01"
	name, err := json.Marshal(rid)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range []string{"/v1/chat/completions", "/v1/completions", "/generate"} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/stream=%t", route, stream), func(t *testing.T) {
				body := fmt.Sprintf(`{"rid":%s,"stream":%t,"stream_options":{"include_usage":true},"max_tokens":3,"sampling_params":{"max_new_tokens":3}}`, name, stream)
				resp, doc := ask(t, "POST", url+route, strings.NewReader(body))
				if resp.StatusCode != 200 {
					t.Fatalf("%d: %s", resp.StatusCode, doc)
				}
				docs := []string{doc}
				if stream {
					docs = events(t, doc)
				}
				text, finish, prompt, completion := "", "", 0, 0
				for _, doc := range docs {
					a := parse(t, doc)
					if a.ID+a.Meta.ID != rid {
						t.Fatalf("id %q", a.ID+a.Meta.ID)
					}
					for _, c := range a.Choices {
						if text += c.Text + c.Message.Content + c.Delta.Content; c.FinishReason != nil {
							finish = *c.FinishReason
						}
					}
					if a.Usage != nil {
						prompt, completion = a.Usage.Prompt, a.Usage.Completion
					}
					if route == "/generate" { // which repeats all so far
						text, prompt, completion = a.Text, a.Meta.Prompt, a.Meta.Completion
						if f, ok := a.Meta.Finish.(map[string]any); ok {
							finish, _ = f["type"].(string)
						}
					}
				}
				if text != "t0 t1 t2 " || finish != "length" || prompt != len(body)/4 || completion != 3 {
					t.Errorf("%q, %q, %d + %d tokens", text, finish, prompt, completion)
				}
			})
		}
	}
}

func TestRoutersFindWhatTheyAskFor(t *testing.T) {
	url := "http://" + serve(t, nullengine.Config{Model: `m"1`})
	for _, path := range []string{"/v1/models", "/server_info", "/get_server_info", "/model_info", "/get_model_info", "/v1/loads", "/get_load"} {
		resp, doc := ask(t, "GET", url+path, nil)
		if resp.StatusCode != 200 || !json.Valid([]byte(doc)) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, doc)
		}
	}
	if resp, doc := ask(t, "GET", url+"/health", nil); resp.StatusCode != 200 || doc != "" {
		t.Errorf("health: %d %q", resp.StatusCode, doc)
	}
	if resp, doc := ask(t, "HEAD", url+"/v1/models", nil); resp.ContentLength <= 0 || doc != "" {
		t.Errorf("HEAD: %d %q", resp.ContentLength, doc)
	}
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/nowhere", "", 404}, {"GET", "/generate", "", 405}, {"POST", "/generate", `{"text":`, 400}, {"POST", "/abort_request", "x", 400},
	} {
		resp, doc := ask(t, tt.method, url+tt.path, strings.NewReader(tt.body))
		if resp.StatusCode != tt.status || !json.Valid([]byte(doc)) {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, resp.StatusCode, doc, tt.status)
		}
	}
}

// TestBodiesAreReadInEveryFraming, and leave the connection for the next request.
func TestBodiesAreReadInEveryFraming(t *testing.T) {
	url := "http://" + serve(t, nullengine.Config{Tokens: 1})
	for _, size := range []int{100, 5 << 10, 300 << 10, 6 << 20, 100} {
		body := `{"text":"` + strings.Repeat("x", size) + `"}`
		for _, reader := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} { // a length; chunks
			if _, doc := ask(t, "POST", url+"/generate", reader); parse(t, doc).Meta.Prompt != len(body)/4 {
				t.Errorf("%d bytes: %s", size, doc)
			}
		}
	}
}

func TestWhatIsNotHTTPEndsItsConnection(t *testing.T) {
	addr := serve(t, nullengine.Config{})
	for name, tt := range map[string]struct {
		say    string
		status string
	}{
		"no version":         {"GET /health\r\n\r\n", "400"},
		"a body beyond":      {"POST /generate HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", "413"},
		"no length":          {"POST /generate HTTP/1.1\r\nContent-Length: x\r\n\r\n", "413"},
		"another framing":    {"POST /generate HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
		"a chunk of no size": {"POST /generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "400"},
		"a long head":        {"GET /health HTTP/1.1\r\nA: " + strings.Repeat("a", 80<<10), "431"},
		"HTTP/1.0":           {"GET /health HTTP/1.0\r\n\r\n", "200"},
		"told to close":      {"GET /health HTTP/1.1\r\nConnection: Close\r\n\r\n", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, tt.say) //nolint:errcheck // a difference shows
			got, err := io.ReadAll(conn)
			if !strings.HasPrefix(string(got), "HTTP/1.1 "+tt.status) {
				t.Errorf("%q, %v; want %s and the end", got, err, tt.status)
			}
		})
	}
}

func TestAPacedAnswerCanBeAborted(t *testing.T) {
	url := "http://" + serve(t, nullengine.Config{ITL: time.Hour})
	for _, how := range []string{`{"rid":"r \"1\""}`, `{"abort_all":true}`} {
		resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"rid":"r \"1\"","stream":true,"max_tokens":5}`))
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(resp.Body)
		var doc strings.Builder
		for !strings.Contains(doc.String(), "t0 ") { // it has begun
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			doc.WriteString(line)
		}
		ask(t, "POST", url+"/abort_request", strings.NewReader(how))
		rest, err := io.ReadAll(in)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		all := events(t, doc.String()+string(rest))
		if last := parse(t, all[len(all)-1]); last.Choices[0].FinishReason == nil || *last.Choices[0].FinishReason != "abort" {
			t.Errorf("%s: it ends with %s", how, all[len(all)-1])
		}
	}
}

func TestTheEndOfAnEngineCutsWhatIsUnderWay(t *testing.T) {
	engine, err := nullengine.New(nullengine.Config{TTFT: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /generate HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}") //nolint:errcheck // a difference shows
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := engine.Serve(ctx, ln); err != nil {
		t.Errorf("Serve: %v", err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a difference shows
	if got, err := io.ReadAll(conn); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it answered %q, or is open: %v", got, err)
	}
}

func TestConfigurationsThatCannotBeAreRefused(t *testing.T) {
	for _, cfg := range []nullengine.Config{{TTFT: -1}, {ITL: -1}, {Tokens: -1}, {Tokens: nullengine.MaxTokens + 1}} {
		if _, err := nullengine.New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
