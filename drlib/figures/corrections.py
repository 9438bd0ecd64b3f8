"""Figures of the corrections: the ladder from the published code's recipe to ours, and what the codebook does in its first steps."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.figures.style import INK, QUIET, REGION_COLOURS, describe, grid_lines, new_figure, styled
from drlib.figures.words import Words, say, say_interval, say_list

SEED_OFFSET = 0.16  # seeds lie below their mean, so that both can be seen
RUNG_COLOURS = ("#B3261E", "#0B4F8A", "#12A57D", "#A88600")
RUNG_LINES = ("-", "--", "-.", ":")


@styled
def plot_ladder(rows: pd.DataFrame, summary: pd.DataFrame, names: list[str], codebook_size: int) -> Figure:
    """Show codewords in use, Dice, accuracy and AUC of every rung: each seed a small point, mean and interval above it.

    Args:
        rows: one row per ``rung`` and ``seed``: ``codewords_used``, ``dice_WT``, ``dice_ET``, ``accuracy_ours``, ``auc_ours``,
            ``majority``.
        summary: ``rung``, ``measure``, ``mean``, ``low``, ``high`` over seeds.
        names: the rungs' names in their order, drawn from the top.
        codebook_size: K.

    Source: ours.
    """
    figure, axes = new_figure(0.42 * len(names) + 1.3, 1, 4, sharey=True, width_ratios=(1, 1.25, 1, 1))
    panels = (("codewords_used",), ("dice_WT", "dice_ET"), ("accuracy_ours",), ("auc_ours",))
    looks = {f"dice_{region}": (REGION_COLOURS[region], marker, region) for region, marker in (("WT", "o"), ("ET", "^"))}
    for ax, measures in zip(axes, panels, strict=True):
        for measure in measures:
            _draw_measure(ax, rows, summary[summary["measure"] == measure], measure, *looks.get(measure, (INK, "o", None)))
        grid_lines(ax, "x")
        ax.axhline(1.5, color=QUIET, linewidth=0.8)  # above it the learning rate changed, below it corrections
    for ax, value, words in ((axes[2], rows["majority"].mean(), "commoner\ngrade"), (axes[3], 0.5, "chance")):
        ax.axvline(value, color=QUIET, linewidth=1.2, linestyle=":")
        ax.text(value, -0.7, words, color=QUIET, fontsize=8, ha="center", va="bottom", linespacing=0.9)
    axes[0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.6), xlim=(-2, codebook_size + 3))
    axes[0].set(xlabel=f"codewords used\n(of {codebook_size})")
    axes[1].set(xlabel="Dice")
    axes[1].set_xlim(left=-0.02)
    axes[2].set(xlabel="accuracy")
    axes[3].set(xlabel="AUC")
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.2, columnspacing=1.2)
    return describe(figure, _ladder_words(summary, names))


@styled
def plot_codebook_steps(steps: pd.DataFrame, names: dict[int | str, str], by: str = "rung") -> Figure:
    """Show the norm of the codewords and how many are used, step by step, for the values of column ``by`` in ``names``: a line per seed.

    ``steps``: ``by``, ``seed``, ``step``, ``norm_ratio`` (median norm of the codewords over mean norm of the latents), ``used``
    (codewords used in the batch). Source: ours.
    """
    figure, axes = new_figure(3.3, 1, 2)
    for (value, name), colour, line in zip(names.items(), RUNG_COLOURS, RUNG_LINES, strict=False):
        chosen = steps[steps[by] == value]
        for ax, column in zip(axes, ("norm_ratio", "used"), strict=True):
            wide = chosen.pivot(index="step", columns="seed", values=column)
            lines = ax.plot(wide.index, wide, color=colour, linestyle=line, linewidth=1.1, alpha=0.85)
            lines[0].set_label(name)
    axes[0].axhline(1, color=QUIET, linewidth=0.9, zorder=0)
    axes[0].set(yscale="log", ylabel="norm, codewords / latents")
    axes[1].set(ylabel="codewords used in a batch", ylim=(0, None))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter("")
    for ax in axes:
        ax.set(xscale="log", xlabel="training step")
        ax.xaxis.set_major_formatter("{x:g}")
        grid_lines(ax)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    return describe(figure, _steps_words(steps, names, by))


def _draw_measure(ax: Axes, rows: pd.DataFrame, summary: pd.DataFrame, measure: str, colour: str, marker: str, label: str | None) -> None:
    edge = {"markeredgecolor": INK, "markeredgewidth": 0.5}
    ax.plot(rows[measure], rows["rung"] + SEED_OFFSET, marker, color=colour, markersize=3, alpha=0.7, linestyle="none", **edge)
    spread = np.clip([summary["mean"] - summary["low"], summary["high"] - summary["mean"]], 0, None)
    looks = {"color": colour, "marker": marker, "markersize": 5.5, "linestyle": "none", "elinewidth": 1.6, "capsize": 2.5} | edge
    ax.errorbar(summary["mean"], summary["rung"] - 0.12, xerr=spread, label=label, **looks)


def _ladder_words(summary: pd.DataFrame, names: list[str]) -> Words:
    means = summary.set_index(["measure", "rung"])[["mean", "low", "high"]]
    first, last = 0, len(names) - 1
    ends = [
        f"{words} from {say(means.loc[(measure, first), 'mean'], digits)} to {say_interval(*means.loc[(measure, last)], digits)}"
        for measure, words, digits in (("codewords_used", "codewords used", 0), ("dice_WT", "Dice WT", 2), ("auc_ours", "AUC", 2))
    ]
    return Words(
        f"From the published code's recipe to ours: {say_list(ends)}.",
        "Each row has one correction more. Large symbols: mean over seeds with its 95 % t interval; small ones below: the seeds, each "
        "with a phantom cohort of its own. Above the grey line only the learning rate changes. All on graded patients, none seen in "
        "training.",
        f"Four panels with a row for each of {len(names)} rungs: codewords used, Dice of WT and ET, accuracy and AUC, with intervals and "
        "a point for each seed.",
    )


def _steps_words(steps: pd.DataFrame, names: dict[int | str, str], by: str) -> Words:
    least = {name: int(steps.loc[steps[by] == value, "used"].min()) for value, name in names.items() if (steps[by] == value).any()}
    largest = {name: steps.loc[steps[by] == value, "norm_ratio"].max() for value, name in names.items() if (steps[by] == value).any()}
    told = [f"{name}: {least[name]} used at the least, norm {say(largest[name], 1)} times the latents' at the most" for name in least]
    return Words(
        f"{'; '.join(told)}.",
        f"Left: the codewords' median norm as a multiple of the latents' mean norm. Right: how many are used in a batch. A line per seed "
        f"({steps['seed'].nunique()}); both axes of steps are logarithmic.",
        f"Two panels over training steps with lines for {say_list(least)}: norm of the codewords, and number used in a batch.",
    )
