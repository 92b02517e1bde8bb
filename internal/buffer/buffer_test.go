package buffer

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoom(t *testing.T) {
	for n, want := range map[int]int{
		0: 4 << 10, 1: 4 << 10, 4 << 10: 4 << 10, 4<<10 + 1: 8 << 10, 220_000: 256 << 10, 1 << 20: 1 << 20, 1<<20 + 1: 1<<20 + 1,
	} {
		if got := Room(n); got != want {
			t.Errorf("room for %d bytes is %d, want %d", n, got, want)
		}
		b := Get(n)
		if len(b.B) != 0 || cap(b.B) != want {
			t.Errorf("got %d of %d bytes for %d, want 0 of %d", len(b.B), cap(b.B), n, want)
		}
		b.B = append(b.B, "used"...)
		b.Release()
	}
	var none *Buffer
	none.Release()
}

// What is lent to one is lent to nobody else, and comes back empty, with all of its room.
func TestALoanIsExclusive(t *testing.T) {
	var g sync.WaitGroup
	for who := range 8 {
		g.Go(func() {
			for i := range 2000 {
				n := 1 << (10 + (who+i)%11)
				b := Get(n)
				if len(b.B) != 0 || cap(b.B) < n {
					t.Errorf("got %d of %d bytes for %d", len(b.B), cap(b.B), n)
				}
				b.B = b.B[:n]
				b.B[0], b.B[n-1] = byte(who), byte(who)
				if b.B[0] != byte(who) || b.B[n-1] != byte(who) {
					t.Error("somebody else writes here")
				}
				b.Release()
			}
		})
	}
	g.Wait()
}

func TestMuchLargeRoomGoesBackToTheSystemOnceItIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var freed []time.Duration
		r := reliever{free: func() { freed = append(freed, time.Since(began)) }}
		r.gone(reliefAt - 1) // not much
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(freed) > 0 {
			t.Fatalf("freed at %v after little", freed)
		}
		r.gone(1)
		time.Sleep(reliefAfter / 2)
		r.gone(5) // it is not quiet yet
		time.Sleep(time.Minute)
		r.gone(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := time.Minute + reliefAfter*3/2; len(freed) != 1 || freed[0] != want {
			t.Errorf("freed at %v, want once, at %v", freed, want)
		}
	})
}
