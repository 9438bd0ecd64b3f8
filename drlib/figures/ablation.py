"""Figures of the ablation: counterparts of Figures 5, 6 and 7, and how local a responsible region really is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drlib.cohort.regions import GRADES
from drlib.figures.cohort import picture_legend
from drlib.figures.images import Panel, name_columns, name_rows, show_image, show_labels, show_map
from drlib.figures.style import INK, REGION_COLOURS, WIDTH_IN, grid_lines, new_figure, styled
from drlib.seeds import generator

MAP_COLOURS = "RdYlBu_r"  # red high and blue low as in the paper, readable without colour vision
MAP_RANGE = (-1.0, 4.0)  # standard deviations
REGION_ORDER = ("NET", "ED", "ET")
VALUE_NAMES = {
    "mean": "L1 change of the logits,\nmean over the voxels of the region",
    "sum": "L1 change of the logits,\nsum over the region",
}


@dataclass(frozen=True)
class AblationCase:
    """One slice of one patient with its responsible regions.

    Attributes:
        panel: the slice, with truth and prediction.
        maps: grade -> (H, W) per-pixel L1 change of the logits when that grade's responsible codewords are replaced.
    """

    panel: Panel
    maps: dict[str, np.ndarray]


@styled
def plot_responsible_regions(cases: Sequence[AblationCase]) -> Figure:
    """Show T1ce, FLAIR, truth, prediction, HGG and LGG responsible region of each patient; the truth's outline lies over the maps.

    Maps are standardised for each patient: mean and standard deviation over both maps of that slice, so that the two maps of a patient
    share one scale while patients do not. Source: the paper, Figures 5 and 6.
    """
    height = len(cases) * (WIDTH_IN - 2.0) / 6 + 0.9
    figure, axes = new_figure(height, len(cases), 6, squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        _draw_case(row, case)
    name_columns(axes, ["T1ce", "FLAIR", "truth", "prediction", "HGG regions", "LGG regions"])
    name_rows(axes, [case.panel.title for case in cases])
    bar = figure.colorbar(
        ScalarMappable(Normalize(*MAP_RANGE), MAP_COLOURS),
        ax=axes[:, 4:],
        location="right",
        shrink=min(1.0, 1.6 / len(cases) + 0.2),
        aspect=18,
        pad=0.02,
    )
    bar.set_label("L1 change of the logits\n(SD of this patient's two maps)", fontsize=8)
    picture_legend(figure)
    return figure


@styled
def plot_region_values(values: pd.DataFrame, tests: pd.DataFrame | None = None, value: str = "mean", p: str = "wilcoxon_p_holm") -> Figure:
    """Show the ablation values of each region, for HGG and for LGG responsible regions, with significant pairs bracketed.

    Args:
        values: what :func:`drlib.radiomics.ablation.ablate_cohort` returns; ``responsible_for`` is the grade of the codewords.
        tests: the pairs of :func:`drlib.radiomics.statistics.compare_regions` with ``responsible_for`` and ``value`` (mean or sum).
        value: ``mean`` (per voxel of the region) or ``sum`` (as in the paper; grows with the region).
        p: the test that the brackets show: ``wilcoxon_p_holm`` (paired) or ``dunn_p`` (as in the paper).

    Box: quartiles and median; whiskers: 1.5 interquartile ranges; cross: mean. Brackets: * p < .05, ** p < .01, *** p < .001,
    **** p < .0001; a pair without bracket is not significant. Source: the paper, Figure 7.
    """
    figure, axes = new_figure(4.0, 1, 2)
    for ax, grade in zip(axes, GRADES[::-1], strict=True):
        table = values[values["responsible_for"] == grade]
        top = _draw_region_boxes(ax, table, value)
        if tests is not None and len(table):
            top = _draw_brackets(ax, tests[(tests["responsible_for"] == grade) & (tests["value"] == value)], p, top)
        ax.set(ylim=(0, max(1.06 * top, 1e-12)), xlabel="true region", title=f"{grade} responsible regions")
        if table.empty:
            ax.text(0.5, 0.5, "no responsible codeword", transform=ax.transAxes, ha="center")
        grid_lines(ax)
    axes[0].set_ylabel(VALUE_NAMES[value])
    return figure


@styled
def plot_locality(change: np.ndarray, cell: tuple[int, int], stride: int, shares: pd.DataFrame, panel: Panel | None = None) -> Figure:
    """Show how far the replacement of one codeword at one latent position reaches.

    Args:
        change: (H, W) L1 change of the logits when the single position ``cell`` is replaced.
        cell: (row, column) of that latent position.
        stride: pixels per latent position.
        shares: columns ``variant`` (normalisation live, normalisation frozen) and ``share_outside`` (0..1) of the L1 change that falls
            outside the position's own cell; one row per replaced position.
        panel: the slice, shown beside the map.

    Source: ours (METHOD: the responsible region is barely local).
    """
    figure, axes = new_figure(2.9, 1, 3 if panel is not None else 2, width_ratios=(1, 1.25, 1.4) if panel is not None else (1.25, 1.4))
    if panel is not None:
        show_image(axes[0], panel.image("t1ce"), panel)
        _draw_cell(axes[0], cell, stride)
        axes[0].set_title("one latent position", loc="center", fontsize=9.5)
    _draw_change(figure, axes[-2], change, cell, stride)
    _draw_shares(axes[-1], shares)
    return figure


def stars(p: float) -> str:
    """Return the asterisks of a p value; empty where p >= .05."""
    return "*" * sum(p < level for level in (0.05, 0.01, 0.001, 0.0001))


def standardise(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the maps of one patient minus their common mean, divided by their common standard deviation."""
    together = np.concatenate([np.ravel(values) for values in maps.values()]).astype(float)
    deviation = together.std() or 1.0
    return {grade: (values - together.mean()) / deviation for grade, values in maps.items()}


