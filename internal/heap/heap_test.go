package heap_test

import (
	"testing"

	"github.com/radixbus/radixbus/internal/heap"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 400}, {5 << 20, 400}, {16 << 20, 400}, {32 << 20, 200}, {64 << 20, 100}, {128 << 20, 50}, {8 << 30, 50}, {1 << 63, 50},
	} {
		if got := heap.Percent(tt.live); got != tt.want {
			t.Errorf("with %d MiB alive: %d %%, want %d", tt.live>>20, got, tt.want)
		}
	}
}
