"""Thousands of slow streams at a time: what one takes of memory, and whether each gets its own tokens, and all of them."""

import json
import re
import selectors
import socket
import sys
import time
import urllib.parse

from echo_engine import dechunked
from home import HERE, Skip
from process import Stage, raise_file_limit, resident, wait_until
from rivals import Engines, ask
from suites import Suite

STREAMS, TOKENS, PACE = 8_000, 12, 2.0
BATCH = 200  # are opened at a time, so that no backlog is what is measured
PROMPT = 1_000  # bytes
PATIENCE = 60  # seconds beyond what the streams last


def run(rivals, effort):
    found = {"streams": effort.scaled(STREAMS), "tokens": TOKENS, "pace_seconds": PACE, "rivals": {}, "skipped": {}}
    if raise_file_limit() < 2 * found["streams"] + 2_000:
        found["streams"] = (raise_file_limit() - 2_000) // 2  # a process in the middle needs two files a stream
    for rival in rivals:
        if rival.name == "direct":
            continue
        print(f"  {found['streams']} streams: {rival.name}", flush=True)
        with Stage() as stage:
            try:
                server = rival.start(stage, echoes(stage))
                found["rivals"][rival.name] = hold(server, found["streams"])
            except Skip as reason:
                found["skipped"][rival.name] = str(reason)
    return found


def echoes(stage, count=4):
    port = stage.port(count)
    process = stage.spawn(
        "echo-engines", sys.executable, HERE / "echo_engine.py", "--port", port, "--n", count, "--model", "null", "--pace", PACE
    )
    urls = [f"http://127.0.0.1:{port + i}" for i in range(count)]

    def healthy():
        try:
            return all(ask(url, "/health")[0] == 200 for url in urls)
        except OSError:
            return False

    wait_until("the engines answer", healthy, process=process)
    return Engines(urls, process, PACE * 1000)


class Stream:
    """One client's connection and what has come over it."""

    def __init__(self, server, number):
        where = urllib.parse.urlsplit(server.url)
        self.mark = f"{number:08d}"
        self.said = bytearray()
        body = json.dumps({
            "model": server.model, "stream": True, "max_tokens": TOKENS,
            "messages": [{"role": "user", "content": f"{self.mark} ".ljust(PROMPT, "x")}],
        }).encode()
        self.socket = socket.create_connection((where.hostname, where.port), timeout=PATIENCE)
        self.socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (where.netloc.encode(), len(body), body)
        )
        self.socket.setblocking(False)

    def read(self):
        """Takes what is there. It tells whether more may come."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self.said += data
        return bool(data) and not self.said.endswith(b"0\r\n\r\n")

    def verdict(self):
        return judge(self.mark, bytes(self.said), TOKENS)


def judge(mark, said, tokens):
    """What is wrong with a stream: refused, cut or foreign; or nothing."""
    head, _, body = said.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return "refused"
    if b"chunked" in head.lower():
        body = dechunked(body)[0]
    heard = re.findall(rb'"content": ?"(\d+):(\d+) ', body)
    if any(who.decode() != mark for who, _ in heard):
        return "foreign"
    if [int(number) for _, number in heard] != list(range(tokens)) or b"data: [DONE]" not in body:
        return "cut"
    return None


def hold(server, count):
    """Opens the streams and reads them to their end. The memory that counts is that of the last look before the first one ended:
    buffers of the opening may be gone by then. The most of all looks is told too."""
    pids = server.pids()
    before = resident(pids)
    streams, failed, ended, most, while_all = [], 0, 0, before, before
    waiting = selectors.DefaultSelector()
    end = time.monotonic() + TOKENS * PACE + PATIENCE
    looked = 0.0
    while (len(streams) + failed < count or waiting.get_map()) and time.monotonic() < end:
        for _ in range(min(BATCH, count - len(streams) - failed)):
            try:
                stream = Stream(server, len(streams))
            except OSError:
                failed += 1
                continue
            streams.append(stream)
            waiting.register(stream.socket, selectors.EVENT_READ, stream)
        for key, _ in waiting.select(timeout=0.05):
            if not key.data.read():
                waiting.unregister(key.fileobj)
                key.fileobj.close()
                ended += 1
        if time.monotonic() - looked > 0.5:
            looked, now = time.monotonic(), resident(pids)
            most = max(most, now)
            if not ended:
                while_all = now
    verdicts = [stream.verdict() for stream in streams]
    for stream in streams:
        stream.socket.close()
    return {
        "opened": len(streams), "failed": failed,
        **{wrong: verdicts.count(wrong) for wrong in ("refused", "cut", "foreign")},
        "rss_before": before, "rss_held": while_all, "rss_most": most,
        "bytes_each": round((while_all - before) / max(1, len(streams))), "bytes_each_most": round((most - before) / max(1, len(streams))),
        "alive": server.alive(),
    }


SUITES = [Suite("held", run)]
