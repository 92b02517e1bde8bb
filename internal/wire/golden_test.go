package wire_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden pins the encoding: the bytes of a message of each kind with every field set.
func TestGolden(t *testing.T) {
	s := readSchema(t)
	for _, k := range kindCases() {
		t.Run(k.name, func(t *testing.T) {
			msg := k.full.AppendTo(nil)
			golden(t, snake(k.name)+".golden", k.dump(t, s, msg))
			want := goldenBytes(t, snake(k.name)+".golden")
			if diff := cmp.Diff(want, msg); diff != "" {
				t.Errorf("encoded bytes (-golden +got):\n%s", diff)
			}
			got, err := k.parse(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(k.full, got); diff != "" {
				t.Errorf("decoded golden bytes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestGoldenWorkerInfo pins the JSON form and its hash, which beats carry.
func TestGoldenWorkerInfo(t *testing.T) {
	want := fullWorkerInfo()
	doc, hash, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "worker_info.golden", fmt.Sprintf("%s\n%016x\n", doc, hash))
	got, err := wire.ParseWorkerInfo(doc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

// TestSamplesAreDistinct guards the golden files: two fields swapped in an encoder and its decoder must show.
func TestSamplesAreDistinct(t *testing.T) {
	s := readSchema(t)
	for _, k := range kindCases() {
		seen := map[string]string{}
		walk(k.nodes(t, s, k.full.AppendTo(nil)), func(x node) {
			if x.nested {
				return
			}
			where := fmt.Sprintf("%s.%s", x.parent, x.field.name)
			if other, ok := seen[x.value()]; ok {
				t.Errorf("%s: %s and %s are both %s", k.name, other, where, x.value())
			}
			seen[x.value()] = where
		})
	}
}

// TestAppendToAppends sees that what stands in a buffer stays there, and that the room it has left is used.
func TestAppendToAppends(t *testing.T) {
	for _, k := range kindCases() {
		want := append([]byte("before"), k.full.AppendTo(nil)...)
		buf := append(make([]byte, 0, 2*len(want)), "before"...)
		got := k.full.AppendTo(buf)
		if !bytes.Equal(got, want) || &got[0] != &buf[0] {
			t.Errorf("%s: AppendTo wrote %x, want %x in the same buffer", k.name, got, want)
		}
	}
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the tests with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-golden +got):\n%s", path, diff)
	}
}

// goldenBytes reads the byte columns of a golden file.
func goldenBytes(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimRight(line, "\n")
		b, err := hex.DecodeString(strings.ReplaceAll(line[6:min(6+47, len(line))], " ", ""))
		if err != nil {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		out = append(out, b...)
	}
	return out
}

// snake turns AssignRequest into assign_request, and TTFTMicros into ttft_micros.
func snake(camel string) string {
	var b []byte
	upper := func(i int) bool { return i < len(camel) && camel[i] >= 'A' && camel[i] <= 'Z' }
	for i := range len(camel) {
		if i > 0 && upper(i) && (!upper(i-1) || i+1 < len(camel) && !upper(i+1)) {
			b = append(b, '_')
		}
		b = append(b, camel[i])
	}
	return string(bytes.ToLower(slices.Clip(b)))
}
