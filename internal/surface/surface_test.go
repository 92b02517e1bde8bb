package surface_test

import (
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/surface"
)

func TestEveryRouteIsFound(t *testing.T) {
	n := 0
	for r := range surface.Routes() {
		n++
		path := r.For("resp_1-a")
		for _, method := range r.Methods {
			if got := surface.Lookup(method, path); got == nil || got.Called() != r.Called() {
				t.Errorf("Lookup(%s, %s) = %+v", method, path, got)
			}
		}
		for _, method := range []string{"DELETE", "PATCH", "", "get"} {
			if got := surface.Lookup(method, path); got != nil {
				t.Errorf("Lookup(%s, %s) = %+v, want none", method, path, got)
			}
		}
		if r.Kind == 0 || r.Opaque && r.Empty || r.Kind == surface.ByPrefix && r.Dialect == surface.Plain || r.Kind != surface.ByPrefix && r.Dialect != surface.Plain {
			t.Errorf("%s makes no sense: %+v", r.Path, r)
		}
	}
	if n < 20 {
		t.Errorf("%d routes", n)
	}
}

// What controls an engine, and what only looks like a route, cannot be reached.
func TestNothingElseIsFound(t *testing.T) {
	for _, path := range strings.Fields(`/ /abort_request /flush_cache /pause_generation /continue_generation /update_weights_from_disk
		/update_weight_version /init_weights_update_group /release_memory_occupation /resume_memory_occupation /start_profile /stop_profile
		/set_internal_state /configure_logging /slow_down /load_lora_adapter /unload_lora_adapter /server_info /get_server_info /metrics
		/hicache/storage-backend /pd_role_switch /freeze_gc /add_external_corpus
		/generate/ //generate /generate/../flush_cache /generate?x=/flush_cache /generate#x @evil/generate http://evil/generate /GENERATE
		/v1/responses/ /v1/responses/. /v1/responses/.. /v1/responses/a/b /v1/responses/a%2Fb /v1/responses/a?x /v1/responses/a/cancel/b
		/v1/responses//cancel /v1/responses/../cancel /v1/responses/é`) {
		for _, method := range []string{"GET", "POST", "PUT"} {
			if r := surface.Lookup(method, path); r != nil {
				t.Errorf("%s %s is %s", method, path, r.Path)
			}
		}
	}
	if surface.ValidID(strings.Repeat("x", 257)) || surface.ValidID("") || !surface.ValidID("resp_0-Z") {
		t.Error("ids")
	}
}
