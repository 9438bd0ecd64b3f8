"""Figures of the ablation: counterparts of Figures 5, 6 and 7, and how local a responsible region really is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from drlib.cohort.regions import GRADES
from drlib.figures.cohort import picture_legend
from drlib.figures.images import Panel, name_columns, name_rows, show_image, show_labels, show_map
from drlib.figures.style import (
    GRADE_COLOURS,
    GRADE_MARKERS,
    INK,
    QUIET,
    REGION_COLOURS,
    WIDTH_IN,
    describe,
    grade_label,
    grid_lines,
    new_figure,
    styled,
)
from drlib.figures.words import Words, say, say_count, say_list
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


@dataclass(frozen=True)
class FrozenCase:
    """One slice with its responsible region by live and by frozen normalisation.

    Attributes:
        panel: the slice.
        tokens: (h, w), whether the token is replaced.
        live, frozen: (H, W) per-pixel L1 change of the logits.
    """

    panel: Panel
    tokens: np.ndarray
    live: np.ndarray
    frozen: np.ndarray


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
    return describe(figure, _region_map_words(cases))


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
    return describe(figure, _region_value_words(values, value, p))


@styled
def plot_each_codeword(means: pd.DataFrame) -> Figure:
    """Show the change per voxel in each region when the codewords of a grade are replaced together and one by one, a panel for each.

    ``means``: responsible_for, codeword (missing: together), region, n, mean, low, high. Points: means over patients; bars: 95 %
    bootstrap intervals. Panels of a row share their scale. Source: ours; the paper replaces one vector at a time and shows the sum.
    """
    grades = [grade for grade in GRADES[::-1] if (means["responsible_for"] == grade).any()]
    panels = {grade: _codeword_panels(means[means["responsible_for"] == grade]) for grade in grades}
    columns = max((len(found) for found in panels.values()), default=1)
    rows = max(1, len(grades))
    figure, axes = new_figure(0.5 + 2.0 * rows, rows, columns, squeeze=False, sharey="row", width_in=min(WIDTH_IN, 2.4 + 1.9 * columns))
    for row, grade in zip(axes, grades, strict=False):
        for ax, (name, table) in zip(row, panels[grade].items(), strict=False):
            _draw_region_means(ax, table)
            ax.set_title(name, fontsize=9.5)
            ax.set_xlabel("true region")
        for ax in row[len(panels[grade]) :]:
            ax.remove()
        row[0].set_ylabel("L1 change of the\nlogits per voxel")
        row[0].set_ylim(bottom=0)
    return describe(figure, _each_words(means))


@styled
def plot_controls(sets: pd.DataFrame) -> Figure:
    """Show what random codewords as frequent as the responsible ones change, a point per random set, and the responsible set among them.

    ``sets``: matched (where tokens were counted), responsible_for, set (0: the responsible one), contrast, change_per_token,
    share_in_tumour. Columns: contrast of the region that the paper names (0: level with the others), share of the change in the
    tumour, change for each replaced token. Source: ours.
    """
    groups = [key for key, _ in sets.groupby(["responsible_for", "matched"], sort=False)]
    groups = sorted(groups, key=lambda key: key[0] != "HGG")
    figure, axes = new_figure(1.5 + 0.55 * max(1, len(groups)), 1, 3, sharey=True)
    labels = {"contrast": "contrast of ET (HGG)\nor NET (LGG)", "share_in_tumour": "share of the change\nin the tumour (0 to 1)"}
    labels["change_per_token"] = "L1 change for each\nreplaced token (logits)"
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        for position, (grade, matched) in enumerate(groups[::-1]):
            table = sets[(sets["responsible_for"] == grade) & (sets["matched"] == matched)]
            controls = table.loc[table["set"] > 0, column].to_numpy(float)
            jitter = generator(0, "figures", "controls", grade, matched, column).uniform(-0.2, 0.2, len(controls))
            ax.plot(controls, position + jitter, "o", color=QUIET, markersize=3.4, alpha=0.7, markeredgewidth=0)
            own = table.loc[table["set"] == 0, column]
            ax.plot(own, [position] * len(own), GRADE_MARKERS[grade], color=GRADE_COLOURS[grade], markersize=8.5, markeredgecolor="white")
        ax.set_xlabel(label)
        grid_lines(ax, "x")
    axes[0].axvline(0, color=QUIET, linewidth=1, linestyle="--")
    axes[0].set_yticks(range(len(groups)), [f"{grade}, matched in\n{matched}" for grade, matched in groups[::-1]])
    axes[0].set_ylim(-0.6, len(groups) - 0.4)
    handles = [Line2D([], [], linestyle="none", marker="o", markersize=3.4, color=QUIET, label="random set")]
    handles += [
        Line2D(
            [], [], linestyle="none", marker=GRADE_MARKERS[grade], markersize=8, color=GRADE_COLOURS[grade], label=f"{grade}-responsible"
        )
        for grade in dict.fromkeys(grade for grade, _ in groups)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return describe(figure, _control_words(sets))


@styled
def plot_overlap(changes: pd.DataFrame) -> Figure:
    """Show how much the tumour changes in HGG and in LGG patients when either grade's responsible codewords are replaced.

    ``changes``: patient, grade (of the patient), responsible_for, change (per voxel of the whole tumour). Points: patients; line: median.
    Source: the paper's Figures 5 and 6, as numbers.
    """
    figure, axes = new_figure(2.9, 1, 2)
    for ax, replaced in zip(axes, GRADES[::-1], strict=True):
        table = changes[changes["responsible_for"] == replaced]
        for position, grade in enumerate(GRADES[::-1]):
            values = table.loc[table["grade"] == grade, "change"].to_numpy(float)
            jitter = generator(0, "figures", "overlap", replaced, grade).uniform(-0.18, 0.18, len(values))
            ax.plot(position + jitter, values, GRADE_MARKERS[grade], color=GRADE_COLOURS[grade], markersize=4, alpha=0.7, markeredgewidth=0)
            if len(values):
                ax.hlines(np.median(values), position - 0.3, position + 0.3, color=INK, linewidth=2.2)
        present = [int((table["grade"] == grade).sum()) for grade in GRADES[::-1]]
        ax.set_xticks(range(2), [grade_label(grade, n) for grade, n in zip(GRADES[::-1], present, strict=True)])
        ax.set(
            xlim=(-0.6, 1.6), ylim=(0, None), xlabel="grade of the patient (number of patients)", title=f"{replaced} responsible regions"
        )
        grid_lines(ax)
    axes[0].set_ylabel("L1 change of the logits,\nmean over the tumour's voxels")
    return describe(figure, _overlap_words(changes))


@styled
def plot_frozen(cases: Sequence[FrozenCase]) -> Figure:
    """Show responsible regions by live and by frozen normalisation on one logarithmic scale for each patient; squares: replaced tokens.

    Source: ours.
    """
    figure, axes = new_figure(len(cases) * (WIDTH_IN - 2.0) / 3.6 + 0.4, len(cases), 3, squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        high = float(max(case.live.max(), case.frozen.max())) or 1.0
        show_image(row[0], case.panel.image("t1ce"), case.panel)
        for ax, change in zip(row[1:], (case.live, case.frozen), strict=True):
            shown = show_map(ax, np.clip(change, high * 1e-4, None), cmap="magma", norm=LogNorm(high * 1e-4, high))
            ax.contour(case.panel.labels > 0, levels=[0.5], colors=["white"], linewidths=0.8)
        for ax in row:
            for cell in np.argwhere(case.tokens):
                _draw_cell(ax, tuple(cell), case.live.shape[0] // case.tokens.shape[0])
        figure.colorbar(shown, ax=list(row[1:]), shrink=0.85, label="L1 change (logits)")
    name_columns(axes, ["T1ce, replaced tokens", "normalisation live", "normalisation frozen"])
    name_rows(axes, [case.panel.title for case in cases])
    return describe(figure, _frozen_words(cases))


@styled
def plot_locality(change: np.ndarray, cell: tuple[int, int], stride: int, shares: pd.DataFrame, panel: Panel | None = None) -> Figure:
    """Show how far the replacement of one codeword at one latent position reaches.

    Args:
        change: (H, W) L1 change of the logits when the single position ``cell`` is replaced.
        cell: (row, column) of that latent position.
        stride: pixels per latent position.
        shares: columns ``normalisation`` (live, frozen) and ``share_outside`` (0..1) of the L1 change that falls outside the
            position's own cell; one row per replaced position.
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
    return describe(figure, _locality_words(shares))


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


