#!/usr/bin/env python3
"""Radixbus and other routers on one machine, measured in one run.

  peers.py [install|run|table] [--only NAMES] [--suite NAMES] [--rounds N] [--quick]

Without a command it does all three: installs what is missing, measures, and writes the table into docs/benchmarks.md. Names are
separated by commas. Each suite leaves a file of its own in docs/benchmarks, and the table is made of the files that are there;
with --quick, or with --only, the files and the table are written to the cache folder, as they are no whole measurement.

It needs Linux, Python 3.11 and Go. What is installed stays below $RADIXBUS_PEERS_HOME, by default .cache/peers.
"""

import argparse
import datetime
import json
import signal
import sys
import time

sys.dont_write_bytecode = True

import machine
import selftest
import table
from home import HOME, REPOSITORY, Skip, locked
from process import raise_file_limit
from rivals import registry
from suites import Effort, bodies, held, idle, paths

SUITES = {suite.name: suite for module in (paths, bodies, idle, held) for suite in module.SUITES}
DOCUMENTS = REPOSITORY / "docs" / "benchmarks"
PAGE = REPOSITORY / "docs" / "benchmarks.md"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["install", "run", "table", "all"], default="all")
    parser.add_argument("--only", default="", help="rivals: " + ", ".join(rival.name for rival in registry.RIVALS))
    parser.add_argument("--suite", default="", help="suites: " + ", ".join(SUITES))
    parser.add_argument("--rounds", type=int, default=0, help="of each suite (default 5, quick 2)")
    parser.add_argument("--resume", action="store_true", help="leave out suites that were measured at this commit")
    parser.add_argument("--quick", action="store_true", help="a look in three minutes")
    parser.add_argument("--self-test", action="store_true", help="check the arithmetic, without any rival")
    options = parser.parse_args()
    if options.self_test:
        sys.exit(selftest.main())
    if not sys.platform.startswith("linux"):
        sys.exit("peers.py counts what processes use in /proc: it needs Linux")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    raise_file_limit()

    whole = not options.quick and not options.only
    documents = DOCUMENTS if whole else HOME / "results"
    page = PAGE if whole else documents / "table.md"
    names = [name for name in options.suite.split(",") if name] or (["core", "stream64", "idle"] if options.quick else list(SUITES))
    if unknown := set(names) - set(SUITES):
        sys.exit(f"no suite is called {', '.join(sorted(unknown))}: {', '.join(SUITES)}")
    if options.command == "table":
        return table.write(DOCUMENTS, PAGE)

    rivals, versions, skipped = install(registry.chosen([name for name in options.only.split(",") if name]))
    if options.command == "install":
        return None
    effort = Effort(options.rounds or (2 if options.quick else 5), options.quick)
    made_on, failed = machine.describe(), []
    for name in names:
        file = documents / f"peers-{name}.json"
        if options.resume and file.exists() and json.loads(file.read_text())["machine"] == made_on:
            print(f"{name}: {file} is there", flush=True)
            continue
        try:
            document = {"suite": name, "date": datetime.date.today().isoformat(), "machine": made_on}
            document |= measure(SUITES[name], rivals, versions, skipped, effort)
        except Skip as reason:  # of the load or the engines: the other suites may do
            failed.append(f"{name}: {reason}")
            print(failed[-1], flush=True)
            continue
        documents.mkdir(parents=True, exist_ok=True)
        file.write_text(compact(document) + "\n")
    if options.command == "all":
        table.write(documents, page)
    if failed:
        sys.exit("not measured: " + "; ".join(failed))
    return None


def install(rivals):
    """The rivals that can be had with the versions that they are, and of the others why not."""
    found, versions, skipped = [], {}, {}
    with locked():
        for rival in rivals:
            try:
                versions[rival.name] = rival.install() or rival.version
                found.append(rival)
            except Skip as reason:
                skipped[rival.name] = str(reason)
                print(f"{rival.name} is left out: {reason}", flush=True)
    return found, {name: version for name, version in versions.items() if version}, skipped


def measure(suite, rivals, versions, skipped, effort):
    """What one suite finds, and with what."""
    skipped = skipped | {rival.name: rival.skips[suite.name] for rival in rivals if suite.name in rival.skips}
    rivals = [rival for rival in rivals if suite.name not in rival.skips]
    print(f"{suite.name}: {', '.join(rival.name for rival in rivals)}", flush=True)
    began = time.monotonic()
    result = suite.run(rivals, effort)
    print(f"{suite.name}: done after {time.monotonic() - began:.0f} s", flush=True)
    here = {rival.name for rival in rivals}
    return {
        "rounds": effort.rounds, "quick": effort.quick, "skipped": skipped, "result": result,
        "versions": {name: version for name, version in versions.items() if name in here},
    }


def compact(value, indent=""):
    """JSON with a line for each object that holds but numbers and lists of them: small, and readable in a diff."""
    simple = not isinstance(value, dict | list) or not any(isinstance(one, dict) for one in items(value))
    if simple and len(line := json.dumps(value)) < 140:
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {compact(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + compact(one, inner) for one in value) + f"\n{indent}]"


def items(value):
    return value.values() if isinstance(value, dict) else value


if __name__ == "__main__":
    main()
