"""Figures of the cohort: what the images look like, and whether the volumes are those of the paper's Table 1."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drlib.cohort.phantom.volumes import TABLE_1
from drlib.cohort.regions import GRADES, LABELS, MODALITIES
from drlib.figures.images import MODALITY_NAMES, WINDOW_TEXT, Panel, name_columns, name_rows, show_image, show_labels
from drlib.figures.style import (
    GRADE_COLOURS,
    GRADE_MARKERS,
    PAPER_MARKER,
    WIDTH_IN,
    describe,
    grade_handles,
    grid_lines,
    new_figure,
    paper_handle,
    region_handles,
    styled,
)
from drlib.figures.words import Words, say, say_list
from drlib.seeds import generator

TABLE_1_REGIONS = ("NET", "ED", "ET", "WT")


@styled
def plot_patients(panels: Sequence[Panel]) -> Figure:
    """Show patients as rows and modalities as columns; the last column is the truth over FLAIR. Source: ours."""
    columns = len(MODALITIES) + 1
    figure, axes = new_figure(_rows_height(len(panels), columns), len(panels), columns, squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        for ax, modality in zip(row, MODALITIES, strict=False):
            show_image(ax, panel.image(modality), panel)
        show_labels(row[-1], _labels(panel), panel, background=panel.image("flair"))
    name_columns(axes, [*MODALITY_NAMES.values(), "truth"])
    name_rows(axes, [panel.title for panel in panels])
    picture_legend(figure)
    return describe(figure, _patients_words(panels))


@styled
def plot_volumes(volumes: pd.DataFrame) -> Figure:
    """Show each patient's region volumes, and their mean and standard deviation beside the paper's Table 1.

    ``volumes``: one row per patient, columns ``grade`` and NET, ED, ET (or ``NET_cm3`` ...) in cm3. Source: the paper, Table 1.
    """
    figure, axes = new_figure(3.7, 1, len(GRADES), sharey=True)
    table = add_whole_tumour(volumes)
    for ax, grade in zip(axes, GRADES, strict=True):
        _draw_volumes(ax, table[table["grade"] == grade], grade)
    axes[0].set_ylabel("volume (cm³)")
    axes[0].set_ylim(bottom=0)
    figure.legend(handles=[*_interval_handles(), paper_handle("paper, Table 1: mean ± SD")], loc="outside lower center", ncols=3)
    return describe(figure, _volumes_words(table))


def compare_with_table_1(volumes: pd.DataFrame) -> pd.DataFrame:
    """Return mean ± standard deviation in cm3 of every region and grade, ours beside the paper's. Source: the paper, Table 1."""
    table = add_whole_tumour(volumes)
    columns = {}
    for grade in GRADES:
        ours = table[table["grade"] == grade]
        columns[(grade, "paper")] = [_mean_sd(*TABLE_1[grade][region]) for region in TABLE_1_REGIONS]
        columns[(grade, f"this cohort, n = {len(ours)}")] = [
            _mean_sd(ours[region].mean(), ours[region].std()) for region in TABLE_1_REGIONS
        ]
    return pd.DataFrame(columns, index=pd.Index(TABLE_1_REGIONS, name="volume (cm³)"))


def add_whole_tumour(volumes: pd.DataFrame) -> pd.DataFrame:
    """Return ``volumes`` with columns NET, ED, ET (``NET_cm3`` is understood too) and WT = NET + ED + ET where it is not there."""
    table = volumes.rename(columns={f"{region}_cm3": region for region in TABLE_1_REGIONS})
    return table if "WT" in table else table.assign(WT=table[["NET", "ED", "ET"]].sum(axis=1))


def picture_legend(figure: Figure, extra: str = "") -> None:
    """Put regions, sides and window below a figure of slices."""
    text = f"R, L: the patient's right and left.  {WINDOW_TEXT[0].upper()}{WINDOW_TEXT[1:]}.{'  ' + extra if extra else ''}"
    figure.legend(handles=region_handles(), loc="outside lower center", ncols=3, title=text, title_fontsize=8)


