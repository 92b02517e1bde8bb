"""sglang-router, the last release before SMG left SGLang."""

from home import HOME, venv
from rivals import Rival, Server, wait_for_answers

VERSION = "0.3.2"


def start(stage, engines):
    port, metrics = stage.port(), stage.port()
    process = stage.spawn(
        "sglang-router", HOME / "sglang-router" / "bin" / "sglang-router", "launch", "--host", "127.0.0.1", "--port", port,
        "--prometheus-host", "127.0.0.1", "--prometheus-port", metrics, "--policy", "cache_aware", "--worker-urls", *engines.urls,
    )
    return wait_for_answers(Server(f"http://127.0.0.1:{port}", [process], engines.model))


RIVALS = [Rival("sglang-router", "sglang-router, `cache_aware`", VERSION, lambda: venv("sglang-router"), start)]
