"""The frame of the suites in Python.

A check is a function under a name that the same check has in every language. A suite runs its checks one after the other and
writes a line of JSON about each: {"check", "seconds"} and, where there is something to say, "skipped" or "failed".
The last line is {"end": true}.

What it runs against is told in JSON on standard input; see target in target_test.go.
"""

import io
import json
import sys
import time
import traceback
import urllib.request
import wave

target = json.load(sys.stdin)
lacks = target["lacks"]
model = target["model"]

checks = []


def check(name, *needs):
    """Makes a function a check. What the engine lacks of its needs is a reason to skip it."""

    def note(do):
        checks.append((name, needs, do))
        return do

    return note


def run():
    for name, needs, do in checks:
        line, began = {"check": name}, time.monotonic()
        reasons = [lacks[need] for need in needs if need in lacks]
        if reasons:
            line["skipped"] = reasons[0]
        else:
            try:
                do()
            except Exception:
                line["failed"] = traceback.format_exc(limit=-6)
        line["seconds"] = time.monotonic() - began
        print(json.dumps(line), flush=True)
    print(json.dumps({"end": True}), flush=True)


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def holds(true, *got):
    if not true:
        raise AssertionError(f"got {', '.join(map(repr, got))}")


def fails(kind, status, do):
    """Does what must fail, and returns the error, which must be exactly of that class."""
    try:
        came = do()
    except Exception as error:
        if type(error) is not kind:
            raise AssertionError(f"got a {type(error).__name__}, want a {kind.__name__}: {error}") from error
        if status is not None:
            equal(error.status_code, status, "status")
        return error
    raise AssertionError(f"got {came!r}, want a {kind.__name__}")


def eventually(what, true, patience=10.0):
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not in {patience:g} s: {what}")
        time.sleep(0.02)


def running(name=model):
    """How many requests the engines of a model have, by their own count."""
    with urllib.request.urlopen(target["url"] + "/v1/loads") as answer:
        loads = json.load(answer)["loads"]
    return sum(one["num_running_reqs"] + one["num_waiting_reqs"] for one in loads if one["model"] == name)


def busy():
    eventually("the engine has the request", running)


def freed():
    eventually("the engine has nothing to do any more", lambda: running() == 0)


def retried(ask, on_first):
    """Asks with a client that tries again, and has something done at the first answer that is none. Returns the statuses that it
    got until it got what it asked for, and when it was to try again."""
    seen = []

    def hook(answer):
        seen.append((answer.status_code, answer.headers.get("retry-after")))
        if len(seen) == 1 and answer.status_code != 200:
            on_first()

    ask(hook)
    equal(seen[-1][0], 200, "the last status")
    return set(seen[:-1])


def stage(path):
    """Has something done on the stage: see stage_test.go."""
    with urllib.request.urlopen(urllib.request.Request(target["stage"] + path, method="POST")) as answer:
        return json.load(answer)


def silence(seconds=1):
    """A WAV file of that length."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(bytes(32000 * seconds))
    return file.getvalue()
