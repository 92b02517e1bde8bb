package tree

import (
	"slices"
	"testing"
)

func TestLevelsAreNestedAndTellWhoHoldsMore(t *testing.T) {
	tr := New(Config{})
	tr.Insert(3, Path{1, 2, 3, 4}, 1)
	tr.Insert(5, Path{1, 2, 30}, 2)
	tr.Insert(9, Path{1}, 3)
	tr.Insert(7, Path{8}, 4)

	levels := tr.Levels(Path{1, 2, 3, 5}, nil)
	var depths []int
	var holders [][]Worker
	for _, l := range levels {
		depths = append(depths, l.Depth)
		holders = append(holders, slices.Collect(l.All()))
		if l.Holders() != len(holders[len(holders)-1]) {
			t.Errorf("%d holders counted, %v listed", l.Holders(), holders[len(holders)-1])
		}
	}
	if want := []int{3, 2}; !slices.Equal(depths, want) {
		t.Errorf("depths %v, want %v", depths, want)
	}
	if want := [][]Worker{{3}, {3, 5, 9}}; !slices.EqualFunc(holders, want, slices.Equal) {
		t.Errorf("holders %v, want %v", holders, want)
	}
	for _, tt := range []struct {
		first, end Worker
		want       bool
	}{{0, 3, false}, {3, 4, true}, {4, 5, false}, {4, 6, true}, {6, 9, false}, {9, 16, true}, {10, 16, false}} {
		if got := levels[1].Any(tt.first, tt.end); got != tt.want {
			t.Errorf("any of %d to %d: %v, want %v", tt.first, tt.end, got, tt.want)
		}
	}
	if got := tr.Levels(Path{77}, nil); len(got) != 0 {
		t.Errorf("levels %v of what nobody holds", got)
	}
}
