"""Ourselves: everything in one process, and the roles as four processes around an external bus."""

from home import BIN, go_build
from rivals import Rival, Server, wait_for_answers


def install():
    go_build(".", "radixbus")


def install_separate():
    install()
    go_build("github.com/nats-io/nats-server/v2", "nats-server")  # the version that go.mod names


def start_up(stage, engines):
    port, admin = stage.port(), stage.port()
    flags = [flag for url in engines.urls for flag in ("--engine", url)]
    process = stage.spawn("radixbus-up", BIN / "radixbus", "up", "--port", port, "--admin-port", admin, *flags)
    return wait_for_answers(Server(f"http://127.0.0.1:{port}", [process], engines.model))


def start_separate(stage, engines):
    """One adapter, so one engine: the others' engines are addresses of the same process."""
    bus, port = stage.port(), stage.port()
    nats = stage.spawn("radixbus-nats", BIN / "nats-server", "-a", "127.0.0.1", "-p", bus)

    def role(name, *flags):
        common = ("--nats", f"nats://127.0.0.1:{bus}", "--admin-port", stage.port())
        return stage.spawn(f"radixbus-{name}", BIN / "radixbus", name, *common, *flags)

    roles = [nats, role("scheduler"), role("worker", "--engine", engines.urls[0], "--name", "w0"), role("gateway", "--port", port)]
    return wait_for_answers(Server(f"http://127.0.0.1:{port}", roles, engines.model))


RIVALS = [
    Rival("radixbus", "**Radixbus**, `up`", "", install, start_up),
    Rival("radixbus4", "**Radixbus**, four processes", "", install_separate, start_separate),
]
