package wire_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/wire"
)

func TestRequestID(t *testing.T) {
	const text = "0189c4a4-7b1c-7d3e-8f00-a1b2c3d4e5f6"
	id, err := wire.ParseRequestID(text)
	if err != nil || id.String() != text {
		t.Fatalf("%s became %s, %v", text, id, err)
	}
	if upper, err := wire.ParseRequestID(strings.ToUpper(text)); upper != id || err != nil {
		t.Errorf("upper case: got %s, %v", upper, err)
	}
	for _, bad := range []string{
		"", "x", text[1:], text + "0", strings.Replace(text, "b", "g", 1), strings.ReplaceAll(text, "-", "_"),
		strings.ReplaceAll(text, "-", ""), "{" + text + "}", "urn:uuid:" + text, strings.Repeat("0", 1<<20),
	} {
		got, err := wire.ParseRequestID(bad)
		if err == nil || got != (wire.RequestID{}) || len(err.Error()) > 200 {
			t.Errorf("ParseRequestID(%.50q) = %s, %.300v; want a short error", bad, got, err)
		}
	}
}

func TestNewRequestID(t *testing.T) {
	v7 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	last := ""
	for range 1_000 {
		id := wire.NewRequestID().String()
		if !v7.MatchString(id) || id <= last {
			t.Fatalf("got %s after %s, want greater UUIDs of version 7", id, last)
		}
		last = id
	}
}

// TestNewInstance: a scheduler tells the later of two lives by its number, even when a worker restarts at once.
func TestNewInstance(t *testing.T) {
	start := time.Now().UnixMilli()
	var last wire.Instance
	for range 1_000 {
		n := wire.NewInstance()
		if n <= last {
			t.Fatalf("got %s after %s, want a greater one", n, last)
		}
		last = n
	}
	// The library counts on when asked more than 4096 times a millisecond, hence the room above.
	if got := int64(last >> 16); got < start || got > time.Now().UnixMilli()+1_000 {
		t.Errorf("the high bits are %d, want milliseconds since 1970, about %d", got, start)
	}
}

func TestInstanceText(t *testing.T) {
	for n, text := range map[wire.Instance]string{
		0: "0000000000000000", 0xabc: "0000000000000abc", 1<<64 - 1: "ffffffffffffffff",
	} {
		if n.String() != text {
			t.Errorf("got %s, want %s", n, text)
		}
		if got, err := wire.ParseInstance(text); got != n || err != nil {
			t.Errorf("ParseInstance(%s) = %s, %v", text, got, err)
		}
		doc, err := json.Marshal(n)
		if want := `"` + text + `"`; string(doc) != want || err != nil {
			t.Errorf("JSON is %s, %v, want %s", doc, err, want)
		}
		var got wire.Instance
		if err := json.Unmarshal(doc, &got); got != n || err != nil {
			t.Errorf("JSON %s became %s, %v", doc, got, err)
		}
	}
	for _, bad := range []string{"", "abc", "000000000000000g", "00000000000000000", "+000000000000001", "0x00000000000001", strings.Repeat("0", 1<<20)} {
		if _, err := wire.ParseInstance(bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("ParseInstance(%.50q): got %.300v, want a short error", bad, err)
		}
	}
	var n wire.Instance
	if err := json.Unmarshal([]byte(`"1"`), &n); err == nil {
		t.Error("a short instance was read from JSON")
	}
}

// No rid may begin with another, so all have one length.
func TestRids(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := wire.NewRequestID()
		for attempt := range uint32(3) {
			for prompt := range 3 {
				rid := wire.RidOf(id, attempt, prompt)
				if seen[rid] || len(rid) != 32 || strings.Trim(rid, "0123456789abcdef") != "" {
					t.Fatalf("rid %q: want 32 hexadecimal digits that no other has", rid)
				}
				seen[rid] = true
				if again := wire.RidOf(id, attempt, prompt); again != rid {
					t.Fatalf("the same numbers gave %s and %s", rid, again)
				}
			}
		}
	}
	// As computed by another program: sha256 of the 16 bytes, the attempt and the prompt, big endian.
	id := requestID(0xa0)
	if got := wire.RidOf(id, 3, 1); got != "c8ac5cbbaab1f54b8c4d65ab786f9a64" {
		t.Errorf("rid %s", got)
	}
	if a, b := wire.NewName("g-"), wire.NewName("g-"); a == b || len(a) != 14 || !strings.HasPrefix(a, "g-") {
		t.Errorf("names %q and %q", a, b)
	}
}
