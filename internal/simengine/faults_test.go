package simengine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/simengine"
)

// slow is a request that runs until something ends it.
const slow = `,"max_tokens":100000,"ignore_eos":true`

func TestAbortByPrefixOfALiveRID(t *testing.T) {
	r := start(t, simengine.Config{})
	rids := []string{"req1", "req10", "req2"}
	answers := make([]chan string, 3)
	for i, rid := range rids {
		answers[i] = make(chan string, 1)
		go func() {
			_, body := r.post("/v1/chat/completions", chatBody("hello", slow+`,"stream":true,"rid":"`+rid+`"`))
			answers[i] <- body
		}()
	}
	r.until("three running", func(s simengine.Stats) bool { return s.Running == 3 })
	if code, _ := r.post("/abort_request", `{"rid":"req"}`); code != 200 || r.Stats().Live != 3 {
		t.Errorf("a prefix that is no live rid: %d, %d live", code, r.Stats().Live)
	}
	if code, body := r.post("/v1/chat/completions", chatBody("x", `,"rid":"req2"`)); code != 400 {
		t.Errorf("duplicate rid: %d %s", code, body)
	}
	r.post("/abort_request", `{"rid":"req1"}`)
	for i := range 2 {
		if _, reason, chunks := gather(t, <-answers[i]); reason != "abort" || chunks[0].ID != rids[i] {
			t.Errorf("%s: finish_reason %q, id %q", rids[i], reason, chunks[0].ID)
		}
	}
	if got := r.Stats().Live; got != 1 {
		t.Errorf("%d live after the abort, want 1", got)
	}
	if code, _ := r.post("/abort_request", `{"abort_all":true}`); code != 200 {
		t.Errorf("abort_all: %d", code)
	}
	if _, reason, _ := gather(t, <-answers[2]); reason != "abort" {
		t.Errorf("abort_all: finish_reason %q", reason)
	}
	if code, _ := r.post("/abort_request", ``); code != 400 {
		t.Errorf("no body: %d, want 400", code)
	}
}

