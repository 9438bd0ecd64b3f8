"""The checklists at a glance: how many items of each are met, partly met, not met, or do not apply."""

import pandas as pd
from matplotlib.figure import Figure

from drlib.figures.style import INK, describe, new_figure, styled
from drlib.figures.words import Words

STATUS_COLOURS = {  # status -> colour, colour of the number on it; the signs in the tables say the same
    "met": ("#00734F", "white"),
    "partly": ("#7FB8DE", INK),
    "not met": ("#B3261E", "white"),
    "not applicable": ("#D9DDE3", INK),
}


@styled
def plot_tally(tally: pd.DataFrame) -> Figure:
    """Show the number of items of each checklist (rows of ``tally``) by status (columns), as bars of the same length. Source: ours."""
    figure, ax = new_figure(0.9 + 0.55 * len(tally))
    total = tally.sum(axis=1)
    left = pd.Series(0.0, index=tally.index)
    for status, (colour, ink) in STATUS_COLOURS.items():
        share = tally[status] / total
        bars = ax.barh(range(len(tally)), share, left=left, color=colour, edgecolor="white", height=0.62, label=status)
        ax.bar_label(bars, [str(count) if count else "" for count in tally[status]], label_type="center", color=ink, fontsize=9.5)
        left += share
    ax.set_yticks(range(len(tally)), [f"{name}\n{count} items" for name, count in total.items()])
    ax.set(xlim=(0, 1), xlabel="share of the items (in the bars: their number)")
    ax.invert_yaxis()
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, handlelength=1.2)
    return describe(figure, _words(tally))


def _words(tally: pd.DataFrame) -> Words:
    told = [f"{name}: {row['met']} of {row.sum() - row['not applicable']} items that apply are met" for name, row in tally.iterrows()]
    return Words(
        f"{'; '.join(told)}.",
        "Items of each checklist by status, counted from the tables below. TRIPOD+AI: every part of an item counts.",
        "One bar per checklist, divided into items that are met, partly met, not met, and not applicable.",
    )
