"""The verdict: every claim of the paper beside what this run found."""

import html
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from drlib.figures.style import INK, PAPER_MARKER, WIDTH_IN, grid_lines, new_figure, paper_handle, styled

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
    return figure


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


def linked_verdicts(claims: pd.DataFrame) -> Styler:
    """Return the ledger as a table for the verdict's page: each claim a link to what shows it, with n and cohort below, and the verdict.

    ``claims``: as in ``claims.json``, with ``cohort``, ``unit`` (of n) and ``evidence`` (``notebooks/05_grading.html#label`` or None).
    Every text is escaped; links are those of pages that lie beside the verdict's.
    """
    table = verdict_table(claims).reset_index()
    table["claim"] = [_linked(row) for row in claims.itertuples()]
    colours = {f"{sign} {word}": f"color: {colour}; font-weight: 600" for word, (colour, sign) in VERDICTS.items()}
    style = table[["claim", "paper", "ours", "verdict"]].style.format({name: html.escape for name in ("paper", "ours", "verdict")})
    style = style.map(colours.get, subset=["verdict"]).set_properties(subset=["claim"], **{"text-align": "left", "min-width": "10em"})
    return style.set_properties(subset=["paper", "ours", "verdict"], **{"text-align": "left"}).hide()


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
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"


def _with_interval(value: object, interval: object) -> str:
    if not isinstance(interval, (list, tuple, np.ndarray)):
        return _text(value)
    ends = f"[{interval[0]:.2f}, {interval[1]:.2f}]"
    return (f"{value:.2f} {ends}" if _is_number(value) else f"{_text(value)} {ends}").replace("-", "\N{MINUS SIGN}")
