package simengine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// check compares the core's sums with its jobs.
func (c *Core) check() error {
	if err := c.cache.check(); err != nil {
		return err
	}
	owned, contexts := 0, 0
	for _, j := range c.running {
		contexts += j.context()
		owned += j.owned
		if j.owned != c.cache.ceil(j.kv)-j.shared || j.kv != j.context()-1 {
			return fmt.Errorf("job owns %d slots, has kv %d, shared %d, context %d", j.owned, j.kv, j.shared, j.context())
		}
	}
	for _, j := range c.batch {
		owned += j.owned
	}
	if c.parked() > 0 {
		owned += c.chunked.owned
	}
	if owned != c.owned || contexts != c.contexts {
		return fmt.Errorf("owned %d, want %d; contexts %d, want %d", c.owned, owned, c.contexts, contexts)
	}
	if c.free() < 0 || c.active() > c.cfg.MaxRunning {
		return fmt.Errorf("free %d, active %d", c.free(), c.active())
	}
	return nil
}

// newJob makes a job of one prompt and so much output, whose tokens nobody else has.
func newJob(prompt []int32, output int) *Job {
	tokens := append([]int32{}, prompt...)
	for i := range output {
		tokens = append(tokens, 1_000_000+prompt[0]+int32(i))
	}
	return &Job{Tokens: tokens, Prompt: len(prompt), MaxNew: output}
}

func submit(t *testing.T, c *Core, now time.Duration, jobs ...*Job) {
	t.Helper()
	for _, j := range jobs {
		if err := c.Submit(now, j); err != nil {
			t.Fatalf("Submit: %v", err)
		}
	}
}

// run advances until nothing is due, checking all sums after every step.
func run(t *testing.T, c *Core) {
	t.Helper()
	for {
		due, ok := c.Due()
		if !ok {
			break
		}
		c.Advance(due)
		if err := c.check(); err != nil {
			t.Fatalf("at %v: %v", due, err)
		}
	}
	if l := c.Load(); l.Used != 0 || l.Running != 0 {
		t.Fatalf("idle core still has %+v", l)
	}
}

func h100(t testing.TB) Profile {
	t.Helper()
	p, ok := LookupProfile("llama-3.1-8b-h100")
	if !ok {
		t.Fatal("no such profile")
	}
	return p
}

func TestIdenticalPromptsAtOnceAreAllComputed(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t)})
	var jobs []*Job
	for range 4 {
		jobs = append(jobs, newJob(series(0, 1500), 3))
	}
	submit(t, c, 0, jobs...)
	run(t, c)
	for i, j := range jobs {
		if j.Cached != 0 || j.Ended != Finished {
			t.Errorf("job %d: cached %d, %v; want 0, finished", i, j.Cached, j.Ended)
		}
	}
	late := newJob(series(0, 1500), 3)
	submit(t, c, c.now, late)
	run(t, c)
	if late.Cached != 1499 {
		t.Errorf("a fifth one cached %d, want 1499", late.Cached)
	}
	if c.cache.size != 1502 {
		t.Errorf("tree holds %d tokens, want one copy of 1500 and 2 of output", c.cache.size)
	}
}

func TestPromptIsReusableAfterPrefillAndOutputAfterTheEnd(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t), Chunk: 400})
	j := newJob(series(0, 1000), 10)
	submit(t, c, 0, j)
	next := func() {
		due, ok := c.Due()
		if !ok {
			t.Fatal("nothing is due")
		}
		c.Advance(due)
	}
	next() // begins the first chunk
	whole := append(append([]int32{}, j.Tokens...), 7)
	for _, want := range []int{400, 800, 1000, 1000, 1000} { // three chunks, then decode steps
		next()
		if got := c.Cached("", whole); got != want {
			t.Fatalf("cached %d after a step, want %d", got, want)
		}
	}
	run(t, c)
	if got := c.Cached("", whole); got != 1009 {
		t.Errorf("cached %d after the end, want 1009: the last token was never computed", got)
	}
}

func TestAbortedOutputIsCached(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t)})
	j := newJob(series(0, 100), 1000)
	submit(t, c, 0, j)
	for j.Produced < 50 {
		due, _ := c.Due()
		c.Advance(due)
	}
	c.Abort(c.now, j)
	if j.Ended != Unended {
		t.Fatal("ended in the middle of a step")
	}
	run(t, c)
	if j.Ended != Aborted || j.Produced != 51 {
		t.Errorf("%v after %d tokens, want aborted after 51", j.Ended, j.Produced)
	}
	if got := c.Cached("", j.Tokens); got != 150 {
		t.Errorf("cached %d, want 150", got)
	}
}

