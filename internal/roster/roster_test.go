package roster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

const (
	stale  = 3 * time.Second
	forget = time.Minute
)

var start = time.Unix(1_700_000_000, 0)

func info(worker, pool string, n wire.Instance, models ...string) *wire.WorkerInfo {
	w := &wire.WorkerInfo{Worker: worker, Pool: pool, Instance: n}
	for i, m := range append([]string{pool}, models...) {
		kind := wire.BaseModel
		if i > 0 {
			kind = wire.LoRAModel
		}
		w.Models = append(w.Models, wire.Model{Name: m, Kind: kind})
	}
	return w
}

func beat(worker string, n wire.Instance, hash uint64, s wire.State) wire.Up {
	return wire.Up{Worker: worker, Instance: n, InfoHash: hash, State: s, BeatMillis: 1000}
}

// join makes a worker known.
func join(t *testing.T, r *roster.Roster, now time.Time, w *wire.WorkerInfo, s wire.State) {
	t.Helper()
	if ask, _ := r.Up(now, beat(w.Worker, w.Instance, 1, s)); !ask {
		t.Fatalf("the first beat of %s did not ask for its info", w.Worker)
	}
	if changes := r.Info(w, 1); len(changes) != 1 || changes[0].Gone || changes[0].Worker.State != s {
		t.Fatalf("Info of %s = %v, want one join", w.Worker, changes)
	}
}

func names(v *roster.View) (out []string) {
	for _, w := range v.Workers {
		out = append(out, fmt.Sprintf("%s %s", w.Info.Worker, w.State))
	}
	return out
}

func TestWorkerIsUnseenUntilItsInfoIsKnown(t *testing.T) {
	r := roster.New(stale, forget, 10)
	ask, changes := r.Up(start, beat("w0", 1, 7, wire.Ready))
	if !ask || changes != nil {
		t.Fatalf("Up = %v, %v, want a question and no change", ask, changes)
	}
	if got := r.View(); len(got.Workers) != 0 || got.Ready != 0 {
		t.Errorf("the view shows %v before the info is known", names(got))
	}
	for _, tt := range []struct {
		after time.Duration
		ask   bool
	}{{100 * time.Millisecond, false}, {499 * time.Millisecond, false}, {501 * time.Millisecond, true}, {900 * time.Millisecond, false}} {
		if ask, _ := r.Up(start.Add(tt.after), beat("w0", 1, 7, wire.Ready)); ask != tt.ask {
			t.Errorf("beat after %v asks %v, want %v", tt.after, ask, tt.ask)
		}
	}
	if changes := r.Info(info("w0", "m", 2), 7); changes != nil {
		t.Errorf("info of another life = %v, want nothing", changes)
	}
	if changes := r.Info(info("stranger", "m", 1), 7); changes != nil {
		t.Errorf("info of a worker that never beat = %v, want nothing", changes)
	}
	if changes := r.Info(info("w0", "m", 1), 7); len(changes) != 1 {
		t.Fatalf("Info = %v, want one change", changes)
	}
	// Two questions may be answered twice: the second answer is no news to anybody.
	if changes := r.Info(info("w0", "m", 1), 7); changes != nil {
		t.Errorf("the same info again = %v, want nothing", changes)
	}
	if ask, changes := r.Up(start.Add(time.Second), beat("w0", 1, 7, wire.Ready)); ask || changes != nil {
		t.Errorf("a known worker's beat = %v, %v, want neither question nor change", ask, changes)
	}
	if ask, _ := r.Up(start.Add(2*time.Second), beat("w0", 1, 8, wire.Ready)); !ask {
		t.Error("a beat with another hash does not ask again")
	}
}

func TestStateFollowsTheBeats(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("w0", "m", 1), wire.Ready)
	first := r.View()
	_, changes := r.Up(start.Add(time.Second), beat("w0", 1, 1, wire.Draining))
	if len(changes) != 1 || changes[0].Gone || changes[0].Worker.State != wire.Draining {
		t.Fatalf("changes = %v, want the worker draining", changes)
	}
	if got := names(first); !slices.Equal(got, []string{"w0 " + wire.Ready.String()}) {
		t.Errorf("an older view changed: %v", got)
	}
	if v := r.View(); v.Ready != 0 || len(v.Workers) != 1 || v.Lookup("m").Ready != 0 || v.Lookup("m").Workers != 1 {
		t.Errorf("view of a draining worker: %+v", v)
	}
	if _, changes := r.Up(start.Add(2*time.Second), beat("w0", 1, 1, wire.Ready)); len(changes) != 1 {
		t.Errorf("back to ready: %v, want one change", changes)
	}
}