func TestDisconnectAborts(t *testing.T) {
	for _, stream := range []string{"true", "false"} {
		r := start(t, simengine.Config{GoneCheck: 20 * time.Millisecond})
		ctx, cancel := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(chatBody("hello", slow+`,"stream":`+stream)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		done := make(chan error, 1)
		go func() {
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			done <- err
		}()
		r.until("running", func(s simengine.Stats) bool { return s.Output > 1 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("stream %s: %v", stream, err)
		}
		r.until("aborted", func(s simengine.Stats) bool { return s.Live == 0 && s.Aborted == 1 && s.Used == 0 })
	}
}

func TestDrain(t *testing.T) {
	r := start(t, simengine.Config{Speed: 5})
	seed := func() (drawn struct {
		Seed int64 `json:"random_seed"`
	}) {
		if _, doc := r.get("/server_info"); json.Unmarshal([]byte(doc), &drawn) != nil {
			t.Errorf("no server info: %s", doc)
		}
		return drawn
	}
	before := seed()
	running := make(chan string, 1)
	go func() {
		_, body := r.post("/v1/chat/completions", chatBody("hello", `,"max_tokens":300,"stream":true`))
		running <- body
	}()
	r.until("running", func(s simengine.Stats) bool { return s.Output > 1 })
	drained := make(chan error, 1)
	go func() { drained <- r.Shutdown(context.Background()) }()
	r.until("draining", func(s simengine.Stats) bool { return s.State == "draining" })
	if code, _ := r.get("/health"); code != 503 {
		t.Errorf("health while draining: %d, want 503", code)
	}
	if code, _ := r.post("/v1/chat/completions", chatBody("new", `,"max_tokens":2`)); code != 200 {
		t.Errorf("a new request while draining: %d, want 200", code)
	}
	if _, reason, _ := gather(t, <-running); reason != "length" {
		t.Errorf("the running stream ended with %q", reason)
	}
	if err := <-drained; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := r.send("/v1/chat/completions", chatBody("late", "")); err == nil {
		t.Error("a request after the drain was answered")
	}
	r.Restart()
	if code, _ := r.get("/health"); code != 200 {
		t.Errorf("health after restart: %d", code)
	}
	if seed() == before {
		t.Error("two starts have drawn one seed")
	}
}

func TestEndOfRunBreaksStreams(t *testing.T) {
	e, err := simengine.New(simengine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	srv := httptest.NewServer(e.Handler())
	defer srv.Close()
	r := &rig{e, t, srv.URL}
	res, err := r.send("/v1/chat/completions", chatBody("hello", slow+`,"stream":true`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if body, err := io.ReadAll(res.Body); err == nil || bytes.Contains(body, []byte("[DONE]")) {
		t.Errorf("the stream ended as if complete: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestFaults(t *testing.T) {
	r := start(t, simengine.Config{Faults: true, Speed: 10})
	ask := chatBody("hello", `,"max_tokens":40,"stream":true`)
	broken := func() (string, error) {
		res, err := r.send("/v1/chat/completions", ask)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		return string(raw), err
	}
	r.post("/_fault", `{"mode":"status","status":503,"count":1}`)
	if code, body := r.post("/v1/chat/completions", ask); code != 503 || !strings.Contains(body, `"object":"error"`) {
		t.Errorf("status: %d %s", code, body)
	}
	if code, _ := r.post("/v1/chat/completions", ask); code != 200 {
		t.Errorf("after the one it was for: %d", code)
	}
	r.post("/_fault", `{"mode":"die","after":10,"count":1}`)
	body, err := broken()
	text := ""
	for _, e := range events(body) {
		text += parse[chatChunk](t, e).Choices[0].Delta.Content
	}
	if err == nil || len(strings.Fields(text)) != 10 {
		t.Errorf("die: %v after %q, want ten tokens", err, text)
	}
	r.post("/_fault", `{"mode":"refuse"}`)
	if _, err := broken(); err == nil {
		t.Error("refuse: answered")
	}
	r.post("/_fault", `{"mode":"hang"}`)
	hung := make(chan error, 1)
	go func() { _, err := broken(); hung <- err }()
	select {
	case err := <-hung:
		t.Errorf("hang: ended with %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	r.post("/_fault", `{"mode":""}`)
	if err := <-hung; err == nil {
		t.Error("hang: answered in the end")
	}
	if _, err := broken(); err != nil {
		t.Errorf("none: %v", err)
	}
	tokens, _ := r.ChatTokens([]byte(ask))
	if r.Cached(tokens) == 0 {
		t.Error("nothing cached before the crash")
	}
	go func() { _, err := broken(); hung <- err }()
	r.until("running", func(s simengine.Stats) bool { return s.Running == 1 })
	r.Crash()
	if err := <-hung; err == nil {
		t.Error("crash: the stream ended as if complete")
	}
	if _, err := broken(); err == nil {
		t.Error("crash: answered")
	}
	r.Restart()
	if got := r.Cached(tokens); got != 0 {
		t.Errorf("%d tokens cached after the crash", got)
	}
	if _, err := broken(); err != nil {
		t.Errorf("after restart: %v", err)
	}
	for _, bad := range []string{`{"mode":"fly"}`, `{"mode":"status","status":200}`, `{"mode":"slow","factor":0.5}`, `{"mode":"die","after":-1}`, `[`} {
		if code, _ := r.post("/_fault", bad); code != 400 {
			t.Errorf("%s: %d, want 400", bad, code)
		}
	}
}

func TestPoisonKillsTheEngine(t *testing.T) {
	r := start(t, simengine.Config{Poison: true})
	got := make(chan error, 1)
	res, err := r.send("/v1/chat/completions", chatBody("hello", slow+`,"stream":true`))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, err := io.Copy(io.Discard, res.Body); res.Body.Close(); got <- err }()
	if _, err := r.send("/generate", `{"input_ids":[5,999999]}`); err == nil {
		t.Error("the poison was answered")
	}
	if err := <-got; err == nil {
		t.Error("another stream survived")
	}
	if s := r.Stats(); s.State != "crashed" {
		t.Errorf("state %s", s.State)
	}
}

func TestPauseFlushAndWeights(t *testing.T) {
	r := start(t, simengine.Config{Speed: 20})
	answer := make(chan string, 1)
	ask := func() {
		_, body := r.post("/v1/chat/completions", chatBody("hello", `,"max_tokens":600,"stream":true`))
		answer <- body
	}
	go ask()
	r.until("running", func(s simengine.Stats) bool { return s.Output > 1 })
	if code, _ := r.get("/flush_cache"); code != 400 {
		t.Errorf("flush while running: %d, want 400", code)
	}
	if code, _ := r.post("/pause_generation", `{"mode":"in_place"}`); code != 200 {
		t.Errorf("pause: %d", code)
	}
	r.until("still", func(s simengine.Stats) bool {
		time.Sleep(20 * time.Millisecond)
		return r.Stats().Output == s.Output
	})
	r.post("/continue_generation", `{}`)
	updated := make(chan string, 1)
	go func() {
		_, body := r.post("/update_weights_from_disk", `{"model_path":"new/path","weight_version":"v2"}`)
		updated <- body
	}()
	if _, reason, _ := gather(t, <-answer); reason != "length" {
		t.Errorf("the stream across the pause and the update ended with %q", reason)
	}
	if body := <-updated; !strings.Contains(body, `"success":true`) {
		t.Errorf("update: %s", body)
	}
	s := r.Stats()
	if s.Model != "new/path" || s.Weights != "v2" || s.Evictable != 0 {
		t.Errorf("after the update: %+v", s)
	}
	if _, body := r.get("/model_info"); !strings.Contains(body, `"weight_version":"v2"`) {
		t.Errorf("model_info: %s", body)
	}
	go ask()
	<-answer
	if code, _ := r.post("/flush_cache?timeout=5", ``); code != 200 || r.Stats().Evictable != 0 {
		t.Errorf("flush when idle: %d, %+v", code, r.Stats())
	}
}
