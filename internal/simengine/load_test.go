package simengine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A scenario is a random load for a small pool, with aborts; the same seed gives the same load.
func scenario(c *Core, seed uint64, after func() error) ([]*Job, error) {
	rng := rand.New(rand.NewPCG(seed, 7))
	var jobs []*Job
	now := time.Duration(0)
	for i := range 150 {
		now += time.Duration(rng.ExpFloat64() * 3e7)
		prompt := append(series(int32(rng.IntN(4))*100_000, 20+rng.IntN(300)), series(int32(i)*1000, 1+rng.IntN(200))...)
		j := newJob(prompt, rng.IntN(150))
		j.MaxNew += rng.IntN(50)
		j.Priority = int64(rng.IntN(3))
		if rng.IntN(8) == 0 {
			j.Space = "salt"
		}
		for {
			due, ok := c.Due()
			if !ok || due >= now {
				break
			}
			c.Advance(due)
			if err := after(); err != nil {
				return nil, err
			}
		}
		if err := c.Submit(now, j); err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
		if rng.IntN(10) == 0 {
			c.Abort(now, jobs[rng.IntN(len(jobs))])
		}
		if due, ok := c.Due(); ok && due <= now {
			c.Advance(now)
		}
		if err := after(); err != nil {
			return nil, err
		}
	}
	for {
		due, ok := c.Due()
		if !ok {
			return jobs, nil
		}
		c.Advance(due)
		if err := after(); err != nil {
			return nil, err
		}
	}
}

func TestRandomLoadsKeepTheBooksAndEndEveryJob(t *testing.T) {
	for seed := range uint64(20) {
		cfg := CoreConfig{Profile: h100(t), Capacity: 1600, Page: []int{1, 1, 4, 16}[seed%4], Chunk: 256, MaxPrefill: 512,
			MaxRunning: 12, ByPriority: seed%2 == 0, LongestPrefixFirst: seed%3 == 0, Leap: seed%5 < 2, Conservativeness: 0.2}
		c := NewCore(cfg)
		jobs, err := scenario(c, seed, c.check)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i, j := range jobs {
			if j.Ended == Unended || j.Ended == Finished && j.left() != 0 {
				t.Fatalf("seed %d: job %d is %v with %d tokens left", seed, i, j.Ended, j.left())
			}
		}
		if l := c.Load(); l.Used != 0 || l.Running != 0 || l.Waiting != 0 {
			t.Fatalf("seed %d: idle core has %+v", seed, l)
		}
	}
}

type record struct {
	cached, produced, retractions int
	admitted, first, last         time.Duration
	ended                         Ending
}

func records(jobs []*Job) (out []record) {
	for _, j := range jobs {
		out = append(out, record{j.Cached, j.Produced, j.Retractions, j.Admitted, j.First, j.Last, j.Ended})
	}
	return out
}

func TestSameLoadSameRecord(t *testing.T) {
	var before []record
	for range 2 {
		c := NewCore(CoreConfig{Profile: h100(t), Capacity: 1600})
		jobs, err := scenario(c, 3, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		got := records(jobs)
		if before != nil && fmt.Sprint(got) != fmt.Sprint(before) {
			t.Error("two runs of one load differ")
		}
		before = got
	}
}

func TestLeapingChangesNothing(t *testing.T) {
	const rounding = time.Microsecond // every single step is cut to whole nanoseconds
	for seed := range uint64(10) {
		var runs [2][]record
		var steps [2]int64
		for i, leap := range []bool{false, true} {
			c := NewCore(CoreConfig{Profile: h100(t), Capacity: 3000, MaxRunning: 12, Leap: leap})
			advances := int64(0)
			jobs, err := scenario(c, seed, func() error { advances++; return nil })
			if err != nil {
				t.Fatal(err)
			}
			runs[i], steps[i] = records(jobs), advances
		}
		for k := range runs[0] {
			a, b := runs[0][k], runs[1][k]
			if a.cached != b.cached || a.produced != b.produced || a.ended != b.ended || a.retractions != b.retractions ||
				(a.last-b.last).Abs() > rounding || (a.first-b.first).Abs() > rounding {
				t.Fatalf("seed %d, job %d: single steps %+v, leaps %+v", seed, k, a, b)
			}
		}
		if steps[1]*2 > steps[0] {
			t.Errorf("seed %d: leaping took %d calls, single steps %d", seed, steps[1], steps[0])
		}
	}
}