func TestSilentWorkerGetsNothingAndIsForgottenLater(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("w1", "m", 1), wire.Ready)
	join(t, r, start, info("w0", "m", 1), wire.Ready)
	if changes := r.Expire(start.Add(stale)); changes != nil {
		t.Fatalf("Expire at the bound = %v, want nothing", changes)
	}
	r.Up(start.Add(stale), beat("w1", 1, 1, wire.Ready))
	changes := r.Expire(start.Add(stale + 1))
	if len(changes) != 1 || changes[0].Gone || changes[0].Worker.Info.Worker != "w0" || changes[0].Worker.State != wire.Silent {
		t.Fatalf("Expire = %v, want w0 silent", changes)
	}
	if v := r.View(); v.Ready != 1 || v.Lookup("m").Workers != 2 {
		t.Errorf("view %v", names(v))
	}
	if changes := r.Expire(start.Add(stale + 2)); changes != nil {
		t.Errorf("Expire again = %v, want nothing", changes)
	}
	if ask, changes := r.Up(start.Add(10*time.Second), beat("w0", 1, 1, wire.Ready)); ask || len(changes) != 1 || changes[0].Worker.State != wire.Ready {
		t.Errorf("heard again: %v, %v, want it ready, without a question", ask, changes)
	}
	r.Expire(start.Add(20 * time.Second))
	changes = r.Expire(start.Add(10*time.Second + forget + 1))
	if len(changes) != 2 || !changes[0].Gone || changes[0].Worker.Info.Worker != "w0" || changes[0].Code != wire.CodeWorkerGone || len(r.View().Workers) != 0 {
		t.Errorf("Expire after the longest silence = %v, view %v", changes, names(r.View()))
	}
}

// When a bus was away for more than the stale time, all its workers were taken for dead, and what was known of their
// caches went with them.
func TestTheSilenceOfTheBusIsNobodys(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("w0", "m", 1), wire.Ready)
	for at := start; at.Before(start.Add(5 * time.Minute)); at = at.Add(500 * time.Millisecond) {
		r.Deaf(at)
		if changes := r.Expire(at); changes != nil {
			t.Fatalf("Expire without a bus = %v, want nothing", changes)
		}
	}
	back := start.Add(5 * time.Minute)
	if changes := r.Expire(back.Add(stale - time.Second)); changes != nil {
		t.Errorf("Expire before anybody can have been heard = %v, want nothing", changes)
	}
	if changes := r.Expire(back.Add(stale)); len(changes) != 1 || changes[0].Worker.State != wire.Silent {
		t.Errorf("Expire = %v, want the worker silent", changes)
	}
}

func TestAnnouncedBeatStretchesPatienceWithinABound(t *testing.T) {
	tests := []struct {
		beat   time.Duration
		after  time.Duration
		silent bool
	}{
		{0, 3001 * time.Millisecond, true},
		{4 * time.Second, 11 * time.Second, false},
		{4 * time.Second, 13 * time.Second, true},
		{49 * 24 * time.Hour, time.Minute, false},
		{49 * 24 * time.Hour, time.Minute + 1, true}, // a wrong number kept a dead worker for months once
	}
	for _, tt := range tests {
		r := roster.New(stale, forget, 10)
		up := beat("w0", 1, 1, wire.Ready)
		up.BeatMillis = uint32(tt.beat.Milliseconds())
		r.Up(start, up)
		r.Info(info("w0", "m", 1), 1)
		if silent := len(r.Expire(start.Add(tt.after))) == 1; silent != tt.silent {
			t.Errorf("beat every %v, not heard for %v: silent %v, want %v", tt.beat, tt.after, silent, tt.silent)
		}
	}
}

