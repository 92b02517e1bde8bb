"""Prompts of 1, 4 and 64 MB: who takes them, what streams beside them suffer, and what memory stays behind."""

import http.client
import statistics
import threading
import time
import urllib.parse

from home import Skip
from load import compare, digits, median, start_engines
from process import Stage, resident
from suites import Suite

SIZES = {"1mb": 1 << 20, "4mb": 4 << 20, "64mb": 64 << 20}
PACE_MS = 20
STREAMS, TOKENS = 32, 75  # a second and a half
PATIENCE = 30  # seconds for one body
WATCH = 60  # seconds in which memory should be back

# Memory is back when no more than this is left of what was added.
SLACK, SHARE = 16 << 20, 1.2


def run(rivals, effort):
    found = {"rivals": {}, "skipped": {}}
    with Stage() as stage:
        engines = start_engines(stage, pace_ms=PACE_MS)
        servers = {}
        for rival in rivals:
            try:
                servers[rival.name] = rival.start(stage, engines)
                found["rivals"][rival.name] = empty()
            except Skip as reason:
                found["skipped"][rival.name] = str(reason)
        memory = Memory({name: server.pids() for name, server in servers.items()})
        with memory:
            for number in range(effort.rounds):
                for name in sorted(servers, reverse=number % 2):
                    print(f"  bodies, round {number + 1}: {name}", flush=True)
                    one_round(stage, name, servers[name], found["rivals"][name], memory, first=number == 0)
            if not effort.quick:
                time.sleep(max(0, WATCH - min(memory.idle_for(name) for name in servers)))
            for name in servers:
                found["rivals"][name]["memory"] = memory.told(name)
    return found


def empty():
    return {"quiet_itl_p99": [], **{size: {"itl_p99": [], "seconds": [], "sent": 0, "errors": {}} for size in SIZES}}


def one_round(stage, name, server, found, memory, first):
    found["quiet_itl_p99"].append(streams(stage, name, server))
    if first:
        memory.begin(name)
    for size, length in SIZES.items():
        sender = Sender(server, length)
        with sender:
            found[size]["itl_p99"].append(streams(stage, name, server))
        memory.touch(name)
        found[size]["sent"] += sender.sent
        found[size]["seconds"].append(digits(statistics.median(sender.seconds)))
        for error, count in sender.errors.items():
            found[size]["errors"][error] = found[size]["errors"].get(error, 0) + count


def streams(stage, name, server):
    """The 99th percentile of the gaps in some streams, in seconds; none when they failed."""
    report = compare(
        stage, {name: server}, prompt=400, tokens=TOKENS, concurrency=STREAMS, requests=STREAMS, rounds=1, stream=True, warm=0
    )
    target = report["targets"][name]
    return None if target["errors"] else median(target, "itl_p99")


class Sender:
    """Sends bodies of one length, one after the other, until it is left; at least one."""

    def __init__(self, server, length):
        self.server, self.length = server, length
        self.urls = server.url.split("|")
        self.sent, self.seconds, self.errors = 0, [], {}
        self.leaving = threading.Event()
        self.thread = threading.Thread(target=self.send_all)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.leaving.set()
        self.thread.join()

    def send_all(self):
        text = b"lorem ipsum dolor sit amet " * (self.length // 27 + 1)
        while not self.sent or not self.leaving.is_set():
            head = b'{"model":"%s","max_tokens":1,"messages":[{"role":"user","content":"%020d ' % (self.server.model.encode(), time.time_ns())
            began = time.monotonic()
            error = post(self.urls[self.sent % len(self.urls)], head + text[: self.length - len(head) - 4] + b'"}]}')
            self.sent += 1
            self.seconds.append(time.monotonic() - began)
            if error:
                self.errors[error] = self.errors.get(error, 0) + 1


def post(url, body):
    """What was wrong with the answer, if anything was."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE)
    try:
        try:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", "Authorization": "Bearer none"})
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have been refused before it was read, which the answer tells
        answer = connection.getresponse()
        answer.read()
        return None if answer.status == 200 else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


class Memory:
    """Watches the memory of processes, twice a second."""

    def __init__(self, pids):
        self.pids = pids
        self.start, self.peak, self.last = {}, {}, {name: time.monotonic() for name in pids}
        self.back = {}  # seconds from the last body to the first look that found memory back
        self.now = {name: resident(p) for name, p in pids.items()}
        self.leaving = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.leaving.set()
        self.thread.join()

    def begin(self, name):
        self.start[name] = self.peak[name] = resident(self.pids[name])

    def touch(self, name):
        self.last[name] = time.monotonic()
        self.back.pop(name, None)

    def idle_for(self, name):
        return time.monotonic() - self.last[name]

    def watch(self):
        while not self.leaving.wait(0.5):
            for name, pids in self.pids.items():
                self.now[name] = resident(pids)
                if name not in self.start:
                    continue
                self.peak[name] = max(self.peak[name], self.now[name])
                if self.now[name] <= max(SHARE * self.start[name], self.start[name] + SLACK):
                    self.back.setdefault(name, self.idle_for(name))

    def told(self, name):
        back = self.back.get(name)
        return {
            "start": self.start[name], "peak": self.peak[name], "end": self.now[name],
            "back_after_seconds": None if back is None else digits(back),
        }


SUITES = [Suite("bodies", run)]
