"""Execute one chapter with papermill: the job that the workflow starts for each notebook.

``python -m drlib.series.execute build/notebooks/<run>/series.json 03_segmentation``
"""

import contextlib
import datetime
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from drlib.series.workflow import Series

HEARTBEAT_SECONDS = 60
# Snakemake sets these to the threads of a rule: one, where a chapter shall have all cores that it may use; more, where a cluster's
# profile says so.
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def execute_chapter(series: Series, name: str) -> float:
    """Execute a chapter and put the executed copy and its record in place; return the seconds it took.

    The copy gets its final name only when every cell ran. An error of the notebook is raised as papermill raises it, and the copy
    up to the failing cell stays as ``<name>.unfinished.ipynb``.
    """
    import papermill

    inputs = series.inputs(name)  # before the execution: an edit during it makes the chapter stale again
    partial = series.unfinished(name)
    partial.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    papermill.execute_notebook(
        series.notebook(name), partial, series.parameters, kernel_name="python3", progress_bar=False, cwd=str(series.root)
    )
    seconds = time.perf_counter() - start
    series.write_record(name, inputs, seconds, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    os.replace(partial, series.executed(name))
    return seconds


def describe_failure(series: Series, name: str, error: Exception) -> str:
    """Return what a person has to know about a failed execution: the cell, the error, the notebook to look at."""
    where = series.unfinished(name).relative_to(series.root)
    cell = getattr(error, "exec_count", None)
    what = f"{error.ename}: {error.evalue}" if cell is not None else f"{type(error).__name__}: {error}"
    place = f"in code cell {cell}" if cell is not None else "outside its cells"
    return f"{name} failed {place}: {what}\n    the notebook up to the error: {where}"


def format_seconds(seconds: float) -> str:
    """Return a duration as people say it: ``48 s``, ``6 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _time_left(series: Series, chapters: list[str]) -> str:
    expected = [series.expected_seconds(name) for name in chapters]
    if not chapters or None in expected:
        return ""
    return f", about {format_seconds(sum(expected))} left in all"


def _watch(name: str, process: int | None) -> None:
    """Say once a minute that the work goes on, and end with the ``drlib run`` that started it (also when that was killed).

    On a cluster, ``process`` None, that process is on another node, and the cluster ends the work.
    """
    for elapsed in itertools.count(1):
        time.sleep(1)
        if process is not None and _has_ended(process):
            os._exit(1)
        if elapsed % HEARTBEAT_SECONDS == 0:
            print(f"{name:<24} still running after {format_seconds(elapsed)}", flush=True)


def _has_ended(process: int) -> bool:
    """Return whether a process is gone, or has ended and waits for its parent to notice, who may be waiting for this one's output."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _take_turn(series: Series, turns: list[str]) -> FileLock:
    """Wait until one of ``turns`` is free and take it; it ends with this process.

    On one machine there are as many turns as chapters at once: Snakemake 9.15 does not count a job that was the only one to choose from,
    and starts more than it was told. On a cluster each chapter has its own: a job that outlived its ``drlib run`` is waited for.
    """
    while True:
        for name in turns:
            turn = FileLock(series.folder / f".turn-{name}")
            with contextlib.suppress(Timeout):
                turn.acquire(timeout=0)
                return turn
        time.sleep(0.2)


def main(arguments: list[str]) -> int:
    """Execute the chapter named on the command line, with lines of progress; return the exit status."""
    series, name = Series.load(Path(arguments[0])), arguments[1]
    for variable in THREAD_LIMITS:
        if os.environ.get(variable) == "1":
            del os.environ[variable]
    plan = json.loads((series.folder / "plan.json").read_text())
    chapters = plan["chapters"]
    os.environ.update(plan["environment"])
    os.environ.setdefault("TQDM_MININTERVAL", "10")  # seconds: nobody watches the bars of a chapter, and every line of them is kept
    threading.Thread(target=_watch, args=(name, plan["process"]), daemon=True).start()
    turn = _take_turn(series, [name] if plan["process"] is None else [str(number) for number in range(plan["jobs"])])
    waiting = [chapter for chapter in chapters if not series.executed(chapter).is_file()]
    position = f"{len(chapters) - len(waiting) + 1} of {len(chapters)}"
    expected = series.expected_seconds(name)
    usual = "" if expected is None else f", takes about {format_seconds(expected)}"
    print(f"{name:<24} started ({position}{usual}{_time_left(series, waiting)})", flush=True)
    try:
        seconds = execute_chapter(series, name)
    except Exception as error:  # whatever stops a notebook is reported the same way
        print(describe_failure(series, name, error), flush=True)
        return 1
    finally:
        turn.release()
    print(f"{name:<24} done in {format_seconds(seconds)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
