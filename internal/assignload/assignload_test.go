package assignload_test

import (
	"errors"
	"testing"
	"time"

	"github.com/radixbus/radixbus/internal/assignload"
)

func TestRunRefusesALoadThatCannotBeMade(t *testing.T) {
	for name, cfg := range map[string]assignload.Config{
		"no bus":                {},
		"no workers":            {URL: "nats://127.0.0.1:1", Workers: []int{0}},
		"a prompt of nothing":   {URL: "nats://127.0.0.1:1", PromptBytes: []int{-1}},
		"more clients than can": {URL: "nats://127.0.0.1:1", Connections: 3, InFlight: 2},
		"no time":               {URL: "nats://127.0.0.1:1", Duration: time.Nanosecond},
	} {
		if _, err := assignload.Run(t.Context(), cfg); !errors.Is(err, assignload.ErrConfig) {
			t.Errorf("%s: got %v, want %v", name, err, assignload.ErrConfig)
		}
	}
}
