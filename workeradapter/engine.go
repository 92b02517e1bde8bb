package workeradapter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

// engine is the HTTP client of one engine.
type engine struct {
	base  string
	id    string // host, port and path: what it is called where other processes see it
	shown string // its URL as people see it, without credentials
	key   string
	calls *http.Client // inference: no timeout of its own, the attempt has one
	asks  *http.Client // health, info, abort
}

// idleBound is how long a connection to an engine is kept unused. SGLang's HTTP server closes one after 5 s; a request
// that meets the close looks like an engine that broke.
const idleBound = 3 * time.Second

func newEngine(base, key string) *engine {
	dial := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	calls := &http.Transport{
		DialContext: dial.DialContext, MaxIdleConns: 0, MaxIdleConnsPerHost: 4096, IdleConnTimeout: idleBound,
		DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 32 << 10,
	}
	asks := &http.Transport{DialContext: dial.DialContext, MaxIdleConnsPerHost: 8, IdleConnTimeout: idleBound, DisableCompression: true}
	// An engine answers by itself: its key and its prompts go nowhere else.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	shown := &url.URL{}
	if u, err := url.Parse(base); err == nil {
		shown = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	}
	return &engine{base: base, id: shown.Host + shown.Path, shown: shown.String(), key: key, calls: &http.Client{Transport: calls, CheckRedirect: stay}, asks: &http.Client{Transport: asks, CheckRedirect: stay}}
}

func (e *engine) close() {
	e.calls.CloseIdleConnections()
	e.asks.CloseIdleConnections()
}

func (e *engine) authorize(r *http.Request) {
	if e.key != "" {
		r.Header.Set("Authorization", "Bearer "+e.key)
	}
}

// get reads a small document.
func (e *engine) get(ctx context.Context, path string, bound int64) (status int, doc []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+path, nil)
	if err != nil {
		return 0, nil, err
	}
	e.authorize(r)
	resp, err := e.asks.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	doc, err = io.ReadAll(io.LimitReader(resp.Body, bound))
	return resp.StatusCode, doc, err
}

// abort ends a running request at the engine. Nobody minds when it is over already.
func (e *engine) abort(ctx context.Context, rid string) error {
	doc, err := json.Marshal(map[string]string{"rid": rid})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+"/abort_request", bytes.NewReader(doc))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	e.authorize(r)
	resp, err := e.asks.Do(r)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) //nolint:errcheck // only so that the connection can be used again
	return resp.Body.Close()
}

// healthy asks whether the engine serves.
func (e *engine) healthy(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	status, _, err := e.get(ctx, "/health", 4<<10)
	if err != nil {
		return err
	}
	if status != http.StatusOK && status != http.StatusNotFound { // an OpenAI surface alone may have no such route
		return &statusError{"/health", status}
	}
	return nil
}

// A statusError is an answer that is not the one hoped for.
type statusError struct {
	path   string
	status int
}

func (e *statusError) Error() string { return fmt.Sprintf("%s answered %d", e.path, e.status) }

func isStatus(err error) bool {
	_, ok := errors.AsType[*statusError](err)
	return ok
}

// serverInfo is what SGLang tells of itself, as far as it is of use here.
type serverInfo struct {
	ModelPath          string `json:"model_path"`
	ServedModelName    string `json:"served_model_name"`
	Version            string `json:"version"`
	PageSize           int    `json:"page_size"`
	DPSize             int    `json:"dp_size"`
	MaxTotalNumTokens  int64  `json:"max_total_num_tokens"`
	MaxRunningRequests int    `json:"max_running_requests"`
	ContextLength      int    `json:"context_length"`
	EvictionPolicy     string `json:"radix_eviction_policy"`
	CacheReport        bool   `json:"enable_cache_report"`
	PriorityScheduling bool   `json:"enable_priority_scheduling"`
	RandomSeed         int64  `json:"random_seed"` // drawn at each start, unless the operator sets one
	SchedulerInfo      struct {
		MaxTotalNumTokens int64 `json:"max_total_num_tokens"`
	} `json:"scheduler_info"`
	InternalStates []struct {
		MaxRunning int `json:"effective_max_running_requests_per_dp"`
	} `json:"internal_states"`
}

// describe learns what the engine is and serves. start tells its starts apart, where it can.
func (e *engine) describe(ctx context.Context) (info *wire.WorkerInfo, start string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	models, err := e.models(ctx)
	if err != nil {
		return nil, "", err
	}
	info = &wire.WorkerInfo{Engine: e.id, EngineKind: "openai", DPSize: 1, Models: models, Pool: models[0].Name}
	var si serverInfo
	if found, err := e.firstOf(ctx, &si, "/server_info", "/get_server_info"); err != nil {
		return nil, "", err
	} else if !found {
		return info, "", nil
	}
	info.EngineKind, info.EngineVersion = "sglang", si.Version
	info.CapacityTokens = cmp.Or(si.MaxTotalNumTokens, si.SchedulerInfo.MaxTotalNumTokens)
	info.PageSize, info.EvictionPolicy = max(1, si.PageSize), cmp.Or(si.EvictionPolicy, "lru")
	info.ContextLength, info.CacheReport, info.PriorityEnabled = si.ContextLength, si.CacheReport, si.PriorityScheduling
	info.MaxRunning = si.MaxRunningRequests
	if len(si.InternalStates) > 0 && si.InternalStates[0].MaxRunning > 0 {
		info.MaxRunning = si.InternalStates[0].MaxRunning
	}
	var mi struct {
		WeightVersion string `json:"weight_version"`
	}
	if _, err := e.firstOf(ctx, &mi, "/model_info", "/get_model_info"); err != nil {
		return nil, "", err
	}
	info.WeightVersion = mi.WeightVersion
	return info, strconv.FormatInt(si.RandomSeed, 10), nil
}

// firstOf reads the first of the paths that the engine has; newer names come first.
func (e *engine) firstOf(ctx context.Context, into any, paths ...string) (found bool, err error) {
	for _, path := range paths {
		status, doc, err := e.get(ctx, path, 4<<20)
		switch {
		case err != nil:
			return false, fmt.Errorf("%s: %w", path, err)
		case status == http.StatusOK:
			if err := json.Unmarshal(doc, into); err != nil {
				return false, fmt.Errorf("%s: %w", path, err)
			}
			return true, nil
		case status >= 500:
			return false, &statusError{path, status}
		}
	}
	return false, nil
}

// models lists the names that the engine answers to, the base model first.
func (e *engine) models(ctx context.Context) ([]wire.Model, error) {
	var list struct {
		Data []struct {
			ID          string  `json:"id"`
			Parent      *string `json:"parent"`
			Created     int64   `json:"created"`
			OwnedBy     string  `json:"owned_by"`
			MaxModelLen int     `json:"max_model_len"`
		} `json:"data"`
	}
	found, err := e.firstOf(ctx, &list, "/v1/models")
	if err != nil {
		return nil, err
	}
	if !found || len(list.Data) == 0 {
		return nil, errors.New("/v1/models names no model")
	}
	var base, others []wire.Model
	for _, m := range list.Data {
		model := wire.Model{Name: m.ID, Kind: wire.BaseModel, ContextLength: m.MaxModelLen, Created: m.Created, OwnedBy: m.OwnedBy}
		switch {
		case m.Parent != nil:
			model.Kind = wire.LoRAModel
			others = append(others, model)
		case len(base) == 0:
			base = append(base, model)
		default:
			model.Kind = wire.AliasModel
			others = append(others, model)
		}
	}
	if len(base) == 0 {
		return nil, errors.New("/v1/models names no base model")
	}
	return append(base, others...), nil
}
