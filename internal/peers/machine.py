"""What a measurement was made on."""

import os
import pathlib
import platform
import subprocess

from home import REPOSITORY


def describe():
    """Cores, processor, kernel, memory, and the versions of Go, Python and ourselves."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": field("/proc/cpuinfo", "model name"),
        "memory_gb": round(int(field("/proc/meminfo", "MemTotal").split()[0]) / 1e6),
        "kernel": platform.release(),
        "go": said("go", "env", "GOVERSION"),
        "python": platform.python_version(),
        "radixbus": said("git", "describe", "--always", "--dirty", "--abbrev=10"),
    }


def field(file, name):
    for line in pathlib.Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def said(*command):
    try:
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