func TestNewLifeReplacesTheOldOne(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("w0", "m", 5), wire.Ready)
	if ask, changes := r.Up(start, beat("w0", 4, 1, wire.Down)); ask || changes != nil {
		t.Errorf("an earlier life's beat = %v, %v, want nothing", ask, changes)
	}
	if changes := r.Down(wire.Gone{Worker: "w0", Instance: 4}); changes != nil {
		t.Errorf("an earlier life's end = %v, want nothing", changes)
	}
	ask, changes := r.Up(start.Add(time.Millisecond), beat("w0", 6, 1, wire.Ready))
	if !ask || len(changes) != 1 || changes[0].Gone || changes[0].Worker.State != wire.Silent || changes[0].Worker.Info.Instance != 5 {
		t.Fatalf("a new life = %v, %v, want a question, and the old life silent", ask, changes)
	}
	if v := r.View(); v.Ready != 0 || v.Lookup("m") == nil { // requests wait for it; without a worker they would be refused
		t.Errorf("between two lives: %d ready, the model is served by %v", v.Ready, v.Lookup("m"))
	}
	if ask, changes := r.Up(start.Add(time.Millisecond+stale/2), beat("w0", 6, 1, wire.Ready)); !ask || changes != nil {
		t.Errorf("its next beat = %v, %v, want the question again", ask, changes)
	}
	if changes := r.Info(info("w0", "m", 6), 1); len(changes) != 1 || changes[0].Worker.Info.Instance != 6 || changes[0].Worker.State != wire.Ready {
		t.Errorf("info of the new life = %v", changes)
	}
	if changes := r.Info(info("w0", "m", 6), 1); changes != nil {
		t.Errorf("the same again = %v, want nothing", changes)
	}
	r.Up(start, beat("w0", 7, 1, wire.Ready))
	if changes := r.Info(info("w0", "another", 7), 1); len(changes) != 2 || !changes[0].Gone || changes[0].Code != wire.CodeStale || changes[0].Worker.Info.Instance != 6 || changes[1].Worker.Info.Pool != "another" {
		t.Errorf("a life that serves another model = %v, want the earlier one gone", changes)
	}
	r.Up(start, beat("w0", 8, 1, wire.Ready))
	if changes := r.Down(wire.Gone{Worker: "w0", Instance: 8, Code: wire.CodeDraining}); len(changes) != 1 || changes[0].Worker.Info.Instance != 7 {
		t.Errorf("a life that ends unknown = %v, want the earlier one gone", changes)
	}
	join(t, r, start, info("w0", "m", 6), wire.Ready)
	if changes := r.Down(wire.Gone{Worker: "w0", Instance: 6, Code: wire.CodeDraining}); len(changes) != 1 || changes[0].Code != wire.CodeDraining {
		t.Errorf("its end = %v, want it gone with its own reason", changes)
	}
	if changes := r.Down(wire.Gone{Worker: "w0", Instance: 6}); changes != nil {
		t.Errorf("its end again = %v, want nothing", changes)
	}
}

func TestRosterIsBounded(t *testing.T) {
	r := roster.New(stale, forget, 2)
	join(t, r, start, info("w0", "m", 1), wire.Ready)
	join(t, r, start, info("w1", "m", 1), wire.Ready)
	if ask, changes := r.Up(start, beat("w2", 1, 1, wire.Ready)); ask || changes != nil {
		t.Errorf("a beat beyond the bound = %v, %v, want nothing", ask, changes)
	}
	r.Down(wire.Gone{Worker: "w0", Instance: 1})
	if ask, _ := r.Up(start, beat("w2", 1, 1, wire.Ready)); !ask {
		t.Error("a freed place is not given away")
	}
}

func TestViewCountsModels(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("w0", "llama", 1, "lora-a"), wire.Ready)
	join(t, r, start, info("w1", "llama", 1), wire.Down)
	join(t, r, start, info("w2", "qwen", 1), wire.Ready)
	v := r.View()
	type row struct {
		Model, Pool    string
		Workers, Ready int
	}
	var got []row
	for _, s := range v.Models {
		got = append(got, row{s.Model.Name, s.Pool, s.Workers, s.Ready})
	}
	want := []row{{"llama", "llama", 2, 1}, {"lora-a", "llama", 1, 1}, {"qwen", "qwen", 1, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("models (-want +got):\n%s", diff)
	}
	if v.Ready != 2 || v.Lookup("nobody") != nil {
		t.Errorf("ready %d, want 2", v.Ready)
	}
	if got := v.Names(2); !slices.Equal(got, []string{"llama", "lora-a"}) {
		t.Errorf("Names(2) = %v", got)
	}
	if got := v.Names(9); len(got) != 3 {
		t.Errorf("Names(9) = %v", got)
	}
}

