package scheduler

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/scheduler/core"
)

// ServiceName is what `nats micro ls` shows.
const ServiceName = "radixbus-scheduler"

// noVersion is told when Config.Version is no semantic version.
const noVersion = "0.0.0"

// StatusSubject is where every replica answers with its [PoolStatus] list in JSON.
func StatusSubject(s wire.Subjects) string { return cmp.Or(s.Prefix, "rb") + ".v1.status.scheduler" }

// A PoolStatus is what a replica knows of one pool.
type PoolStatus struct {
	Pool      string         `json:"pool"`
	Leases    int            `json:"leases"`
	Held      int            `json:"held"`
	TreeBytes int64          `json:"tree_bytes"` // memory of the tree
	Workers   []WorkerStatus `json:"workers"`
}

// A WorkerStatus is what a replica knows of one worker.
type WorkerStatus struct {
	Worker    string        `json:"worker"`
	Instance  wire.Instance `json:"instance"`
	State     string        `json:"state"`
	Running   int           `json:"running"`    // attempts counted
	HeldBytes int64         `json:"held_bytes"` // of prompts, believed cached
	Rate      float64       `json:"rate"`       // prefill tokens per second, learnt
	Work      float64       `json:"work"`       // prefill tokens given so far
}

// errStopped reports that nothing is known any more.
var errStopped = errors.New("the scheduler has stopped")

// Status lists the pools by name. It fails once the scheduler has stopped.
func (s *Scheduler) Status() ([]PoolStatus, error) {
	s.mu.RLock()
	pools := make([]*pool, 0, len(s.pools))
	for _, p := range s.pools {
		pools = append(pools, p)
	}
	s.mu.RUnlock()
	slices.SortFunc(pools, func(a, b *pool) int { return strings.Compare(a.name, b.name) })
	all := make([]PoolStatus, 0, len(pools))
	for _, p := range pools {
		if !p.do(func(time.Time) { all = append(all, statusOf(p.name, p.core)) }) {
			return nil, errStopped
		}
	}
	return all, nil
}

func statusOf(name string, c *core.Pool) PoolStatus {
	s := PoolStatus{Pool: name, Leases: c.Leases(), Held: c.Held(), TreeBytes: c.Tree().Stats().Bytes, Workers: []WorkerStatus{}}
	for _, w := range c.Status() {
		s.Workers = append(s.Workers, WorkerStatus{
			Worker: w.Worker, Instance: w.Instance, State: w.State.String(), Running: w.Running,
			HeldBytes: w.HeldBytes, Rate: w.Rate, Work: w.Work,
		})
	}
	return s
}

// discoverable registers the scheduler with the bus's directory of services, and returns how to end that. Questions do
// not pass through it: its handlers run one after the other. Without the permission to be found it works all the same.
func (s *Scheduler) discoverable() (stop func()) {
	cfg := micro.Config{
		Name: ServiceName, Version: strings.TrimPrefix(s.cfg.Version, "v"), Description: "Chooses a worker for every request.",
		Metadata:           map[string]string{"id": s.cfg.ID, "region": s.cfg.Region, "policy": s.cfg.Policy},
		QueueGroupDisabled: true, // each replica tells its own
	}
	service, err := micro.AddService(s.cfg.Bus.Control, cfg)
	if errors.Is(err, micro.ErrConfigValidation) { // the directory insists on a semantic version
		cfg.Version = noVersion
		service, err = micro.AddService(s.cfg.Bus.Control, cfg)
	}
	if err != nil {
		s.cfg.Log.Warn("not listed among the bus's services", "error", err)
		return func() {}
	}
	if err := service.AddEndpoint("status", micro.HandlerFunc(s.tellStatus), micro.WithEndpointSubject(StatusSubject(s.cfg.Subjects))); err != nil {
		s.cfg.Log.Warn("status not told on the bus", "error", err)
	}
	return func() {
		if err := service.Stop(); err != nil {
			s.cfg.Log.Debug("leave the bus's list of services", "error", err)
		}
	}
}

// tellStatus answers one question for the status.
func (s *Scheduler) tellStatus(r micro.Request) {
	all, err := s.Status()
	var doc []byte
	if err == nil {
		doc, err = json.Marshal(all)
	}
	if err != nil {
		err = r.Error("503", err.Error(), nil)
	} else {
		err = r.Respond(doc)
	}
	if err != nil {
		s.cfg.Log.Debug("status not told", "error", err)
	}
}
