"""SMG, the Rust router that SGLang's became."""

from home import HOME, venv
from rivals import Rival, Server, wait_for_answers

VERSION = "1.13.0"


def start_with(policy):
    def start(stage, engines):
        port, metrics = stage.port(), stage.port()
        process = stage.spawn(
            f"smg-{policy}", HOME / "smg" / "bin" / "smg", "launch", "--host", "127.0.0.1", "--port", port,
            "--prometheus-host", "127.0.0.1", "--prometheus-port", metrics, "--policy", policy, "--worker-urls", *engines.urls,
        )
        return wait_for_answers(Server(f"http://127.0.0.1:{port}", [process], engines.model))

    return start


RIVALS = [
    Rival("smg", "SMG, `cache_aware`", VERSION, lambda: venv("smg"), start_with("cache_aware")),
    Rival(
        "smg-rr", "SMG, `round_robin`", VERSION, lambda: venv("smg"), start_with("round_robin"),
        skips=dict.fromkeys(("bodies", "idle", "held"), "as with `cache_aware`"),
    ),
]
