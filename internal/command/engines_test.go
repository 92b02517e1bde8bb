package command

import (
	"os"
	"strings"
	"testing"
)

// Adapters of one process, or of one host, must not have one name.
func TestWorkersAreNamedAfterTheirEngines(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	host := strings.ReplaceAll(name, ".", "-")
	for engine, want := range map[string]string{
		"http://127.0.0.1:30000": "w-" + host + "-30000",
		"http://localhost:30001": "w-" + host + "-30001",
		"http://127.0.0.2:30000": "w-" + host + "-127-0-0-2-30000",
		"http://10.0.0.3:30000":  "w-10-0-0-3-30000",
	} {
		if got := workerName(engine); got != want {
			t.Errorf("the worker beside %s is %s, want %s", engine, got, want)
		}
	}
}
