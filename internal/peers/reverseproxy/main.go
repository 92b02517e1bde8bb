// Command reverseproxy is the plain yardstick: Go's httputil.ReverseProxy in front of engines, taken in turn.
//
//	reverseproxy -listen 127.0.0.1:30900 http://127.0.0.1:31000 http://127.0.0.1:31001
package main

import (
	"bytes"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:30900", "address for clients")
	flag.Parse()
	engines := make([]*url.URL, flag.NArg())
	for i, arg := range flag.Args() {
		u, err := url.Parse(arg)
		if err != nil {
			log.Fatal(err)
		}
		engines[i] = u
	}
	if len(engines) == 0 {
		log.Fatal("no engine is named")
	}
	log.Fatal(http.ListenAndServe(*listen, whole(inTurn(engines))))
}

func inTurn(engines []*url.URL) http.Handler {
	var turn atomic.Uint64
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(engines[turn.Add(1)%uint64(len(engines))]) },
		FlushInterval: -1, // each token leaves when it comes
		Transport:     &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true},
	}
}

// whole reads a body before it is passed on. Handed through, it is closed by the server once the answer begins; an engine
// that answers before the transport has seen the body's end then has its connection dropped, and the stream is cut.
func whole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
