"""Processes of one measurement: started on loopback, counted, and ended by their ids."""

import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import tempfile
import time

from home import LOGS, Skip

# Below the range that the kernel takes for outgoing connections, so that nobody gets a port that was handed out here.
PORTS = range(20000, 32000)
TICKS = os.sysconf("SC_CLK_TCK")


class Stage:
    """Where a measurement's processes live. Leaving it ends them all, the last one first."""

    def __init__(self):
        self.folder = None
        self.processes = []
        self.taken = set()

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="radixbus-peers-"))
        LOGS.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()

    def spawn(self, name, *command, env=None):
        """Starts a program whose output goes to a file of the same name."""
        process = Process(name, [str(part) for part in command], env)
        self.processes.append(process)
        return process

    def port(self, count=1):
        """The first of so many free ports in a row."""
        for _ in range(1000):
            first = random.choice(PORTS)
            wanted = range(first, first + count)
            if wanted[-1] in PORTS and self.taken.isdisjoint(wanted) and all(map(free, wanted)):
                self.taken.update(wanted)
                return first
        raise Skip("no free ports")


class Process:
    def __init__(self, name, command, env=None):
        self.name = name
        self.log = LOGS / f"{name}.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )

    def pids(self):
        """The process and what it has started, alive now."""
        children = {}
        for folder in pathlib.Path("/proc").iterdir():
            if folder.name.isdigit() and (fields := stat(int(folder.name))):
                children.setdefault(int(fields[1]), []).append(int(folder.name))
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return sorted(found)

    def alive(self):
        return self.child.poll() is None

    def said(self):
        """The end of what the program has printed."""
        return self.log.read_text(errors="replace").strip()[-300:]

    def stop(self, patience=5):
        """Ends the process and what it has started: they are a group of their own."""
        signal_group(self.child.pid, signal.SIGTERM)
        try:
            self.child.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        signal_group(self.child.pid, signal.SIGKILL)
        self.child.wait()


def signal_group(group, how):
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        pass


def free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def stat(pid):
    """The fields of /proc/PID/stat after the name, or nothing once the process is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def cpu_seconds(pids):
    """User and system time that the processes have used, in steps of 10 ms."""
    return sum((int(f[11]) + int(f[12])) / TICKS for f in map(stat, pids) if f)


def resident(pids):
    """Bytes of memory that the processes hold. Pages that they share count once in each."""
    total = 0
    for pid in pids:
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    return total


def wait_until(what, holds, limit=60, process=None):
    """Asks until it holds, and gives up when the limit is over or the process has ended."""
    end = time.monotonic() + limit
    while not holds():
        if process and not process.alive():
            raise Skip(f"{process.name} ended: {process.said()}")
        if time.monotonic() > end:
            raise Skip(f"{what}: not within {limit} s")
        time.sleep(0.05)


def raise_file_limit():
    """As many open files as this process may have, for itself and what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