func TestQueuedJobAbortsAtOnce(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t), MaxRunning: 1})
	a, b := newJob(series(0, 10), 100), newJob(series(100, 10), 100)
	b.Space = "salt"
	submit(t, c, 0, a, b)
	c.Advance(0)
	c.Abort(0, b)
	if b.Ended != Aborted || len(c.cache.roots) != 1 {
		t.Errorf("%v with %d roots, want aborted with 1", b.Ended, len(c.cache.roots))
	}
	run(t, c)
}

func TestStepTimesAddUp(t *testing.T) {
	p := h100(t)
	c := NewCore(CoreConfig{Profile: p})
	a, b := newJob(series(0, 1000), 3), newJob(series(5000, 500), 3)
	submit(t, c, 0, a, b)
	run(t, c)
	first := 3 + 1000*(0.0216+0.0009*0.5) + 500*(0.0216+0.0009*0.25)
	last := first + 2*7.5 + 0.0422*(1502+1504)/1000
	for name, got := range map[string]float64{
		"first": float64(a.First)/1e6 - first, "second's first": float64(b.First)/1e6 - first,
		"last": float64(a.Last)/1e6 - last,
	} {
		if math.Abs(got) > 1e-4 {
			t.Errorf("%s token is off by %v ms", name, got)
		}
	}
}

func TestPrefillBudgets(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prompts []int
		admit   []int // jobs admitted in each prefill batch
	}{
		{"one batch up to the chunk", []int{4000, 4000}, []int{2}},
		{"the third is split and goes on with the fourth", []int{4000, 4000, 4000, 1000}, []int{3, 1}},
		{"a long one takes chunks for itself", []int{20_000, 100}, []int{1, 0, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCore(CoreConfig{Profile: h100(t)})
			for i, n := range tt.prompts {
				submit(t, c, 0, newJob(series(int32(i)*100_000, n), 50))
			}
			var got []int
			for {
				due, ok := c.Due()
				if !ok {
					break
				}
				if out := c.Advance(due); out.Prefill {
					got = append(got, len(out.Admitted))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.admit) {
				t.Errorf("admitted %v, want %v", got, tt.admit)
			}
		})
	}
}

func TestAdmissionKeepsRoomForOutput(t *testing.T) {
	// Pool of 10,000; every job of 1,000 asks for 2,000. The first batch promises each in full (three fit:
	// 1,000 + 2,000 + 1 < what is left); then running jobs count with 0.7 of what they still may say.
	c := NewCore(CoreConfig{Profile: h100(t), Capacity: 10_000})
	for i := range int32(8) {
		submit(t, c, 0, newJob(series(i*100_000, 1000), 2000))
	}
	c.Advance(0)
	if got := len(c.batch); got != 3 {
		t.Errorf("first batch has %d jobs, want 3", got)
	}
	run(t, c)
	if got := c.Totals(); got.Finished != 8 {
		t.Errorf("totals %+v, want 8 finished", got)
	}
}

func TestMemoryPressureRetractsAndStillFinishes(t *testing.T) {
	// Expected output is clipped to 4,096 and weighted with the ratio, so long answers outgrow the pool.
	c := NewCore(CoreConfig{Profile: h100(t), Capacity: 12_000, Conservativeness: 0.3})
	var jobs []*Job
	for i := range int32(5) {
		jobs = append(jobs, newJob(series(i*100_000, 500), 5000))
	}
	for _, j := range jobs { // one by one: after the first refusal nobody is admitted until one ends
		submit(t, c, c.now, j)
		for j.First == 0 {
			due, _ := c.Due()
			c.Advance(due)
		}
	}
	run(t, c)
	for i, j := range jobs {
		if j.Ended != Finished || j.Produced != 5000 {
			t.Errorf("job %d: %v after %d tokens", i, j.Ended, j.Produced)
		}
	}
	if c.Totals().Retractions == 0 {
		t.Error("nothing was retracted: the case does not test what it says")
	}
}

func TestLongestPrefixFirst(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t), LongestPrefixFirst: true, MaxRunning: 3})
	warm := newJob(series(0, 1000), 1)
	submit(t, c, 0, warm)
	run(t, c)
	// Cold ones first in the queue; two of them start alike, so the second of these goes last.
	coldA, coldB := newJob(series(50_000, 300), 2), newJob(append(series(50_000, 200), 9), 2)
	coldC := newJob(series(90_000, 100), 2)
	hit := newJob(append(series(0, 900), 8, 8, 8), 2)
	submit(t, c, c.now, coldA, coldB, coldC, hit)
	run(t, c)
	for i, j := range []*Job{hit, coldA, coldC} {
		if j.Admitted >= coldB.Admitted {
			t.Errorf("job %d was admitted at %v, not before %v", i, j.Admitted, coldB.Admitted)
		}
	}
	if coldB.Cached != 200 {
		t.Errorf("the one put off cached %d, want 200", coldB.Cached)
	}
}

