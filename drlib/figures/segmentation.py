"""Figures of the segmentation network: how it learned, what it draws, how well it agrees with the truth, and its index maps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.cohort.regions import REGIONS
from drlib.figures.cohort import picture_legend
from drlib.figures.images import Panel, name_columns, name_rows, show_image, show_labels, show_map
from drlib.figures.style import (
    INK,
    PAPER_MARKER,
    QUIET,
    REGION_COLOURS,
    WIDTH_IN,
    describe,
    figure_and_axes,
    grid_lines,
    new_figure,
    paper_handle,
    styled,
)
from drlib.figures.words import Words, say, say_count
from drlib.seeds import generator

PAPER_DICE = {"NET": (0.56, 0.28), "ED": (0.68, 0.16), "ET": (0.69, 0.23), "TC": (0.80, 0.19), "WT": (0.76, 0.12)}  # mean, SD
LOSS_STYLES = {"total": (INK, "-"), "dice": ("#0072B2", "--"), "focal": ("#B35900", "-."), "latent": ("#B3261E", ":")}


@styled
def plot_training(log: pd.DataFrame) -> Figure:
    """Show the training epoch by epoch: losses, Dice on patients held out, codewords in use and perplexity.

    ``log``: one row per epoch as :func:`drlib.segmentation.training.train` returns it: ``epoch``; losses ``loss`` and any column that
    ends in ``_loss``; ``dice_NET`` ... ``dice_WT`` where there was a validation; ``usage`` (codewords) and ``perplexity``.
    Source: ours.
    """
    dice = [f"dice_{region}" for region in REGIONS if f"dice_{region}" in log and log[f"dice_{region}"].notna().any()]
    figure, axes = new_figure(2.9, 1, 3 if dice else 2)
    _draw_losses(axes[0], log)
    if dice:
        _draw_validation(axes[1], log, dice)
    _draw_usage(axes[-1], log)
    for ax in axes:
        ax.set_xlabel("epoch")
        grid_lines(ax)
    return describe(figure, _training_words(log, dice))


@styled
def plot_segmentations(panels: Sequence[Panel], dice: Sequence[float] | None = None) -> Figure:
    """Show T1ce, FLAIR, the truth and the prediction of each patient; ``dice``: whole-tumour Dice of each, written into the picture."""
    figure, axes = new_figure(len(panels) * (WIDTH_IN - 0.8) / 4 + 0.8, len(panels), 4, squeeze=False)
    for number, (row, panel) in enumerate(zip(axes, panels, strict=True)):
        flair = panel.image("flair")
        show_image(row[0], panel.image("t1ce"), panel)
        show_image(row[1], flair, panel)
        show_labels(row[2], panel.labels, panel, background=flair)
        show_labels(row[3], panel.prediction, panel, background=flair)
        if dice is not None:
            row[3].text(
                0.97, 0.97, f"WT Dice {dice[number]:.2f}", color="white", fontsize=7.5, transform=row[3].transAxes, ha="right", va="top"
            )
    name_columns(axes, ["T1ce", "FLAIR", "truth", "prediction"])
    name_rows(axes, [panel.title for panel in panels])
    picture_legend(figure)
    return describe(figure, _segmentation_words(panels, dice))


@styled
def plot_dice(dice: pd.DataFrame, paper: bool = True, ax: Axes | None = None) -> Figure:
    """Show the 3-D Dice of every patient and region, and the paper's mean and standard deviation beside it.

    ``dice``: one row per patient, columns NET, ED, ET, TC, WT in 0..1, NaN where region and prediction are both empty.
    Box: quartiles and median; whiskers: 1.5 interquartile ranges. Source: the paper, Results (segmentation performance).
    """
    figure, ax = figure_and_axes(ax, 3.8)
    for position, region in enumerate(REGIONS):
        _draw_dice(ax, position, region, dice[region].dropna().to_numpy(float))
        if paper:
            mean, deviation = PAPER_DICE[region]
            ax.errorbar(position + 0.36, mean, deviation, ecolor="black", elinewidth=1.3, capsize=3, markersize=6, **PAPER_MARKER)
    ax.set_xticks(range(len(REGIONS)), [f"{region}\n{dice[region].mean():.2f}, n = {dice[region].count()}" for region in REGIONS])
    ax.set(ylabel="Dice, per patient in 3-D (0 to 1)", ylim=(-0.02, 1.02), xlabel="region; below: our mean, patients who have the region")
    if paper:
        ax.legend(handles=[paper_handle("paper: mean ± SD (WT published without ET)")], loc="lower right")
    grid_lines(ax)
    return describe(figure, _dice_words(dice, paper))


@styled
def plot_index_maps(panels: Sequence[Panel], codes: Sequence[np.ndarray], codebook: np.ndarray, background: int | None = None) -> Figure:
    """Show the index map of each slice, one colour per codeword: alone, and over T1ce with the outline of the truth.

    ``codes``: (h, w) indices per panel; ``codebook``: (K, D), from which the colours come: codewords that lie near each other look
    alike. ``background``: the background codeword, drawn in dark grey. Source: the paper, Eq. 1.
    """
    colours = codeword_colours(codebook, background)
    figure, axes = new_figure(len(panels) * (WIDTH_IN - 0.8) / 4 + 0.8, len(panels), 4, squeeze=False)
    for row, panel, index_map in zip(axes, panels, codes, strict=True):
        t1ce, tiles = panel.image("t1ce"), colours[index_map]
        show_image(row[0], t1ce, panel)
        show_labels(row[1], panel.labels, panel, background=panel.image("flair"))
        show_map(row[2], tiles)
        show_image(row[3], t1ce, panel)
        height, width = t1ce.shape
        row[3].imshow(
            tiles,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            alpha=np.where(index_map == background, 0.0, 0.5),
            interpolation="nearest",
        )
    height, width = codes[0].shape
    name_columns(axes, ["T1ce", "truth", f"index map, {height} × {width}", "index map over T1ce"])
    name_rows(axes, [panel.title for panel in panels])
    picture_legend(figure, "One colour per codeword; near codewords look alike.")
    return describe(figure, _index_map_words(panels, codes, background))


def codeword_colours(codebook: np.ndarray, background: int | None = None) -> np.ndarray:
    """Return (K, 3) colours of codewords: their first three principal components, by rank, as red, green and blue in 0.15..1.

    The same codebook always gives the same colours; the background codeword is dark grey. Source: ours.
    """
    centred = np.asarray(codebook, float) - np.mean(codebook, axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    scores = np.zeros((len(centred), 3))
    count = min(3, left.shape[1])
    scores[:, :count] = left[:, :count] * np.sign(left[np.abs(left).argmax(0), range(left.shape[1])])[:count] * scale[:count]
    colours = 0.15 + 0.85 * scores.argsort(0).argsort(0) / max(len(scores) - 1, 1)
    if background is not None:
        colours[background] = 0.2
    return colours


def _draw_losses(ax: Axes, log: pd.DataFrame) -> None:
    names = [column for column in log if column == "loss" or column.endswith("_loss")]
    for name in names:
        kind = "total" if name == "loss" else name.removesuffix("_loss")
        colour, line = LOSS_STYLES.get(kind, (QUIET, "-"))
        ax.plot(log["epoch"], log[name].where(log[name] > 0), color=colour, linestyle=line, label=kind)
    ax.set(title="loss (Eq. 4)", ylabel="loss (no unit)", yscale="log")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1.0)


def _draw_validation(ax: Axes, log: pd.DataFrame, columns: list[str]) -> None:
    ends = {}
    for column in columns:
        region, seen = column.removeprefix("dice_"), log[log[column].notna()]
        ax.plot(seen["epoch"], seen[column], color=REGION_COLOURS[region], marker="o" if len(seen) < 40 else None, markersize=3)
        ends[region] = (seen["epoch"].iloc[-1], seen[column].iloc[-1])
    ax.set(title="held-out patients", ylabel="Dice (0 to 1)", ylim=(0, 1))
    ax.set_xlim(right=ax.get_xlim()[1] + 0.14 * np.ptp(ax.get_xlim()))
    _name_ends(ax, ends)


def _name_ends(ax: Axes, ends: dict[str, tuple[float, float]], gap: float = 0.075) -> None:
    last = -1.0
    for region, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        last = max(y, last + gap)
        ax.annotate(region, (x, last), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5, annotation_clip=False)


def _draw_usage(ax: Axes, log: pd.DataFrame) -> None:
    quantized = log["perplexity"].notna()  # before quantization begins there is nothing to count
    ax.plot(log["epoch"], log["usage"].where(quantized), color=INK, marker=".", label="codewords in use")
    ax.plot(log["epoch"], log["perplexity"], color="#B3261E", linestyle="--", marker=".", label="perplexity")
    ax.set(title="codebook", ylabel="codewords", ylim=(0, None), xlim=(0, log["epoch"].max() + 1))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)


def _draw_dice(ax: Axes, position: int, region: str, values: np.ndarray) -> None:
    colour = REGION_COLOURS[region]
    if not len(values):
        return
    ax.boxplot(
        values,
        positions=[position],
        widths=0.42,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops={"color": INK, "linewidth": 2},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
    jitter = generator(0, "figures", "dice", region).uniform(-0.12, 0.12, len(values))
    ax.plot(position + jitter, values, "o", color=colour, markersize=2.8, alpha=0.7, markeredgewidth=0)


def _training_words(log: pd.DataFrame, dice: list[str]) -> Words:
    last, seen = log.iloc[-1], log.dropna(subset=dice) if dice else log
    held = f"Dice of the whole tumour {say(seen['dice_WT'].iloc[-1])} on held-out patients, " if "dice_WT" in dice and len(seen) else ""
    return Words(
        f"After {len(log)} epochs of this run: {held}{say(last['usage'], 0)} codewords in use, perplexity {say(last['perplexity'], 0)}.",
        "Left: the loss of Eq. 4 and its terms, logarithmic. Middle: Dice on a few patients of the segmentation cohort that are kept "
        "from training; with so few, a region can be far from its Dice over the graded cohort. "
        "Right: codewords in use, and as many used equally often would carry as much information (perplexity).",
        "Curves over epochs: losses fall, Dice of the regions rises, codewords in use and perplexity level off.",
    )


def _segmentation_words(panels: Sequence[Panel], dice: Sequence[float] | None) -> Words:
    span = (
        f"whole-tumour Dice {say(min(dice))} to {say(max(dice))}" if dice is not None and len(dice) else "truth and prediction side by side"
    )
    return Words(
        f"{len(panels)} patients never seen in training: {span}.",
        "The slice with the most tumour of patients at equal steps of tumour volume; Dice is that of the whole volume, in 3-D.",
        f"{len(panels)} rows of patients: T1ce, FLAIR, true regions and predicted regions in colour over FLAIR.",
    )


def _dice_words(dice: pd.DataFrame, paper: bool) -> Words:
    means = dice[list(REGIONS)].mean().dropna()
    above = [region for region in means.index if means[region] >= PAPER_DICE[region][0]]
    beside = f", at or above the paper's mean in {len(above)} of {len(means)} regions" if paper else ""
    return Words(
        f"Mean Dice from {say(means.min())} ({means.idxmin()}) to {say(means.max())} ({means.idxmax()}){beside}.",
        f"{len(dice)} graded patients, none seen in training, a point each. Box: quartiles and median; whiskers: 1.5 interquartile ranges"
        + ("; diamond: mean ± standard deviation of the paper, which counts WT without ET." if paper else "."),
        "Box plots of Dice between 0 and 1 for NET, ED, ET, TC and WT" + (" with the published means beside them." if paper else "."),
    )


def _index_map_words(panels: Sequence[Panel], codes: Sequence[np.ndarray], background: int | None) -> Words:
    all_codes = np.concatenate([index_map.ravel() for index_map in codes])
    height, width = codes[0].shape
    pixels = panels[0].images[0].size
    return Words(
        f"{len(np.unique(all_codes))} codewords draw {say_count(len(panels), 'slice')}: {height * width} numbers each, where a modality "
        f"has {pixels:,} pixels.",
        "One number per cell is all that the decoder receives. One colour per codeword; codewords that lie near each other look alike"
        + ("; dark grey: background." if background is not None else "."),
        f"{len(panels)} rows of patients: T1ce, true regions, the index map as coloured tiles, and the tiles over T1ce.",
    )
