#!/usr/bin/env python3
"""A real SGLang on a machine without a GPU: install it, and start engines.

  rig.py install                   into $RADIXBUS_SGLANG_HOME, by default .cache/sglang in the repository
  rig.py serve --port 27000 …      one engine in the foreground, on loopback; what follows is for SGLang

Installing takes 6 GB and a few minutes, most of them for the download; done again, it takes no time. It needs Linux on x86-64 and
Python 3.9 or later with pip; Python 3.11, which the engine wants, is downloaded where it is missing. Everything stays
below the one folder.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[3]
HOME = pathlib.Path(os.environ.get("RADIXBUS_SGLANG_HOME") or REPOSITORY / ".cache" / "sglang").absolute()
PYTHON = HOME / "venv" / "bin" / "python"

UV = "uv==0.13.9"
ENGINE_PYTHON = "3.11"

# The families of models whose code is loaded. Each of the others costs time at every start.
FAMILIES = {"__init__", "llama", "registry", "transformers", "utils"}


def install():
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second one waits, and finds it done
        step("engine", [HERE / "requirements.txt"], install_engine)
        step("weights", [HERE / "weights.py"], make_weights)
        step("bytecode", [HERE / "requirements.txt"], compile_bytecode)


def step(name, sources, do):
    """Does what was not done, or was done from other sources than these."""
    stamp = HOME / f"{name}.done"
    digest = hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"{HOME}: {name} …", flush=True)
    began = time.monotonic()
    do()
    stamp.write_text(digest)
    print(f"{HOME}: {name} done in {time.monotonic() - began:.0f} s", flush=True)


def install_engine():
    tool = HOME / "uv" / "bin"
    if not (tool / "uv").exists():
        run(sys.executable, "-m", "venv", "--clear", HOME / "uv")
        run(tool / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV)
    shutil.rmtree(HOME / "venv", ignore_errors=True)
    run(tool / "uv", "venv", "--quiet", "--python", ENGINE_PYTHON, HOME / "venv")
    run(tool / "uv", "pip", "install", "--quiet", "--no-deps", "--python", PYTHON, "--requirement", HERE / "requirements.txt")


def make_weights():
    run(PYTHON, "-W", "ignore", HERE / "weights.py", HOME)


def compile_bytecode():
    """Imports what an engine imports, so that its starts find the byte code."""
    run(PYTHON, "-W", "ignore", "-c", "import sglang.srt.entrypoints.http_server, sglang.srt.managers.scheduler")


def run(*command):
    subprocess.run([str(part) for part in command], check=True, env=environment())


def environment():
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # it would make every start slow
    env.setdefault("UV_CACHE_DIR", str(HOME / "uv-cache"))  # of the same file system: files are linked, not copied
    env.setdefault("UV_PYTHON_INSTALL_DIR", str(HOME / "python"))
    # Everything is there already, no service is asked for anything.
    env.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    env.update(PYTHONPATH=str(HERE / "site"), SGLANG_USE_CPU_ENGINE="1")
    return env


def serve(flags):
    """Becomes an engine. Flags that are given twice count the second time, so everything here can be changed."""
    if not PYTHON.exists():
        sys.exit(f"no engine in {HOME}: rig.py install")
    if "--tied" in flags:
        flags.remove("--tied")
        die_with_whoever_holds_stdin()
    env = environment()
    env["OMP_NUM_THREADS"] = "1"
    env["SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"] = "false"  # probes generate nothing
    code = next((HOME / "venv" / "lib").glob("python*")) / "site-packages" / "sglang" / "srt" / "models"
    env["SGLANG_DISABLED_MODEL_ARCHS"] = ",".join(sorted({f.stem for f in code.glob("*.py")} - FAMILIES))
    if "--dp-size" in flags:  # a core for each rank, as far as there are cores
        ranks = int(flags[flags.index("--dp-size") + 1])
        env["SGLANG_CPU_OMP_THREADS_BIND"] = "|".join(str(r % os.cpu_count()) for r in range(ranks))
    engine = [
        *(str(PYTHON), "-W", "ignore", "-m", "sglang.launch_server"),
        *("--model-path", str(HOME / "models" / "tiny-a"), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--device", "cpu", "--attention-backend", "torch_native", "--dtype", "float32"),
        *("--mem-fraction-static", "0.1", "--max-total-tokens", "8192"),
        *("--disable-overlap-schedule", "--skip-server-warmup", "--sleep-on-idle"),
        *("--enable-metrics", "--enable-cache-report", "--log-level", "warning"),
    ]
    os.execve(engine[0], engine + flags, env)


def die_with_whoever_holds_stdin():
    """Leaves a process behind that ends the whole process group once standard input ends, that is, with its writer. An
    engine has several processes, and none of them minds being alone in the world."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if os.fork() == 0:
        for quiet in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            signal.signal(quiet, signal.SIG_IGN)
        while os.read(0, 4096):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)


def main():
    command = {"install": lambda _: install(), "serve": serve}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if command is None:
        sys.exit(__doc__.strip())
    command(sys.argv[2:])


if __name__ == "__main__":
    main()
