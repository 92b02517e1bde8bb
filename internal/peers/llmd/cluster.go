package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// A document is a JSON object of the Kubernetes API.
type document = map[string]any

// newCluster is as much of Kubernetes as a picker asks for: a pool named "engines" and the one pod in it, whose ports are
// the engines. Watches tell nothing new.
func newCluster(labels map[string]string, ports []int) http.Handler {
	targets := make([]document, len(ports))
	for i, port := range ports {
		targets[i] = document{"number": port}
	}
	pod := object("v1", "Pod", "engine", document{
		"spec": document{"containers": []any{document{"name": "engine"}}},
		"status": document{
			"phase": "Running", "podIP": "127.0.0.1", "podIPs": []any{document{"ip": "127.0.0.1"}},
			"conditions": []any{document{"type": "Ready", "status": "True"}},
		},
	})
	pod["metadata"].(document)["labels"] = labels
	pool := object(poolGroup+"/v1", "InferencePool", "engines", document{"spec": document{
		"selector": document{"matchLabels": labels}, "targetPorts": targets,
		"endpointPickerRef": document{"name": "picker", "port": document{"number": 9002}},
	}})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api", tell(document{"kind": "APIVersions", "versions": []string{"v1"}}))
	mux.HandleFunc("GET /apis", tell(document{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{group}}))
	mux.HandleFunc("GET /apis/"+poolGroup, tell(group))
	mux.HandleFunc("GET /api/v1", tell(resources("v1", "pods", "Pod")))
	mux.HandleFunc("GET /apis/"+poolGroup+"/v1", tell(resources(poolGroup+"/v1", "inferencepools", "InferencePool")))
	serve(mux, "/api/v1/namespaces/default/pods", pod)
	serve(mux, "/apis/"+poolGroup+"/v1/namespaces/default/inferencepools", pool)
	return mux
}

const poolGroup = "inference.networking.k8s.io"

var (
	version = document{"groupVersion": poolGroup + "/v1", "version": "v1"}
	group   = document{"kind": "APIGroup", "apiVersion": "v1", "name": poolGroup, "versions": []any{version}, "preferredVersion": version}
)

func object(version, kind, name string, rest document) document {
	rest["apiVersion"], rest["kind"] = version, kind
	rest["metadata"] = document{"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"}
	return rest
}

func resources(version, name, kind string) document {
	one := document{"name": name, "singularName": strings.ToLower(kind), "namespaced": true, "kind": kind, "verbs": []string{"get", "list", "watch"}}
	return document{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": []any{one}}
}

func tell(doc document) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, doc) }
}

// serve answers for the one object of a collection: by its name, in a list, in a watch.
func serve(mux *http.ServeMux, path string, one document) {
	version, kind := one["apiVersion"].(string), one["kind"].(string)
	mux.HandleFunc("GET "+path+"/"+one["metadata"].(document)["name"].(string), tell(one))
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if watch, _ := strconv.ParseBool(query.Get("watch")); !watch {
			writeJSON(w, document{"apiVersion": version, "kind": kind + "List", "metadata": document{"resourceVersion": "1"}, "items": []any{one}})
			return
		}
		if all, _ := strconv.ParseBool(query.Get("sendInitialEvents")); all { // a list in the form of a watch
			writeJSON(w, document{"type": "ADDED", "object": one})
			end := document{"resourceVersion": "1", "annotations": document{"k8s.io/initial-events-end": "true"}}
			writeJSON(w, document{"type": "BOOKMARK", "object": document{"apiVersion": version, "kind": kind, "metadata": end}})
		}
		w.Header().Set("Content-Type", "application/json")
		if err := http.NewResponseController(w).Flush(); err == nil {
			<-r.Context().Done()
		}
	})
}

func writeJSON(w http.ResponseWriter, doc document) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc) // the picker asks again
}
