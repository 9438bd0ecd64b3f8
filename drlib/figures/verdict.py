"""The verdict: every claim of the paper beside what this run found."""

import html
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.figures.style import INK, PAPER_MARKER, WIDTH_IN, describe, grid_lines, new_figure, paper_handle, styled
from drlib.figures.words import Words, say_count, say_list

VERDICTS = {  # word -> colour, sign; the sign says the same without colour
    "holds": ("#00734F", "\N{CHECK MARK}"),
    "holds with correction": ("#0B6FB0", "\N{TILDE OPERATOR}"),
    "does not hold": ("#B3261E", "\N{MULTIPLICATION SIGN}"),
    "cannot be tested here": ("#6B7280", "?"),
}


@styled
def plot_verdict(claims: pd.DataFrame) -> Figure:
    """Show claims whose values lie between 0 and 1: the paper's value, ours with its interval, and the verdict.

    ``claims``: columns ``id``, ``claim``, ``paper``, ``ours``, ``interval`` ([low, high] or None), ``n``, ``verdict``, as in
    ``claims.json``. Claims on another scale are left to :func:`verdict_table`. Source: ours.
    """
    shown = claims[[_is_share(row.paper, row.ours) for row in claims.itertuples()]]
    figure, ax = new_figure(1.0 + 0.45 * max(len(shown), 1), width_in=WIDTH_IN)
    for position, row in zip(range(len(shown))[::-1], shown.itertuples(), strict=True):
        _draw_claim(ax, position, row)
    ax.set_yticks(range(len(shown))[::-1], [textwrap.fill(claim, 44) for claim in shown["claim"]], fontsize=8)
    ax.set(xlim=(0, 1), ylim=(-0.6, max(len(shown), 1) - 0.4), xlabel="value (0 to 1); bar: 95 % interval of ours")
    ours = ax.plot([], [], "o-", color=INK, markersize=6, label="ours")[0]
    ax.legend(handles=[ours, paper_handle()], loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    grid_lines(ax, "x")
    return describe(figure, _words(shown))


def verdict_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Return claims as text for a page: claim, paper, ours with interval and n, verdict with its sign."""
    return pd.DataFrame(
        {
            "claim": claims["claim"],
            "paper": [_text(value) for value in claims["paper"]],
            "ours": [_with_interval(row.ours, row.interval) for row in claims.itertuples()],
            "n": claims["n"],
            "verdict": [f"{VERDICTS[word][1]} {word}" for word in claims["verdict"]],
        }
    ).set_index("claim")


class Ledger:
    """Claims as a table for a page: each claim a link to what shows it, with n and cohort below, and the verdict.

    On a narrow screen a row is shown as a card. The same table comes as CSV of full precision.
    """

    def __init__(self, claims: pd.DataFrame):
        self.claims = claims

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        plain = self.claims.drop(columns="evidence", errors="ignore")
        return {"text/html": self.to_html(), "text/csv": plain.to_csv(index=False), "text/plain": plain.to_string()}

    def to_html(self) -> str:
        """Return the table; every text is escaped."""
        head = "".join(f'<th scope="col">{name}</th>' for name in ("claim", "paper", "ours", "verdict"))
        rows = zip(self.claims.itertuples(), verdict_table(self.claims).itertuples(), strict=True)
        body = "\n".join(_row(claim, shown) for claim, shown in rows)
        return f'<table class="ledger">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'


def linked_verdicts(claims: pd.DataFrame) -> Ledger:
    """Return the ledger as a table for the verdict's page.

    ``claims``: as in ``claims.json``, with ``cohort``, ``unit`` (of n) and ``evidence`` (``notebooks/05_grading.html#label`` or None).
    Links are those of pages that lie beside the verdict's.
    """
    return Ledger(claims)


def _row(claim, shown) -> str:
    verdict = f'<td class="verdict"><span data-verdict="{claim.verdict}">{html.escape(shown.verdict)}</span></td>'
    numbers = "".join(f'<td data-name="{name}">{html.escape(str(getattr(shown, name)))}</td>' for name in ("paper", "ours"))
    return f'<tr><td class="claim">{_linked(claim)}</td>{numbers}{verdict}</tr>'


def _linked(row) -> str:
    """Return the claim as a link, and what it was asked of."""
    words, asked_of = html.escape(row.claim), html.escape(f"{row.n:,} {row.unit}, {row.cohort}")
    if isinstance(row.evidence, str):
        words = f'<a href="{html.escape(row.evidence.removeprefix("notebooks/"), quote=True)}">{words}</a>'
    return f'{words}<br><span class="claim-cohort">{asked_of}</span>'


def _draw_claim(ax: Axes, position: int, row) -> None:
    colour, sign = VERDICTS[row.verdict]
    if _is_number(row.ours):
        low, high = _bounds(row.interval, row.ours)
        ax.hlines(position, low, high, color=colour, linewidth=2.4)
        ax.plot(row.ours, position, "o", color=colour, markersize=7)
    if _is_number(row.paper):
        ax.plot(row.paper, position, markersize=6, zorder=4, **{**PAPER_MARKER, "markerfacecolor": "none"})
    ax.text(1.02, position, f"{sign}  {row.verdict}", color=colour, fontsize=8.5, va="center", transform=ax.get_yaxis_transform())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(np.isfinite(value))


def _is_share(paper: object, ours: object) -> bool:
    numbers = [float(value) for value in (paper, ours) if _is_number(value)]
    whole = all(number == int(number) for number in numbers)
    return bool(numbers) and not whole and all(0 <= number <= 1 for number in numbers)


def _bounds(interval: object, value: float) -> tuple[float, float]:
    return (float(interval[0]), float(interval[1])) if isinstance(interval, (list, tuple, np.ndarray)) else (value, value)


def _text(value: object) -> str:
    if not _is_number(value):
        return value if isinstance(value, str) else "–"
    digits = 0 if float(value).is_integer() else 2 if abs(value) >= 0.01 else 3
    return f"{value:.{digits}f}"


def _with_interval(value: object, interval: object) -> str:
    if not isinstance(interval, (list, tuple, np.ndarray)):
        return _text(value)
    ends = f"[{interval[0]:.2f}, {interval[1]:.2f}]"
    return (f"{value:.2f} {ends}" if _is_number(value) else f"{_text(value)} {ends}").replace("-", "\N{MINUS SIGN}")


def _words(shown: pd.DataFrame) -> Words:
    counts = shown["verdict"].value_counts()
    told = [f"{counts[word]} {VERDICTS[word][1]} {word}" for word in VERDICTS if counts.get(word)]
    return Words(
        f"Of {say_count(len(shown), 'claim')} on a scale from 0 to 1: {say_list(told)}.",
        "Point: ours, with its 95 % interval (of what: see the ledger); diamond: the paper's value. Colour and sign: the verdict.",
        "A row per claim with the paper's value as a diamond, ours as a point with its interval, and the verdict in words at the right.",
    )
