package prefix_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/prefix"
)

// chatBody makes a chat of about size bytes: a system prompt, then turns whose text has a line
// break and a quotation now and then, or none if plain.
func chatBody(size int, plain bool) []byte {
	turn := strings.Repeat("The quick brown fox jumps over the lazy dog and thinks about what it has done. ", 25)
	if !plain {
		turn = strings.Repeat("The quick brown fox jumps over the lazy dog, and says \"enough\".\nThen it goes home. ", 25)
	}
	text, err := json.Marshal(turn)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	b.WriteString(`{"model":"llama-3.1-8b","stream":true,"max_tokens":256,"temperature":0.7,"messages":[`)
	fmt.Fprintf(&b, `{"role":"system","content":%s}`, text[:min(len(text), size/3)-1])
	b.Truncate(b.Len() - 1)
	b.WriteString(`"}`)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `,{"role":%q,"content":%s"}`, []string{"user", "assistant"}[i%2], text[:min(len(text)-1, max(40, size-b.Len()-42))])
	}
	b.WriteString("]}")
	return b.Bytes()
}

func benchmarkBodies(b *testing.B, f func(b *testing.B, body []byte)) {
	for _, text := range []string{"plain", "escaped"} {
		for _, size := range []int{1 << 10, 20 << 10, 220 << 10, 4 << 20} {
			body := chatBody(size, text == "plain")
			if !json.Valid(body) {
				b.Fatalf("the body is no JSON: %.300s", body)
			}
			b.Run(fmt.Sprintf("text=%s/bytes=%d", text, size), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				f(b, body)
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	benchmarkBodies(b, func(b *testing.B, body []byte) {
		for b.Loop() {
			if _, err := prefix.Parse(prefix.Chat, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseDigests(b *testing.B) {
	k, err := prefix.NewKey([]byte("a secret for the benchmark"))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkBodies(b, func(b *testing.B, body []byte) {
		n := 0
		for b.Loop() {
			r, err := prefix.Parse(prefix.Chat, body)
			if err != nil {
				b.Fatal(err)
			}
			n = len(r.Digests(k, prefix.Namespace{Model: r.Model})[0].Hashes)
		}
		if n < prefix.DepthAt(int64(len(body)*3/4)) && n != prefix.MaxHashes {
			b.Fatalf("the benchmark measured only %d hashes", n)
		}
	})
}
