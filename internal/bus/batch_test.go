package bus

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// outlet is what a batch has sent, and when.
type outlet struct {
	mu    sync.Mutex
	began time.Time
	sent  []string
	fail  error
}

func (o *outlet) publish(subject string, doc []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	o.sent = append(o.sent, fmt.Sprintf("%s=%s@%s", subject, doc, time.Since(o.began)))
	return nil
}

func (o *outlet) want(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.sent, want) {
		t.Errorf("sent %q, want %q", o.sent, want)
	}
}

func batchOf(o *outlet, failed func(string, error)) *Batch {
	o.began = time.Now()
	return &Batch{gap: 2 * time.Millisecond, publish: o.publish, failed: failed}
}

func TestBatchSendsTheFirstAtOnceAndTheOthersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outlet
		b := batchOf(&o, nil)
		b.Publish("a", []byte("1"))
		o.want(t, "a=1@0s")
		b.Publish("b", []byte("2"))
		time.Sleep(time.Millisecond)
		b.Publish("a", []byte("3"))
		o.want(t, "a=1@0s")
		time.Sleep(1500 * time.Microsecond) // 2.5 ms
		o.want(t, "a=1@0s", "b=2@2ms", "a=3@2ms")
		b.Publish("a", []byte("4")) // within the gap after what left last
		time.Sleep(10 * time.Millisecond)
		o.want(t, "a=1@0s", "b=2@2ms", "a=3@2ms", "a=4@4ms")
		b.Publish("a", []byte("5")) // after a pause
		o.want(t, "a=1@0s", "b=2@2ms", "a=3@2ms", "a=4@4ms", "a=5@12.5ms")
	})
}

func TestBatchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outlet
		b := batchOf(&o, nil)
		for range batchBound {
			b.Publish("a", nil)
		}
		if len(o.sent) != 1 {
			t.Fatalf("%d sent, want the first alone", len(o.sent))
		}
		b.Publish("a", nil)
		if len(o.sent) != batchBound+1 {
			t.Errorf("%d sent, want all %d", len(o.sent), batchBound+1)
		}
		time.Sleep(time.Second) // no timer is left that would send anything twice
		if len(o.sent) != batchBound+1 {
			t.Errorf("%d sent in the end, want %d", len(o.sent), batchBound+1)
		}
	})
}

func TestBatchClosedHasSentEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outlet
		var failed []error
		b := batchOf(&o, func(_ string, err error) { failed = append(failed, err) })
		b.Publish("a", []byte("1"))
		b.Publish("a", []byte("2"))
		b.Close()
		o.want(t, "a=1@0s", "a=2@0s")
		b.Publish("a", []byte("3"))
		o.want(t, "a=1@0s", "a=2@0s")
		if len(failed) != 1 || !errors.Is(failed[0], errBatchClosed) {
			t.Errorf("told %v, want that it is closed", failed)
		}
	})
}

func TestBatchTellsWhatItCouldNotSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outlet{fail: errors.New("away")}
		var failed []string
		b := batchOf(&o, func(subject string, err error) { failed = append(failed, subject+": "+err.Error()) })
		b.Publish("a", nil)
		b.Publish("b", nil)
		b.Flush()
		if want := []string{"a: away", "b: away"}; !slices.Equal(failed, want) {
			t.Errorf("told %q, want %q", failed, want)
		}
	})
}
