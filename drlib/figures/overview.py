"""The method in one row of pictures: the counterpart of Figures 1 and 2 of the paper, drawn from results."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from drlib.figures.ablation import MAP_COLOURS
from drlib.figures.images import Panel, show_image, show_map
from drlib.figures.segmentation import codeword_colours
from drlib.figures.style import GRADE_COLOURS, INK, new_figure, styled

STEPS = ("a slice (T1ce)", "its codewords", "counted", "graded", "traced back")


@styled
def plot_overview(
    panel: Panel,
    codes: np.ndarray,
    codebook: np.ndarray,
    counts: pd.Series,
    p_hgg: float,
    region: np.ndarray,
    background: int | None = None,
) -> Figure:
    """Show one patient on the way through the method: slice, index map, histogram, probability, responsible region.

    Args:
        panel: the slice.
        codes: (h, w) index map of it.
        codebook: (K, D), for the colours.
        counts: the patient's histogram, one value per codeword.
        p_hgg: P(HGG) of the patient, from a classifier that has not seen the patient.
        region: (H, W) responsible region of the grade that was called.
        background: the background codeword.

    Source: the paper, Figures 1 and 2.
    """
    figure, axes = new_figure(2.1, 1, 5, width_ratios=(1, 1, 1.15, 0.75, 1))
    figure.get_layout_engine().set(wspace=0.14)
    colours = codeword_colours(codebook, background)
    show_image(axes[0], panel.image("t1ce"), panel)
    show_map(axes[1], colours[codes])
    _draw_counts(axes[2], counts, colours)
    _draw_grade(axes[3], p_hgg)
    show_map(axes[4], region, cmap=MAP_COLOURS)
    for ax, title in zip(axes, STEPS, strict=True):
        ax.set_title(title, loc="center", fontsize=9.5)
    for left, right in zip(axes[:-1], axes[1:], strict=True):
        ends = {"xyA": (1.03, 0.5), "xyB": (-0.03, 0.5), "coordsA": left.transAxes, "coordsB": right.transAxes}
        figure.add_artist(ConnectionPatch(**ends, arrowstyle="-|>", mutation_scale=13, color=INK, linewidth=1.4))
    return figure


def _draw_counts(ax: Axes, counts: pd.Series, colours: np.ndarray, shown: int = 24) -> None:
    largest = counts.sort_values(ascending=False).head(shown)
    ax.bar(range(len(largest)), largest, color=colours[largest.index.to_numpy(int)], width=1.0)
    ax.set(yscale="log", xticks=[], yticks=[], xlabel="codeword")
    ax.minorticks_off()
    ax.set_box_aspect(1)


def _draw_grade(ax: Axes, p_hgg: float) -> None:
    ax.bar([0], [p_hgg], color=GRADE_COLOURS["HGG"], width=0.7)
    ax.bar([0], [1 - p_hgg], bottom=[p_hgg], color=GRADE_COLOURS["LGG"], width=0.7)
    for middle, share, grade in ((p_hgg / 2, p_hgg, "HGG"), ((1 + p_hgg) / 2, 1 - p_hgg, "LGG")):
        if share > 0.2:
            ax.text(0, middle, f"{grade}\n{share:.2f}", color="white", ha="center", va="center", fontsize=9, fontweight="bold")
    ax.set(xlim=(-0.6, 0.6), ylim=(0, 1), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
