"""Figures of the engine: ratios against other tools, the roofline, and growth with the number of patients."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from drlib.figures.style import INK, describe, grid_lines, new_figure, styled
from drlib.figures.words import Words, say

STAGE_LOOKS = {  # encoder and forward pass may fall on one another
    "encoder": {"marker": "o", "markersize": 13, "fillstyle": "none", "markeredgewidth": 1.5},
    "forward": {"marker": "s", "markersize": 6},
    "train_step": {"marker": "^", "markersize": 8},
}
STAGE_NAMES = {"encoder": "encoder", "forward": "forward pass", "train_step": "training step"}
PRECISION_COLOURS = {"fp32": "#0B4F8A", "bf16": "#C75B12"}
STEP_COLOURS = {"check": ("#6B7280", "v"), "store": ("#0B4F8A", "o"), "histograms": ("#C75B12", "s")}
STEP_NAMES = {"check": "check", "store": "slice store", "histograms": "histograms"}


@styled
def plot_ratios(ratios: pd.DataFrame) -> Figure:
    """Show how many times faster each step is than each tool it was measured against.

    ``ratios``: columns ``what``, ``peer_name``, ``ratio``; one row each.
    """
    rows = ratios.iloc[::-1].reset_index(drop=True)
    figure, ax = new_figure(0.6 + 0.34 * len(rows))
    ax.hlines(rows.index, 1, rows["ratio"], color="#C9D3DC", linewidth=5)
    ax.plot(rows["ratio"], rows.index, "o", color=INK, markersize=6)
    for number, row in rows.iterrows():
        ax.annotate(f"{row['ratio']:.1f} ×", (row["ratio"], number), (7, 0), textcoords="offset points", va="center", fontsize=9)
    ax.axvline(1, color=INK, linewidth=0.8)
    ax.set(xscale="log", xlim=(0.9, 2 * rows["ratio"].max()), xlabel="times faster (1: the same; logarithmic)")
    ticks = [tick for tick in (1, 2, 3, 5, 10, 20, 50, 100) if tick < 2 * rows["ratio"].max()]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_yticks(rows.index, [f"{row['what']}, against {row['peer_name']}" for _, row in rows.iterrows()], fontsize=8.5)
    return describe(figure, _ratios_words(ratios))


@styled
def plot_roofline(points: pd.DataFrame, roofs: dict[str, float]) -> Figure:
    """Show what each stage computes per second against its arithmetic per byte, below what the machine can do.

    ``points``: columns ``stage``, ``precision``, ``gflop`` and ``gbyte`` per slice, ``gflop_per_s``. ``roofs``: GFLOP/s of the best
    convolution in ``fp32`` and ``bf16``, ``memory_gb_per_s``.
    """
    figure, ax = new_figure(3.6)
    intensity = points["gflop"] / points["gbyte"]
    span = np.geomspace(0.3 * min(1, roofs["fp32"] / roofs["memory_gb_per_s"]), 3 * intensity.max(), 200)
    for precision, colour in PRECISION_COLOURS.items():
        name = {"fp32": "float32", "bf16": "bfloat16"}[precision]
        label = f"best convolution, {name}: {roofs[precision]:.0f} GFLOP/s"
        ax.plot(span, np.minimum(roofs[precision], roofs["memory_gb_per_s"] * span), color=colour, label=label)
        for stage, looks in STAGE_LOOKS.items():
            at = points[(points["stage"] == stage) & (points["precision"] == precision)]
            share = float((at["gflop_per_s"] / roofs[precision]).iloc[0])
            label = f"{STAGE_NAMES[stage]}, {name}: {share:.0%} of the roof"
            ax.plot(at["gflop"] / at["gbyte"], at["gflop_per_s"], color=colour, linestyle="none", label=label, **looks)
    ax.set(xscale="log", yscale="log", xlabel="operations per byte read or written (FLOP/byte)", ylabel="GFLOP/s")
    ax.set_ylim(top=1.6 * max(roofs["fp32"], roofs["bf16"]))
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    grid_lines(ax)
    return describe(figure, _roofline_words(points, roofs))


@styled
def plot_growth(patients: pd.DataFrame) -> Figure:
    """Show seconds and peak memory against the number of patients.

    ``patients``: index the number of patients; columns ``check``, ``store``, ``histograms`` (s) and the same with ``_peak_bytes``.
    """
    figure, (time, memory) = new_figure(3.2, 1, 2)
    for step, (colour, marker) in STEP_COLOURS.items():
        looks = {"color": colour, "marker": marker, "markersize": 5, "label": STEP_NAMES[step]}
        time.plot(patients.index, patients[step], **looks)
        memory.plot(patients.index, patients[f"{step}_peak_bytes"] / 1e9, **looks)
    time.set(title="(a) time", xlabel="patients", ylabel="seconds", ylim=(0, None), xlim=(0, None))
    memory.set(title="(b) peak memory of all processes", xlabel="patients", ylabel="GB", ylim=(0, None), xlim=(0, None))
    for ax in (time, memory):
        grid_lines(ax)
    time.legend(loc="upper left")
    return describe(figure, _growth_words(patients))


def _ratios_words(ratios: pd.DataFrame) -> Words:
    least, most = ratios.loc[ratios["ratio"].idxmin()], ratios.loc[ratios["ratio"].idxmax()]
    return Words(
        f"{say(least['ratio'], 1)} times ({least['what']}, against {least['peer_name']}) to {say(most['ratio'], 1)} times "
        f"({most['what']}, against {most['peer_name']}) as fast as other tools.",
        f"{len(ratios)} comparisons, measured on the machine named above; line: the same speed. The axis is logarithmic.",
        "A row per comparison with the ratio of speeds as a point to the right of a line at 1.",
    )


def _roofline_words(points: pd.DataFrame, roofs: dict[str, float]) -> Words:
    share = points["gflop_per_s"] / points["precision"].map(roofs)
    return Words(
        f"The stages of the network reach {say(100 * share.min(), 0)} to {say(100 * share.max(), 0)} % of what the machine can do.",
        "Flat part of a line: the best 3×3 convolution of the network, measured alone; slope: memory. Points: stages, by operations for "
        "each byte read or written. Both axes are logarithmic.",
        "Roofline: encoder, forward pass and training step in two precisions, close below the flat roof of their precision.",
    )


def _growth_words(patients: pd.DataFrame) -> Words:
    few, many = patients.index.min(), patients.index.max()
    total = patients[list(STEP_NAMES)].sum(axis=1)
    peak = patients[[f"{step}_peak_bytes" for step in STEP_NAMES]].max(axis=1) / 1e9
    return Words(
        f"{say(many / few, 0)} times the patients ({few} to {many}) take {say(total[many] / total[few], 1)} times the time and "
        f"{say(peak[many] / peak[few], 1)} times the memory ({say(peak[many], 1)} GB).",
        "Seconds and peak memory of checking, preprocessing and counting phantoms of the demo profile, with all cores of the machine "
        "named above.",
        "Two panels against the number of patients: seconds rise in straight lines, memory hardly rises.",
    )
