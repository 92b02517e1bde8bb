"""NVIDIA Dynamo's frontend with its KV router, in front of its own simulated engines.

Dynamo speaks to engines in a protocol of its own, so it cannot stand before the engines that the others have: its mocker stands in,
four workers in one process. Latency therefore is that of the whole path, and its CPU is the frontend's.
"""

import os

from home import HERE, HOME, run, step, venv
from rivals import Rival, Server, wait_for_answers

VERSION = "1.6.1"
PYTHON = HOME / "dynamo" / "bin" / "python"
FOLDER = HOME / "dynamo-model"
MODEL = "null"
SAY_NOTHING = "its own engines say nothing that would tell whose a stream is"


def install():
    # ai-dynamo's own list of requirements cannot be met from the index (aisimulate is only a stub there); frontend,
    # router and mocker do without what is left out.
    venv("dynamo")
    maker = HERE / "rivals" / "dynamo_model.py"
    step("dynamo-model", [maker], lambda folder: run(PYTHON, maker, folder))


def start_with(name, *flags):
    def start(stage, engines):
        port = stage.port()
        environment = {
            "DYN_FILE_KV": str(stage.folder / name), "DYN_LOG": "error", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1",
            "DYN_TCP_RPC_HOST": "127.0.0.1", "DYN_EVENT_PLANE_HOST": "127.0.0.1", "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        }
        os.environ.pop("DYN_SYSTEM_PORT", None)
        # A token takes 6 µs over this ratio. A ratio of 0, for none, would add 20 ms to each request.
        pace = ("--decode-speedup-ratio", f"{0.006 / engines.pace_ms:.6f}") if engines.pace_ms else ()
        speed = "1000" if engines.pace_ms else "1000000"
        mocker = stage.spawn(
            f"{name}-mocker", PYTHON, "-m", "dynamo.mocker", "--model-path", FOLDER, "--model-name", MODEL,
            "--discovery-backend", "file", "--num-workers", len(engines.urls), "--engine-type", "sglang", "--block-size", 64,
            "--max-num-seqs", 4096, "--num-gpu-blocks-override", 400000, "--speedup-ratio", speed, *pace, env=environment,
        )
        frontend = stage.spawn(
            name, PYTHON, "-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", port,
            "--discovery-backend", "file", "--router-mode", "kv", *flags, env=environment,
        )
        return wait_for_answers(Server(f"http://127.0.0.1:{port}", [frontend], MODEL, engines=[mocker]), limit=120)

    return start


RIVALS = [
    Rival(
        "dynamo", "Dynamo's frontend, `kv` (whole path)", VERSION, install, start_with("dynamo"), slow=True,
        skips={**dict.fromkeys(("bodies", "idle"), "as with `fastokens`"), "held": SAY_NOTHING},
    ),
    Rival(
        "dynamo-fast", "Dynamo's frontend, `kv`, `fastokens` (whole path)", VERSION, install,
        start_with("dynamo-fast", "--tokenizer", "fastokens", "--no-tokenizer-fallback"), slow=True,
        skips={"held": SAY_NOTHING},
    ),
]
