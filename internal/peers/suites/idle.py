"""A router with nothing to do: what it uses, what an open connection holds, and what happens when many come at once."""

import select
import socket
import time
import urllib.parse

from home import Skip
from load import digits, start_engines
from process import Stage, cpu_seconds, resident
from suites import Suite

SETTLE, WATCH = 5, 20  # seconds
CONNECTIONS, AT_ONCE = 10_000, 1_000
LATE = 0.5  # seconds: a handshake that was dropped is tried again after one
PATIENCE = 10


def run(rivals, effort):
    found = {"rivals": {}, "skipped": {}}
    with Stage() as stage:
        engines = start_engines(stage)
        servers = {}
        for rival in rivals:
            if rival.name == "direct":
                continue
            try:
                servers[rival.name] = rival.start(stage, engines)
                found["rivals"][rival.name] = {}
            except Skip as reason:
                found["skipped"][rival.name] = str(reason)
        time.sleep(SETTLE)
        pids = {name: server.pids() for name, server in servers.items()}
        before = {name: cpu_seconds(p) for name, p in pids.items()}
        seconds = effort.scaled(WATCH, 5)
        time.sleep(seconds)
        for name, p in pids.items():
            found["rivals"][name]["cores"] = digits((cpu_seconds(p) - before[name]) / seconds)
            found["rivals"][name]["rss"] = resident(p)
        for name, server in servers.items():
            print(f"  connections: {name}", flush=True)
            of = found["rivals"][name]
            if not server.listens:
                continue
            of["at_once"] = [at_once(server.url) for _ in range(effort.rounds)]
            of["connections"] = hold(server, effort.scaled(CONNECTIONS))
    return found


def address(url):
    where = urllib.parse.urlsplit(url)
    return where.hostname, where.port


def at_once(url):
    """Opens many connections at the same moment, asks on each, and tells how long the slowest took to be answered."""
    poll = select.poll()
    sockets, late, slowest, failed = {}, 0, 0.0, 0
    for _ in range(AT_ONCE):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(address(url))
        sockets[one.fileno()] = (one, time.monotonic())
        poll.register(one, select.POLLOUT)
    end = time.monotonic() + PATIENCE
    asked = set()
    while sockets and time.monotonic() < end:
        for number, events in poll.poll(100):
            one, began = sockets[number]
            try:
                if number not in asked:
                    one.send(request(url))
                    asked.add(number)
                    poll.modify(one, select.POLLIN)
                    continue
                if not one.recv(65536):
                    raise ConnectionError("closed")
            except OSError:
                failed += 1
            took = time.monotonic() - began
            slowest, late = max(slowest, took), late + (took > LATE)
            poll.unregister(one)
            one.close()
            del sockets[number]
    for one, _ in sockets.values():
        one.close()
    return {"late": late + len(sockets), "failed": failed + len(sockets), "slowest_seconds": digits(slowest) if not sockets else PATIENCE}


def request(url):
    return f"GET /v1/models HTTP/1.1\r\nHost: {urllib.parse.urlsplit(url).netloc}\r\nAuthorization: Bearer none\r\n\r\n".encode()


def hold(server, count):
    """Opens connections, asks once on each, leaves them open, and tells what memory one takes."""
    pids = server.pids()
    before = resident(pids)
    held, failed = [], 0
    try:
        while len(held) + failed < count:
            batch = []
            for _ in range(min(100, count - len(held) - failed)):
                try:
                    batch.append(socket.create_connection(address(server.url), timeout=PATIENCE))
                    batch[-1].sendall(request(server.url))
                except OSError:
                    failed += 1
            for one in batch:
                try:
                    answered = one.recv(65536).startswith(b"HTTP/1.1 200")
                except OSError:
                    answered = False
                failed += not answered
                held.append(one)
        time.sleep(2)
        return {"opened": len(held), "failed": failed, "bytes_each": round((resident(pids) - before) / max(1, len(held)))}
    finally:
        for one in held:
            one.close()


SUITES = [Suite("idle", run)]
