"""LiteLLM's proxy, the Python gateway."""

import json

from home import HOME, venv
from rivals import Rival, Server, wait_for_answers

VERSION = "1.106.0"  # 1.108 and later want a certifi that the index lacked


def start(stage, engines):
    port = stage.port()
    models = [
        {"model_name": engines.model, "litellm_params": {"model": f"openai/{engines.model}", "api_base": f"{url}/v1", "api_key": "none"}}
        for url in engines.urls
    ]
    configuration = stage.folder / "litellm.yaml"
    configuration.write_text(json.dumps({"model_list": models}))  # JSON is YAML too
    environment = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    process = stage.spawn(
        "litellm", HOME / "litellm" / "bin" / "litellm", "--host", "127.0.0.1", "--port", port, "--config", configuration,
        "--telemetry", "False", env=environment,
    )
    return wait_for_answers(Server(f"http://127.0.0.1:{port}", [process], engines.model), limit=120)


RIVALS = [
    Rival(
        "litellm", "LiteLLM", VERSION, lambda: venv("litellm"), start, slow=True,
        skips={"stream1000": "a round would take it minutes", "held": "8,000 streams are more than it can open in a minute"},
    )
]
