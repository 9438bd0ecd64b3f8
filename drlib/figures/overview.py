"""The method in one row of pictures: the counterpart of Figures 1 and 2 of the paper, drawn from results."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from drlib.figures.ablation import MAP_COLOURS
from drlib.figures.images import Panel, short_id, show_image, show_map
from drlib.figures.segmentation import codeword_colours
from drlib.figures.style import GRADE_COLOURS, INK, describe, new_figure, styled
from drlib.figures.words import Words, say

FRONT_STEPS = ("MRI", "the same, in codewords", "changed without HGG codewords")
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
    return describe(figure, _words(panel, codes, p_hgg))


@styled
def plot_front(panel: Panel, codes: np.ndarray, codebook: np.ndarray, region: np.ndarray, p_hgg: float, background: int) -> Figure:
    """Show one patient large, for the first page: the scan, the scan in codewords, and what the codewords of HGG change.

    Arguments as in :func:`plot_overview`. The change is drawn over T1ce, the more opaque the larger. Source: ours.
    """
    figure, axes = new_figure(2.75, 1, 3)
    figure.get_layout_engine().set(wspace=0.12)
    scan = panel.image("t1ce")
    show_image(axes[0], scan)
    show_map(axes[1], _brain_tiles(codeword_colours(codebook, background)[codes], scan), extent=_pixels(scan))
    show_image(axes[2], scan)
    share = np.clip(region / (np.percentile(region, 99.5) or 1.0), 0, 1)
    axes[2].imshow(colormaps["plasma"](share), alpha=share**0.7, interpolation="bilinear")
    for ax in axes:
        ax.set(**_frame(scan))
    axes[2].contour(panel.labels > 0, levels=[0.5], colors=["white"], linewidths=0.9)
    for ax, title in zip(axes, FRONT_STEPS, strict=True):
        ax.set_title(title, loc="center", fontsize=10.5)
    for left, right in zip(axes[:-1], axes[1:], strict=True):
        ends = {"xyA": (1.02, 0.5), "xyB": (-0.02, 0.5), "coordsA": left.transAxes, "coordsB": right.transAxes}
        figure.add_artist(ConnectionPatch(**ends, arrowstyle="-|>", mutation_scale=15, color=INK, linewidth=1.6))
    return describe(figure, _front_words(panel, codes, p_hgg))


def _brain_tiles(tiles: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return the tiles (h, w, 3) with those dark that hold no brain."""
    side = scan.shape[0] // tiles.shape[0]
    brain = (scan > scan.min()).reshape(tiles.shape[0], side, tiles.shape[1], side).any(axis=(1, 3))
    return np.where(brain[..., None], tiles, 0.0)


def _pixels(scan: np.ndarray) -> tuple[float, float, float, float]:
    height, width = scan.shape
    return -0.5, width - 0.5, height - 0.5, -0.5


def _frame(scan: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return the limits of a square around the brain, with a margin; the first row stays on top."""
    rows, columns = np.nonzero(scan > scan.min())
    if not len(rows):
        return {}
    half = 0.56 * max(np.ptp(rows), np.ptp(columns))
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    return {"xlim": (middle[1] - half, middle[1] + half), "ylim": (middle[0] + half, middle[0] - half)}


def _front_words(panel: Panel, codes: np.ndarray, p_hgg: float) -> Words:
    truth = panel.grade or "an unknown grade"
    return Words(
        f"A slice becomes {codes.size} numbers; counted over the whole scan they give P(HGG) = {say(p_hgg)} for a patient with {truth}.",
        f"Patient {short_id(panel.patient)}, chosen by rule, never seen in training. Left: T1ce. Middle: the same part "
        f"of the slice as the decoder receives it, one colour for each of {len(np.unique(codes))} codewords (cells without brain dark). "
        "Right: where the decoder's answer changes when the HGG-responsible codewords are replaced (bright: most); white: the outline "
        "of the true tumour. The change reaches beyond the tumour, and it is not what the classifier looked at.",
        "Three pictures of one brain slice: the scan with a bright-rimmed tumour, the slice as a mosaic of coloured tiles, and the scan "
        "with a glow where the answer changes most.",
    )


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


def _words(panel: Panel, codes: np.ndarray, p_hgg: float) -> Words:
    called = "HGG" if p_hgg > 0.5 else "LGG"
    right = {called: "rightly", None: "true grade unknown,"}.get(panel.grade, "wrongly")
    n_codes = len(np.unique(codes))
    return Words(
        f"{n_codes} codewords describe this slice; counted over all slices they put the patient at P(HGG) = {say(p_hgg)}, {right} "
        f"{called}.",
        f"Patient {short_id(panel.patient)}, chosen by rule. From the left: T1ce; the index map, one colour per codeword; the patient's "
        "24 commonest codewords (height: count, logarithmic); the probability, from classifiers that never saw this patient; the change "
        "of the logits when the HGG-responsible codewords are replaced (red: large). Counterpart of Figures 1 and 2 of the paper.",
        "Five pictures joined by arrows: a slice of a brain with a tumour, the same slice as a mosaic of coloured tiles, a falling bar "
        "chart of counts, a bar divided into HGG and LGG, and a map that lights up where the tumour is.",
    )
