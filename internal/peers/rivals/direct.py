"""No router: clients take the engines in turn. What everything is compared with."""

from rivals import Rival, Server


def start(_, engines):
    return Server(url="|".join(engines.urls), processes=[engines.process])


RIVALS = [Rival("direct", "no router", "", install=lambda: None, start=start)]
