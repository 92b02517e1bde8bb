package replay

import (
	"testing"
	"time"
)

// TestProgressFitsItsRoom: what matters least is left out first.
func TestProgressFitsItsRoom(t *testing.T) {
	half := progress{tally: tally{requests: 500, errors: 3, prompt: 100, cached: 40, cachedReported: 1}, total: 1000, rate: 20.5, elapsed: time.Minute}
	ended := half
	ended.requests = 1000
	endless := half
	endless.total, endless.errors = 0, 0
	for _, tt := range []struct {
		name string
		p    progress
		room int
		want string
	}{
		{"all", half, 80, "500 of 1,000, 20.5/s, 3 failed, hit rate 40.0 %, 1m0s left"},
		{"without the hit rate", half, 45, "500 of 1,000, 20.5/s, 3 failed, 1m0s left"},
		{"without the rate", half, 36, "500 of 1,000, 3 failed, 1m0s left"},
		{"without the time", half, 25, "500 of 1,000, 3 failed"},
		{"the number alone", half, 12, "500 of 1,000"},
		{"nothing", half, 11, ""},
		{"no room at all", half, -5, ""},
		{"at the end no time is left", ended, 80, "1,000 of 1,000, 20.5/s, 3 failed, hit rate 40.0 %"},
		{"an unknown number", endless, 80, "500 requests, 20.5/s, hit rate 40.0 %, 1m0s"},
		{"before anything is known", progress{total: 10}, 80, "0 of 10, 0.0/s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.words(tt.room); got != tt.want {
				t.Errorf("words(%d) = %q, want %q", tt.room, got, tt.want)
			}
		})
	}
}
