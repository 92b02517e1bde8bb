"""All rivals in the order of the tables. The first is what the others are compared with: no router at all."""

from rivals import direct, dynamo, litellm, llmd, nginx, radixbus, reverseproxy, sglang_router, smg

RIVALS = [
    rival
    for module in (direct, radixbus, reverseproxy, nginx, smg, sglang_router, llmd, dynamo, litellm)
    for rival in module.RIVALS
]


def chosen(names):
    """The rivals of these names, or all."""
    known = {rival.name: rival for rival in RIVALS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no rival is called {', '.join(unknown)}: {', '.join(known)}")
    return [rival for rival in RIVALS if not names or rival.name in names]
