#!/usr/bin/env python3
"""Installs the SDKs whose suites stand here into $RADIXBUS_SDKS_HOME, by default .cache/sdks in the repository.

Done again, it takes no time. What cannot be installed is told, and its suite is then skipped: it needs Python 3.9 or later with
venv for the SDKs of Python; npm for that of JavaScript, whose Node.js 22 is downloaded where there is none.
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
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second one waits, and finds it done
        step("python", [HERE / "requirements.txt"], install_python)
        step("js", [HERE / "package.json", HERE / "package-lock.json"], install_js)
        if shutil.which("npm") and node_version() < int(NODE.split(".")[0]):
            step("node", [HERE / "install.py"], install_node)


def step(name, sources, do):
    """Does what was not done, or was done from other sources than these."""
    stamp = HOME / f"{name}.done"
    digest = hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"{HOME / name} …", flush=True)
    began = time.monotonic()
    stamp.unlink(missing_ok=True)
    shutil.rmtree(HOME / name, ignore_errors=True)
    try:
        do(HOME / name)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(HOME / name, ignore_errors=True)
        print(f"{HOME / name}: not installed, its suites are skipped: {error}", flush=True)
        return
    stamp.write_text(digest)
    print(f"{HOME / name} done in {time.monotonic() - began:.0f} s", flush=True)


def install_python(folder):
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--requirement", HERE / "requirements.txt"], check=True)


def install_js(folder):
    folder.mkdir()
    for name in "package.json", "package-lock.json":
        shutil.copy(HERE / name, folder)
    npm(folder, "ci")


def install_node(folder):
    folder.mkdir()
    npm(folder, "install", f"node@{NODE}")


def npm(folder, *what):
    quiet = ["--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run(["npm", *what, "--prefix", folder, *quiet], check=True, cwd=folder)


def node_version():
    try:
        said = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(re.match(r"v(\d+)", said).group(1))


if __name__ == "__main__":
    main()
