"""Figures of the codeword histograms: the counterpart of Figure 3, and which codewords differ between the grades."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.cohort.regions import GRADES
from drlib.figures.style import (
    GRADE_COLOURS,
    GRADE_MARKERS,
    describe,
    figure_and_axes,
    grade_handles,
    grade_label,
    grid_lines,
    new_figure,
    styled,
)
from drlib.figures.words import Words, say, say_list


@styled
def plot_histograms(counts: pd.DataFrame, grades: pd.Series) -> Figure:
    """Show the average histogram of HGG and of LGG patients with the spread between patients, most common codeword first.

    Args:
        counts: one row per patient, one column per codeword.
        grades: ``LGG`` or ``HGG``, with the same index.

    Bar: mean count per volume; band: 10th to 90th percentile of patients. The count axis is linear up to 1, logarithmic above, because
    a few codewords (background, plain brain) hold most of the counts. Source: the paper, Figure 3.
    """
    order = counts.mean().sort_values(ascending=False).index
    order = order[(counts[order].sum() > 0).to_numpy()]
    figure, axes = new_figure(4.6, 2, 1, sharex=True, sharey=True)
    for ax, grade in zip(axes, GRADES[::-1], strict=True):
        _draw_histogram(ax, counts.loc[grades == grade, order], grade)
    axes[-1].set_xlabel(f"codeword, most common first (rank; {len(order)} of {counts.shape[1]} in use)")
    return describe(figure, _histogram_words(counts, grades))


@styled
def plot_codewords_by_grade(counts: pd.DataFrame, grades: pd.Series, n: int = 20, ax: Axes | None = None) -> Figure:
    """Show the codewords that differ most between the grades: mean count of each grade with its 95 % interval.

    ``n`` codewords with the largest difference of means over its standard error (Welch), the most LGG-like on top. Intervals: mean
    ± 1.96 standard errors over patients, cut at 0. A picture, not a test: see :func:`drlib.radiomics.responsible.find_responsible`.
    Source: ours.
    """
    score = welch_score(counts, grades).dropna()
    chosen = score[score.abs().nlargest(min(n, len(score))).index].sort_values(ascending=False)
    figure, ax = figure_and_axes(ax, 0.75 + 0.21 * len(chosen))
    for row, codeword in enumerate(chosen.index):
        means = [counts.loc[grades == grade, codeword].mean() for grade in GRADES]
        ax.plot(means, [row, row], color="#C3C8D0", linewidth=1.2, zorder=1)
        for grade in GRADES:
            _draw_mean(ax, row, counts.loc[grades == grade, codeword], grade)
    ax.set_yticks(range(len(chosen)), [str(codeword) for codeword in chosen.index], fontsize=7.5)
    ax.set_xscale("symlog", linthresh=1)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(
        xlabel="mean count per volume (latent positions; linear below 1), 95 % interval",
        ylabel="codeword",
        xlim=(0, None),
        ylim=(-0.7, len(chosen) - 0.3),
    )
    ax.legend(
        handles=grade_handles({grade: int((grades == grade).sum()) for grade in GRADES}),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
    )
    grid_lines(ax, "x")
    return describe(figure, _by_grade_words(counts, grades, chosen.index))


def welch_score(counts: pd.DataFrame, grades: pd.Series) -> pd.Series:
    """Return (mean in HGG - mean in LGG) / its standard error for each codeword; NaN where the codeword never varies."""
    groups = [counts[grades == grade] for grade in ("HGG", "LGG")]
    error = np.sqrt(sum(group.var(ddof=1) / max(len(group), 1) for group in groups))
    return (groups[0].mean() - groups[1].mean()) / error.where(error > 0)


def _draw_histogram(ax: Axes, counts: pd.DataFrame, grade: str) -> None:
    rank = np.arange(1, counts.shape[1] + 1)
    colour = GRADE_COLOURS[grade]
    low, high = np.percentile(counts.to_numpy(float), (10, 90), axis=0) if len(counts) else (rank * 0, rank * 0)
    ax.fill_between(rank, low, high, step="mid", color=colour, alpha=0.22, linewidth=0, label="10th to 90th percentile of patients")
    ax.step(rank, counts.mean(), where="mid", color=colour, linewidth=1.1, label="mean")
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(ylabel="count per volume", title=grade_label(grade, len(counts)), ylim=(0, None), xlim=(0.5, len(rank) + 0.5))
    ax.legend(loc="upper right", ncols=2)
    grid_lines(ax)


def _draw_mean(ax: Axes, row: int, values: pd.Series, grade: str) -> None:
    error = 1.96 * values.std(ddof=1) / np.sqrt(max(len(values), 1))
    low = max(values.mean() - error, 0)
    ax.plot([low, values.mean() + error], [row, row], color=GRADE_COLOURS[grade], linewidth=2)
    ax.plot(
        values.mean(), row, GRADE_MARKERS[grade], color=GRADE_COLOURS[grade], markersize=6, markeredgecolor="white", markeredgewidth=0.6
    )


def _histogram_words(counts: pd.DataFrame, grades: pd.Series) -> Words:
    total = counts.sum().sort_values(ascending=False)
    n = say_list(f"{(grades == grade).sum()} {grade}" for grade in GRADES[::-1])
    return Words(
        f"{(total > 0).sum()} of {counts.shape[1]} codewords are in use, and the ten commonest hold "
        f"{say(100 * total[:10].sum() / max(total.sum(), 1), 0)} % of all counts.",
        f"Average histogram of each grade ({n} patients), counterpart of Figure 3 of the paper. Line: mean count per volume; band: 10th "
        "to 90th percentile of patients. The count axis is linear up to 1 and logarithmic above.",
        "Two panels, HGG and LGG: counts fall steeply from a few common codewords to many rare ones, with a band of patients around each.",
    )


def _by_grade_words(counts: pd.DataFrame, grades: pd.Series, chosen: pd.Index) -> Words:
    n = say_list(f"{(grades == grade).sum()} {grade}" for grade in GRADES[::-1])
    if not len(chosen):
        finding = "No codeword varies between patients."
    else:
        most = welch_score(counts[chosen], grades).abs().idxmax()
        means = say_list(f"{say(counts.loc[grades == grade, most].mean(), 1)} times in {grade}" for grade in GRADES)
        finding = f"Codeword {most} differs most between the grades: on average {means} volumes."
    return Words(
        finding,
        f"The {len(chosen)} codewords with the largest difference of means over its standard error (Welch), the most LGG-like on top; "
        f"{n} patients. Bars: 95 % intervals of the means over patients. A picture, not a test.",
        "A row per codeword with the mean count of LGG and of HGG patients as two points, each with an interval.",
    )
