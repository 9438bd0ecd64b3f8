"""What a figure says: its finding, how to read it, and what is seen, written from the results that it draws.

The words travel with the figure: JupyterLab shows them below the picture, the book makes its caption and its alternative text of them.
Source: ours.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

MINUS = "\N{MINUS SIGN}"


class Words(NamedTuple):
    """The words of one figure, in plain text.

    Attributes:
        finding: what the results show, with numbers; the caption opens with it.
        reading: how to read the picture: marks, n, what an interval means, source; the rest of the caption.
        alt: what is seen, for those who do not see it.
    """

    finding: str
    reading: str
    alt: str

    @property
    def caption(self) -> str:
        """Finding and reading."""
        return f"{self.finding} {self.reading}".strip()


def say(value: float, digits: int = 2, sign: bool = False) -> str:
    """Return a number as the book writes it: a true minus, no negative zero, a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    rounded = round(float(value), digits) + 0.0
    text = f"{rounded:+,.{digits}f}" if sign and rounded else f"{rounded:,.{digits}f}"
    return text.replace("-", MINUS)


def say_interval(value: float, low: float, high: float, digits: int = 2, sign: bool = False) -> str:
    """Return ``0.89 [0.84, 0.94]``; the value alone where there is no interval."""
    if not np.isfinite([low, high]).all():
        return say(value, digits, sign)
    return f"{say(value, digits, sign)} [{say(low, digits, sign)}, {say(high, digits, sign)}]"


def say_list(items: Iterable[object], none: str = "none") -> str:
    """Return ``a, b and c``; ``none`` where there is nothing to list."""
    words = [str(item) for item in items]
    return none if not words else words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def say_count(n: int, one: str, many: str | None = None) -> str:
    """Return ``1 patient`` or ``3 patients``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