def _rows_height(rows: int, columns: int) -> float:
    return rows * (WIDTH_IN - 0.8) / columns + 0.8


def _labels(panel: Panel) -> np.ndarray:
    return panel.labels if panel.labels is not None else np.zeros(panel.images.shape[1:], np.uint8)


def _draw_volumes(ax: Axes, table: pd.DataFrame, grade: str) -> None:
    jitter = generator(0, "figures", "volumes", grade).uniform(-0.13, 0.13, len(table))
    colour = GRADE_COLOURS[grade]
    for position, region in enumerate(TABLE_1_REGIONS):
        values = table[region].to_numpy(float)
        ax.plot(position + jitter, values, GRADE_MARKERS[grade], markersize=3.2, color=colour, alpha=0.35, markeredgewidth=0)
        if len(values):
            ax.errorbar(
                position - 0.26,
                values.mean(),
                values.std(ddof=min(1, len(values) - 1)),
                fmt=GRADE_MARKERS[grade],
                color=colour,
                capsize=3,
                markersize=6,
            )
        mean, deviation = TABLE_1[grade][region]
        ax.errorbar(position + 0.26, mean, deviation, capsize=3, markersize=6, ecolor="black", elinewidth=1.3, **PAPER_MARKER)
    ax.set_xticks(range(len(TABLE_1_REGIONS)), TABLE_1_REGIONS)
    ax.set_title(f"{grade} (n = {len(table)})")
    ax.set_xlabel("region")
    grid_lines(ax)


def _interval_handles() -> list:
    handles = grade_handles()
    for handle in handles:
        handle.set_label(f"{handle.get_label()} patient; mean ± SD")
    return handles


def _mean_sd(mean: float, deviation: float) -> str:
    return f"{mean:.1f} ± {deviation:.1f}"


def _patients_words(panels: Sequence[Panel]) -> Words:
    of_grade = {grade: [panel for panel in panels if panel.grade == grade] for grade in GRADES[::-1]}
    enhancing = [
        f"{sum((_labels(panel) == LABELS.index('ET')).any() for panel in found)} of {len(found)} {grade} slices"
        for grade, found in of_grade.items()
        if found
    ]
    return Words(
        f"Enhancing tumour (ET) shows in {say_list(enhancing) if enhancing else 'slices of unknown grade'}.",
        "Of each patient the slice with the most tumour; patients are taken at equal steps of tumour volume, not for their looks. R, L: "
        "the patient's right and left; all images in one grey window; last column: true regions over FLAIR.",
        f"{len(panels)} rows of patients; columns T1, T1ce, T2, FLAIR and the true regions in colour over FLAIR.",
    )


def _volumes_words(table: pd.DataFrame) -> Words:
    means, spread = table.groupby("grade")[list(TABLE_1_REGIONS)].mean(), table[list(TABLE_1_REGIONS)].std()
    if len(means) < len(GRADES):
        finding = f"Mean volumes of {len(table)} patients, all of one grade."
    else:
        most = ((means.loc["HGG"] - means.loc["LGG"]).abs() / spread).idxmax()
        values = " and ".join(f"{say(means.loc[grade, most], 1)} cm³ in {grade}" for grade in GRADES)
        ends = table.groupby("grade")[list(TABLE_1_REGIONS)].agg(["min", "max"])
        apart = [r for r in TABLE_1_REGIONS if ends[r, "max"].min() < ends[r, "min"].max()]
        finding = (
            f"The grades differ most in {most}, on average {values}; they overlap in {'every region' if not apart else 'some regions'}."
        )
    n = say_list(f"{(table['grade'] == grade).sum()} {grade}" for grade in GRADES)
    return Words(
        finding,
        f"Small points: patients ({n}). Large points with bars: mean ± standard deviation, of these patients (filled) and of the paper's "
        "Table 1 (diamonds).",
        "Two panels, LGG and HGG: volumes of NET, ED, ET and whole tumour as clouds of points, beside mean and standard deviation here "
        "and in the paper.",
    )
