package workeradapter_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// Schedulers forget where a session was opened when they restart; the adapter beside the engine that holds it does not.
func TestSessionsThatClientsNamedAreKnown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	status := 200
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(status, "application/json", `"mine"`) })
	has := func(name string) bool { return s.gateway.Order("w", wire.Ask{Op: wire.OpSession, ID: name}).OK }
	do := func(path, body string) {
		t.Helper()
		st := s.gateway.NewPath("w", s.now, path, body)
		st.Send()
		if got := st.Wait(); (got.End.Code == wire.CodeOK) != (status == 200) {
			t.Fatalf("%s %s: %+v", path, body, got.End)
		}
	}
	if has("mine") || has("") {
		t.Error("known before it is opened")
	}
	status = 400
	do("/open_session", `{"capacity_of_str_len":10,"session_id":"mine"}`)
	if has("mine") {
		t.Error("known though the engine refused it")
	}
	status = 200
	do("/open_session", `{"capacity_of_str_len":10,"session_id":"mine"}`)
	do("/open_session", `{"capacity_of_str_len":10}`)
	if !has("mine") || has("") {
		t.Error("not known once it is opened")
	}
	do("/close_session", `{"session_id":"mine"}`)
	if has("mine") {
		t.Error("known after it was closed")
	}
	do("/open_session", `{"capacity_of_str_len":10,"session_id":"mine"}`)
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpSession, ID: "mine"}); time.Since(time.UnixMilli(told.At)) > time.Minute {
		t.Errorf("opened at %v", time.UnixMilli(told.At))
	}
	s.engine.Handle("/flush_cache", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("flushed")) }) //nolint:errcheck // a difference shows
	s.gateway.Order("w", wire.Ask{Op: wire.OpFlush, Millis: 9000})
	s.gateway.AwaitBeat(wire.Ready, s.now)
	if has("mine") {
		t.Error("known in the engine's next life")
	}
	s.idle()
}

// Requests that the engine's GPU has nothing to do with take no slot, up to a bound of their own, and what an engine keeps is
// answered while it drains.
func TestLightRequestsTakeNoSlot(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *testkit.Engine, c *workeradapter.Config) { c.MaxRunning = 1 })
	finish := make(chan struct{})
	s.engine.Answer(func(x *testkit.Exchange) { <-finish; x.Reply(200, "application/json", `{}`) })
	send := func(flags wire.Flags) *testkit.Stream {
		st := s.gateway.NewPath("w", s.now, "/v1/tokenize", `{"prompt":"x"}`)
		st.Flags = flags
		st.Send()
		return st
	}
	admitted := func(all []*testkit.Stream) {
		t.Helper()
		for i, st := range all {
			testkit.Eventually(t, fmt.Sprintf("request %d is admitted", i), func() bool { return st.Answer().Accepted })
		}
	}
	running := []*testkit.Stream{send(0)}
	admitted(running)
	if got := send(0).Wait(); got.End.Code != wire.CodeBusy {
		t.Errorf("a second one on the only slot: %+v", got.End)
	}
	const bound = 256
	for range bound {
		running = append(running, send(wire.FlagLight))
	}
	admitted(running)
	if got := send(wire.FlagLight).Wait(); got.End.Code != wire.CodeBusy {
		t.Errorf("one beyond the bound: %+v", got.End)
	}
	if told := s.gateway.Order("w", wire.Ask{Op: wire.OpDrain}); !told.OK {
		t.Fatalf("drain: %+v", told)
	}
	close(finish)
	for _, st := range running {
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Errorf("%+v", got.End)
		}
	}
	if got := send(wire.FlagLight).Wait(); got.End.Code != wire.CodeDraining {
		t.Errorf("something new to a worker that drains: %+v", got.End)
	}
	if got := send(wire.FlagLight | wire.FlagKept).Wait(); got.End.Code != wire.CodeOK {
		t.Errorf("what it keeps: %+v", got.End)
	}
	s.idle()
}
