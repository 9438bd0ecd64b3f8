"""How long things take."""

import time
from collections.abc import Callable, Mapping


def best_of(functions: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Return the least seconds of each function over ``repeats`` rounds, in each of which every function runs once.

    Taking turns, all of them meet the same disturbances; the least is what the machine can do. One unmeasured round goes before.
    """
    best = dict.fromkeys(functions, float("inf"))
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repeat:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def row(case: str, ours: float, peer: float, peer_name: str, unit: str, note: str, **facts: object) -> dict:
    """Return a row of the table of ratios; ``ours`` and ``peer`` in seconds (``unit`` s) or in a rate (``unit`` ends in ``/s``)."""
    ratio = ours / peer if unit.endswith("/s") else peer / ours
    return {"id": case, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio, "unit": unit, "note": note} | facts
