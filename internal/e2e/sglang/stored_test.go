package sglang

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// An engine that keeps its responses gives them out again; with several engines, the one that has it.
func TestStoredResponsesAreFoundAgain(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	used := map[*engine]bool{}
	for seed := range 8 { // until both engines keep one
		r := h.Ask(t.Context(), "/v1/responses", object{"model": tiny, "input": prose(300+seed, 20), "max_output_tokens": 8, "temperature": 0, "store": true})
		var made, kept object
		if err := json.Unmarshal(r.Raw, &made); err != nil || r.Status != http.StatusOK || made["id"] == nil {
			t.Fatalf("a response: %v", r)
		}
		used[h.by(t, r)] = true
		status, doc := h.Get(t, "/v1/responses/"+made["id"].(string))
		if err := json.Unmarshal([]byte(doc), &kept); err != nil || status != http.StatusOK || kept["id"] != made["id"] {
			t.Errorf("asked for again: %d %.300s", status, doc)
		} else if got, want := fmt.Sprint(kept["output"]), fmt.Sprint(made["output"]); got != want {
			t.Errorf("asked for again it is %s, it was %s", got, want)
		}
	}
	if len(used) < 2 {
		t.Errorf("one engine has answered all: this shows nothing")
	}
}
