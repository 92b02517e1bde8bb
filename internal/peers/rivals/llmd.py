"""llm-d's endpoint picker, which decides for Envoy over ext-proc.

What the Go module proxy serves is the release from which llm-d took it over, Gateway API inference extension 1.5.0, so that
is what is built; the newer module of llm-d itself is refused. It runs as it is, with its default configuration: queue, KV use and
prefix score. Envoy cannot be fetched, and Kubernetes is not wanted: llmd/ stands for both.
"""

import json
import urllib.parse

from home import BIN, HERE, go_build
from rivals import Rival, Server, wait_for_answers

VERSION = "1.5.0"
LABELS = {"app": "engine", "inference.networking.k8s.io/engine-type": "sglang"}


def install():
    folder = HERE / "llmd"
    go_build("sigs.k8s.io/gateway-api-inference-extension/cmd/epp", "epp", folder)
    go_build(".", "llmd-front", folder)


def start(stage, engines):
    port, cluster, picker, health, metrics = (stage.port() for _ in range(5))
    kubeconfig = stage.folder / "kubeconfig"
    kubeconfig.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{cluster}"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
    }))  # JSON is YAML too
    labels = ",".join(f"{key}={value}" for key, value in LABELS.items())
    ports = [urllib.parse.urlsplit(url).port for url in engines.urls]
    front = stage.spawn(
        "llmd-front", BIN / "llmd-front", "-listen", f"127.0.0.1:{port}", "-cluster", f"127.0.0.1:{cluster}",
        "-picker", f"127.0.0.1:{picker}", "-labels", labels, *ports,
    )
    process = stage.spawn(
        "llmd-epp", BIN / "epp", "--grpc-port", picker, "--grpc-health-port", health, "--metrics-port", metrics,
        "--pool-name", "engines", "--pool-namespace", "default",
        "--secure-serving=false", "--metrics-endpoint-auth=false", "--tracing=false",
        env={"KUBECONFIG": str(kubeconfig), "NAMESPACE": "default"},
    )
    server = Server(f"http://127.0.0.1:{port}", [process], engines.model, engines=[front], listens=False)
    return wait_for_answers(server)


RIVALS = [
    Rival(
        "llm-d", "llm-d's endpoint picker (its own CPU; no Envoy)", VERSION, install, start, slow=True,
        skips={"held": "the clients' streams are Envoy's, not the picker's"},
    )
]
