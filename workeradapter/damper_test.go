package workeradapter

import (
	"testing"
	"time"
)

func TestAnEngineThatComesAndGoesIsTakenInMoreSlowly(t *testing.T) {
	var d damper
	now := time.Unix(1_800_000_000, 0)
	for i := range fallsFree {
		if d.fell(now); d.wait(now) != 0 {
			t.Errorf("fall %d: wait %v, want none", i+1, d.wait(now))
		}
		now = now.Add(time.Second)
	}
	d.fell(now)
	if got := d.wait(now.Add(time.Second)); got != dampFirst-time.Second {
		t.Errorf("one too many: %v, want %v after the fall", got, dampFirst)
	}
	if got := d.wait(now.Add(dampFirst)); got != 0 {
		t.Errorf("once it has stayed: %v, want none", got)
	}
	for range 2 * fallsMost {
		now = now.Add(time.Second)
		d.fell(now)
	}
	if got := d.wait(now); got != dampMost {
		t.Errorf("after many: %v, want %v", got, dampMost)
	}
	if got := d.wait(now.Add(fallsKept + time.Second)); got != 0 || len(d.falls) != 0 {
		t.Errorf("long after: %v, %d falls", got, len(d.falls))
	}
}
