"""Figures of the trials with a known truth: cohorts without a signal, planted truths, leaks and power."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.figures.style import INK, QUIET, REGION_COLOURS, describe, grid_lines, new_figure, styled
from drlib.figures.words import Words, say, say_interval, say_list

OURS, THEIRS = "#0B4F8A", "#C75B12"  # our rule, the published one
ASKED_LOOKS = (("o", INK), ("s", "#6B7280"), ("D", "#0B4F8A"))
SHARE_LINES = ("-", "--", "-.", ":")


@styled
def plot_null(null: pd.DataFrame, rates: pd.DataFrame) -> Figure:
    """Show cohorts whose grade says nothing: their AUC, and how often a codeword is called responsible all the same.

    Args:
        null: a row per cohort: ``auc`` (0..1).
        rates: ``value``, ``low``, ``high`` of the shares of cohorts with a discovery, our rule first, then the published one.

    Source: ours.
    """
    figure, (left, right) = new_figure(2.9, 1, 2, width_ratios=(1.3, 1))
    left.hist(null["auc"], bins=np.arange(0.2, 0.81, 0.04), color=OURS, edgecolor="white", linewidth=0.8)
    left.axvline(0.5, color=INK, linestyle=":", linewidth=1.4)
    left.axvline(null["auc"].mean(), color=INK, linewidth=1.6)
    left.set(title=f"(a) AUC of {len(null)} cohorts without a signal", xlabel="AUC (line: mean; dots: .5)", ylabel="cohorts")
    for position, (row, colour) in enumerate(zip(rates.itertuples(), (OURS, THEIRS), strict=True)):
        _draw_rate(right, row, position, colour, "o")
    right.axvline(0.05, color=INK, linestyle=":", linewidth=1.4)
    right.text(0.06, 1.62, "allowed: .05", fontsize=8.5, color=INK, va="center")
    right.set(title="(b) a codeword is called responsible", xlabel="share of cohorts (bar: 95 % interval)", xlim=(-0.02, 1.02))
    right.set_yticks([0, 1], ["our rule", "published\nrule"])
    right.set_ylim(1.85, -0.6)
    grid_lines(right, "x")
    return describe(figure, _null_words(null, rates))


@styled
def plot_planted(rates: pd.DataFrame, chance: float = 1 / 3) -> Figure:
    """Show how often the region that was planted is named, by each way of asking.

    ``rates``: ``planted``, ``asked``, ``value``, ``low``, ``high``, ``cohorts``. Source: ours.
    """
    planted, asked = list(dict.fromkeys(rates["planted"])), list(dict.fromkeys(rates["asked"]))
    figure, ax = new_figure(0.75 * len(planted) + 1.3)
    for offset, (way, (marker, colour)) in enumerate(zip(asked, ASKED_LOOKS, strict=False)):
        for position, name in enumerate(planted):
            row = rates[(rates["planted"] == name) & (rates["asked"] == way)].iloc[0]
            _draw_rate(ax, row, position + 0.22 * (offset - 1), colour, marker, way if position == 0 else None)
    ax.axvline(chance, color=QUIET, linestyle=":", linewidth=1.4)
    ax.text(chance, -0.62, "chance", color=QUIET, fontsize=8.5, ha="center", va="bottom")
    cohorts = rates.groupby("planted")["cohorts"].first()
    ax.set_yticks(range(len(planted)), [f"{name}\n(n = {cohorts[name]})" for name in planted])
    for label, name in zip(ax.get_yticklabels(), planted, strict=True):
        label.set_color(INK)
        if name in REGION_COLOURS:
            ax.axhspan(planted.index(name) - 0.42, planted.index(name) + 0.42, color=REGION_COLOURS[name], alpha=0.12, linewidth=0)
    ax.set(ylabel="what carries the grade", xlabel="share of cohorts in which it is named (bar: 95 % interval)", xlim=(-0.02, 1.02))
    ax.set_ylim(len(planted) - 0.4, -0.6)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=3, title="asked by", title_fontsize=8.5)
    grid_lines(ax, "x")
    return describe(figure, _planted_words(rates))


@styled
def plot_power(power: pd.DataFrame) -> Figure:
    """Show what is found against the number of patients, one line per share of patients whose grade tells how the tumour grows.

    ``power``: ``n``, ``informative``, ``auc``, ``clear`` and ``found`` (shares of cohorts). Source: ours.
    """
    figure, axes = new_figure(3.2, 1, 3, sharex=True)
    titles = {"auc": "(a) mean AUC", "clear": "(b) interval above .5", "found": "(c) a responsible codeword"}
    shades = ("#9CC3E6", "#5A9BD4", "#0B6FB0", "#08365C")
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for (share, table), line, colour in zip(power.groupby("informative"), SHARE_LINES[::-1], shades, strict=False):
            ax.plot(table["n"], table[column], line, marker="o", markersize=4.5, color=colour, label=f"{share:.0%}")
        ax.set(title=title, xscale="log", xlabel="patients", ylim=(-0.03 if column != "auc" else 0.3, 1.03))
        sizes = sorted(power["n"].unique())
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        grid_lines(ax)
    axes[0].axhline(0.5, color=QUIET, linestyle=":", linewidth=1.2)
    axes[1].set_ylabel("share of cohorts")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, title="patients whose grade is informative", title_fontsize=8.5)
    return describe(figure, _power_words(power))


@styled
def plot_leaks(mirrored: pd.DataFrame, confounded: pd.DataFrame) -> Figure:
    """Show what leaks do to the AUC where nothing is to be found, and what the checks see.

    Args:
        mirrored: a row per cohort: ``auc`` with twins on both sides of the folds, ``auc_without_twins``.
        confounded: ``trial`` (confounded or sound), ``auc`` of all counts and ``control_auc`` of slices without tumour.

    Source: ours.
    """
    figure, (left, right) = new_figure(3.1, 1, 2, sharey=True)
    pairs = mirrored[["auc", "auc_without_twins"]].to_numpy()
    left.plot([0, 1], pairs.T, color=INK, alpha=0.25, linewidth=0.8, marker="o", markersize=3.5)
    left.plot([0, 1], pairs.mean(axis=0), color=OURS, linewidth=2.4, marker="o", markersize=7)
    left.set_xticks([0, 1], ["mirrored twins\nin other folds", "caught twins\nleft out"])
    left.set(title=f"(a) twins, {len(mirrored)} null cohorts", ylabel="AUC", xlim=(-0.3, 1.3), ylim=(0, 1.03))
    groups = [(trial, column) for trial in ("confounded", "sound") for column in ("auc", "control_auc")]
    for position, (trial, column) in enumerate(groups):
        values = confounded.loc[confounded["trial"] == trial, column].to_numpy()
        spread = np.linspace(-0.14, 0.14, len(values)) if len(values) > 1 else np.zeros(len(values))
        right.plot(position + spread, values, "o", color=OURS if column == "auc" else THEIRS, markersize=4, alpha=0.75)
    right.set_xticks(range(4), ["all counts", "no tumour", "all counts", "no tumour"])
    right.set(title="(b) a scanner per grade | sound cohorts", xlim=(-0.5, 3.5))
    right.axvline(1.5, color=QUIET, linewidth=0.9)
    for ax in (left, right):
        ax.axhline(0.5, color=QUIET, linestyle=":", linewidth=1.2)
        grid_lines(ax)
    return describe(figure, _leaks_words(mirrored, confounded))


def _draw_rate(ax: Axes, row, position: float, colour: str, marker: str, label: str | None = None) -> None:
    ax.hlines(position, row.low, row.high, color=colour, linewidth=2)
    ax.plot(row.value, position, marker, color=colour, markersize=6.5, label=label, linestyle="none")


def _null_words(null: pd.DataFrame, rates: pd.DataFrame) -> Words:
    ours, published = (say_interval(*row) for row in rates[["value", "low", "high"]].to_numpy(float))
    return Words(
        f"Where the grade says nothing, AUC is {say(null['auc'].mean(), 3)} on average; a codeword is called responsible in {ours} of the "
        f"cohorts by our rule, in {published} by the published one.",
        f"{len(null)} phantom cohorts whose grades were drawn at random. Bars: 95 % Wilson intervals over cohorts; dotted: what is due.",
        "Left: a histogram of AUC around a half. Right: our rule lies near 0, the published rule near 1.",
    )


def _planted_words(rates: pd.DataFrame) -> Words:
    way = rates["asked"].iloc[0]
    shown = rates[rates["asked"] == way]
    told = [f"{row.planted} {say_interval(row.value, row.low, row.high)}" for row in shown.itertuples()]
    return Words(
        f"Share of cohorts in which what carries the grade is named, asked by {way}: {say_list(told)}.",
        "A row per planted truth (n: phantom cohorts), a mark per way of asking. Bars: 95 % Wilson intervals over cohorts; dotted: chance.",
        "Rows for each planted truth with points and intervals between 0 and 1 for the ways of asking.",
    )


def _power_words(power: pd.DataFrame) -> Words:
    told = []
    for share, table in power.groupby("informative"):
        enough = table.loc[table["clear"] >= 0.8, "n"]
        told.append(f"{say(100 * share, 0)} %: {'none of these sizes' if enough.empty else f'{enough.min()} patients'}")
    return Words(
        "Patients that suffice for an interval above .5 in four of five cohorts, by the share whose grade is informative: "
        f"{'; '.join(told)}.",
        f"Phantom cohorts of {say_list(sorted(power['n'].unique()))} patients. (a) mean AUC; (b) share of cohorts whose AUC interval lies "
        "above .5; (c) share with a responsible codeword. A line per share of informative patients.",
        "Three panels against the number of patients; all lines rise, those of a higher informative share earlier.",
    )


def _leaks_words(mirrored: pd.DataFrame, confounded: pd.DataFrame) -> Words:
    scanned = confounded[confounded["trial"] == "confounded"]
    return Words(
        f"Where nothing is to be found, mirrored twins lift the mean AUC to {say(mirrored['auc'].mean())}, and leaving the caught ones "
        f"out brings it to {say(mirrored['auc_without_twins'].mean())}; a scanner per grade gives {say(scanned['control_auc'].mean())} on "
        "slices without tumour.",
        f"(a) {len(mirrored)} null cohorts, a thin line each; thick: mean. (b) a point per cohort: {len(scanned)} with a scanner for each "
        f"grade, {len(confounded) - len(scanned)} sound ones. Dotted: chance.",
        "Left: lines fall from well above to about a half. Right: with a scanner per grade slices without tumour tell the grade, in sound "
        "cohorts they do not.",
    )
