"""The one root of every error that the library raises on purpose."""

from collections.abc import Iterable
from difflib import get_close_matches


class DeepRadiomicsError(Exception):
    """Something is wrong that the user can mend; the message says what, where and how.

    The command line prints the message without a traceback and exits with a non-zero status.
    """


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a question that ends a message, such as `` Did you mean 'demo'?``; nothing where none of ``known`` looks like ``given``."""
    close = get_close_matches(given, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
