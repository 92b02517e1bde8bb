"""What the way through a router costs: single requests, throughput, streams."""

import time
from dataclasses import dataclass

from home import Skip
from load import compare, start_engines
from process import Stage
from suites import Suite


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    prompt: int
    concurrency: int
    requests: int
    tokens: int = 1
    stream: bool = False


CORE = [
    Case("1k-c1", "1 KB, one at a time", 1_000, 1, 800),
    Case("20k-c1", "20 KB, one at a time", 20_000, 1, 600),
    Case("220k-c1", "220 KB, one at a time", 220_000, 1, 120),
    Case("1k-c32", "1 KB, 32 at a time", 1_000, 32, 3_000),
    Case("20k-c16", "20 KB, 16 at a time", 20_000, 16, 1_200),
]
STREAM64 = [Case("stream64", "64 streams of 160 tokens, 20 ms apart", 400, 64, 64, 160, True)]
STREAM1000 = [Case("stream1000", "1,000 streams of 60 tokens, 50 ms apart", 400, 1_000, 1_000, 60, True)]
UNPACED = [Case("unpaced", "32 streams of 200 tokens, as fast as they are read", 400, 32, 320, 200, True)]

# Rivals that are slow are measured apart, with fewer requests, beside these.
REFERENCES = ("direct", "smg", "reverseproxy")

SETTLE = 2  # seconds: who answers knows one engine, and not yet all


def suite(name, cases, pace_ms=0):
    def run(rivals, effort):
        groups = [[rival for rival in rivals if not rival.slow]]
        if slow := [rival for rival in rivals if rival.slow]:
            groups.append([rival for rival in rivals if rival.name in REFERENCES] + slow)
        document = {"groups": []}
        for group in groups:
            few = group is not groups[0]
            document["groups"].append(measure(group, cases, pace_ms, effort, few))
        return document

    return Suite(name, run)


def measure(rivals, cases, pace_ms, effort, few):
    """All cases of one group of rivals, which run side by side and are loaded in turn."""
    found = {"cases": {}, "skipped": {}}
    with Stage() as stage:
        engines = start_engines(stage, pace_ms=pace_ms)
        servers = {}
        for rival in rivals:
            try:
                servers[rival.name] = rival.start(stage, engines)
            except Skip as reason:
                found["skipped"][rival.name] = str(reason)
        time.sleep(SETTLE)
        for case in cases:
            began = time.monotonic()
            requests = case.requests
            if few and not pace_ms:
                requests //= 12
            if not case.stream:
                requests = effort.scaled(requests)
            found["cases"][case.name] = compare(
                stage, servers, prompt=case.prompt, tokens=case.tokens, concurrency=case.concurrency,
                requests=max(requests, case.concurrency, 10), rounds=effort.rounds, stream=case.stream, warm=0 if pace_ms else 20,
            )
            print(f"  {case.title}: {', '.join(servers)}: {time.monotonic() - began:.0f} s", flush=True)
            for name, server in list(servers.items()):
                if not server.alive():
                    found["skipped"][name] = f"ended during {case.title}"
                    del servers[name]
    return found


SUITES = [
    suite("core", CORE),
    suite("stream64", STREAM64, pace_ms=20),
    suite("stream1000", STREAM1000, pace_ms=50),
    suite("unpaced", UNPACED),
]
