package workeradapter

import (
	"net/url"
	"testing"
)

func TestEnginesOfTwoHostsAreTwo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"http://10.0.0.3:30000", "10.0.0.3:30000"},
		{"https://engines.example/qwen", "engines.example/qwen"},
		{"http://127.0.0.1:30000", "w0:30000"}, // one on every host
		{"http://localhost:30000/v", "w0:30000/v"},
		{"http://[::1]:30000", "w0:30000"},
		{"http://0.0.0.0", "w0"},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := engineID(u, "w0"); got != tt.want {
			t.Errorf("the engine at %s is %q, want %q", tt.url, got, tt.want)
		}
	}
}
