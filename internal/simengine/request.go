package simengine

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A request is one HTTP request that generates: its sequences, n for every prompt.
type request struct {
	ask
	id       string // the first sequence's
	created  int64
	weights  string // weight version at the start
	report   bool   // tell cached tokens in usage
	prompts  []prompt
	sampling []sampling // one a prompt
	n        int
	batch    bool // answers are a list
	embeds   bool // nothing is generated
	scores   bool // embeds, and any model can
	detached bool // goes on when its client leaves
	rids     []string
	seqs     []*sequence
	adapters []*adapter // one a prompt
	wake     chan struct{}

	// Guarded by the engine's mutex.
	inside  bool // past the gate
	started bool // all sequences are known
	unended int  // sequences
}

// newRequest puts a request together from what its route has read. Nothing is known of it to the engine yet.
func (e *Engine) newRequest(a ask, p prompts, params ...sampling) *request {
	q := &request{ask: a, prompts: p.all, batch: p.batch, sampling: params, n: 1, report: e.cfg.CacheReport,
		created: time.Now().Unix(), wake: make(chan struct{}, 1)}
	if len(params) > 0 {
		q.n = params[0].n
	}
	if q.n > 1 {
		q.batch = true
	}
	for len(params) == 1 && len(q.sampling) < len(q.prompts) {
		q.sampling = append(q.sampling, params[0])
	}
	return q
}

// maxSequences is our own bound of the prompts times choices of one request.
const maxSequences = 1024

// normalize checks what a request's lists must agree on, and mints the rids that its client left open.
func (q *request) normalize() error {
	size := len(q.prompts)
	if size*q.n > maxSequences {
		return valuef("a request may have %d sequences at most, got %d.", maxSequences, size*q.n)
	}
	for _, field := range []struct {
		name string
		*names
	}{{"extra_key", q.extraKey}, {"cache_salt", q.salt}} {
		switch {
		case field.names == nil || !field.list:
		case !q.batch:
			return valuef("%s should be a string for a single request.", field.name)
		case len(field.all) != size:
			return valuef("The length of %s should be equal to the batch size.", field.name)
		}
	}
	return q.nameAll(size)
}

// nameAll gives every prompt its rid.
func (q *request) nameAll(size int) error {
	q.rids = make([]string, size)
	switch {
	case q.rid == nil:
		for i := range q.rids {
			q.rids[i] = newRID()
		}
	case !q.batch && q.rid.list:
		return &bugError{"unhashable type: 'list'"}
	case !q.batch:
		q.rids[0] = q.rid.at(0)
	case !q.rid.list:
		for i := range q.rids {
			q.rids[i] = q.rid.at(0) + "_" + strconv.Itoa(i)
		}
	case len(q.rid.all) != size:
		return valuef("The specified rids length mismatch with the batch_size for batch processing.")
	default:
		for i := range q.rids {
			q.rids[i] = q.rid.at(i)
		}
		for i, rid := range q.rids {
			if slices.Contains(q.rids[:i], rid) {
				return valuef("Duplicate request IDs detected within the request: ['%s']", rid)
			}
		}
	}
	return nil
}

// space is the cache's namespace of a prompt: what separates equal tokens.
func (q *request) space(i int) string {
	parts := []string{"", q.salt.at(i), q.extraKey.at(i)}
	if a := q.adapters[i]; a != nil {
		parts[0] = a.space
	}
	if strings.Join(parts, "") == "" {
		return ""
	}
	return strings.Join(parts, "\x00")
}

// newSequence makes a sequence of prompt i. Its tokens are found when it is spoken.
func (q *request) newSequence(i int, rid string) *sequence {
	return &sequence{request: q, rid: rid, prompt: i, index: len(q.seqs), wake: q.wake, history: q.prompts[i].tokens}
}

// wait blocks until every sequence has ended. It returns false when the engine died or the client left;
// after that no answer is to be written.
func (e *Engine) wait(ctx context.Context, q *request, seqs []*sequence) bool {
	// A real engine looks for the client of a request that does not stream only now and then.
	look := time.NewTimer(e.cfg.GoneCheck)
	defer look.Stop()
	for {
		ended := true
		for _, s := range seqs {
			_, how := s.progress()
			if how == lost {
				return false
			}
			ended = ended && how != Unended
		}
		if ended {
			return ctx.Err() == nil || q.detached
		}
		select {
		case <-q.wake:
		case <-look.C:
			if ctx.Err() != nil && !q.detached {
				e.abort(seqs...)
				return false
			}
			look.Reset(e.cfg.GoneCheck)
		}
	}
}

// refusal is what the scheduler said to the first sequence that it did not take.
func (q *request) refusal() *rejection {
	for _, s := range q.seqs {
		if s.refused != nil {
			return s.refused
		}
	}
	return nil
}

// completion is the output of all sequences so far, in tokens.
func (q *request) completion() int {
	sum := 0
	for _, s := range q.seqs {
		sum += s.job.Produced
	}
	return sum
}
