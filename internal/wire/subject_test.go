package wire_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/wire"
)

func TestSubjects(t *testing.T) {
	n := wire.Instance(0x0101010101010101)
	id := requestID(0xa0)
	for _, s := range []wire.Subjects{{}, {Prefix: "rb"}, {Prefix: "test-7"}} {
		tests := map[string]string{
			s.Sched("Llama-3.1"):                        "rb.v1.sched.Llama-3_2E1",
			s.SchedAt("m", "s.1"):                       "rb.v1.sched.m.s_2E1",
			s.Work("w.1", n):                            "rb.v1.work.w_2E1.0101010101010101",
			s.Ctl(">"):                                  "rb.v1.ctl._3E",
			s.Out("gw_1", "*", 3):                       "rb.v1.out.gw__1._2A.3",
			s.OutAll("gw_1"):                            "rb.v1.out.gw__1.*.*",
			s.Event("", "p", wire.EventLoad, "w 1"):     "rb.v1.ev._.p.load.w_201",
			s.EventsOf(wire.EventUp):                    "rb.v1.ev.*.*.up.*",
			s.Roll():                                    "rb.v1.roll",
			s.Burst("eu", "meta/llama", "default", id):  "rb.v1.burst.eu.meta_2Fllama.default.a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf",
			s.Event("eu", "p", wire.EventDown, "é"):     "rb.v1.ev.eu.p.down._C3_A9",
			s.Event("eu", "p", wire.EventAssigned, "."): "rb.v1.ev.eu.p.assigned._2E",
			s.Event("eu", "p", wire.EventFinished, "x"): "rb.v1.ev.eu.p.finished.x",
		}
		for got, want := range tests {
			if s.Prefix != "" {
				want = s.Prefix + strings.TrimPrefix(want, "rb")
			}
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
}

// TestUntokenRefuses everything but the one spelling of a name.
func TestUntokenRefuses(t *testing.T) {
	for _, tok := range []string{
		"", ".", "a.b", "a b", "é", "a_", "_a", "_2", "_2e", "_G0", "_0G", // no tokens
		"_41", "_61", "_2D", "_30", "_5F", "___", // other spellings of A, a, -, 0 and _
		"_ ", "a_" + "_" + "_",
	} {
		if name, err := wire.Untoken(tok); err == nil {
			t.Errorf("Untoken(%q) = %q, want an error", tok, name)
		}
	}
}

// TestTokenOfEveryByte goes through all names of one byte and all of two.
func TestTokenOfEveryByte(t *testing.T) {
	seen := map[string]string{wire.Token(""): ""}
	for i := range 256 + 256*256 {
		name := string([]byte{byte(i)})
		if i >= 256 {
			name = string([]byte{byte(i), byte((i - 256) >> 8)})
		}
		tok := wire.Token(name)
		if other, ok := seen[tok]; ok {
			t.Fatalf("%q and %q are both %s", name, other, tok)
		}
		seen[tok] = name
		checkToken(t, name)
	}
}

var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func checkToken(t *testing.T, name string) {
	t.Helper()
	tok := wire.Token(name)
	if !tokenForm.MatchString(tok) {
		t.Errorf("Token(%q) = %q, want one token", name, tok)
	}
	if got, err := wire.Untoken(tok); got != name || err != nil {
		t.Errorf("Untoken(%q) = %q, %v, want %q", tok, got, err, name)
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "_", "__", "a", "a_", "Llama-3.1-8B", "_2E", "_2e", "*.>", "\x00\xff"} {
		f.Add(s, s)
		f.Add(s, "_")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		checkToken(t, a)
		if a != b && wire.Token(a) == wire.Token(b) {
			t.Errorf("%q and %q are both %s", a, b, wire.Token(a))
		}
		// Each string is also tried as a token that somebody else wrote.
		if name, err := wire.Untoken(b); err == nil && wire.Token(name) != b {
			t.Errorf("Untoken(%q) = %q, whose token is %q", b, name, wire.Token(name))
		}
	})
}

func ExampleToken() {
	fmt.Println(wire.Token("Llama-3.1-8B"))
	// Output: Llama-3_2E1-8B
}

func ExampleAppendFrame() {
	msg := wire.AppendFrames(nil, "w-1", 7)
	msg = wire.AppendFrame(msg, &wire.Frame{Type: wire.FrameData, Stream: 12, Attempt: 1, Seq: 2, Data: []byte("once")})
	msg = wire.AppendFrame(msg, &wire.Frame{Type: wire.FrameEnd, Stream: 12, Attempt: 1, Seq: 3, End: &wire.End{}})
	err := wire.ParseFrames(msg, func(worker []byte, _ wire.Instance, f *wire.Frame) bool {
		fmt.Printf("%s: stream %d, frame %d: %q\n", worker, f.Stream, f.Seq, f.Data)
		return true
	})
	fmt.Println(err)
	// Output:
	// w-1: stream 12, frame 2: "once"
	// w-1: stream 12, frame 3: ""
	// <nil>
}
