"""Bars of progress where a person can see them: in a terminal and in a notebook."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from ipykernel.iostream import OutStream


class _Watched:
    """The error stream of a kernel, which says that it is watched."""

    def __init__(self, stream: OutStream):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def bars_in_notebooks() -> Iterator[None]:
    """Let bars that are drawn in terminals only (tqdm's ``disable=None``) be drawn in a notebook too, and still not into a log file."""
    if isinstance(sys.stderr, OutStream):
        with contextlib.redirect_stderr(_Watched(sys.stderr)):
            yield
    else:
        yield
