package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkBody reads one body from a connection.
func BenchmarkBody(b *testing.B) {
	for _, size := range []int{10 << 10, 100 << 10, 1 << 20, 64 << 20, 512 << 20} {
		b.Run(fmt.Sprintf("KiB=%d", size>>10), func(b *testing.B) {
			g := &Gateway{cfg: Config{}.withDefaults()}
			var got int
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, release, err := g.readBody(r.Context(), &answer{w: w, rc: http.NewResponseController(w), c: &call{}}, r)
				if err != nil {
					b.Error(err)
				}
				got = len(body)
				release()
			}))
			defer srv.Close()
			doc := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				resp, err := http.Post(srv.URL, "application/json", bytes.NewReader(doc))
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
			if got != size {
				b.Fatalf("would measure something else: %d bytes of %d came", got, size)
			}
		})
	}
}
