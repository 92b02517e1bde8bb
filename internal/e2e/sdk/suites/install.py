#!/usr/bin/env python3
"""Installs the SDKs whose suites stand here into $RADIXBUS_SDKS_HOME, by default .cache/sdks in the repository.

It needs Python 3.11 or later with venv for the SDKs of Python, and npm for that of JavaScript, whose Node.js 22 it brings where there
is an older one. Without npm it says so, and the suite in JavaScript is skipped. Done again, it takes no time; everything
stays below the one folder (350 MB).
"""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[3]
HOME = pathlib.Path(os.environ.get("RADIXBUS_SDKS_HOME") or REPOSITORY / ".cache" / "sdks").absolute()

NODE = "22.23.3"  # the SDK wants 22


def main():
    if sys.version_info < (3, 11):
        sys.exit("the SDKs want Python 3.11 or later")
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second one waits, and finds it done
        step("python", [HERE / "requirements.txt"], install_python)
        if not shutil.which("npm"):
            print("no npm: the suite in JavaScript will be skipped", flush=True)
            return
        if node_version() < int(NODE.split(".")[0]):
            step("node", [HERE / "install.py"], install_node)
        step("js", [HERE / "package.json", HERE / "package-lock.json"], install_js)


def step(name, sources, do):
    """Does what was not done, or was done from other sources than these."""
    stamp, folder = HOME / f"{name}.done", HOME / name
    digest = hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"{folder} …", flush=True)
    began = time.monotonic()
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    do(folder)
    stamp.write_text(digest)
    print(f"{folder} done in {time.monotonic() - began:.0f} s", flush=True)


def install_python(folder):
    run(sys.executable, "-m", "venv", folder)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run(*pip, "--requirement", HERE / "requirements.txt")


def install_js(folder):
    folder.mkdir()
    for name in "package.json", "package-lock.json":
        shutil.copy(HERE / name, folder)
    npm(folder, "ci")


def install_node(folder):
    folder.mkdir()
    npm(folder, "install", f"node@{NODE}")


def npm(folder, *what):
    run("npm", *what, "--prefix", folder, "--no-audit", "--no-fund", "--loglevel", "error", cwd=folder)


def run(*command, cwd=None):
    try:
        subprocess.run(command, check=True, cwd=cwd)
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))


def node_version():
    try:
        said = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(re.match(r"v(\d+)", said).group(1))


if __name__ == "__main__":
    main()
