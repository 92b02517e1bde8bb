"""The load: what `radixbus bench compare` finds, and the engines that `radixbus bench null` is."""

import json
import os
import statistics
import subprocess

from home import BIN, Skip
from process import wait_until
from rivals import MODEL, Engines, ask

RADIXBUS = os.environ.get("PEERS_SHIM") or BIN / "radixbus"

# What is kept of a round. The file beside a table holds each round's number.
KEPT = (
    "added_first_p50", "added_first_p99", "added_itl_p99", "client_cpu_cores", "client_cpu_per_request", "cpu_cores",
    "cpu_per_output_token", "cpu_per_request", "e2e_p50", "e2e_p99", "first_byte_p50", "first_byte_p99", "itl_p99",
    "output_tokens_per_second", "requests_per_second", "rss_bytes", "ttft_p50", "ttft_p99",
)


def start_engines(stage, count=4, pace_ms=0):
    """Engines that answer as fast as they are read, or a token each pace: one process, an address each."""
    port = stage.port(count)
    pace = ("--itl", f"{pace_ms}ms") if pace_ms else ()
    process = stage.spawn("engines", RADIXBUS, "bench", "null", "--port", port, "--n", count, "--model", MODEL, *pace)
    urls = [f"http://127.0.0.1:{port + i}" for i in range(count)]

    def healthy():
        try:
            return all(ask(url, "/health")[0] == 200 for url in urls)
        except OSError:
            return False

    wait_until("the engines answer", healthy, process=process)
    return Engines(urls, process, pace_ms)


def compare(stage, servers, *, prompt, tokens, concurrency, requests, rounds, stream=False, warm=20, timeout=60):
    """Loads the servers, of which names are the keys, one after the other in every round; what each round found."""
    report = stage.folder / "compare.json"
    report.unlink(missing_ok=True)
    targets = [
        f"{name}={server.url},pids={'+'.join(map(str, server.pids()))},model={server.model}" for name, server in servers.items()
    ]
    command = [
        RADIXBUS, "bench", "compare", *targets, "--workload", "unique", "--prompt-bytes", prompt, "--output-tokens", tokens,
        "--concurrency", concurrency, "--requests", requests, "--rounds", rounds, "--warm", warm, "--timeout", f"{timeout}s",
        f"--stream={str(stream).lower()}", "--portable", "--json", report, "--seed", int.from_bytes(os.urandom(4)),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
    if not report.exists():
        raise Skip(f"bench compare: {done.stderr.strip()[-300:]}")
    return trim(json.loads(report.read_text()))


def trim(report):
    """The report without what can be computed from it."""
    return {
        "load": {key: report[key] for key in ("concurrency", "requests", "output_tokens", "stream", "parameters") if key in report},
        "targets": {
            target["name"]: {
                "requests": target["requests"],
                "errors": target["errors"],
                **({"errors_by_kind": target["errors_by_kind"]} if target.get("errors_by_kind") else {}),
                "rounds": {
                    name: [digits(run["measures"].get(name)) for run in target["rounds"]]
                    for name in KEPT
                    if any(name in run["measures"] for run in target["rounds"])
                },
            }
            for target in report["targets"]
        },
    }


def digits(value):
    """Four of them: no clock gives more."""
    return None if value is None else float(f"{value:.4g}")


def median(target, name):
    """The median of a measure over the rounds that know it."""
    known = [value for value in target["rounds"].get(name, ()) if value is not None]
    return statistics.median(known) if known else None


def ratio(target, base, name):
    """What a measure is of the base's: the median of the rounds' own ratios, as both runs of a round met the same machine. Of
    what is added, a small difference, it is the ratio of the medians."""
    if name.startswith("added_"):
        mine, theirs = median(target, name), median(base, name)
        return mine / theirs if mine is not None and theirs and theirs > 0 else None
    pairs = zip(target["rounds"].get(name, ()), base["rounds"].get(name, ()))
    known = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
    return statistics.median(known) if known else None
