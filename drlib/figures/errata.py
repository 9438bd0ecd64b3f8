"""Figures of the errata: when the likelihood-ratio test exists, false finds, regions as repeated measures, rotations, one token's reach."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drlib.figures.images import show_image, show_map
from drlib.figures.style import INK, QUIET, describe, grid_lines, new_figure, styled
from drlib.figures.words import Words, say, say_interval, say_list

FIXED, TOSSED = "#B3261E", "#0B4F8A"
TEST_LOOKS = {"Kruskal-Wallis": (FIXED, "o", "-"), "Friedman": (TOSSED, "s", "--")}
Z_WINDOW = (-5.0, 4.0)


@styled
def plot_effect_tests(table: pd.DataFrame, patients: int, threshold: float) -> Figure:
    """Show, over the number of covariates, the level of the effect likelihood-ratio test and how often the grades are separable.

    ``table``: a row per number of covariates with ``false_positive``, ``separable`` (fixed grades), ``tossed`` (grades by a coin), each
    with ``_low`` and ``_high``, and ``cover``. ``threshold``: covariates per patient at which large cohorts with the fixed grades
    become separable. Source: ours; METHOD 2.4.
    """
    figure, (level, separable) = new_figure(3.5, 1, 2)
    exists = table[table["tested"] >= 20]
    _draw_shares(level, exists, "false_positive", FIXED, "o", "simulated")
    level.axhline(0.05, color=QUIET, linewidth=1.2, linestyle=":")
    level.text(table.index.max(), 0.055, "nominal .05", color=QUIET, fontsize=8.5, ha="right", va="bottom")
    gone = int(table.index[table["tested"] < 20].min())
    level.axvspan(gone, table.index.max() + 10, color="#E5E7EB", zorder=0)
    level.text(
        (gone + table.index.max() + 10) / 2,
        0.5,
        "no finite\nfit: there\nis no test",
        ha="center",
        va="center",
        fontsize=9,
        transform=level.get_xaxis_transform(),
    )
    level.set(xlabel="covariates without any signal", ylabel="share of p < .05", ylim=(0, None), xlim=(0, table.index.max() + 10))
    _draw_shares(separable, table, "separable", FIXED, "o", "76 and 259, simulated")
    _draw_shares(separable, table, "tossed", TOSSED, "s", "tossed by a coin, simulated", "none")
    separable.plot(table.index, table["cover"], color=INK, linestyle="--", linewidth=1.2, label="tossed, exact (Cover)")
    separable.axvline(threshold * patients, color=FIXED, linestyle=":", linewidth=1.2, label="76 and 259, large cohorts")
    separable.set(
        xlabel="covariates without any signal", ylabel="share of separable data sets", ylim=(-0.03, 1.03), xlim=(0, table.index.max() + 10)
    )
    separable.legend(loc="upper left", fontsize=8)
    for ax in (level, separable):
        grid_lines(ax)
    return describe(figure, _effect_words(table, patients))


@styled
def plot_false_discoveries(discoveries: pd.DataFrame, n_codewords: int, alpha: float = 0.05) -> Figure:
    """Show how many of ``n_codewords`` without signal pass, per simulated cohort: ``plain`` and ``adjusted``. Source: ours."""
    figure, ax = new_figure(2.0)
    for row, (column, colour) in enumerate((("plain", FIXED), ("adjusted", TOSSED))):
        values = discoveries[column].to_numpy()
        shift = np.linspace(-0.22, 0.22, len(values))
        ax.plot(values, row + shift, "o", color=colour, markersize=4, alpha=0.7, markeredgewidth=0)
        ax.plot(values.mean(), row, "|", color=INK, markersize=24, markeredgewidth=2)
        ax.text(values.mean(), row - 0.33, f"mean {values.mean():.1f}", ha="center", va="bottom", fontsize=8.5)
    ax.axvline(alpha * n_codewords, color=QUIET, linestyle=":", linewidth=1.2)
    ax.set_yticks((0, 1), (f"p < {alpha:g}", f"q < {alpha:g}"))
    ax.set(
        ylim=(1.5, -0.75),
        xlim=(-2, None),
        xlabel=f"codewords that pass, of {n_codewords} that tell nothing (dotted: expected without adjustment)",
    )
    grid_lines(ax, "x")
    return describe(figure, _discoveries_words(discoveries, n_codewords, alpha))


@styled
def plot_region_tests(table: pd.DataFrame, patients: int, alpha: float = 0.05) -> Figure:
    """Show how often Kruskal-Wallis and Friedman find a difference between regions, over what regions of a patient share.

    ``table``: ``shared``, ``effect``, ``test``, ``share``, ``low``, ``high``; the effect 0 at the left. Source: ours.
    """
    effects = sorted(table["effect"].unique())
    figure, axes = new_figure(3.1, 1, len(effects), squeeze=False)
    for ax, effect in zip(axes[0], effects, strict=True):
        for test, (colour, marker, line) in TEST_LOOKS.items():
            found = table[(table["effect"] == effect) & (table["test"] == test)].set_index("shared")
            _draw_line(ax, found.index, found["share"], found["low"], found["high"], colour, marker, test, line)
        ax.set(xlabel="share of the variance that is the patient's own", ylim=(0, 0.1 if effect == 0 else 1.03))
        ax.set_title("no difference: false finds" if effect == 0 else f"one region {effect:g} SD higher: power", fontsize=9.5)
        grid_lines(ax)
    axes[0, 0].axhline(alpha, color=QUIET, linestyle=":", linewidth=1.2)
    axes[0, 0].set_ylabel(f"share of p < {alpha:g} (n = {patients} patients)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return describe(figure, _region_words(table, patients))


@styled
def plot_rotations(slices: dict[str, np.ndarray]) -> Figure:
    """Show the same slice, rotated, with what comes in at its corners; z-scores on one grey scale. Source: ours."""
    figure, axes = new_figure(3.3, 1, len(slices), squeeze=False)
    for ax, (name, image) in zip(axes[0], slices.items(), strict=True):
        show_image(ax, image, window=Z_WINDOW)
        ax.set_title(name, loc="center", fontsize=9.5)
    figure.colorbar(axes[0, -1].images[0], ax=axes[0].tolist(), shrink=0.9, label="z-score (standard deviations)")
    return describe(figure, _rotation_words(slices))


@styled
def plot_token_reach(maps: dict[str, np.ndarray], cell: tuple[int, int], side: int) -> Figure:
    """Show what one replaced token changes, a panel per way of normalising; the square is the token's own cell. Source: ours."""
    figure, axes = new_figure(3.5, 1, len(maps), squeeze=False)
    high = max(float(change.max()) for change in maps.values())
    for ax, (name, change) in zip(axes[0], maps.items(), strict=True):
        shown = show_map(ax, np.clip(change, high * 1e-4, None), cmap="magma", norm=LogNorm(high * 1e-4, high))
        ax.add_patch(Rectangle((cell[1] * side - 0.5, cell[0] * side - 0.5), side, side, fill=False, edgecolor="#F2C11D", linewidth=1.6))
        ax.set_title(name, loc="center", fontsize=9.5)
    figure.colorbar(shown, ax=axes[0].tolist(), shrink=0.9, label="L1 change of the logits (log scale)")
    return describe(figure, _reach_words(maps))


