package netconn_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/radixbus/radixbus/internal/netconn"
	"github.com/radixbus/radixbus/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// pair is the two ends of a connection; one is wrapped when it is dialed, the other when it is accepted.
func pair() (dialed, accepted net.Conn, stop func(), err error) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	ln := netconn.Listener{Listener: plain}
	defer ln.Close()
	if dialed, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, nil, err
	}
	dialed = netconn.Wrap(dialed)
	if accepted, err = ln.Accept(); err != nil {
		dialed.Close()
		return nil, nil, nil, err
	}
	return dialed, accepted, func() { dialed.Close(); accepted.Close() }, nil
}

func newPair(t *testing.T) (dialed, accepted net.Conn) {
	t.Helper()
	dialed, accepted, stop, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return dialed, accepted
}

// as is the connection as one that can do more.
func as[T any](t *testing.T, c net.Conn) T {
	t.Helper()
	more, ok := c.(T)
	if !ok {
		t.Skip("connections are not wrapped on this system")
	}
	return more
}

// It does all that a connection does, deadlines, ends and concurrent calls included.
func TestItIsAConnection(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, pair)
}

func TestErrorsAreThoseOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	b.(interface{ SetLinger(int) error }).SetLinger(0) //nolint:errcheck // then its end is a reset
	if _, err := a.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	_, err := io.ReadAll(a)
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "read" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset is %#v", err)
	}
	a.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after the close: %v", err)
	}
	if _, err := a.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after the close: %v", err)
	}
}

// What is written without waiting, and what is written with it, come in order, none of it twice.
func TestWriteNowTakesWhatThereIsRoomFor(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	now := as[netconn.NowWriter](t, a)
	piece := make([]byte, 100<<10)
	var want bytes.Buffer
	for full := false; !full; {
		for i := range piece {
			piece[i] = byte(want.Len() + i)
		}
		n := now.WriteNow(piece)
		want.Write(piece[:n])
		full = n < len(piece)
		if want.Len() > 1<<30 {
			t.Fatal("a connection that nobody reads takes all")
		}
	}
	a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) //nolint:errcheck // shows in the next line
	n, err := a.Write(make([]byte, 16<<20))
	want.Write(make([]byte, n))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a full connection took all: %v", err)
	}
	n = now.WriteNow(piece) // a deadline is not for it
	want.Write(piece[:n])
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(b, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("what came is not what was written")
	}
	a.SetWriteDeadline(time.Time{}) //nolint:errcheck // shows in the next line
	if n := now.WriteNow([]byte("more")); n != 4 {
		t.Errorf("with room again it took %d bytes of 4", n)
	}
	b.Close()
	a.Close()
	if n := now.WriteNow(piece); n != 0 {
		t.Errorf("a closed connection took %d bytes", n)
	}
}

// A write that waits must not make one wait that does not want to.
func TestWriteNowDoesNotWaitForAWrite(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	now := as[netconn.NowWriter](t, a)
	done := make(chan error, 1)
	go func() {
		_, err := a.Write(make([]byte, 64<<20))
		done <- err
	}()
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	testkit.Eventually(t, "there is no room", func() bool { return now.WriteNow([]byte("x")) == 0 })
	a.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the write ended with %v", err)
	}
}

func TestOtherConnectionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if netconn.Wrap(a) != a {
		t.Error("a pipe was wrapped")
	}
}

// Room is borrowed once there is something to read, and none is kept for what ends otherwise.
func TestReadLate(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	late := as[netconn.LateReader](t, a)
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) //nolint:errcheck // shows in the next line
	if room, err := late.ReadLate(100); room != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence gave %v, %v", room, err)
	}
	a.SetReadDeadline(time.Time{}) //nolint:errcheck // shows in the next line
	go func() {
		time.Sleep(10 * time.Millisecond) // it is waited for by then, most of the time
		b.Write([]byte("hello"))          //nolint:errcheck // shows in the next line
	}()
	room, err := late.ReadLate(3)
	if err != nil || string(room.B) != "hello" { // there is more room than was asked for
		t.Fatalf("got %q, %v", room.B, err)
	}
	room.Release()
	b.Close()
	if room, err := late.ReadLate(100); room != nil || err != io.EOF {
		t.Errorf("the end gave %v, %v", room, err)
	}
	a.Close()
	if room, err := late.ReadLate(100); room != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the close: %v, %v", room, err)
	}
}
