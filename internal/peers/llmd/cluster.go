package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// onePod is as much of Kubernetes as the picker asks for: a list of pods with one in it, and a watch that tells nothing new.
func onePod(labels map[string]string) http.Handler {
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "engine", "namespace": "default", "uid": "1", "resourceVersion": "1", "labels": labels},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "engine"}}},
		"status": map[string]any{
			"phase": "Running", "podIP": "127.0.0.1", "podIPs": []any{map[string]any{"ip": "127.0.0.1"}},
			"conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
		},
	}
	lists := map[string]any{
		"/api":    map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
		"/apis":   map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{}},
		"/api/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{podResource}},
		"/api/v1/namespaces/default/pods": map[string]any{
			"kind": "PodList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{pod},
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list, ok := lists[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if watch, _ := strconv.ParseBool(r.URL.Query().Get("watch")); !watch {
			writeJSON(w, list)
			return
		}
		if r.URL.Query().Get("sendInitialEvents") == "true" { // a list in the form of a watch
			writeJSON(w, map[string]any{"type": "ADDED", "object": pod})
			writeJSON(w, map[string]any{"type": "BOOKMARK", "object": bookmark})
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		<-r.Context().Done()
	})
}

var (
	podResource = map[string]any{"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": []string{"get", "list", "watch"}}
	bookmark    = map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"resourceVersion": "1", "annotations": map[string]string{"k8s.io/initial-events-end": "true"}},
	}
)

func writeJSON(w io.Writer, value any) {
	_ = json.NewEncoder(w).Encode(value) // the picker asks again
}
