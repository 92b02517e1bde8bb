"""The folder that everything is installed into, and steps that are done once."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
HOME = pathlib.Path(os.environ.get("RADIXBUS_PEERS_HOME") or REPOSITORY / ".cache" / "peers").absolute()
BIN = HOME / "bin"
LOGS = HOME / "logs"


class Skip(Exception):
    """Says why a rival, or a figure of it, is not to be had on this machine."""


@contextmanager
def locked():
    """Holds the folder: a second installer waits, and finds the work done."""
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def step(name, sources, do):
    """Does what was not done, or was done from other sources: files, or texts such as a version."""
    stamp = HOME / f"{name}.done"
    parts = (s.read_bytes() if isinstance(s, pathlib.Path) else str(s).encode() for s in sources)
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"{HOME / name} …", flush=True)
    began = time.monotonic()
    stamp.unlink(missing_ok=True)
    do(HOME / name)
    stamp.write_text(digest)
    print(f"{HOME / name} done in {time.monotonic() - began:.0f} s", flush=True)


def venv(name):
    """Makes a virtual environment with exactly what requirements/NAME.txt lists."""
    wanted = HERE / "requirements" / f"{name}.txt"

    def make(folder):
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
        run(*pip, "--no-deps", "--only-binary", ":all:", "--requirement", wanted)

    step(name, [wanted, sys.version], make)


def go_build(package, name, folder=REPOSITORY):
    """Builds a program of a module into BIN. The Go tool knows what is up to date."""
    BIN.mkdir(parents=True, exist_ok=True)
    run("go", "build", "-o", BIN / name, package, cwd=folder)
    return BIN / name


def run(*command, cwd=None, env=None):
    """Runs a command of an installation; where it fails, what it needs is not to be had."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise Skip(f"{pathlib.Path(command[0]).name}: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise Skip(f"{pathlib.Path(command[0]).name}: {lines[-1].strip() if lines else done.returncode}")
    return done.stdout