// A name that two pools serve went to the pool of the first worker by name, though it was down, while the figures counted
// both pools.
func TestNameThatTwoPoolsServeBelongsToThePoolThatTakesRequests(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("a", "llama", 1, "chat"), wire.Down)
	join(t, r, start, info("b", "qwen", 1, "chat"), wire.Ready)
	join(t, r, start, info("c", "qwen", 1), wire.Ready)
	got := r.View().Lookup("chat")
	if got.Pool != "qwen" || got.Ready != 1 || got.Workers != 1 {
		t.Errorf("Lookup(chat) = %+v, want the one ready worker of qwen", got)
	}
	r.Up(start.Add(time.Second), beat("a", 1, 1, wire.Ready))
	if got := r.View().Lookup("chat"); got.Pool != "llama" {
		t.Errorf("with both ready: pool %s, want the first by name", got.Pool)
	}
}

// Whatever is said in whatever order: the roster keeps its bound, forgets the silent, and its view is sorted and agrees
// with its changes.
func TestRandomTalkKeepsViewAndChangesInStep(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r, now, shown := roster.New(stale, forget, 4), start, map[string]bool{}
		follow := func(changes []roster.Change) {
			for _, c := range changes {
				shown[c.Worker.Info.Worker] = !c.Gone
			}
		}
		for range 300 {
			now = now.Add(time.Duration(rng.Int64N(int64(700 * time.Millisecond))))
			w, n, hash := fmt.Sprintf("w%d", rng.IntN(6)), wire.Instance(rng.IntN(3)+1), uint64(rng.IntN(2)+1)
			switch rng.IntN(8) {
			case 0:
				follow(r.Down(wire.Gone{Worker: w, Instance: n}))
			case 1:
				follow(r.Expire(now))
			case 2, 3, 4:
				follow(r.Info(info(w, "m", n), hash))
			default:
				_, changes := r.Up(now, beat(w, n, hash, wire.Ready+wire.State(rng.IntN(2))))
				follow(changes)
			}
			var want []string
			for name, here := range shown {
				if here {
					want = append(want, name)
				}
			}
			slices.Sort(want)
			var got []string
			for _, w := range r.View().Workers {
				got = append(got, w.Info.Worker)
			}
			if !slices.Equal(got, want) || len(got) > 4 {
				t.Fatalf("seed %d: the view shows %v, the changes told %v", seed, got, want)
			}
		}
		follow(r.Expire(now.Add(forget + 1)))
		if v := r.View(); len(v.Workers) != 0 || len(v.Models) != 0 {
			t.Fatalf("seed %d: after a minute of silence the view shows %v", seed, names(v))
		}
	}
}

func TestAbsentWorkerIsSilentUntilItsNextBeat(t *testing.T) {
	r := roster.New(stale, forget, 10)
	join(t, r, start, info("w0", "m", 2), wire.Ready)
	for name, n := range map[string]wire.Instance{"w0": 1, "w1": 2} { // another life, nobody at all
		if changes := r.Absent(name, n); changes != nil {
			t.Errorf("%s %d: %v", name, n, changes)
		}
	}
	if changes := r.Absent("w0", 2); len(changes) != 1 || changes[0].Gone || changes[0].Worker.State != wire.Silent || r.View().Ready != 0 {
		t.Errorf("absent: %v, %v", changes, names(r.View()))
	}
	if changes := r.Absent("w0", 2); changes != nil {
		t.Errorf("absent again: %v", changes)
	}
	if _, changes := r.Up(start.Add(time.Second), beat("w0", 2, 1, wire.Ready)); len(changes) != 1 || changes[0].Worker.State != wire.Ready {
		t.Errorf("its beat: %v", changes)
	}
}

