"""How long things take."""

import concurrent.futures
import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

SETTLED_SECONDS = 0.5  # a process whose turn it is repeats a short function for so long: caches and threads are cold at first


def best_of(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 5,
    seconds_of: Callable[[object, float], float] = lambda _, seconds: seconds,
) -> dict[str, float]:
    """Return the least seconds of each function over ``repeats`` rounds, in each of which every function runs once.

    Taking turns, all of them meet the same disturbances; the least is what the machine can do. One unmeasured round goes before.
    ``seconds_of`` (what a function returned, its wall time) says what counts.
    """
    best = dict.fromkeys(functions, float("inf"))
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            seconds = seconds_of(function(), time.perf_counter() - start)
            if repeat:
                best[name] = min(best[name], seconds)
    return best


def row(case: str, ours: float, peer: float, peer_name: str, unit: str, note: str, **facts: object) -> dict:
    """Return a row of the table of ratios; ``ours`` and ``peer`` in seconds (``unit`` s) or in a rate (``unit`` ends in ``/s``)."""
    ratio = ours / peer if unit.endswith("/s") else peer / ours
    return {"id": case, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio, "unit": unit, "note": note} | facts


def best_of_apart(makers: Mapping[str, Callable[[], Callable[[], object]]], repeats: int = 5) -> dict[str, float]:
    """Do as ``best_of``, each function in a process of its own, so that what one sets up (memory, threads, caches) does not serve another.

    A maker is called in its process and returns the function; it is a module's function, or a ``functools.partial`` of one.
    """
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for name, maker in makers.items():
        ends[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(maker, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
    try:
        return best_of({name: lambda end=end: _ask(end) for name, end in ends.items()}, repeats, seconds_of=lambda answer, _: answer)
    finally:
        for end in ends.values():
            end.close()
        for process in processes:
            process.join(10)


def peak_bytes_apart(maker: Callable[[], Callable[[], object]]) -> int:
    """Return how far one call of the maker's function raises the memory of its process, made for it, above where it stood (Linux)."""
    return apart(partial(_peak_bytes, maker))


def apart(function: Callable[[], Any]) -> Any:
    """Return what ``function`` (see ``best_of_apart``) returns in a fresh process."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function).result()


def _peak_bytes(maker: Callable[[], Callable[[], object]]) -> int:
    function = maker()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _ask(end) -> float:
    end.send(None)
    answer = end.recv()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def _serve(maker: Callable[[], Callable[[], object]], end) -> None:
    try:
        function = maker()
        while True:
            end.recv()
            best, began = float("inf"), time.perf_counter()
            while best == float("inf") or time.perf_counter() - began < SETTLED_SECONDS:
                start = time.perf_counter()
                function()
                best = min(best, time.perf_counter() - start)
            end.send(best)
    except EOFError:
        return
    except Exception:
        end.send(traceback.format_exc())
