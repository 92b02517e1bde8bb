package replay

import (
	"fmt"
	"time"
)

// wekaRecord is one recorded session of a coding agent.
type wekaRecord struct {
	Block int            `json:"block_size"`
	Reqs  *[]wekaRequest `json:"reqs"`
}

// wekaRequest is a request, or, with Reqs, a sub-agent that the agent waited for. A request's block ids are the first Keep of
// those of the request before it in the same stream, then runs of ids, each a first one and a count.
type wekaRequest struct {
	Input  int            `json:"i"`
	Output int            `json:"o"`
	Keep   int            `json:"keep"`
	Add    [][2]uint32    `json:"add"`
	Think  float64        `json:"think"` // seconds
	Took   float64        `json:"dur_ms"`
	Reqs   *[]wekaRequest `json:"reqs"`
}

// An agentSession keeps its prompts as differences. A sub-agent's requests stand where it ran: before the next one of the agent
// that waited for it.
type agentSession struct {
	namespace uint64 // of its block ids
	block     int    // tokens of one
	calls     []agentCall
}

type agentCall struct {
	stream    int // 0 is the session's own; a sub-agent has its own too, with the same ids
	keep      int
	add       [][2]uint32
	tokens    int
	maxTokens int
	think     time.Duration
}

// newAgentSession reads the number-th session of a trace. A stream ends before its first request that, with its reply, is longer
// than the bound, and the session with its own stream.
func newAgentSession(number int, w *wekaRecord, cfg TraceConfig) (*agentSession, error) {
	if w.Block < 1 || w.Block > 1<<16 {
		return nil, fmt.Errorf("block size %d is not in 1..65536", w.Block)
	}
	s := &agentSession{namespace: uint64(number) + 1, block: w.Block}
	streams, waited := 0, 0.0
	own := stretch{session: s, cfg: cfg}
	for i := range *w.Reqs {
		r := &(*w.Reqs)[i]
		if r.Reqs == nil {
			if more, err := own.add(r, waited); err != nil {
				return nil, fmt.Errorf("request %d: %w", i, err)
			} else if !more {
				break
			}
			waited = 0
			continue
		}
		streams++
		waited += max(0, r.Took/1000)
		sub := stretch{session: s, stream: streams, cfg: cfg}
		for k := range *r.Reqs {
			of := &(*r.Reqs)[k]
			if of.Reqs != nil {
				return nil, fmt.Errorf("request %d: its sub-agent has a sub-agent", i)
			}
			if more, err := sub.add(of, 0); err != nil {
				return nil, fmt.Errorf("request %d, sub-agent's %d: %w", i, k, err)
			} else if !more {
				break
			}
		}
	}
	return s, nil
}

// A stretch is one stream of a session as it is read.
type stretch struct {
	session *agentSession
	stream  int
	cfg     TraceConfig
	ids     int // of the last request
}

// add takes in a request, of whose think time the agent waited for sub-agents some, in seconds. It tells whether the stream
// goes on.
func (t *stretch) add(r *wekaRequest, waited float64) (more bool, err error) {
	const most = 1e9
	switch {
	case r.Input < 1 || r.Input > maxPromptTokens || r.Output < 0 || r.Output > maxPromptTokens:
		return false, fmt.Errorf("lengths of %d and %d tokens are not in 1..%d", r.Input, r.Output, maxPromptTokens)
	case r.Keep < 0 || r.Keep > t.ids:
		return false, fmt.Errorf("it keeps %d blocks, the one before it has %d", r.Keep, t.ids)
	case !(r.Think >= 0 && r.Think < most):
		return false, fmt.Errorf("think time of %v s", r.Think)
	}
	t.ids = r.Keep
	for _, run := range r.Add {
		if t.ids += int(run[1]); t.ids > blocksOf(r.Input, t.session.block) {
			return false, fmt.Errorf("more block ids than %d tokens have", r.Input)
		}
	}
	if r.Input+r.Output > t.cfg.MaxContext {
		return false, nil
	}
	think := time.Duration(max(0, r.Think-waited) * float64(time.Second))
	t.session.calls = append(t.session.calls, agentCall{
		stream: t.stream, keep: r.Keep, add: r.Add, tokens: r.Input, maxTokens: max(1, r.Output), think: min(think, t.cfg.MaxThink),
	})
	return true, nil
}

func (s *agentSession) requests() int { return len(s.calls) }

func (s *agentSession) bytes() (sum int) {
	for i := range s.calls {
		sum += 8*len(s.calls[i].add) + 80
	}
	return sum
}

func (s *agentSession) start(seed uint64) Conversation {
	return &agentReplay{agentSession: s, seed: seed, own: s.prompt(seed), sub: s.prompt(seed)}
}

func (s *agentSession) prompt(seed uint64) blockPrompt {
	return blockPrompt{blockSource: blockSource{seed: seed, namespace: s.namespace, words: s.block}}
}

// agentReplay keeps the prompts of the agent and of the sub-agent that runs.
type agentReplay struct {
	*agentSession
	seed     uint64
	next     int
	own, sub blockPrompt
	running  int // the stream of sub
	ids      []uint32
}

func (r *agentReplay) Next(Reply) (Turn, bool) {
	if r.next == len(r.calls) {
		return Turn{}, false
	}
	call, prompt := &r.calls[r.next], &r.own
	if call.stream > 0 {
		if prompt = &r.sub; r.running != call.stream {
			r.running, prompt.ids, prompt.text = call.stream, prompt.ids[:0], prompt.text[:0]
		}
	}
	r.ids = append(r.ids[:0], prompt.ids[:call.keep]...)
	for _, run := range call.add {
		for i := range run[1] {
			r.ids = append(r.ids, run[0]+i)
		}
	}
	rest := stream(r.seed, restText, mix(r.namespace)^uint64(r.next))
	r.next++
	return Turn{Text: prompt.set(r.ids, call.tokens, rest), MaxTokens: call.maxTokens, Think: call.think}, true
}