def _draw_shares(ax: Axes, table: pd.DataFrame, name: str, colour: str, marker: str, label: str, line: str = "-") -> None:
    _draw_line(ax, table.index, table[name], table[f"{name}_low"], table[f"{name}_high"], colour, marker, label, line)


def _draw_line(ax: Axes, x, y, low, high, colour: str, marker: str, label: str, line: str = "-") -> None:
    spread = np.clip([y - low, high - y], 0, None)
    ax.errorbar(x, y, yerr=spread, color=colour, marker=marker, markersize=4.5, linestyle=line, linewidth=1.2, capsize=2, label=label)


def _effect_words(table: pd.DataFrame, patients: int) -> Words:
    exists = table[table["tested"] >= 20]
    most, gone = exists.index.max(), int(table.index[table["tested"] < 20].min())
    level = exists.loc[most]
    return Words(
        f"With {most} covariates of noise the test finds an effect in {say_interval(level.false_positive, *level[_ENDS])} of the data "
        f"sets instead of .05; from {gone} on it does not exist.",
        f"Cohorts of {patients} patients, 76 and 259. Left: share of p < .05 where the test exists. Right: share of data sets in which a "
        "plane divides the grades, so that it does not. Bars: 95 % Wilson intervals over simulated data sets.",
        "Two panels over the number of covariates. Left, the level rises from .05 and ends where no finite fit exists. Right, the share "
        "of separable data sets rises from 0 to 1, earlier for 76 and 259 than for tossed grades, which follow the closed form.",
    )


