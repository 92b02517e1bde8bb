package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/wire"
)

// Bounds of a worker's info.
const (
	infoBytes  = 256 << 10
	infoModels = 1024
)

func fullWorkerInfo() *wire.WorkerInfo {
	return &wire.WorkerInfo{
		Worker: "w-1", Instance: 0x0101010101010101, Region: "eu-west", Pool: "meta-llama/Llama-3.1-8B",
		Models: []wire.Model{
			{Name: "llama", Kind: wire.AliasModel, ContextLength: 8_192, Created: 1_767_225_600, OwnedBy: "meta", Root: "meta-llama/Llama-3.1-8B"},
			{Name: "llama:sql", Kind: wire.LoRAModel, ContextLength: 4_096, Created: 1_767_225_601, OwnedBy: "acme", Loaded: true},
		},
		Engine: "engine-1", EngineKind: "sglang", EngineVersion: "0.5.6", DPRank: 3, DPSize: 4,
		CapacityTokens: 400_000, PageSize: 16, EvictionPolicy: "lru", ContextLength: 131_072, MaxRunning: 48,
		CacheReport: true, WeightVersion: "v7", MaxPayload: 1 << 20, AdapterVersion: "1.2.3", WireVersion: 1,
		PriorityEnabled: true, Embeds: true, NoAudio: true, URL: "http://10.0.0.1:30000", Adapter: "a-1", ModelInfo: json.RawMessage(`{"model_path":"llama"}`),
	}
}

func TestWorkerInfoRefused(t *testing.T) {
	name := strings.Repeat("n", wire.MaxName)
	long := name + "n"
	tests := []struct {
		what    string
		change  func(*wire.WorkerInfo)
		refused bool
	}{
		{"longest worker", func(w *wire.WorkerInfo) { w.Worker = name }, false},
		{"longer worker", func(w *wire.WorkerInfo) { w.Worker = long }, true},
		{"no worker", func(w *wire.WorkerInfo) { w.Worker = "" }, true},
		{"longest pool", func(w *wire.WorkerInfo) { w.Pool = name }, false},
		{"longer pool", func(w *wire.WorkerInfo) { w.Pool = long }, true},
		{"no pool", func(w *wire.WorkerInfo) { w.Pool = "" }, true},
		{"longest region", func(w *wire.WorkerInfo) { w.Region = name }, false},
		{"longer region", func(w *wire.WorkerInfo) { w.Region = long }, true},
		{"no region", func(w *wire.WorkerInfo) { w.Region = "" }, false},
		{"longer engine", func(w *wire.WorkerInfo) { w.Engine = long }, true},
		{"no models", func(w *wire.WorkerInfo) { w.Models = nil }, true},
		{"most models", func(w *wire.WorkerInfo) { w.Models = models(infoModels) }, false},
		{"more models", func(w *wire.WorkerInfo) { w.Models = models(infoModels + 1) }, true},
		{"longest model", func(w *wire.WorkerInfo) { w.Models[1].Name = name }, false},
		{"longer model", func(w *wire.WorkerInfo) { w.Models[1].Name = long }, true},
		{"nameless model", func(w *wire.WorkerInfo) { w.Models[1].Name = "" }, true},
		{"negative capacity", func(w *wire.WorkerInfo) { w.CapacityTokens = -1 }, true},
		{"negative page", func(w *wire.WorkerInfo) { w.PageSize = -1 }, true},
		{"negative bound", func(w *wire.WorkerInfo) { w.MaxRunning = -1 }, true},
		{"negative context", func(w *wire.WorkerInfo) { w.ContextLength = -1 }, true},
		{"negative payload", func(w *wire.WorkerInfo) { w.MaxPayload = -1 }, true},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			w := fullWorkerInfo()
			tt.change(w)
			doc, _, err := w.Encode()
			if err != nil {
				t.Fatal(err)
			}
			_, err = wire.ParseWorkerInfo(doc)
			if got := errors.Is(err, wire.ErrMalformed); got != tt.refused || (err != nil) != tt.refused {
				t.Errorf("ParseWorkerInfo: %v, want refused: %t", err, tt.refused)
			}
		})
	}
}

func TestWorkerInfoBytesAreBounded(t *testing.T) {
	doc, _, err := fullWorkerInfo().Encode()
	if err != nil {
		t.Fatal(err)
	}
	padded := append(doc, bytes.Repeat([]byte(" "), infoBytes-len(doc))...)
	if _, err := wire.ParseWorkerInfo(padded); err != nil {
		t.Errorf("ParseWorkerInfo of %d bytes: %v", len(padded), err)
	}
	padded = append(padded, ' ')
	if _, err := wire.ParseWorkerInfo(padded); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("ParseWorkerInfo of %d bytes: got %v, want ErrMalformed", len(padded), err)
	}
}

// TestWorkerInfoFromNewerAdapter sees that members of a later version are skipped.
func TestWorkerInfoFromNewerAdapter(t *testing.T) {
	doc, _, err := fullWorkerInfo().Encode()
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(doc), `{`, `{"later":{"a":[1,2]},`, 1)
	got, err := wire.ParseWorkerInfo([]byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullWorkerInfo(), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !wire.IsJSON(doc) || wire.IsJSON(fullUp().AppendTo(nil)) || wire.IsJSON(nil) {
		t.Error("IsJSON does not tell JSON from binary")
	}
}

func TestInfoHash(t *testing.T) {
	// Test vectors of FNV-1a, 64 bit, from the draft-eastlake-fnv appendix.
	for doc, want := range map[string]uint64{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8} {
		if got := wire.InfoHash([]byte(doc)); got != want {
			t.Errorf("InfoHash(%q) = %#x, want %#x", doc, got, want)
		}
	}
	// The one known short input that FNV-1a sends to zero: a beat's 0 would mean "not told".
	zero := []byte{0xd5, 0x6b, 0xb9, 0x53, 0x42, 0x87, 0x08, 0x36}
	if got := wire.InfoHash(zero); got != 1 {
		t.Errorf("InfoHash(%x) = %#x, want 1", zero, got)
	}
}

func models(n int) []wire.Model {
	ms := make([]wire.Model, n)
	for i := range ms {
		ms[i] = wire.Model{Name: fmt.Sprintf("m%d", i), Kind: wire.BaseModel}
	}
	return ms
}

func FuzzWorkerInfo(f *testing.F) {
	doc, _, err := fullWorkerInfo().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`null`))
	f.Add([]byte(`{"worker":"w","pool":"p","models":[{"name":"m"}],"instance":"zz"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		w, err := wire.ParseWorkerInfo(doc)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("got %v, want ErrMalformed", err)
			}
			return
		}
		again, _, err := w.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > infoBytes {
			return // the encoder writes out what the document left out, and escapes more
		}
		got, err := wire.ParseWorkerInfo(again)
		if err != nil {
			t.Fatalf("encoded again: %v", err)
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}
