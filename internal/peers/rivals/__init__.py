"""What is measured: ourselves, plain proxies and other routers, a file each.

Every file lists its RIVALS. A rival is installed once, and started anew for each measurement in front of the engines that
are given; what cannot be had raises home.Skip with the reason.
"""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from process import Process, Stage, wait_until

MODEL = "null"


@dataclass(frozen=True)
class Engines:
    """The engines behind everything: one process, an address each."""

    urls: list[str]
    process: Process
    pace_ms: float = 0
    model: str = MODEL


@dataclass
class Server:
    """A rival that answers."""

    url: str
    processes: list[Process]
    model: str = MODEL
    # What stands in for engines, where a rival brings its own: not part of its CPU.
    engines: list[Process] = field(default_factory=list)
    # Clients connect to the rival itself, not to what stands in for a part that it needs.
    listens: bool = True

    def pids(self):
        return [pid for process in self.processes for pid in process.pids()]

    def alive(self):
        return all(process.alive() for process in self.processes)


@dataclass(frozen=True)
class Rival:
    name: str
    title: str
    version: str
    # Installs what is missing; it may tell a version other than the one that is wanted.
    install: Callable[[], str | None]
    start: Callable[[Stage, Engines], Server]
    # Takes milliseconds where others take a tenth of one: measured apart, with fewer requests.
    slow: bool = False
    # Why single suites are left out.
    skips: dict[str, str] = field(default_factory=dict)


def ask(url, path, body=None, timeout=10, headers=None):
    """The status and the body of one answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        data = None if body is None else json.dumps(body)
        wanted = {"Content-Type": "application/json", "Authorization": "Bearer none", **(headers or {})}
        connection.request("GET" if body is None else "POST", path, data, wanted)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def chat(model, content="hi", tokens=1, **more):
    """The body of a chat request."""
    return {"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": content}], **more}


def wait_for_answers(server, limit=60):
    """Waits until a completion works."""

    def answers():
        try:
            return ask(server.url, "/v1/chat/completions", chat(server.model), timeout=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    wait_until(f"{server.processes[-1].name} answers", answers, limit, server.processes[-1])
    return server