def _codeword_panels(means: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each panel by its title: all codewords of a grade together, where there are several, then each alone."""
    grade, alone = means["responsible_for"].iloc[0], means["codeword"].notna()
    single = {f"{grade}: codeword {int(k)}": table for k, table in means[alone].groupby("codeword", sort=False)}
    return ({f"{grade}: together": means[~alone]} if len(single) != 1 else {}) | single


def _draw_region_means(ax: Axes, table: pd.DataFrame) -> None:
    for position, region in enumerate(REGION_ORDER):
        for found in table[table["region"] == region].dropna(subset="mean").itertuples():
            ax.vlines(position, found.low, found.high, color=REGION_COLOURS[region], linewidth=3)
            ax.plot(position, found.mean, "o", color=REGION_COLOURS[region], markersize=7, markeredgecolor=INK, markeredgewidth=0.7)
    ax.set_xticks(range(3), REGION_ORDER)
    ax.set_xlim(-0.6, 2.6)
    grid_lines(ax)


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
    variants = list(dict.fromkeys(shares["normalisation"]))
    for position, variant in enumerate(variants):
        values = 100 * shares.loc[shares["normalisation"] == variant, "share_outside"].to_numpy(float)
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
    ax.set_yticks(range(len(variants)), [f"normalisation\n{variant}" for variant in variants])
    ax.set(xlabel="share of the L1 change outside\nthe position's own cell (%)", xlim=(0, 100), ylim=(-0.6, len(variants) - 0.4))
    grid_lines(ax, "x")


def _region_map_words(cases: Sequence[AblationCase]) -> Words:
    told = []
    for grade in GRADES[::-1]:
        maps = [(case.maps[grade], case.panel.labels > 0) for case in cases]
        inside = sum(bool(m.any() and truth.any() and m[truth].mean() > m[~truth].mean()) for m, truth in maps)
        flat = sum(not m.any() for m, _ in maps)
        told.append(f"{grade} codewords in {inside} of {len(cases)} slices" + (f" (flat: {flat})" if flat else ""))
    figure = {("HGG",): "5", ("LGG",): "6"}.get(tuple({case.panel.grade for case in cases}), "5 and 6")
    return Words(
        f"Replacing changes the logits more inside the true tumour than outside: {say_list(told)}.",
        f"Counterpart of Figure {figure} of the paper. Of each patient the slice that holds most of the grade's responsible codewords, "
        "with tumour; patients at equal steps of tumour volume. Maps are standardised for each patient, both together; black outline: "
        "the true tumour. A flat map: none of that grade's codewords occurs in the slice.",
        f"{len(cases)} rows of patients: T1ce, FLAIR, true and predicted regions, and two maps in blue to red around the outlined tumour.",
    )


def _region_value_words(values: pd.DataFrame, value: str, p: str) -> Words:
    told = []
    for grade in GRADES[::-1]:
        means = values[values["responsible_for"] == grade].groupby("region")[value].mean().dropna()
        told.append(
            f"{grade} codewords change {means.idxmax()} most (mean over the patients that have it {say(means.max())})"
            if len(means)
            else f"no {grade} codeword is responsible"
        )
    n = values["patient"].nunique()
    test = "paired Wilcoxon tests with Holm's correction" if p.startswith("wilcoxon") else "Dunn's tests, as in the paper"
    what = "mean over the region's voxels" if value == "mean" else "sum over the region, as in the paper: a large region collects more"
    return Words(
        f"{say_list(told)}.",
        f"L1 change of the logits, {what}; {n} patients, a point each. Box: quartiles and median; whiskers: 1.5 interquartile ranges; "
        f"cross: mean. Brackets: {test} (* p < .05, ** < .01, *** < .001, **** < .0001); a pair without bracket is not significant. "
        "Counterpart of Figure 7 of the paper.",
        "Two panels of box plots, HGG and LGG responsible regions, for NET, ED and ET, with brackets over pairs that differ.",
    )


def _each_words(means: pd.DataFrame) -> Words:
    told = []
    for grade, table in means.groupby("responsible_for", sort=False):
        alone = table[table["codeword"].notna()].dropna(subset="mean")
        top = alone.loc[alone.groupby("codeword")["mean"].idxmax(), "region"].value_counts()
        told.append(f"{grade}: {say_list(f'{n} change {region} most' for region, n in top.items())}")
    return Words(
        f"Codewords one by one, {'; '.join(told)}." if told else "There is no responsible codeword.",
        "All responsible codewords of a grade together (where there are several) and each alone. Points: means over patients; bars: 95 % "
        "bootstrap intervals. Panels of a row share their scale.",
        "A row of panels per grade; in each the change in NET, ED and ET as a point with its interval.",
    )


def _control_words(sets: pd.DataFrame) -> Words:
    told = []
    for (grade, matched), table in sets.groupby(["responsible_for", "matched"], sort=False):
        own, controls = table.loc[table["set"] == 0, "contrast"].iloc[0], table.loc[table["set"] > 0, "contrast"]
        told.append(f"{grade}, {matched}: above {(controls < own).sum()} of {len(controls)}")
    return Words(
        f"Contrast of the region that the paper names, responsible set among random ones: {'; '.join(told)}.",
        "A grey point is a random set of codewords as frequent as the responsible ones. Contrast: how far ET (HGG) or NET (LGG) stands "
        "above the two others (0: level, 3: all of the change).",
        "Three panels, a row per way of matching: clouds of grey points with one coloured mark for the responsible set.",
    )


def _overlap_words(changes: pd.DataFrame) -> Words:
    told = []
    for replaced in GRADES[::-1]:
        medians = changes[changes["responsible_for"] == replaced].groupby("grade")["change"].median()
        if len(medians):
            told.append(
                f"{replaced} codewords {say_list(f'{say(medians[grade])} in {grade}' for grade in GRADES[::-1] if grade in medians)}"
            )
    return Words(
        f"Median change in the tumour when the codewords of a grade are replaced: {'; '.join(told)} patients."
        if told
        else "Nothing is replaced.",
        f"A point is one of {changes['patient'].nunique()} patients, a line the median. L1 change of the logits, mean over the voxels of "
        "the whole tumour, all codewords of the grade replaced together.",
        "Two panels, HGG and LGG responsible regions: clouds of points for HGG and for LGG patients, with a line at each median.",
    )


def _frozen_words(cases: Sequence[FrozenCase]) -> Words:
    def reached(maps: Sequence[np.ndarray]) -> str:
        return say(100 * float(np.median([(m > 1e-4 * (m.max() or 1)).mean() for m in maps])), 0)

    return Words(
        f"Live, {reached([case.live for case in cases])} % of a slice changes; frozen, {reached([case.frozen for case in cases])} "
        "% (medians).",
        f"HGG-responsible codewords replaced in {say_count(len(cases), 'patient')}, on one logarithmic scale for each; counted are pixels "
        "above 1/10,000 of the largest change. Squares: cells of the replaced tokens; white outline: the true tumour.",
        "Rows of patients: T1ce with squares, a map that is coloured everywhere, and one that is dark away from the squares.",
    )


def _locality_words(shares: pd.DataFrame) -> Words:
    medians = 100 * shares.groupby("normalisation", sort=False)["share_outside"].median()
    return Words(
        f"{say_list(f'{say(m, 0)} % of the change ({name})' for name, m in medians.items())} lies outside the replaced token's "
        "own cell (medians).",
        f"One latent position (square) is replaced by the background codeword. Right: a point per replaced position "
        f"({say_list(shares['normalisation'].value_counts().unique())} each); box: quartiles and median.",
        "A map of the change around one square cell on a logarithmic scale, and two rows of points between 0 and 100 %.",
    )