_ENDS = ["false_positive_low", "false_positive_high"]


def _discoveries_words(discoveries: pd.DataFrame, n_codewords: int, alpha: float) -> Words:
    plain, adjusted = discoveries["plain"], discoveries["adjusted"]
    return Words(
        f"Of {n_codewords} codewords that tell nothing, {say(plain.mean(), 1)} pass p < {alpha:g} on average and "
        f"{say(adjusted.mean(), 2)} pass q < {alpha:g}.",
        f"A point is one of {len(discoveries)} simulated cohorts; bar: their mean; dotted: {say(alpha * n_codewords, 1)}, expected "
        "without adjustment. q: after Benjamini-Hochberg.",
        "Two rows of points: without adjustment some 5 % of the codewords pass, with it none or nearly none.",
    )


def _region_words(table: pd.DataFrame, patients: int) -> Words:
    shared, largest = table["shared"].max(), table["effect"].max()
    found = table[(table["effect"] == largest) & (table["shared"] == shared)].set_index("test")["share"]
    return Words(
        f"Where {say(100 * shared, 0)} % of the variance is the patient's own, Friedman finds a region {largest:g} SD higher in "
        f"{say(found['Friedman'])} of the cohorts, Kruskal-Wallis in {say(found['Kruskal-Wallis'])}.",
        f"Three regions of {patients} patients, simulated; bars: 95 % Wilson intervals over cohorts. Left: no difference is there, and "
        f"the dotted line is the nominal level.",
        "Left: Friedman stays at the nominal level, Kruskal-Wallis falls to zero. Right: Friedman gains power as regions share more, "
        "Kruskal-Wallis loses it.",
    )


def _rotation_words(slices: dict[str, np.ndarray]) -> Words:
    corners = {name: image[~np.isclose(image, np.median(image[0]), atol=0.5)].size / image.size for name, image in slices.items()}
    lowest = ", ".join(f"{name}: {say(float(image.min()), 1)}" for name, image in slices.items())
    return Words(
        f"A rotation brings in values that the scan does not have ({len(corners)} ways; lowest z-score: {lowest}).",
        "T1 of a phantom (HGG, the slice with the most tumour), turned by 10 degrees, all on one grey scale.",
        "Slices side by side: grey wedges in the four corners of a black background, or an even background.",
    )


def _reach_words(maps: dict[str, np.ndarray]) -> Words:
    high = max(float(change.max()) for change in maps.values())
    told = [f"{say(100 * float((change > 1e-4 * high).mean()), 0)} % of the pixels ({name})" for name, change in maps.items()]
    return Words(
        f"One replaced codeword changes {say_list(told)}.",
        "L1 change of the logits, logarithmic, when one codeword of a phantom (HGG) is replaced by the background codeword; counted are "
        "pixels above 1/10,000 of the largest change. Square: the token's own cell.",
        "Maps on a logarithmic scale: with live normalisation every pixel changes a little, with frozen normalisation a square region "
        "around the cell and nothing outside.",
    )
