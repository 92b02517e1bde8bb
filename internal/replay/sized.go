package replay

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"
)

// mooncakeBlock is the tokens of a block in Mooncake's traces.
const mooncakeBlock = 512

// maxPromptTokens bounds a recorded prompt of which only the length is known.
const maxPromptTokens = maxPromptBytes / wordBytes

// maxSpread bounds how long equal times may be spread: Mooncake's are rounded to about three seconds.
const maxSpread = 3 * time.Second

// A sizedRequest is a recorded request of which only lengths are known, and perhaps the ids of its blocks.
type sizedRequest struct {
	number    uint64 // in its trace
	blocks    []uint32
	tokens    int
	maxTokens int
}

func newSizedRequest(number, tokens, output int) (*sizedRequest, error) {
	if tokens < 1 || tokens > maxPromptTokens {
		return nil, fmt.Errorf("input of %d tokens is not in 1..%d", tokens, maxPromptTokens)
	}
	if output < 0 || output > maxPromptTokens {
		return nil, fmt.Errorf("output of %d tokens is not in 0..%d", output, maxPromptTokens)
	}
	return &sizedRequest{number: uint64(number), tokens: tokens, maxTokens: max(1, output)}, nil
}

func (r *sizedRequest) requests() int { return 1 }
func (r *sizedRequest) bytes() int    { return 4*len(r.blocks) + 64 }

func (r *sizedRequest) start(seed uint64) Conversation {
	p := blockPrompt{blockSource: blockSource{seed: seed, words: mooncakeBlock}}
	text := p.set(r.blocks, r.tokens, stream(seed, restText, r.number))
	return &single{Turn{Text: text, MaxTokens: r.maxTokens}}
}

// mooncakeRecord is a request of Mooncake's traces.
type mooncakeRecord struct {
	Timestamp *float64 `json:"timestamp"` // milliseconds
	Input     int      `json:"input_length"`
	Output    int      `json:"output_length"`
	Blocks    []uint32 `json:"hash_ids"`
}

// session returns the request and when it was recorded.
func (m mooncakeRecord) session(number int) (session, time.Duration, error) {
	if m.Timestamp == nil {
		return nil, 0, fmt.Errorf(`no "timestamp"`)
	}
	r, err := newSizedRequest(number, m.Input, m.Output)
	if err != nil {
		return nil, 0, err
	}
	if most := blocksOf(m.Input, mooncakeBlock); len(m.Blocks) > most {
		return nil, 0, fmt.Errorf("%d hash ids for %d tokens: there are at most %d blocks of %d", len(m.Blocks), m.Input, most, mooncakeBlock)
	}
	r.blocks = slices.Clip(m.Blocks)
	at, err := recordedTime(*m.Timestamp / 1000)
	return r, at, err
}

// recordedTime checks a time from a trace's start on, in seconds.
func recordedTime(seconds float64) (time.Duration, error) {
	const most = 366 * 24 * time.Hour
	if !(seconds >= 0 && seconds <= most.Seconds()) {
		return 0, fmt.Errorf("time %v s is not within a year of the trace's start", seconds)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// spreadTimes yields a trace's conversations at their times, which do not fall, counted from the first. If times are
// rounded, those that are equal spread at random up to the next greater one, at most maxSpread: sent as they
// stand they would come in bursts that never were.
func spreadTimes(times []time.Duration, rounded bool, seed uint64) iter.Seq2[int, time.Duration] {
	return func(yield func(int, time.Duration) bool) {
		var order []int
		spread := make([]time.Duration, 0, 16)
		for start := 0; start < len(times); {
			end := start + 1
			for rounded && end < len(times) && times[end] == times[start] {
				end++
			}
			room := maxSpread
			if end < len(times) {
				room = min(room, times[end]-times[start])
			}
			order, spread = order[:0], spread[:0]
			for n := start; n < end; n++ {
				order = append(order, n-start)
				at := times[n] - times[0]
				if rounded {
					at += time.Duration(rand.New(stream(seed, recordedTimes, uint64(n))).Float64() * float64(room))
				}
				spread = append(spread, at)
			}
			slices.SortFunc(order, func(a, b int) int { return int(spread[a] - spread[b]) })
			for _, i := range order {
				if !yield(start+i, spread[i]) {
					return
				}
			}
			start = end
		}
	}
}
