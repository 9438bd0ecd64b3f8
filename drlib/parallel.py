"""One function over many patients: on the cores of this machine, or on a cluster where a Dask scheduler is named.

``--scheduler``, or the environment variable ``DRLIB_SCHEDULER``, names the scheduler; the call is the same. The workers need the same
environment and the same file system, for what goes to them names files. joblib serves this machine; the cluster is served by Dask's own
client, because joblib's Dask backend waits for ever for a patient that kills its workers (joblib 1.6) and hands out patients in batches.
"""

import os
import pickle
import platform
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib

from drlib.artifacts import source_hash
from drlib.errors import DeepRadiomicsError

if TYPE_CHECKING:
    from distributed import Client, Future

SCHEDULER = "DRLIB_SCHEDULER"
PACKAGES_COMPARED = ("distributed", "numpy", "scipy", "torch")
CONNECT_SECONDS = 15
WORKER_SECONDS = 120  # a queue may have to give the workers their nodes first
MORE_MEMORY = "The usual cause is memory: start fewer workers on a node, with more of it each (dask worker --memory-limit)"

Outcome = tuple[int, Any, Exception | None]  # number of the item, result, what stopped it


class SchedulerError(DeepRadiomicsError):
    """The Dask scheduler cannot be reached, was lost, or has no worker that can do the work."""


class SoftwareWarning(UserWarning):
    """Workers run other software than this process, so that their results may differ."""


def scheduler_address() -> str | None:
    """Return the address in ``DRLIB_SCHEDULER``; None where patients are worked on by this machine alone."""
    return os.environ.get(SCHEDULER) or None


def check_scheduler() -> None:
    """Raise SchedulerError where a scheduler is named that cannot do the work: to be called before anything else is begun."""
    if address := scheduler_address():
        _connect(address).close()


def for_workers(path: Path | str) -> Path:
    """Return ``path`` as workers elsewhere find it: absolute where a scheduler is named, else as it is."""
    return Path(path).absolute() if scheduler_address() else Path(path)


def map_patients(
    function: Callable[..., Any],
    items: Iterable[Any],
    *shared: Any,
    n_jobs: int = -1,
    ordered: bool = False,
    failed: Callable[[Any, Exception], Any] | None = None,
) -> Iterator[Any]:
    """Yield ``function(item, *shared)`` of every item as they are finished, or in the order of ``items`` where ``ordered``.

    On a cluster (``DRLIB_SCHEDULER``) ``shared`` is sent once to each worker, a model for example; an item whose worker dies is given
    to another one, so that ``function`` must bear to be called twice; paths are to be absolute (:func:`for_workers`). On this machine
    ``n_jobs`` processes do the work (-1: one per core; 1: this process). Memory is that of the items being worked on.

    An item that fails leaves the others: ``failed(item, error)`` gives the result in its place; without ``failed`` the first error is
    raised when the others are done. An OSError (the disk is full) is raised at once.

    Raises SchedulerError where the cluster cannot do the work.
    """
    items = list(items)
    address = scheduler_address()
    if not items:
        return
    outcomes = _on_cluster(function, items, shared, address) if address else _on_this_machine(function, items, shared, n_jobs)
    errors = []
    for number, result, error in _in_order(outcomes) if ordered else outcomes:
        if error is None:
            yield result
        elif failed is not None:
            yield failed(items[number], error)
        elif isinstance(error, OSError):
            raise error
        else:
            errors.append(error)
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(items)} patients failed like this or otherwise; the others are done")
        raise errors[0]


def _on_this_machine(function: Callable, items: list, shared: tuple, n_jobs: int) -> Iterator[Outcome]:
    jobs = (joblib.delayed(_attempt)(number, function, item, shared) for number, item in enumerate(items))
    return joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)


def _on_cluster(function: Callable, items: list, shared: tuple, address: str) -> Iterator[Outcome]:
    import cloudpickle
    import dask
    from distributed import as_completed

    with _connect(address) as client, dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
        # A task, not scattered data: when the workers that hold it die, the scheduler has it made again.
        sent = client.submit(pickle.loads, cloudpickle.dumps(shared), pure=False)
        futures = client.map(_attempt, range(len(items)), [function] * len(items), items, shared=sent, pure=False)
        numbers = {future.key: number for number, future in enumerate(futures)}
        finished = as_completed(futures, loop=client.loop)
        del futures  # a result that was fetched is let go: the death of its worker must not have it computed again
        suspects = []
        for future in finished:
            outcome = _outcome(future, address)
            if outcome is None:
                suspects.append(numbers[future.key])
            else:
                yield outcome
        for number in suspects:  # one by one: the death of a worker is blamed on every patient that waited there
            alone = client.submit(_attempt, number, function, items[number], shared=sent, pure=False)
            killed = SchedulerError(f"{_name(items[number])}: every worker that took it died. {MORE_MEMORY}")
            yield _outcome(alone, address) or (number, None, killed)


def _outcome(future: "Future", address: str) -> Outcome | None:
    """Return what became of an item; None where the workers that had it died."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return None
    except Exception as error:
        raise SchedulerError(
            f"the scheduler at {address} was lost ({error}). Start it again and repeat the command: what is written is kept"
        ) from error


def _attempt(number: int, function: Callable, item: Any, shared: tuple) -> Outcome:
    try:
        return number, function(item, *shared), None
    except Exception as error:
        error.add_note(f"{_name(item)}, on {platform.node()}:\n{traceback.format_exc()}")
        return number, None, error


def _in_order(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    waiting: dict[int, Outcome] = {}
    due = 0
    for outcome in outcomes:
        waiting[outcome[0]] = outcome
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def _name(item: Any) -> str:
    return f"patient {getattr(item, 'id', item)}"


def _connect(address: str) -> "Client":
    """Return a client of the scheduler, once it has a worker; warn where the workers run other software than this process."""
    from distributed import Client
    from distributed.comm import parse_address
    from distributed.comm.registry import get_backend

    try:
        get_backend(parse_address(address)[0])  # a client given an unknown kind of address would be long in dying
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SchedulerError(
            f"no Dask scheduler answers at {address!r} ({error}). Start one with `dask scheduler`, and give the address that it prints, "
            "such as tcp://node1:8786"
        ) from error
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
        _compare_software(client.run(software))
    except TimeoutError as error:
        client.close()
        raise SchedulerError(
            f"the scheduler at {address} has no worker after {WORKER_SECONDS} s. Start some with: dask worker {address} --nthreads 1"
        ) from error
    except Exception as error:
        client.close()
        raise SchedulerError(
            f"the workers of {address} cannot run drlib ({error!r}). Start them in the environment of this command: {Path(os.sys.prefix)}"
        ) from error
    return client


def software() -> dict[str, str]:
    """Return what results depend on: versions of Python and of packages, and a hash of the sources of ``drlib``."""
    packages = {name: version(name) for name in PACKAGES_COMPARED}
    return {"Python": platform.python_version(), "the drlib sources": source_hash("drlib")[:10]} | packages


def _compare_software(workers: dict[str, dict[str, str]]) -> None:
    here = software()
    different = [
        f"{name} is {there.get(name)} on {worker} and {mine} here"
        for worker, there in workers.items()
        for name, mine in here.items()
        if there.get(name) != mine
    ]
    if different:
        text = "; ".join(different[:4]) + ("; ..." if len(different) > 4 else "")
        warnings.warn(
            f"workers run other software than this process, results may differ: {text}. Start all in one environment",
            SoftwareWarning,
            stacklevel=2,
        )