def _draw_case(row: np.ndarray, case: AblationCase) -> None:
    panel, flair = case.panel, case.panel.image("flair")
    show_image(row[0], panel.image("t1ce"), panel)
    show_image(row[1], flair)
    show_labels(row[2], panel.labels, background=flair)
    show_labels(row[3], panel.prediction, background=flair)
    maps = standardise(case.maps)
    for ax, grade in zip(row[4:], ("HGG", "LGG"), strict=True):
        show_map(ax, maps[grade], cmap=MAP_COLOURS, vmin=MAP_RANGE[0], vmax=MAP_RANGE[1])
        ax.contour(panel.labels > 0, levels=[0.5], colors=["black"], linewidths=0.8)


def _draw_region_boxes(ax: Axes, table: pd.DataFrame, value: str) -> float:
    top = 0.0
    for position, region in enumerate(REGION_ORDER):
        numbers = table.loc[table["region"] == region, value].dropna().to_numpy(float)
        if not len(numbers):
            continue
        colour = REGION_COLOURS[region]
        ax.boxplot(
            numbers,
            positions=[position],
            widths=0.5,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.4, "edgecolor": INK},
            medianprops={"color": INK, "linewidth": 2},
        )
        jitter = generator(0, "figures", "regions", region).uniform(-0.15, 0.15, len(numbers))
        ax.plot(position + jitter, numbers, "o", color=colour, markersize=2.5, alpha=0.8, markeredgewidth=0)
        ax.plot(position, numbers.mean(), "x", color=INK, markersize=6, markeredgewidth=1.6)
        top = max(top, float(numbers.max()))
    present = [table.loc[table["region"] == region, value].count() for region in REGION_ORDER]
    ax.set_xticks(range(3), [f"{region}\nn = {n}" for region, n in zip(REGION_ORDER, present, strict=True)])
    ax.set_xlim(-0.6, 2.6)
    return top


def _draw_brackets(ax: Axes, pairs: pd.DataFrame, column: str, top: float) -> float:
    step, level = 0.075 * top, 1.04 * top
    found = pairs[pairs[column] < 0.05]
    places = [
        (*sorted((REGION_ORDER.index(a), REGION_ORDER.index(b))), p)
        for a, b, p in zip(found["first"], found["second"], found[column], strict=True)
    ]
    for left, right, p in sorted(places, key=lambda place: (place[1] - place[0], place[0])):
        ax.plot([left, left, right, right], [level, level + 0.3 * step, level + 0.3 * step, level], color=INK, linewidth=1)
        ax.text((left + right) / 2, level + 0.2 * step, stars(p), ha="center", va="bottom", fontsize=9)
        level += step
    return level


def _draw_cell(ax: Axes, cell: tuple[int, int], stride: int) -> None:
    corner = (cell[1] * stride - 0.5, cell[0] * stride - 0.5)
    ax.add_patch(Rectangle(corner, stride, stride, fill=False, edgecolor="#F2C11D", linewidth=1.6))


def _draw_change(figure: Figure, ax: Axes, change: np.ndarray, cell: tuple[int, int], stride: int) -> None:
    high = float(change.max()) or 1.0
    shown = show_map(ax, np.clip(change, high * 1e-4, None), cmap="magma", norm=LogNorm(high * 1e-4, high))
    _draw_cell(ax, cell, stride)
    ax.set_title("change of the logits", loc="center", fontsize=9.5)
    figure.colorbar(shown, ax=ax, shrink=0.85, label="L1 change (logits, log scale)")


def _draw_shares(ax: Axes, shares: pd.DataFrame) -> None:
    variants = list(dict.fromkeys(shares["variant"]))
    for position, variant in enumerate(variants):
        values = 100 * shares.loc[shares["variant"] == variant, "share_outside"].to_numpy(float)
        jitter = generator(0, "figures", "locality", variant).uniform(-0.16, 0.16, len(values))
        ax.plot(values, position + jitter, "o", color=INK, markersize=2.6, alpha=0.35, markeredgewidth=0)
        ax.boxplot(
            values,
            positions=[position],
            orientation="horizontal",
            widths=0.5,
            showfliers=False,
            medianprops={"color": "#B3261E", "linewidth": 2.2},
        )
        ax.text(102, position, f"median\n{np.median(values):.0f} %", fontsize=8, va="center", clip_on=False)
    ax.set_yticks(range(len(variants)), [variant.replace(" ", "\n", 1) for variant in variants])
    ax.set(xlabel="share of the L1 change outside\nthe position's own cell (%)", xlim=(0, 100), ylim=(-0.6, len(variants) - 0.4))
    grid_lines(ax, "x")