// A worker that was started again on a host whose clock is behind was taken for an earlier life's last words, and got nothing
// until its earlier life was forgotten, two minutes later.
func TestANewLifeOnAHostWhoseClockIsBehind(t *testing.T) {
	const every = 750 * time.Millisecond
	begin := func() *roster.Roster {
		r := roster.New(stale, forget, 10)
		join(t, r, start, info("w0", "m", 100), wire.Ready)
		return r
	}
	shown := func(r *roster.Roster) (wire.Instance, wire.State) {
		w := r.View().Workers[0]
		return w.Info.Instance, w.State
	}
	// untilTaken beats for the younger life until it is shown as ready.
	untilTaken := func(r *roster.Roster, from time.Time) time.Duration {
		now := from
		for range 100 {
			now = now.Add(every)
			if ask, _ := r.Up(now, beat("w0", 99, 2, wire.Ready)); ask {
				r.Info(info("w0", "m", 99), 2)
			}
			r.Expire(now)
			if n, s := shown(r); n == 99 && s == wire.Ready {
				break
			}
		}
		return now.Sub(from)
	}
	t.Run("it is taken once the earlier one is silent", func(t *testing.T) {
		if took := untilTaken(begin(), start); took > stale+2*every {
			t.Errorf("ready after %v", took)
		}
	})
	t.Run("at once when nobody listens for the earlier one", func(t *testing.T) {
		r := begin()
		r.Absent("w0", 100)
		if ask, _ := r.Up(start.Add(every), beat("w0", 99, 2, wire.Ready)); !ask {
			t.Fatal("it is not asked what it is")
		}
		r.Info(info("w0", "m", 99), 2)
		if n, s := shown(r); n != 99 || s != wire.Ready {
			t.Errorf("%d is shown as %v", n, s)
		}
	})
	t.Run("not while the earlier one is heard", func(t *testing.T) {
		r, now := begin(), start
		for range 100 {
			now = now.Add(every)
			r.Expire(now)
			r.Up(now, beat("w0", 100, 1, wire.Ready))
			if ask, changes := r.Up(now, beat("w0", 99, 2, wire.Ready)); ask || changes != nil {
				t.Fatalf("%v, %v", ask, changes)
			}
		}
	})
	t.Run("a late word of a dead life costs the stale time", func(t *testing.T) {
		r, now := begin(), start
		r.Absent("w0", 100)
		r.Up(now, beat("w0", 99, 2, wire.Ready))
		r.Info(info("w0", "m", 99), 2)
		now = now.Add(every)
		r.Up(now, beat("w0", 100, 1, wire.Ready)) // nobody answers for it
		if took := untilTaken(r, now); took > stale+2*every {
			t.Errorf("ready again after %v", took)
		}
	})
	t.Run("an earlier life's late word does not outlast the next beat", func(t *testing.T) {
		r := begin()
		r.Expire(start.Add(stale + 1))
		r.Up(start.Add(stale+2), beat("w0", 99, 2, wire.Ready))
		if n, s := shown(r); n != 100 || s != wire.Silent {
			t.Errorf("%d is shown as %v while the known one is silent", n, s)
		}
		if ask, _ := r.Up(start.Add(stale+3), beat("w0", 100, 1, wire.Ready)); !ask {
			t.Fatal("it is not asked what it is")
		}
		if changes := r.Info(info("w0", "m", 100), 1); len(changes) != 1 || changes[0].Gone || changes[0].Worker.State != wire.Ready {
			t.Errorf("it is back: %v", changes)
		}
	})
}

// Two workers with an alias, or an adapter, called as another pool's base model took its requests away.
func TestABaseModelKeepsItsName(t *testing.T) {
	for _, kind := range []wire.ModelKind{wire.AliasModel, wire.LoRAModel} {
		r := roster.New(stale, forget, 10)
		big := info("b", "big", 1)
		join(t, r, start, big, wire.Silent)
		for _, name := range []string{"s0", "s1"} {
			small := info(name, "small", 1)
			small.Models = append(small.Models, wire.Model{Name: "big", Kind: kind, Root: "small"})
			join(t, r, start, small, wire.Ready)
		}
		v := r.View()
		if got := v.Lookup("big"); got.Pool != "big" {
			t.Errorf("big, %v elsewhere, is served by pool %s", kind, got.Pool)
		}
		if got := v.LookupIn("small", "big"); got == nil || got.Model.Kind != kind || got.Workers != 2 {
			t.Errorf("in the other pool: %+v", got)
		}
		if got := v.LookupIn("big", "small"); got != nil {
			t.Errorf("small in pool big: %+v", got)
		}
		r.Down(wire.Gone{Worker: "b", Instance: 1})
		if got := r.View().Lookup("big"); got == nil || got.Pool != "small" {
			t.Errorf("once the base model is gone: %+v", got)
		}
	}
}
