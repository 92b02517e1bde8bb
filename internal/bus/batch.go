package bus

import (
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A Batch sends messages in company. A bus costs per time that somebody is woken more than per message, so what comes in
// quick succession leaves together: the first message after a pause leaves at once, those that follow it within the gap at
// the gap's end, in order. It is for messages that nobody waits for. It may be used from any goroutine.
type Batch struct {
	gap     time.Duration
	publish func(subject string, doc []byte) error
	failed  func(subject string, err error)

	mu      sync.Mutex
	waiting []posted
	timer   *time.Timer // nil: nothing waits
	last    time.Time   // when something left
	closed  bool
}

type posted struct {
	subject string
	doc     []byte
}

// batchBound is how many messages wait at most: beyond, they leave at once.
const batchBound = 1024

// NewBatch makes a Batch of a connection's. A message that could not be sent is told to failed, which must not call the Batch.
// Whoever makes one closes it, before the connection.
func NewBatch(conn *nats.Conn, gap time.Duration, failed func(subject string, err error)) *Batch {
	return &Batch{gap: gap, publish: conn.Publish, failed: failed}
}

var errBatchClosed = errors.New("bus: the batch is closed")

// Publish sends a message, now or within the gap. The caller must not change doc afterwards.
func (b *Batch) Publish(subject string, doc []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.failed(subject, errBatchClosed)
		return
	}
	b.waiting = append(b.waiting, posted{subject, doc})
	if b.timer == nil {
		if pause := b.gap - time.Since(b.last); pause > 0 {
			b.timer = time.AfterFunc(pause, b.Flush)
			return
		}
	}
	if b.timer == nil || len(b.waiting) >= batchBound {
		b.send()
	}
}

// Flush sends what waits.
func (b *Batch) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.send()
}

// Close sends what waits. Nothing is sent afterwards.
func (b *Batch) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.send()
	b.closed = true
}

// send publishes under the lock: messages leave in the order in which they came.
func (b *Batch) send() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if len(b.waiting) == 0 {
		return
	}
	for i, m := range b.waiting {
		if err := b.publish(m.subject, m.doc); err != nil {
			b.failed(m.subject, err)
		}
		b.waiting[i] = posted{}
	}
	b.waiting, b.last = b.waiting[:0], time.Now()
}
