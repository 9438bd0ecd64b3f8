"""Figures of robustness: the counterpart of Figure 4, with the classifier refitted (as the authors' code) and frozen (as the text)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.figures.style import INK, grid_lines, new_figure, styled

KINDS = ("scale", "shift")
TITLES = {"frozen": "classifier frozen", "refitted": "classifier refitted"}
MEASURE_STYLES = {  # the five of Figure 4, told apart by line and marker as well as by colour
    "accuracy": ("#0B4F8A", "-", "o"),
    "precision": ("#C75B12", "--", "s"),
    "recall": ("#6B7280", "-.", "^"),
    "specificity": ("#A88600", ":", "v"),
    "npv": ("#2D9BCB", (0, (5, 1)), "D"),
}


@styled
def plot_difference_ratios(ratios: pd.DataFrame) -> Figure:
    """Show how much of the histogram moves under scaling and shifting: every patient, and mean with standard deviation.

    ``ratios``: columns ``patient``, ``kind`` (scale or shift), ``magnitude``, ``difference_ratio`` (0..2).
    Source: the paper, Eq. 7, Figure 4a and 4b.
    """
    figure, axes = new_figure(3.1, 1, 2, sharey=True)
    for ax, kind, letter in zip(axes, KINDS, "ab", strict=True):
        wide = _from_zero(ratios[ratios["kind"] == kind].pivot(index="magnitude", columns="patient", values="difference_ratio"))
        ax.plot(wide.index, wide, color=INK, alpha=0.12, linewidth=0.7)
        ax.errorbar(wide.index, wide.mean(axis=1), wide.std(axis=1), color=INK, marker="o", markersize=5, capsize=3, label="mean ± SD")
        ax.set(title=f"({letter}) {kind}", xlabel=_magnitude(kind))
        grid_lines(ax)
    axes[0].set(ylabel="difference ratio (Eq. 7; 0 to 2)", ylim=(0, None))
    axes[0].legend(loc="upper left", title=f"{wide.shape[1]} patients, one thin line each", title_fontsize=8.5, alignment="left")
    return figure


@styled
def plot_performance(performance: pd.DataFrame, positive: str = "LGG") -> Figure:
    """Show grading under scaling and shifting: the classifier frozen (as the text says) and refitted (as the authors' code does).

    Args:
        performance: columns ``kind``, ``magnitude``, ``mode`` (frozen or refitted), ``measure`` (accuracy, precision, recall, specificity,
            npv), ``value`` and ``spread`` (mean and standard deviation over folds).
        positive: the grade that counts as positive in it, for the legend; the published numbers fit LGG.

    Source: the paper, Figure 4c and 4d.
    """
    figure, axes = new_figure(5.4, 2, 2, sharex="col", sharey=True)
    for row, mode in zip(axes, TITLES, strict=True):
        for ax, kind in zip(row, KINDS, strict=True):
            same = (performance["kind"] == kind) | (performance["magnitude"] == 0)
            _draw_performance(ax, performance[same & (performance["mode"] == mode)])
            ax.set_title(f"{kind}, {TITLES[mode]}")
        row[0].set_ylabel("value (0 to 1)")
    for ax, kind in zip(axes[-1], KINDS, strict=True):
        ax.set_xlabel(_magnitude(kind))
    axes[0, 0].set_ylim(-0.02, 1.04)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    title = f"{positive} positive; mean ± SD over folds"
    figure.legend([h[0] for h in handles], labels, loc="outside lower center", ncols=5, title=title, title_fontsize=8.5, columnspacing=1.1)
    return figure


def _magnitude(kind: str) -> str:
    return "scale a in x′ = (1 + a) x" if kind == "scale" else "shift b in x′ = x + b (SD of the brain)"


def _from_zero(wide: pd.DataFrame) -> pd.DataFrame:
    """Add magnitude 0, where a histogram differs from itself by nothing, for the kind that did not compute it again."""
    return wide if 0.0 in wide.index else pd.concat([pd.DataFrame(0.0, index=[0.0], columns=wide.columns), wide])


def _draw_performance(ax: Axes, table: pd.DataFrame) -> None:
    offsets = np.linspace(-0.012, 0.012, len(MEASURE_STYLES))
    for (measure, (colour, line, marker)), offset in zip(MEASURE_STYLES.items(), offsets, strict=True):
        rows = table[table["measure"] == measure].drop_duplicates("magnitude").sort_values("magnitude")
        looks = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.5, "elinewidth": 0.8, "capsize": 2}
        ax.errorbar(rows["magnitude"] + offset, rows["value"], rows["spread"], label="NPV" if measure == "npv" else measure, **looks)
    grid_lines(ax)