func TestRefusals(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t), Capacity: 1000, MaxRunning: 1, MaxQueued: 1})
	for _, tt := range []struct {
		prompt int
		pool   bool
	}{{995, true}, {131_072, false}} {
		err := c.Submit(0, newJob(series(0, tt.prompt), 1))
		tooLong, ok := errors.AsType[*TooLongError](err)
		if !ok || tooLong.Pool != tt.pool {
			t.Errorf("prompt of %d: %v", tt.prompt, err)
		}
	}
	most := newJob(series(0, 994), 100)
	submit(t, c, 0, most)
	if err := c.Submit(0, newJob(series(0, 5), 1)); !errors.Is(err, ErrQueueFull) {
		t.Errorf("over the queue: %v, want ErrQueueFull", err)
	}
	if err := c.Submit(0, most); !errors.Is(err, ErrBadJob) {
		t.Errorf("submitted twice: %v, want ErrBadJob", err)
	}
	run(t, c)
	if most.Produced != 4 || most.Ended != Finished {
		t.Errorf("a prompt that fills the pool produced %d, %v; want 4, finished", most.Produced, most.Ended)
	}
}

func TestCrashEndsEverythingAndForgets(t *testing.T) {
	c := NewCore(CoreConfig{Profile: h100(t), MaxRunning: 2})
	jobs := []*Job{newJob(series(0, 100), 50), newJob(series(1000, 20_000), 50), newJob(series(90_000, 10), 5)}
	submit(t, c, 0, jobs...)
	for range 4 {
		due, _ := c.Due()
		c.Advance(due)
	}
	if got := len(c.Crash(c.now)); got != 3 {
		t.Errorf("crash ended %d jobs, want 3", got)
	}
	if _, ok := c.Due(); ok || c.cache.size != 0 || c.check() != nil {
		t.Errorf("due %v, %d tokens cached, %v", ok, c.cache.size, c.check())
	}
	again := newJob(series(0, 100), 5)
	submit(t, c, c.now, again)
	run(t, c)
	if again.Cached != 0 || again.Ended != Finished {
		t.Errorf("after the crash: cached %d, %v", again.Cached, again.Ended)
	}
}

func TestPauseFreezesOrRetracts(t *testing.T) {
	for _, retract := range []bool{false, true} {
		c := NewCore(CoreConfig{Profile: h100(t), Leap: true})
		j := newJob(series(0, 100), 50)
		submit(t, c, 0, j)
		c.Advance(0)
		due, _ := c.Due()
		c.Advance(due) // first token; a leap is in flight
		c.Pause(retract)
		due, _ = c.Due()
		c.Advance(due)
		if _, ok := c.Due(); ok || (c.Load().Waiting == 1) != retract || c.check() != nil {
			t.Errorf("retract %v: due %v, %+v, %v", retract, ok, c.Load(), c.check())
		}
		c.Resume()
		run(t, c)
		if j.Ended != Finished || j.Produced != 50 {
			t.Errorf("retract %v: %v after %d", retract, j.Ended, j.Produced)
		}
	}
}

// BenchmarkCoreStep: one decode step of 64 jobs, as the real-time engine takes it.
func BenchmarkCoreStep(b *testing.B) {
	c := NewCore(CoreConfig{Profile: h100(b), Capacity: 100 << 20, Context: 1 << 30})
	tokens := series(0, 1<<24)
	for i := range 64 {
		j := &Job{Tokens: tokens[i*10_000:], Prompt: 1000}
		if err := c.Submit(0, j); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		due, ok := c.Due()
		if !ok {
			b.Fatal("would measure an idle core")
		}
		c.Advance(due)
	}
	b.ReportMetric(float64(c.Totals().Decodes)/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkCoreRequest: a request's whole life in virtual time: 12,000 tokens in, half of them cached, 343
// out, arriving at 3 a second at a full cache of 450k tokens.
func BenchmarkCoreRequest(b *testing.B) {
	c := NewCore(CoreConfig{Profile: h100(b), Leap: true})
	tokens := series(0, 12_343)
	now := time.Duration(0)
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		now += time.Duration(rng.ExpFloat64() * 0.33e9)
		own := append([]int32{}, tokens...)
		own[0], own[6000] = int32(rng.IntN(20)), rng.Int32()
		for {
			due, ok := c.Due()
			if !ok || due > now {
				break
			}
			c.Advance(due)
		}
		if err := c.Submit(now, &Job{Tokens: own, Prompt: 12_000, MaxNew: 343}); err != nil {
			b.Fatal(err)
		}
		if due, ok := c.Due(); ok && due <= now {
			c.Advance(now)
		}
	}
	t := c.Totals()
	b.ReportMetric(float64(t.Cached)/float64(max(t.Prompt, 1)), "hit")
}
