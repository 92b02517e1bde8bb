package replay

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// ExactSamples is how many values of a metric are kept as they are, for exact percentiles.
const ExactSamples = 1 << 20

// samples collects durations in bounded memory: 8 MiB of exact values, beyond which they turn into a
// histogram of 60 KiB. Not safe for concurrent use.
type samples struct {
	exact    []time.Duration
	hist     *histogram
	count    int64
	sum      float64 // seconds; a float cannot overflow
	min, max time.Duration
}

func (s *samples) add(d time.Duration) {
	d = max(d, 0)
	if s.count == 0 || d < s.min {
		s.min = d
	}
	s.max = max(s.max, d)
	s.sum += d.Seconds()
	s.count++
	if s.hist == nil && len(s.exact) < ExactSamples {
		s.exact = append(s.exact, d)
		return
	}
	if s.hist == nil {
		s.hist = new(histogram)
		for _, old := range s.exact {
			s.hist[bucketOf(old)]++
		}
		s.exact = nil
	}
	s.hist[bucketOf(d)]++
}

// distribution summarises what was added. It sorts the exact values.
func (s *samples) distribution() Distribution {
	d := Distribution{Count: s.count, Approximate: s.hist != nil}
	if s.count == 0 {
		return d
	}
	slices.Sort(s.exact)
	d.Mean = s.sum / float64(s.count)
	d.Min, d.Max = s.min.Seconds(), s.max.Seconds()
	d.P50, d.P90, d.P99 = s.quantile(0.50), s.quantile(0.90), s.quantile(0.99)
	return d
}

// quantile is the value at rank q·(count−1), counted from 0, in seconds, linear between the two nearest ranks
// (numpy's default, type 7 of Hyndman and Fan 1996). The exact values must be sorted.
func (s *samples) quantile(q float64) float64 {
	rank := q * float64(s.count-1)
	low := int64(math.Floor(rank))
	a, b := s.at(low), s.at(min(low+1, s.count-1))
	return a + (b-a)*(rank-float64(low))
}

// curve is the cumulative distribution at up to MaxCurve shares. The exact values must be sorted.
func (s *samples) curve() Curve {
	var c Curve
	if s.count == 0 {
		return c
	}
	point := func(share float64) {
		c.Shares = append(c.Shares, share)
		c.Seconds = append(c.Seconds, s.quantile(share))
	}
	for i := range 99 {
		point(float64(i) / 100)
	}
	for i := range 19 {
		point(float64(1980+i) / 2000) // 0.99 to 0.999
	}
	for _, share := range []float64{0.9995, 0.9999, 1} {
		point(share)
	}
	return c
}

// at returns the value of a rank, in seconds.
func (s *samples) at(rank int64) float64 {
	if s.hist == nil {
		return s.exact[rank].Seconds()
	}
	v := s.hist.at(rank)
	return min(max(v, s.min.Seconds()), s.max.Seconds())
}

// A histogram counts nanoseconds in log-linear buckets: 128 to each power of two. A bucket is narrower than
// 1/128 of its values, so its middle is within 0.4 % of each.
type histogram [buckets]int64

const (
	subBits = 7
	// Values below 2^subBits have a bucket each; each of the 63-subBits higher powers of two has 2^subBits.
	buckets = (63 - subBits + 1) << subBits
)

func bucketOf(d time.Duration) int {
	v := uint64(d)
	shift := max(0, bits.Len64(v)-subBits-1)
	return shift<<subBits + int(v>>shift)
}

// at returns the middle of the bucket that holds a rank, in seconds.
func (h *histogram) at(rank int64) float64 {
	for i, n := range h {
		if rank -= n; rank < 0 {
			low, width := bucketRange(i)
			return (low + (width-1)/2) / float64(time.Second)
		}
	}
	return 0
}

// bucketRange is the least nanosecond of a bucket and how many it holds.
func bucketRange(i int) (low, width float64) {
	shift := max(0, i>>subBits-1)
	return math.Ldexp(float64(i-shift<<subBits), shift), math.Ldexp(1, shift)
}
