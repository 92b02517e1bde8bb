package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A stage does for suites what no client of a gateway can do. Every call is a POST and answers with JSON.
//
//	/late         a gateway whose engine does not run: its url, and the model
//	/late/begin   starts that engine
//	/doomed       a gateway with an engine: its url and the model
//	/doomed/kill  ends it as a crash would
//	/full         a gateway that has no room for a body of three quarters of the target's limit: its url and the model
//	/full/free    ends the request that takes the room
type stage struct {
	program string
	url     string

	mu     sync.Mutex
	begun  []*process
	late   int // port of the engine that does not run yet
	doomed *process
	free   context.CancelFunc // ends what fills the full gateway
}

func newStage(t *testing.T) *stage {
	s := &stage{program: program(t)}
	mux := http.NewServeMux()
	for path, do := range map[string]func() (any, error){"/late": s.setLate, "/late/begin": s.beginLate, "/doomed": s.setDoomed, "/doomed/kill": s.killDoomed, "/full": s.setFull, "/full/free": s.freeFull} {
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
		s.freeFull()                //nolint:errcheck // it may be free
		for _, p := range s.begun { // gateways before their engines
			if err := p.stop(); err != nil {
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
	p, err := s.start(append(onFreePorts, "--engine", fmt.Sprint("http://127.0.0.1:", port))...)
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
	p, err := s.start(append(onFreePorts, "--workers", "1", "--model", "doomed")...)
	if err != nil {
		return nil, err
	}
	s.doomed = p
	return place{p.url, "doomed"}, ready(p.url, 1)
}

func (s *stage) killDoomed() (any, error) {
	if s.doomed == nil {
		return nil, errors.New("nobody is doomed")
	}
	s.doomed.kill()
	return struct{}{}, nil
}

// setFull fills a gateway with a whole answer that takes long: the prompt of one that has begun is let go.
func (s *stage) setFull() (any, error) {
	const model = "full"
	p, err := s.start(append(onFreePorts, "--workers", "1", "--model", model, "--max-payload-size", fmt.Sprint(bodyLimit), "--max-inflight-bytes", fmt.Sprint(bodyLimit*3/2))...)
	if err != nil {
		return nil, err
	}
	if err := ready(p.url, 1); err != nil {
		return nil, err
	}
	ctx, free := context.WithCancel(context.Background())
	s.free = free
	doc := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hello"}],"max_tokens":50000,"ignore_eos":true,"pad":%q}`, model, strings.Repeat("x", bodyLimit*3/4))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(doc))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	go func() {
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	for range 500 {
		var doc struct {
			Loads []struct {
				Running int `json:"num_running_reqs"`
			}
		}
		if err := fetch(p.url+"/v1/loads", &doc); err != nil {
			return nil, err
		}
		if len(doc.Loads) > 0 && doc.Loads[0].Running > 0 {
			return place{p.url, model}, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errors.New("the engine did not get what fills the gateway")
}

func (s *stage) freeFull() (any, error) {
	if s.free == nil {
		return nil, errors.New("nothing is full")
	}
	s.free()
	return struct{}{}, nil
}
