"""Go's own httputil.ReverseProxy with as little around it as works: the plain yardstick."""


from home import BIN, go_build
from rivals import Rival, Server, wait_for_answers


def install():
    go_build("./internal/peers/reverseproxy", "reverseproxy")


def start(stage, engines):
    port = stage.port()
    process = stage.spawn("reverseproxy", BIN / "reverseproxy", "-listen", f"127.0.0.1:{port}", *engines.urls)
    return wait_for_answers(Server(f"http://127.0.0.1:{port}", [process], engines.model))


RIVALS = [Rival("reverseproxy", "Go `httputil.ReverseProxy`", "", install, start)]
