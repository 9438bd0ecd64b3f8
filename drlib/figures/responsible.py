"""Figures of the responsible codewords: which they are, how strongly each speaks for a grade, and what the tests said of all others."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drlib.cohort.regions import GRADES
from drlib.figures.style import (
    GRADE_COLOURS,
    GRADE_MARKERS,
    INK,
    QUIET,
    describe,
    figure_and_axes,
    grade_handles,
    grid_lines,
    new_figure,
    styled,
)
from drlib.figures.words import Words, say, say_count, say_interval, say_list


@styled
def plot_responsible(table: pd.DataFrame, n: int = 12) -> Figure:
    """Show responsible codewords as a forest: mean count by grade, AUC of the count alone, coefficient, how stably selected.

    The grey bar is the 95 % interval of the AUC.

    ``table``: what :func:`drlib.radiomics.responsible.find_responsible` returns. Responsible codewords are filled; where there are fewer
    than ``n``, the next by rank test follow below the line, hollow. Source: the paper, Results (identification of responsible vectors).
    """
    shown = _first(table, n)
    figure, axes = new_figure(1.6 + 0.27 * len(shown), 1, 4, sharey=True, width_ratios=(1.3, 1, 1, 0.8))
    rows = np.arange(len(shown))[::-1]
    _draw_means(axes[0], shown, rows)
    axes[1].hlines(rows, shown["auc_low"], shown["auc_high"], color="#C3C8D0", linewidth=4, zorder=0.5)
    _draw_points(axes[1], shown["auc"], shown, rows, 0.5)
    axes[1].set(xlabel="AUC of the count alone\n(0.5: no difference)", xlim=(-0.02, 1.02), title="separates")
    _draw_points(axes[2], shown["coefficient"], shown, rows, 0.0)
    reach = 1.25 * (np.nanmax(shown["coefficient"].abs()) if shown["coefficient"].notna().any() else 1.0)
    axes[2].set(xlabel="log odds of HGG\nper SD of log(1 + count)", xlim=(-reach, reach), title="coefficient")
    _draw_points(axes[3], shown["selected_share"], shown, rows, 0.0)
    axes[3].set(xlabel="share of half-cohorts\nthat select it (0 to 1)", xlim=(-0.02, 1.05), title="stability")
    for ax in axes:
        ax.axhline(len(shown) - int(shown["responsible"].sum()) - 0.5, color=INK, linewidth=0.8)
    axes[0].set_yticks(rows, [str(codeword) for codeword in shown.index])
    axes[0].set(ylabel="codeword", ylim=(-0.7, len(shown) - 0.3))
    title = "filled, above the line: responsible; hollow: next by rank test, not responsible"
    figure.legend(handles=_direction_handles(), loc="outside lower center", ncols=2, title=title, title_fontsize=8.5)
    return describe(figure, _forest_words(table, shown))


@styled
def plot_screening(table: pd.DataFrame, level: float = 0.05, ax: Axes | None = None) -> Figure:
    """Show every codeword's AUC against its rank-sum p, with the nominal level and what Benjamini-Hochberg lets through.

    ``table``: columns ``auc``, ``rank_p``, ``q``, ``direction``, ``responsible``. Points above the dashed line pass ``level`` uncorrected;
    points above the solid line pass at that false-discovery rate. Source: ours.
    """
    figure, ax = figure_and_axes(ax, 3.9)
    tested = table[table["rank_p"].notna()]
    height = -np.log10(tested["rank_p"].clip(lower=1e-300))
    for grade, chosen in ((grade, tested["direction"] == grade) for grade in GRADES):
        colour = np.where(tested.loc[chosen, "q"] < level, GRADE_COLOURS[grade], "#B6BCC6")
        ax.scatter(tested.loc[chosen, "auc"], height[chosen], c=colour, marker=GRADE_MARKERS[grade], s=20, linewidth=0)
    kept = tested["responsible"].astype(bool)
    ax.scatter(tested.loc[kept, "auc"], height[kept], s=85, facecolor="none", edgecolor=INK, linewidth=1.3)
    for number, codeword in enumerate(tested.index[kept][tested.loc[kept, "auc"].argsort()]):
        place = {"xytext": (7, 3), "ha": "left"} if number % 2 else {"xytext": (-7, -9), "ha": "right"}  # neighbours apart
        ax.annotate(str(codeword), (tested.loc[codeword, "auc"], height[codeword]), textcoords="offset points", fontsize=8, **place)
    _draw_levels(ax, tested, level)
    ax.set(
        xlabel="AUC of the count alone (below 0.5: more in LGG, above: more in HGG)",
        ylabel="−log₁₀ p, rank-sum test",
        xlim=(0, 1),
        ylim=(0, None),
    )
    below = int((tested["q"] < level).sum())
    ax.set_title(f"{below} of {len(tested)} codewords below a false-discovery rate of {level:g}; {kept.sum()} responsible (ringed)")
    grid_lines(ax)
    return describe(figure, _screening_words(tested, level))


@styled
def plot_selection(table: pd.DataFrame, n: int = 14, threshold: float = 0.5) -> Figure:
    """Show how often each codeword is chosen: by halves of the cohort, and into K* by the training sets of the cross-validation.

    ``table``: ``selected_share``, ``fold_share``, ``direction``, ``responsible``, a row per codeword; the ``n`` most often chosen are
    shown. A codeword at or beyond ``threshold`` is stable, and responsible where the rank-sum test passes too. Source: ours.
    """
    order = table[["selected_share", "fold_share"]].max(axis=1).rename("most")
    shown = table.join(order).nlargest(n, "most").sort_values(["selected_share", "fold_share"], ascending=False)
    figure, ax = new_figure(1.4 + 0.25 * len(shown))
    rows = np.arange(len(shown))[::-1]
    ax.axvline(threshold, color=QUIET, linewidth=1, linestyle="--")
    ax.hlines(rows, shown["selected_share"], shown["fold_share"], color="#C3C8D0", linewidth=1.4, zorder=1)
    for row, codeword in zip(rows, shown.itertuples(), strict=True):
        ax.plot(codeword.fold_share, row, "|", color=INK, markersize=11, markeredgewidth=2)
        _draw_point(ax, codeword.selected_share, row, codeword.direction, bool(codeword.responsible))
    ax.set_yticks(rows, [str(codeword) for codeword in shown.index])
    ax.set(
        xlabel="share of resamples that choose the codeword (0 to 1)", ylabel="codeword", xlim=(-0.02, 1.02), ylim=(-0.7, len(shown) - 0.3)
    )
    bar = Line2D([], [], linestyle="none", marker="|", color=INK, markersize=11, markeredgewidth=2, label="training sets, into K*")
    figure.legend(
        handles=[*_direction_handles(), bar], loc="outside lower center", ncols=3, title="points: halves of the cohort; filled: responsible"
    )
    grid_lines(ax, "x")
    return describe(figure, _selection_words(table, shown, threshold))


def _first(table: pd.DataFrame, n: int) -> pd.DataFrame:
    keep = table["responsible"].astype(bool)
    rest = table[~keep].nsmallest(max(n - int(keep.sum()), 0), "rank_p")
    return pd.concat([table[keep].sort_values("auc", ascending=False), rest.sort_values("auc", ascending=False)])


def _direction_handles() -> list:
    handles = grade_handles()
    for handle in handles:
        handle.set_label(f"more frequent in {handle.get_label()}")
    return handles


def _draw_means(ax: Axes, shown: pd.DataFrame, rows: np.ndarray) -> None:
    ax.hlines(rows, shown["mean_LGG"], shown["mean_HGG"], color="#C3C8D0", linewidth=1.4, zorder=1)
    for grade in GRADES:
        for row, mean, keep in zip(rows, shown[f"mean_{grade}"], shown["responsible"], strict=True):
            _draw_point(ax, mean, row, grade, keep)
    ax.set_xscale("symlog", linthresh=1)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="mean count per volume\n(linear below 1)", xlim=(0, None), title="how often")
    grid_lines(ax, "x")


def _draw_points(ax: Axes, values: pd.Series, shown: pd.DataFrame, rows: np.ndarray, reference: float) -> None:
    ax.axvline(reference, color=QUIET, linewidth=1, linestyle=":")
    for row, value, grade, keep in zip(rows, values, shown["direction"], shown["responsible"], strict=True):
        if np.isfinite(value):
            ax.plot([reference, value], [row, row], color=GRADE_COLOURS[grade], linewidth=1.4, alpha=0.6)
            _draw_point(ax, value, row, grade, keep)
    grid_lines(ax, "x")


def _draw_point(ax: Axes, x: float, row: float, grade: str, filled: bool) -> None:
    colour = GRADE_COLOURS[grade]
    ax.plot(x, row, GRADE_MARKERS[grade], color=colour, markerfacecolor=colour if filled else "white", markersize=6.5)


def _draw_levels(ax: Axes, tested: pd.DataFrame, level: float) -> None:
    ax.axhline(-np.log10(level), color=QUIET, linewidth=1, linestyle="--", label=f"p = {level:g}, uncorrected")
    passed = tested.loc[tested["q"] < level, "rank_p"]
    if len(passed):
        ax.axhline(-np.log10(max(passed.max(), 1e-300)), color=QUIET, linewidth=1, label=f"false-discovery rate {level:g}")
    ax.legend(loc="upper center")


def _named(table: pd.DataFrame) -> str:
    kept = table[table["responsible"].astype(bool)]
    told = [f"{say_list(found.index)} for {grade}" for grade, found in kept.groupby("direction")]
    return (
        f"Responsible: codeword {say_list(told)}"
        if len(kept) == 1
        else f"Responsible: codewords {say_list(told)}"
        if told
        else "No codeword is responsible"
    )


def _forest_words(table: pd.DataFrame, shown: pd.DataFrame) -> Words:
    first = shown.iloc[0]
    alone = f"; the count of {shown.index[0]} alone has AUC {say_interval(first['auc'], first['auc_low'], first['auc_high'])}"
    return Words(
        f"{_named(table)}{alone}.",
        "A row per codeword: mean count by grade; AUC of the count alone with its 95 % interval over patients (grey); coefficient of the "
        "classifier; share of half-cohorts that select it. Filled, above the line: responsible; hollow: next by rank test.",
        f"{len(shown)} rows of codewords with points in four panels: how often, how well they separate, coefficient, stability.",
    )


def _screening_words(tested: pd.DataFrame, level: float) -> Words:
    plain, passed, kept = ((tested["rank_p"] < level).sum(), (tested["q"] < level).sum(), tested["responsible"].astype(bool).sum())
    return Words(
        f"Of {say_count(len(tested), 'codeword')} tested, {plain} have p < {level:g}, {passed} pass at a false-discovery rate of "
        f"{level:g}, and {kept} {'is' if kept == 1 else 'are'} responsible.",
        f"A point is a codeword: AUC of its count alone against its rank-sum p. Grey: not below a false-discovery rate of {level:g} "
        "(Benjamini-Hochberg); ringed: responsible, that is, selected by most half-cohorts too.",
        "Points form a V: the farther from an AUC of a half, the smaller p; lines mark the nominal and the corrected level.",
    )


def _selection_words(table: pd.DataFrame, shown: pd.DataFrame, threshold: float) -> Words:
    halves, folds = ((table[name] >= threshold).sum() for name in ("selected_share", "fold_share"))
    return Words(
        f"{say_count(int(halves), 'codeword')} {'is' if halves == 1 else 'are'} selected by at least {say(100 * threshold, 0)} % of the "
        f"half-cohorts, {folds} {'enters' if folds == 1 else 'enter'} K* as often.",
        f"The {len(shown)} codewords chosen most often. Points: share of halves of the cohort (filled: responsible); bars: share of "
        "training sets of the cross-validation that take the codeword into K*; dashed: the threshold.",
        f"{len(shown)} rows of codewords, each with a point and a bar between 0 and 1.",
    )
