package replay

import "time"

// A Series is how a run went over time, in steps of equal length from the run's start on. A long run has wider
// steps, not more of them: at most [MaxPoints].
type Series struct {
	StepSeconds float64 `json:"step_seconds"`
	Points      []Point `json:"points"`
}

// MaxPoints bounds the points of a [Series].
const MaxPoints = 256

// A Point is one step of a [Series]. Latencies stand where their request was sent, everything else when it
// happened. The last step may be cut short by the run's end.
type Point struct {
	// AtSeconds is the step's beginning, from the run's start.
	AtSeconds float64 `json:"at_seconds"`
	Sent      int64   `json:"sent"`
	Finished  int64   `json:"finished"` // with success
	Errors    int64   `json:"errors"`
	// InFlight is how many requests were unanswered at the step's end.
	InFlight int64 `json:"in_flight"`
	// OutputTokens are spread evenly from a reply's first output to its end.
	OutputTokens int64 `json:"output_tokens"`
	// TTFTP50 and TTFTP99 are of the requests sent in the step, within 4 %; nil if none of them streamed output.
	TTFTP50 *float64 `json:"ttft_p50_seconds"`
	TTFTP99 *float64 `json:"ttft_p99_seconds"`
}

// A Curve is a cumulative distribution: Shares[i] of the samples, 0 to 1, took at most Seconds[i]. Both rise. It has
// at most [MaxCurve] points, denser towards the tail, and none if there were no samples.
type Curve struct {
	Shares  []float64 `json:"shares"`
	Seconds []float64 `json:"seconds"`
}

// MaxCurve bounds the points of a [Curve].
const MaxCurve = 128

// Curves are the distributions of a report's latencies.
type Curves struct {
	TTFT     Curve `json:"ttft"`
	TPOT     Curve `json:"tpot"`
	ITL      Curve `json:"itl"`
	E2E      Curve `json:"e2e"`
	Lateness Curve `json:"lateness"` // open loop: sending minus the moment it was due
}

// LateAfter is how long after it was due an open loop's request may be sent without counting as late.
const LateAfter = 10 * time.Millisecond
